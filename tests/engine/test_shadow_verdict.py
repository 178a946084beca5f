"""A shadow test with guardrails comes to a verdict about the answers, through the public API."""

import asyncio
import threading
import time

import pytest
from attrs import evolve

from rollout_sdk import (
    ABTest,
    Canary,
    Comparison,
    ConfigurationError,
    Decision,
    Gate,
    Guardrail,
    OutcomeError,
    RecordedEvent,
    RoutedEvent,
    Shadow,
    ShadowedEvent,
    hookimpl,
    rollout,
)
from rollout_sdk.comparators import Close, Fields, Ignore, Text
from rollout_sdk.tally import Tally


def judged(candidate, control, runtime, *, calls=300, metric="shadow.mismatch", **options):
    strategy = Shadow(1.0, guardrails=[Guardrail(metric, margin=0.02)])
    options = {"effects": "read", "key": "model", "unit": "user", **options}
    model = rollout(candidate=candidate, strategy=strategy, runtime=runtime, **options)(control)
    for number in range(calls):
        model(f"u{number}")
        if number % 50 == 0:
            runtime.flush(60.0)
    runtime.flush(60.0)
    return model


def test_a_candidate_that_answers_alike_passes(watch):
    runtime = watch(shadows={"cpu_share": 1.0, "max_jobs": 1000, "max_age_s": 60.0, "timeout_s": 60.0})
    model = judged(lambda user: [user, 1.0], lambda user: [user, 1.0], runtime)
    verdict = model.rollout.judge()
    assert verdict.outcome == "PASS"
    assert model.rollout.status().agreement["candidate"][:2] == (300, 300)
    assert "agrees in 100.00% of 300 pairs [" in str(model.rollout.status())
    assert model.rollout.status().phase == verdict.phase


def test_one_that_always_answers_otherwise_fails(watch):
    runtime = watch(shadows={"cpu_share": 1.0, "max_jobs": 1000, "max_age_s": 60.0, "timeout_s": 60.0})
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
    runtime = watch(shadows={"cpu_share": 1.0, "max_jobs": 1000, "max_age_s": 60.0, "timeout_s": 60.0})
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

    runtime = watch(shadows={"cpu_share": 1.0, "max_age_s": 60.0, "timeout_s": 60.0})
    options = {"strategy": Shadow(1.0), "effects": "read", "key": "model", "runtime": runtime, "plugins": [Never()]}
    rollout(candidate=lambda n: n, compare=lambda ours, theirs: 0.0, **options)(lambda n: n)(1)
    assert runtime.shadowed()[0].comparison == Comparison(match=True, difference=0.0, name="<lambda>")


def test_a_comparator_that_raises_holds_the_verdict_and_is_a_fault(watch):
    runtime = watch(shadows={"cpu_share": 1.0, "max_jobs": 1000, "max_age_s": 60.0, "timeout_s": 60.0})
    model = judged(lambda user: 1, lambda user: 1, runtime, compare=Text(), calls=150)
    verdict = model.rollout.judge()
    assert verdict.outcome == "INSUFFICIENT_DATA"
    assert "only 0.0% of the pairs could be compared (150 could not)" in verdict.reason
    assert model.rollout.status().faults["engine.compare", "TypeError"] == 150


def test_each_row_of_a_batch_is_compared(watch):
    runtime = watch(shadows={"cpu_share": 1.0, "max_age_s": 60.0, "timeout_s": 60.0})
    options = {"strategy": Shadow(1.0), "effects": "read", "key": "model", "runtime": runtime, "batch": "rows"}
    rollout(candidate=lambda rows: [row + 1 for row in rows], compare=Close(abs=1.5), **options)(lambda rows: rows)([1, 2, 3])
    assert [event.comparison.match for event in runtime.shadowed()] == [True, True, True]


@pytest.mark.parametrize("batch", [None, "n"])
def test_the_control_runs_again_on_a_sample_and_its_noise_is_told_apart(watch, batch):
    runtime = watch(shadows={"cpu_share": 1.0, "max_jobs": 1000, "max_age_s": 60.0, "timeout_s": 60.0})
    turns = iter(range(10_000))
    options = {"strategy": Shadow(1.0), "effects": "read", "key": "model", "runtime": runtime, "batch": batch}
    control = (lambda n: [next(turns)] * len(n)) if batch else (lambda n: next(turns))
    model = rollout(candidate=control, compare=Close(noise=0.5), **options)(control)
    for number in range(100):
        model([number] if batch else number)
    runtime.flush(60.0)
    again = [event for event in runtime.shadowed() if event.variant == "control"]
    assert 30 <= len(again) <= 70
    assert all(not event.comparison.match for event in again)
    assert list(model.rollout.status().agreement) == ["candidate"]


