"""What of the traffic counts as evidence: calls, covariates and pairs."""

import math
from collections import Counter

import pytest
from attrs import evolve

from rollout_sdk import Guardrail
from rollout_sdk.judging import Evidence, PhaseEvidence, add_routed, add_shadowed
from rollout_sdk.judging.ingest import first_item_of
from rollout_sdk.judging.pairs import completeness
from rollout_sdk.records import Decision, RoutedEvent, Run, ShadowedEvent
from tests.judging.seen import ERRORS, HALF, PAIRS, SCORE, SLOW, START_MINUTE, Seen

# What counts


def routed(**changed):
    """Calls of the candidate, those that failed, and those of which it is known how long they took."""
    evidence = Evidence([ERRORS, Guardrail("latency_mean")])
    decision = Decision("v2", id="d", phase="0:50%", bucket=3, time_s=1000.0)
    event = RoutedEvent(decision, "v2", (Run("v2", 0.25, "ValueError"), Run("control", 0.5)))
    add_routed(evidence, evolve(event, **changed), HALF)
    phase = evidence.phases.get("0:50%")
    if phase is None or "v2" not in phase.calls:
        return None
    timed = phase.sums.get("latency_mean")
    return sum(phase.calls["v2"]), ("error_rate", "v2") in phase.events, timed is not None


@pytest.mark.parametrize(
    ("changed", "counted"),
    [
        ({}, (1, True, True)),
        # An exception that is an answer.
        ({"answered": True}, (1, False, True)),
        # A failure of what was tried next is not one of the candidate.
        ({"runs": (Run("v2", 0.25), Run("control", 0.5, "ValueError"))}, (1, False, True)),
        ({"closed_early": True}, (1, True, False)),
        ({"withheld": "open", "runs": (Run("control", 0.5),)}, (1, True, True)),
        ({"withheld": "aborted"}, None),
        ({"withheld": "disabled"}, None),
        ({"no_evidence": True}, None),
        ({"unmeasured": "ObjectRef", "runs": (Run("v2", 0.25),)}, None),
        # A candidate that failed has, whatever the control gives in its place; for how long, is not known.
        ({"unmeasured": "ObjectRef", "runs": (Run("v2", 0.25, "ValueError"), Run("control", 0.5))}, (1, True, False)),
        ({"excluded": True}, None),
    ],
)
def test_a_call_counts(changed, counted):
    assert counted == routed(**changed)


def test_until_the_first_item_a_caller_waits_for_what_failed_before_too():
    failed, answered = ("v2", 0.25, "ValueError", None), ("control", 9.0, None, 0.5)
    assert (0.75, 0.5, None) == (first_item_of((failed, answered)), first_item_of((answered,)), first_item_of((failed,)))


# Covariates


def test_a_covariate_takes_its_part_off_every_mean():
    label = Guardrail("label", margin=0.5, window="1h", early_harm=True)
    seen = Seen(Guardrail("score", margin=0.5), Guardrail("latency_mean"), label)
    plain = Seen(Guardrail("score", margin=0.5), Guardrail("latency_mean"), label)
    for _ in range(600):
        for arm in HALF:
            x = seen.rng.gauss(0, 1)
            about = {"values": {"score": x, "label": x}, "duration_s": math.exp(x), "time_s": 6000.0}
            seen.call(arm, covariate=x, **about)
            plain.call(arm, **about)
    # The mature decisions are judged at the end of their window, those for harm at once.
    late = {"now_s": 6000.0 + 3 * 3600}
    for name, part in (("score", ""), ("latency_mean", ""), ("label", ""), ("label", "for_harm")):
        with_, without = (each.numbers(name, **late) for each in (seen, plain))
        with_, without = (each[part] if part else each for each in (with_, without))
        assert with_["std_error"] < 0.01 * without["std_error"], (name, part)


def test_the_coefficient_of_a_covariate_takes_a_degree_of_freedom():
    seen, plain = Seen(SCORE), Seen(SCORE)
    for number in range(1024):
        for arm in HALF:
            about = {"values": {"score": seen.rng.gauss(0, 1)}, "bucket": number % 512}
            seen.call(arm, covariate=seen.rng.gauss(0, 1), **about)
            plain.call(arm, **about)
    # 512 buckets are full.
    assert (510.0, 511.0) == (seen.numbers("score")["df"], plain.numbers("score")["df"])


# Pairs


