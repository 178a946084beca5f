"""Calls of two fingerprints are never pooled: in reports, replays and analyses; and what they have in common is told."""

import json
import random
import tempfile
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_sdk import ABTest, Canary, ConfigurationError, Decision, Gate, Interleave, Judge, Runtime, Step, rollout
from rollout_sdk.analysis import analyze_interleaving, as_text, summarise
from rollout_sdk.analysis.replay import replay
from rollout_sdk.comparators import Close, Fields
from rollout_sdk.journal import read_journal

KEY = b"a secret key"


def decorated(runtime, value=1.0, **options):
    options = {"strategy": ABTest(0.5), "unit": "user", "key": "m", **options}
    # What an object holds is not part of the fingerprint.
    held = SimpleNamespace(value=value)
    return rollout(candidate=lambda user, session: held.value, runtime=runtime, **options)(lambda user, session: 0.0)


def written(folder, configurations, users=200):
    """One process after the other, each with a configuration of its own; what each user got in each."""
    got = []
    for number, options in enumerate(configurations):
        options = dict(options)
        runtime = Runtime(journal=folder, key=options.pop("hash_key", KEY))
        model = decorated(runtime, float(number), **options)
        got.append({})
        for user in range(users):
            routed = model.rollout.route(f"u{user}", f"s{user}")
            got[-1][user] = routed.decision.variant
            model.rollout.record("good", float(routed.value), decision_id=routed.decision.id)
        runtime.close(10.0)
    return got


CHANGES = {
    "version": {"version": "2"},
    "hash key": {"hash_key": b"another"},
    "unit": {"unit": "session"},
    "holdout": {"holdout": "20%"},
    "shares": {"strategy": ABTest(0.500001)},
    "arguments": {"strategy": ABTest(0.5, shadow=0.1), "effects": "read"},
    "compare": {"compare": Close(rel=0.1)},
    "measure": {"measure": lambda value: {"length": value}},
}


@pytest.mark.parametrize("part", CHANGES)
def test_two_configurations_under_one_key_and_phase_are_two_sets_of_arms(tmp_path, part):
    written(tmp_path, [{}, CHANGES[part]])
    report = summarise(tmp_path)
    assert ["m", "m"] == [each.rollout for each in report.rollouts]
    means = [
        {variant.variant: variant.metrics[0].per_outcome.mean for variant in each.phases[0].variants}
        for each in report.rollouts
    ]
    assert [{"control": 0.0, "candidate": 0.0}, {"control": 0.0, "candidate": 1.0}] == means
    (other,) = report.rollouts[1].others
    assert ((part.replace(" ", "_"),), report.rollouts[0].fingerprint) == (other.differs, other.fingerprint)
    text = as_text(report)
    assert f"another {part}" in " ".join(text.split())
    assert all(each.fingerprint in text for each in report.rollouts)


def test_equal_configurations_are_one_set_whatever_process_wrote_them(tmp_path):
    written(tmp_path, [{"version": "1"}, {"version": "1"}])
    (one,) = summarise(tmp_path).rollouts
    assert (400, ()) == (sum(variant.calls for variant in one.phases[0].variants), one.others)
    assert "m, version 1: ab, running" in as_text(summarise(tmp_path))


def test_users_of_both_versions_are_counted_with_those_who_changed_their_variant(tmp_path):
    first, second = written(tmp_path, [{"version": "1"}, {"version": "2", "strategy": ABTest(0.2)}])
    switched = sum(first[user] != second[user] for user in first)
    (other,) = summarise(tmp_path).rollouts[1].others
    assert (False, 200, switched, "1") == (other.at_once, other.shared, other.switched, other.version)
    assert f"200 units were in both, {switched} of them with another variant" in " ".join(as_text(summarise(tmp_path)).split())
    assert switched > 0


def test_with_two_hash_keys_users_cannot_be_matched_and_the_report_says_so(tmp_path):
    runtimes = [Runtime(journal=tmp_path, key=key) for key in (KEY, None)]
    models = [decorated(runtime) for runtime in runtimes]
    for user in range(50):
        for model in models:
            model(f"u{user}", "s")
    for runtime in runtimes:
        runtime.close(10.0)
    report = summarise(tmp_path)
    assert [(True, None, None)] * 2 == [(o.at_once, o.shared, o.switched) for each in report.rollouts for o in each.others]
    assert 2 == as_text(report).count("which units were in both cannot be known")