@pytest.mark.parametrize("compare", [3, "close", Close])
def test_what_is_no_comparator_is_refused_when_decorating(compare, runtime):
    with pytest.raises(ConfigurationError, match="is not a comparator"):
        rollout(candidate=lambda n: n, strategy=Shadow(), effects="read", compare=compare, runtime=runtime)(lambda n: n)


# measure= and record(variant=) ------------------------------------------------------------------------------------------------


def recorded(runtime):
    return [event for event in runtime.events() if isinstance(event, RecordedEvent)]


def tokens(answer):
    return {"tokens": answer["tokens"]}


def talkative(times):
    return lambda user: {"text": user, "tokens": times * (100 + int(user[1:]) % 7)}


@pytest.mark.parametrize(("times", "outcome"), [(1, "PASS"), (2, "FAIL")])
def test_a_candidate_that_costs_twice_is_found_before_users_pay_for_it(watch, times, outcome):
    runtime = watch(shadows={"cpu_share": 1.0, "max_jobs": 1000, "max_age_s": 60.0, "timeout_s": 60.0})
    strategy = Shadow(1.0, guardrails=[Guardrail("tokens", margin=10.0, better="lower")])
    options = {"measure": tokens, "effects": "read", "key": "model", "unit": "user", "runtime": runtime}
    model = rollout(candidate=talkative(times), strategy=strategy, **options)(talkative(1))
    for number in range(400):
        model(f"u{number}")
        if number % 50 == 0:
            runtime.flush(60.0)
    assert model.rollout.judge().outcome == outcome


def test_numbers_of_answers_are_outcomes_of_their_calls(runtime):
    options = {"measure": tokens, "key": "model", "unit": "user", "runtime": runtime}
    model = rollout(candidate=talkative(2), strategy=ABTest(0.5, gates=[Gate("tokens")]), **options)(talkative(1))
    decision = model.rollout.route("u7").decision
    (event,) = recorded(runtime)
    assert (event.metric, event.decision_id, event.variant, event.shadow) == ("tokens", decision.id, decision.variant, False)
    assert event.value == 100 * (1 + (decision.variant == "candidate"))


