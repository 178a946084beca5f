"""A shadow test with guardrails comes to a verdict about the answers, through the public API."""

import pytest

from rollout_sdk import ABTest, Comparison, ConfigurationError, Guardrail, Shadow, hookimpl, rollout
from rollout_sdk.comparators import Close, Fields, Ignore, Text


def judged(candidate, control, runtime, *, calls=300, metric="shadow.mismatch", **options):
    strategy = Shadow(1.0, guardrails=[Guardrail(metric, margin=0.02)])
    options = {"effects": "read", "key": "model", "unit": "user", **options}
    model = rollout(candidate=candidate, strategy=strategy, runtime=runtime, **options)(control)
    for number in range(calls):
        model(f"u{number}")
        if number % 50 == 0:
            runtime.flush(5.0)
    runtime.flush(5.0)
    return model


def test_a_candidate_that_answers_alike_passes(watch):
    runtime = watch(shadows={"cpu_share": 1.0, "max_jobs": 1000})
    model = judged(lambda user: [user, 1.0], lambda user: [user, 1.0], runtime)
    verdict = model.rollout.judge()
    assert verdict.outcome == "PASS"
    assert model.rollout.status().agreement["candidate"][:2] == (300, 300)
    assert "agrees in 100.00% of 300 pairs [" in str(model.rollout.status())
    assert model.rollout.status().phase == verdict.phase


def test_one_that_always_answers_otherwise_fails(watch):
    runtime = watch(shadows={"cpu_share": 1.0, "max_jobs": 1000})
    verdict = judged(lambda user: [user, 2.0], lambda user: [user, 1.0], runtime).rollout.judge()
    assert verdict.outcome == "FAIL"
    assert "shadow.mismatch" in verdict.reason


def test_an_ab_test_compares_no_answers():
    with pytest.raises(ConfigurationError, match=r"Use Shadow\(guardrails="):
        ABTest(0.5, guardrails=[Guardrail("shadow.mismatch", margin=0.02)])


# compare= --------------------------------------------------------------------------------------------------------------------


def answer(id_, score, label="ham"):
    return {"id": id_, "score": score, "label": label}


def test_answers_with_ids_and_times_are_compared_by_field(watch):
    runtime = watch(shadows={"cpu_share": 1.0, "max_jobs": 1000})
    fields = Fields({"score": Close(abs=0.01), "id": Ignore()})
    numbers = iter(range(10_000))
    model = judged(
        lambda user: answer(next(numbers), 0.505), lambda user: answer(next(numbers), 0.5), runtime,
        compare=fields, metric="shadow.mismatch.score",
    )  # fmt: skip
    assert model.rollout.judge().outcome == "PASS"
    comparison = runtime.shadowed()[-1].comparison
    assert (comparison.name, list(comparison.fields)) == ("fields", ["score", "label"])


def test_compare_comes_before_plugins(watch):
    class Never:
        @hookimpl
        def rollout_compare(self, control, candidate):
            return Comparison(match=False)

    runtime = watch(shadows={"cpu_share": 1.0})
    options = {"strategy": Shadow(1.0), "effects": "read", "key": "model", "runtime": runtime, "plugins": [Never()]}
    rollout(candidate=lambda n: n, compare=lambda ours, theirs: 0.0, **options)(lambda n: n)(1)
    assert runtime.shadowed()[0].comparison == Comparison(match=True, difference=0.0, name="<lambda>")


def test_a_comparator_that_raises_holds_the_verdict_and_is_a_fault(watch):
    runtime = watch(shadows={"cpu_share": 1.0, "max_jobs": 1000})
    model = judged(lambda user: 1, lambda user: 1, runtime, compare=Text(), calls=150)
    verdict = model.rollout.judge()
    assert verdict.outcome == "INSUFFICIENT_DATA"
    assert "only 0.0% of the pairs could be compared (150 could not)" in verdict.reason
    assert model.rollout.status().faults["engine.compare", "TypeError"] == 150


def test_each_row_of_a_batch_is_compared(watch):
    runtime = watch(shadows={"cpu_share": 1.0})
    options = {"strategy": Shadow(1.0), "effects": "read", "key": "model", "runtime": runtime, "batch": "rows"}
    rollout(candidate=lambda rows: [row + 1 for row in rows], compare=Close(abs=1.5), **options)(lambda rows: rows)([1, 2, 3])
    assert [event.comparison.match for event in runtime.shadowed()] == [True, True, True]


@pytest.mark.parametrize("batch", [None, "n"])
def test_the_control_runs_again_on_a_sample_and_its_noise_is_told_apart(watch, batch):
    runtime = watch(shadows={"cpu_share": 1.0, "max_jobs": 1000})
    turns = iter(range(10_000))
    options = {"strategy": Shadow(1.0), "effects": "read", "key": "model", "runtime": runtime, "batch": batch}
    control = (lambda n: [next(turns)] * len(n)) if batch else (lambda n: next(turns))
    model = rollout(candidate=control, compare=Close(noise=0.5), **options)(control)
    for number in range(100):
        model([number] if batch else number)
    runtime.flush(5.0)
    again = [event for event in runtime.shadowed() if event.variant == "control"]
    assert 30 <= len(again) <= 70
    assert all(not event.comparison.match for event in again)
    assert list(model.rollout.status().agreement) == ["candidate"]


@pytest.mark.parametrize("compare", [3, "close", Close])
def test_what_is_no_comparator_is_refused_when_decorating(compare, runtime):
    with pytest.raises(ConfigurationError, match="is not a comparator"):
        rollout(candidate=lambda n: n, strategy=Shadow(), effects="read", compare=compare, runtime=runtime)(lambda n: n)