def test_units_that_a_strategy_does_not_keep_in_their_arm_are_counted(tmp_path):
    class Flip:
        name = "flip"

        def rollout_route(self, request):
            return Decision("candidate" if request.draw < 0.5 else request.control, propensity=0.5)

    runtime = Runtime(journal=tmp_path, key=KEY)
    model, got = decorated(runtime, strategy=Flip()), {}
    for _ in range(3):
        for user in range(100):
            got.setdefault(user, set()).add(model(f"u{user}", "s"))
    runtime.close(10.0)
    both = sum(len(answers) == 2 for answers in got.values())
    report = summarise(tmp_path)
    (one,) = report.rollouts
    assert (100, both, 0) == (one.crossed.units, one.crossed.in_phase, one.crossed.between_phases)
    assert (0, True) == (sum(report.skipped.values()), f"{both} of 100 units had more than one variant" in as_text(report))


def test_units_that_a_step_moves_are_counted_apart(tmp_path):
    runtime = Runtime(journal=tmp_path, key=KEY)
    model, got = decorated(runtime, strategy=Canary(["10%", "50%"], guardrails=[])), {}
    for promote in (True, False):
        for user in range(100):
            got.setdefault(user, set()).add(model(f"u{user}", "s"))
        if promote:
            model.rollout.promote()
    runtime.close(10.0)
    (one,) = summarise(tmp_path).rollouts
    assert (100, 0, sum(len(answers) == 2 for answers in got.values())) == (
        one.crossed.units, one.crossed.in_phase, one.crossed.between_phases,
    )  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_the_sums_over_fingerprints_are_what_went_in(seed):
    """Several deployments at the same time, one key, one folder: every call and every outcome is in its own set, once."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        options = [
            {
                "version": draw.choice("12"),
                "unit": draw.choice(["user", "session"]),
                "strategy": ABTest(draw.choice([0.2, 0.5])),
            }
            for _ in range(4)
        ]
        runtimes = [Runtime(journal=folder, key=KEY) for _ in options]
        models = [decorated(runtime, **each) for runtime, each in zip(runtimes, options, strict=True)]
        calls, sums, by_unit = Counter(), Counter(), Counter()
        for _ in range(200):
            number = draw.randrange(len(models))
            # What an outcome is recorded with need not be the process that decided.
            model, recorder = models[number], draw.choice(models)
            routed = model.rollout.route(f"u{draw.randrange(30)}", f"s{draw.randrange(30)}")
            arm = model.rollout.status().fingerprint, routed.decision.variant
            calls[arm] += 1
            if draw.random() < 0.5:
                value = draw.randrange(1, 5)
                recorder.rollout.record("good", value, decision_id=routed.decision.id)
                sums[arm] += value
        for runtime in runtimes:
            runtime.close(10.0)
        report = summarise(folder)
        found = {
            (each.fingerprint, variant.variant): variant
            for each in report.rollouts
            for phase in each.phases
            for variant in phase.variants
        }
        assert calls == {arm: variant.calls for arm, variant in found.items()}
        reported = {
            arm: round(sum(metric.per_call.mean * variant.calls for metric in variant.metrics))
            for arm, variant in found.items()
        }
        assert dict(sums) == {arm: total for arm, total in reported.items() if total}
        expected = {(each["version"], each["unit"], each["strategy"].shares) for each in options}
        assert len(expected) == len({each.fingerprint for each in report.rollouts}) or len(calls) < len(expected)
        assert {} == {why: number for each in report.rollouts for why, number in each.problems.items()} == dict(by_unit)


def test_an_outcome_of_a_unit_goes_to_its_last_call_of_any_fingerprint(tmp_path):
    first, second = Runtime(journal=tmp_path, key=KEY), Runtime(journal=tmp_path, key=KEY)
    old, new = decorated(first, version="1"), decorated(second, version="2")
    old("u1", "s")
    new("u1", "s")
    old.rollout.record("spent", 5.0, unit="u1")
    old.rollout.record("spent", 5.0, unit="nobody")
    for runtime in (first, second):
        runtime.close(10.0)
    reports = {each.version: each for each in summarise(tmp_path).rollouts}
    assert [[], [5.0]] == [
        [metric.per_call.mean for variant in reports[version].phases[0].variants for metric in variant.metrics]
        for version in "12"
    ]
    assert ({}, {"unit without an earlier call": 1}) == (reports["1"].problems, reports["2"].problems)


def test_a_journal_that_has_no_fingerprints_is_one_set_of_its_own(tmp_path):
    """What an earlier version wrote, and goes on writing beside this one during an update."""
    written(tmp_path, [{}, {}])
    path, other = sorted(tmp_path.glob("*.jsonl"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        for name in ("fingerprint", "version", "made_of"):
            line.pop(name, None)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = summarise(tmp_path)
    assert (2, {"", next(each.fingerprint for each in report.rollouts if each.fingerprint)}) == (
        len(report.rollouts), {each.fingerprint for each in report.rollouts},
    )  # fmt: skip
    assert [200, 200] == [sum(variant.calls for variant in each.phases[0].variants) for each in report.rollouts]
    assert "fingerprint unknown" in as_text(report)
    other.unlink()
    (one,) = summarise(tmp_path).rollouts
    assert ("", (), "m: ab, running" in as_text(summarise(tmp_path))) == (one.fingerprint, (), True)


def test_what_another_fingerprint_has_replaced_in_a_store_is_not_running(tmp_path):
    store = f"sqlite:///{tmp_path}/rollouts.db"
    for version in "12":
        runtime = Runtime(journal=tmp_path / "journal", store=store, key=KEY)
        decorated(runtime, version=version)("u1", "s")
        runtime.close(10.0)
    statuses = {each.version: each.status for each in summarise(tmp_path / "journal").rollouts}
    assert {"1": "replaced", "2": "running"} == statuses


# Other readers ----------------------------------------------------------------------------------------------------------

PLAN = Canary([Step("50%", min_units=10, min_time=0)], gates=[Gate("good", per="outcome")])


def test_a_replay_judges_each_fingerprint_on_its_own_calls(tmp_path):
    written(tmp_path / "both", [{"version": "1", "strategy": PLAN}, {"version": "2", "strategy": PLAN}], users=300)
    both = replay(tmp_path / "both", PLAN.criteria)
    assert [("0:50%", "1", 300), ("0:50%", "2", 300)] == [(each.phase, each.version, each.calls) for each in both.phases]
    # The same as of a journal that has no other.
    for number, file in enumerate(read_journal(tmp_path / "both").files):
        (tmp_path / f"only-{number}").mkdir()
        file.rename(tmp_path / f"only-{number}" / file.name)
        alone = replay(tmp_path / f"only-{number}", PLAN.criteria)
        expected, found = (
            alone.phases[0].last,
            next(each for each in both.phases if each.version == alone.phases[0].version).last,
        )
        assert [(each.name, each.outcome, each.estimate) for each in expected.findings] == [
            (each.name, each.outcome, each.estimate) for each in found.findings
        ]
        assert (expected.units, expected.outcomes) == (found.units, found.outcomes)


def test_interleaved_lists_of_two_fingerprints_are_analysed_one_at_a_time(tmp_path):
    runtimes = [Runtime(journal=tmp_path, key=KEY) for _ in "12"]
    for version, runtime in enumerate(runtimes, 1):
        model = rollout(
            candidate=lambda user: [2, 1], strategy=Interleave(), unit="user", key="m", version=str(version), runtime=runtime
        )(lambda user: [1, 2])
        for user in range(5 * version):
            routed = model.rollout.route(f"u{user}")
            model.rollout.record("click", 1.0, decision_id=routed.decision.id, item=2)
        runtime.close(10.0)
    with pytest.raises(ConfigurationError, match=r"lists of 'm' with 2 fingerprints.*\(version 1\)"):
        analyze_interleaving(tmp_path)
    for each in summarise(tmp_path).rollouts:
        found = analyze_interleaving(tmp_path, fingerprint=each.fingerprint)
        assert (5 * int(each.version), {}) == (found.by_candidate["candidate"].impressions, found.problems)


def fingerprint(**options):
    return decorated(Runtime(key=KEY), **options).rollout.status().fingerprint


def test_what_turns_answers_into_numbers_is_part_of_it_by_its_values():
    def by_words(control, candidate):
        return control.split() == candidate.split()

    plain = fingerprint(compare=Close(rel=0.1))
    assert plain == fingerprint(compare=Close(rel=0.1))
    assert fingerprint(compare=by_words) == fingerprint(compare=by_words)
    others = [
        fingerprint(), fingerprint(compare=Close(rel=0.2)), fingerprint(compare=Close(rel=0.1, noise=0.1)),
        fingerprint(compare=Fields({"a": Close(rel=0.1)})), fingerprint(compare=by_words), fingerprint(compare=max),
    ]  # fmt: skip
    assert len({plain, *others}) == 1 + len(others)


def test_a_judge_is_not_because_people_correct_whichever_there_was():
    assert fingerprint() == fingerprint(judge=Judge(lambda request, a, b: "tie"))