def test_each_row_of_a_batch_is_measured(watch):
    runtime = watch(shadows={"cpu_share": 1.0, "max_age_s": 60.0, "timeout_s": 60.0})
    options = {"strategy": Shadow(1.0), "effects": "read", "key": "model", "batch": "rows", "runtime": runtime}
    measure = lambda row: {"size": row}
    rollout(candidate=lambda rows: [row * 10 for row in rows], measure=measure, **options)(lambda rows: rows)([1, 2, 3])
    runtime.flush(60.0)
    assert sorted((event.value, event.variant, event.shadow) for event in recorded(runtime)) == [
        *((float(n), "control", False) for n in (1, 2, 3)), *((float(n), "candidate", True) for n in (10, 20, 30)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "measure", [lambda answer: 3, lambda answer: {"": 1.0}, lambda answer: {"x": float("nan")}, lambda answer: 1 / 0]
)
def test_what_cannot_be_measured_is_a_fault_and_the_caller_has_an_answer(measure, runtime):
    model = rollout(candidate=lambda n: n, strategy=ABTest(0.0), key="model", measure=measure, runtime=runtime)(lambda n: n)
    assert model(5) == 5
    runtime.flush(60.0)
    assert recorded(runtime) == []
    assert sum(number for (what, _), number in model.rollout.status().faults.items() if what == "measure") == 1


async def later(answer):
    return {}


@pytest.mark.parametrize(("measure", "control", "why"), [
    (3, lambda n: n, "not callable"), (later, lambda n: n, "coroutine function"),
])  # fmt: skip
def test_a_measure_that_cannot_be_applied_is_refused(measure, control, why, runtime):
    with pytest.raises(ConfigurationError, match=why):
        rollout(candidate=control, strategy=ABTest(), measure=measure, runtime=runtime)(control)


def words(n):
    yield from ["word"] * n


PACE = Guardrail("items_per_s", margin=1.0, per="outcome")


def test_the_items_per_second_of_streams_after_the_first_are_recorded_for_both_arms(watch):
    runtime = watch(shadows={"cpu_share": 1.0, "max_age_s": 60.0, "timeout_s": 60.0})
    strategy = Shadow(1.0, guardrails=[PACE])
    model = rollout(candidate=words, strategy=strategy, effects="read", key="model", runtime=runtime)(words)
    for number in (5, 1, 0):
        assert len(list(model(number))) == number
    assert runtime.flush(60.0)
    served = next(event for event in runtime.events() if isinstance(event, RoutedEvent))
    shadowed = next(event for event in runtime.events() if isinstance(event, ShadowedEvent))
    # Streams with fewer than two items have no pace.
    found = {(event.metric, event.variant, event.shadow): event.value for event in recorded(runtime)}
    assert found == {
        ("items_per_s", "control", False): 4 / (served.runs[0].duration_s - served.runs[0].first_item_s),
        ("items_per_s", "candidate", True): 4 / (shadowed.duration_s - shadowed.first_item_s),
    }


def test_the_pace_is_recorded_beside_measure_and_only_where_it_is_judged(watch):
    for guardrails, metrics in (([PACE], {"items_per_s", "length"}), ([], {"length"})):
        runtime = watch()
        strategy = Canary(["50%"], guardrails=guardrails)
        measure = lambda items: {"length": float(len(items))}
        list(rollout(candidate=words, strategy=strategy, measure=measure, key="model", runtime=runtime)(words)(5))
        assert {event.metric for event in recorded(runtime)} == metrics


def test_a_stream_that_is_left_early_has_no_pace(runtime):
    strategy = Canary(["50%"], guardrails=[PACE])
    stream = rollout(candidate=words, strategy=strategy, key="model", runtime=runtime)(words)(5)
    next(stream), next(stream)
    stream.close()
    assert recorded(runtime) == []


async def words_later(n):
    for word in words(n):
        yield word


def words_at_once(n):
    return iter(["word"] * n)


async def read(stream):
    return [word async for word in stream]


@pytest.mark.parametrize("stream", [words, words_later, words_at_once])
@pytest.mark.parametrize(("share", "served"), [(0.0, "control"), (1.0, "candidate")])
def test_a_stream_is_measured_by_its_items_once_it_was_read(stream, share, served, runtime):
    options = {"strategy": ABTest(share), "key": "model", "measure": lambda items: {"words": len(items)}, "runtime": runtime}
    model = rollout(candidate=stream, **options)(stream)
    for number in (3, 0, 5):
        got = asyncio.run(read(model(number))) if stream is words_later else list(model(number))
        assert got == ["word"] * number
    assert [(3.0, served), (0.0, served), (5.0, served)] == [(event.value, event.variant) for event in recorded(runtime)]


def test_both_streams_of_a_shadowed_call_are_measured(watch):
    runtime = watch(shadows={"cpu_share": 1.0, "max_age_s": 60.0, "timeout_s": 60.0})
    options = {"strategy": Shadow(1.0), "effects": "read", "key": "model", "runtime": runtime}
    measure = lambda items: {"words": len(items)}
    model = rollout(candidate=lambda n: words(2 * n), measure=measure, **options)(words_at_once)
    assert list(model(4)) == ["word"] * 4
    assert {(4.0, "control", False), (8.0, "candidate", True)} == {
        (event.value, event.variant, event.shadow) for event in recorded(runtime)
    }


def test_a_stream_that_is_not_read_to_its_end_or_is_too_long_is_not_measured(watch):
    runtime = watch(shadows={"kept_items": 5})
    options = {"strategy": ABTest(0.0), "key": "model", "measure": lambda items: {"words": len(items)}, "runtime": runtime}
    model = rollout(candidate=words, **options)(words)
    stream = model(4)
    next(stream)
    stream.close()
    assert len(list(model(6))) == 6
    assert recorded(runtime) == []


def test_a_label_says_of_both_answers_whether_they_were_right(watch):
    runtime = watch(shadows={"cpu_share": 1.0, "max_jobs": 1000, "max_age_s": 60.0, "timeout_s": 60.0})
    strategy = Shadow(1.0, guardrails=[Guardrail("correct", margin=0.1, per="outcome")])
    options = {"effects": "read", "key": "fraud", "unit": "user", "runtime": runtime}
    model = rollout(candidate=lambda user: True, strategy=strategy, **options)(lambda user: False)
    for number in range(300):
        decision = model.rollout.route(f"u{number}").decision
        is_fraud = number % 2 == 0
        model.rollout.record("correct", float(not is_fraud), decision_id=decision.id)
        model.rollout.record("correct", float(is_fraud), decision_id=decision.id, variant="candidate")
        if number % 50 == 0:
            runtime.flush(60.0)
    verdict = model.rollout.judge()
    finding = next(each for each in verdict.findings if each.name == "correct")
    assert (finding.numbers["pairs"], finding.numbers["differing"]) == (300, 300)
    assert finding.outcome == "INCONCLUSIVE"


def test_the_variant_of_a_label_is_one_that_there_is(runtime):
    model = rollout(candidate=lambda n: n, strategy=Shadow(0.0), key="model", runtime=runtime)(lambda n: n)
    decision = model.rollout.route(1).decision
    for wrong in ({"variant": "v9", "decision_id": decision.id}, {"variant": "candidate", "unit": "u1"}):
        with pytest.raises(OutcomeError, match="variant"):
            model.rollout.record("correct", 1.0, **wrong)
    model.rollout.record("correct", 1.0, decision_id=decision.id, variant="control")
    model.rollout.record("correct", 1.0, decision_id=decision.id, variant="candidate")
    runtime.flush(60.0)
    assert [(event.variant, event.shadow) for event in recorded(runtime)] == [("control", False), ("candidate", True)]
    assert len({event.identity for event in recorded(runtime)}) == 2
    assert len({event.label for event in recorded(runtime)}) == 2


def test_the_status_says_how_answers_differ_and_how_long_both_arms_took(watch):
    runtime = watch(shadows={"cpu_share": 1.0, "max_jobs": 1_000})
    compare = Fields({"n": Close(), "word": Text(), **{f"x{number}": Ignore() for number in range(9)}})

    def model(x):
        return {"n": x, "word": "a"}

    def candidate(x):
        time.sleep(0.02)
        return {"n": x + (x % 4 == 0), "word": "a"}

    served = rollout(candidate=candidate, strategy=Shadow(1.0), effects="read", compare=compare, key="model", runtime=runtime)(
        model
    )
    for x in range(20):
        served(x)
    assert runtime.flush(30.0)
    status = served.rollout.status()
    assert status.differences == {("candidate", "n: value"): 5}
    assert status.fields["candidate", "n"] == (20, 15)
    assert status.fields["candidate", "word"] == (20, 20)
    calls, control, shadow = status.durations["candidate"]
    assert (calls, len(control), len(shadow)) == (20, 3, 3)
    assert control[0] < 0.019 < shadow[0] <= shadow[1] <= shadow[2]
    shown = str(status)
    assert "  shadow candidate differed in: n: value 5\n" in shown
    assert "  shadow candidate, field n: differs in 25.00% of 20 pairs\n" in shown
    assert "  shadow candidate, field word: differs in 0.00% of 20 pairs\n" in shown
    assert "  shadow candidate, ms at p50 p95 p99 of the same 20 calls: control " in shown


def test_the_status_names_what_was_not_copied(watch):
    runtime = watch(shadows={"cpu_share": 1.0})
    served = rollout(candidate=lambda lock: 1, strategy=Shadow(1.0), effects="read", key="model", runtime=runtime)(
        lambda lock: 1
    )
    for _ in range(10):
        served(threading.Lock())
    assert runtime.flush(30.0)
    status = served.rollout.status()
    assert status.not_copied == {("candidate", "unknown type lock (argument 'lock')"): 10}
    assert "  shadow candidate had no copy of its input: unknown type lock (argument 'lock') 10\n" in f"{status}\n"


def shadowed(number, **about):
    decision = Decision(id=f"d{number}", rollout="model", strategy="shadow", phase="p", variant="control")
    return ShadowedEvent(decision=decision, variant="candidate", end="ok", **about)


def test_the_counts_of_the_status_are_bounded():
    tally = Tally()
    for number in range(2_000):
        fields = {f"f{number}": Comparison(match=False, reason="value")}
        tally.add(shadowed(number, comparison=Comparison(match=False, reason=f"r{number}", fields=fields)))
        tally.add(evolve(shadowed(number, error=f"unknown type T{number}"), end="dropped_snapshot"))
    assert len(tally.differences()) == 1_001
    assert tally.differences()["candidate", "_OTHER"] == 1_000
    assert len(tally.fields()) == 101
    assert tally.fields()["candidate", "_OTHER"] == (1_900, 0)
    assert len(tally.not_copied) == 1_001


def test_durations_of_the_status_are_right_to_a_fortieth():
    tally = Tally()
    for number in range(1, 1_001):
        tally.add(shadowed(number, duration_s=number / 500, control_duration_s=number / 1_000))
    tally.add(shadowed(0, duration_s=1.0))
    tally.add(evolve(shadowed(0, duration_s=1e9, control_duration_s=0.0), excluded=True))
    calls, control, candidate = tally.durations["candidate"].quantiles()
    assert calls == 1_000
    assert control == pytest.approx((0.5, 0.95, 0.99), rel=0.026)
    assert candidate == pytest.approx((1.0, 1.9, 1.98), rel=0.026)
    tally.add(shadowed(0, duration_s=1e9, control_duration_s=0.0))
    assert tally.durations["candidate"].calls == 1_001