def in_pairs(criterion, shares):
    """500 pairs of which the control has an event in each tenth, and the candidate in none."""
    seen = Seen(criterion, phase="0:0%", shares=shares)
    for number in range(500):
        hit = number % 10 == 0
        seen.call("control", failed=hit, duration_s=0.2 if hit else 0.01)
        seen.call("v2", duration_s=0.01)
    return seen.numbers(criterion.label, shadowing=shares is PAIRS)


@pytest.mark.parametrize("criterion", [evolve(ERRORS, harm=0.25), SLOW, Guardrail("latency_mean")])
def test_a_pair_lacks_nothing_that_its_other_half_has(criterion):
    """Of two separate arms, the one without an event may have missed it: its variance is at least the other's."""
    paired, apart = (in_pairs(criterion, shares) for shares in (PAIRS, HALF))
    spread = math.log(20) if criterion.metric == "latency_mean" else 1.0
    one = spread * math.sqrt(0.1 * 0.9 / 500)
    assert one == pytest.approx(paired["std_error"], rel=0.02)
    assert math.sqrt(2) * one == pytest.approx(apart["std_error"], rel=0.02)
    if criterion.metric == "error_rate":
        over = [numbers[name]["std_error"] for numbers in (paired, apart) for name in ("over_harm", "over_margin")]
        expected = [1.25, 2.0, math.hypot(1.25, 1), math.hypot(2.0, 1)]
        assert expected == pytest.approx([each / one for each in over], rel=0.02)


def test_what_the_control_was_recorded_for_while_the_candidate_was_shadowed_is_not_compared():
    seen = Seen(SCORE, phase="0:0%", shares=PAIRS).call("v2", 50).call("control", 50, values={"score": 1.0})
    seen.phase, seen.shares = "1:50%", HALF
    numbers = seen.both(40, values={"score": 0.5}).numbers("score")
    assert (20.0, 40, 20.0, 40) == tuple(numbers[f"{arm}_{of}"] for arm in ("control", "value") for of in ("total", "count"))


def test_only_shadow_phases_are_paired():
    seen = Seen(ERRORS, phase="0:0%", shares=PAIRS).both()
    assert seen.look().is_paired
    seen.phase, seen.shares = "1:50%", HALF
    assert not seen.both().look().is_paired


def test_pairs_are_no_split_however_few_calls_are_shadowed():
    seen = Seen(ERRORS, phase="0:0%", shares={"control": 1.0, "v2": 0.1}).both(500)
    assert ([], True) == (seen.numbers("assignment", shadowing=True)["phases"], seen.verdict(shadowing=True).valid)


def test_of_a_pair_either_half_is_equally_likely_to_fail_however_few_calls_are_shadowed():
    seen = Seen(ERRORS, phase="0:0%", shares={"control": 1.0, "v2": 0.1})
    for number in range(50):
        seen.both(failed=True, time_s=60.0 * (START_MINUTE + number))
    assert [[50, 50, 0.5]] == seen.numbers("error_rate", shadowing=True)["strata"]


def test_pairs_are_complete_that_ran_to_an_end_and_those_that_an_operator_ended_were_not_planned():
    ends = {"ok": 90, "error": 3, "timeout": 2, "dropped_full": 3, "abandoned": 2}
    stopped = {"cancelled": 70, "dropped_aborted": 80, "dropped_closed": 90}
    phase = PhaseEvidence(ends=Counter({("v2", end): number for end, number in {**ends, **stopped}.items()}))
    assert (0.95, None) == (completeness(phase, "v2"), completeness(phase, "v3"))


@pytest.mark.parametrize("end", ["ok", "error", "timeout"])
def test_a_shadow_that_ran_out_of_time_is_a_failure_of_the_candidate_and_none_of_the_control(end):
    evidence = Evidence([ERRORS])
    decision = Decision("control", id="d", phase="0:0%", bucket=3, time_s=1000.0)
    add_shadowed(evidence, ShadowedEvent(decision, "v2", end, duration_s=1.0, control_duration_s=0.01, unit=None), PAIRS)
    assert [1, 1] == [sum(evidence.phases["0:0%"].calls[arm]) for arm in HALF]
    assert [] == [arm for _, arm in evidence.phases["0:0%"].events if (arm, end) == ("v2", "ok") or arm == "control"]
    assert (end != "ok") == (("error_rate", "v2") in evidence.phases["0:0%"].events)
