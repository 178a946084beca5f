"""What a verdict is sure of: levels, weights, intervals, margins and what each is compared with."""

import math

import pytest
from attrs import evolve

from rollout_sdk import Gate, Guardrail, Step
from rollout_sdk.judging.e_values import Weight
from rollout_sdk.judging.metrics import metric_of
from rollout_sdk.judging.metrics.assignment import weigh_assignment
from rollout_sdk.judging.metrics.base import least_mean
from rollout_sdk.judging.metrics.error_rate import ErrorRate
from rollout_sdk.judging.metrics.means import Recorded
from rollout_sdk.stats import StratifiedBuckets, rate_below_log_e, srm_log_e
from tests.judging.seen import ERRORS, HALF, NOW_S, SCORE, SLOW, Seen, toss


def test_without_data_every_e_value_is_one():
    """The weights of each mixture sum to 1: a sum of 2 would be a factor of 2 on every error probability."""
    each = ERRORS, SLOW, Guardrail("latency_mean"), Guardrail("click", margin=0.05), Gate("buy", mde=0.05)
    seen = Seen(*each)
    verdict = seen.both().verdict()
    logs = {each.name: (each.harm_log_e, each.safe_log_e) for each in verdict.findings if each.candidate}
    # One call of each arm is a little evidence of how rare errors and slow calls are.
    assert (0.0, 0.0) == pytest.approx(logs["error_rate"], abs=0.02)
    assert (0.0, 0.0) == pytest.approx(logs["latency>0.1s"], abs=0.1)
    # A test of means does not speak yet, and there is nothing to bet on.
    assert [(None, None)] * 3 == [logs[name] for name in ("latency_mean", "click", "buy")]


@pytest.mark.parametrize("aside", [{"on_fail": "warn"}, {"dry_run": True}])
def test_a_guardrail_that_decides_nothing_is_judged_as_one_more_than_those_that_do(aside):
    seen = Seen(ERRORS, SLOW, Guardrail("cost", margin=1, **aside), Guardrail("score", margin=1, **aside)).both()
    needed = {each.name: math.exp(each.harm_needed) for each in seen.verdict().findings if each.candidate}
    assert {"error_rate": 40, SLOW.label: 40, "cost": 60, "score": 60} == pytest.approx(needed)


def test_three_candidates_have_intervals_and_planned_looks_of_a_third_of_alpha():
    each = ERRORS, SLOW, Guardrail("latency_mean"), Guardrail("score", margin=0.5), Gate("click", mde=0.05, horizon=1000)
    ends = {}
    for alpha, candidates in ((0.05, ("v2",)), (0.15, ("v2", "v3", "v4")), (0.15, ("v2",))):
        seen = Seen(*each, alpha=alpha)
        for arm in HALF:
            for number in range(500):
                values = {"score": seen.rng.gauss(5, 1), "click": toss(arm, number)}
                bad = number % 5 == (arm == "v2")
                seen.call(arm, failed=bad, duration_s=0.2 if bad else 0.01 + number / 1e5, values=values)
        found = [each for each in seen.verdict(candidates=candidates).findings if each.candidate == "v2"]
        ends[alpha, len(candidates)] = [
            end
            for each in found
            for end in (
                each.low,
                each.high,
                each.relative_low,
                each.relative_high,
                *(boundary for _, _, boundary, _ in each.numbers.get("looks", ())),
            )
            if end is not None
        ]
    assert ends[0.05, 1] == pytest.approx(ends[0.15, 3], rel=1e-9)
    # Both ends of nine intervals (of log latency there is a relative one only), and the boundary of a look.
    assert [True] * 19 == [abs(one - three) > 1e-3 for one, three in zip(ends[0.05, 1], ends[0.15, 1], strict=True)]


def test_the_bets_on_errors_are_mixed_with_the_weights_that_are_written_down():
    numbers = dict(Seen(ERRORS).both().numbers("error_rate"))
    sure = math.log(1e6)
    weight = ErrorRate.weigh({**numbers, "exact_harm": sure, "exact_safe": sure, "floor": 0})
    assert (0.75 * 1e6 + 0.25, 0.5 * 1e6 + 0.5) == pytest.approx((math.exp(weight.harm_log_e), math.exp(weight.safe_log_e)))
    rare = ErrorRate.weigh({**numbers, "exact_safe": 0.0, "floor": 0.5, "floor_events": 0, "floor_units": 40})
    assert 0.75 + 0.25 * math.exp(rate_below_log_e(0, 40, limit=0.5)) == pytest.approx(math.exp(rare.safe_log_e))
    assert rare.by_rarity


def test_the_shares_are_judged_by_half_of_all_phases_together_and_half_of_each_by_itself():
    first, second = ([130, 70], [0.5, 0.5]), ([30, 10], [0.6, 0.4])
    e, both = [math.exp(srm_log_e(*each)) for each in (first, second)], [list(first), list(second)]
    alone = e[0] / 2 + e[1] / 6 + 1 / 3
    assert 0.5 * e[0] * e[1] + 0.5 * alone == pytest.approx(
        math.exp(weigh_assignment({"strata": both, "phases": both}).harm_log_e)
    )


def test_a_planned_end_passes_by_its_looks_and_by_nothing_else():
    numbers = dict(Seen(Gate("click", mde=0.05)).both().numbers("click"))
    sure = {**numbers, "estimate": 1.0, "std_error": 1e-3, "df": 500.0, "enough_safe": True}
    assert Recorded.weigh(sure).is_safe
    assert not Recorded.weigh({**sure, "looks": [], "is_over": False}).is_safe
    taken = [[0.2, 4.3, 4.2, 50.0], [0.4, 1.0, 2.9, 100.0]]
    assert Recorded.weigh({**numbers, "looks": taken, "is_over": False}).is_safe
    late = Recorded.weigh({**numbers, "looks": [[1.0, 1.7, 1.8, 250.0]], "is_over": True})
    assert (False, True) == (late.is_safe, late.is_futile)


@pytest.mark.parametrize(("log_e", "is_futile"), [(math.log(19.9), False), (math.log(20.1), True)])
def test_a_gate_is_futile_at_one_in_twenty(log_e, is_futile):
    assert is_futile == Weight(futile_log_e=log_e, safe_log_e=0.0, safe_needed=math.log(20)).is_futile


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"mde": 0.05}, 0.05),
        # Worth having is at least what is asked for.
        ({"mde": 0.05, "min_effect": 0.1}, 0.1),
        # A gate that accepts a loss is futile when the loss surely is larger.
        ({"mde": 0.05, "min_effect": -0.02}, -0.02),
    ],
)
def test_futile_is_an_effect_surely_below_the_one_worth_having(options, limit):
    numbers = dict(Seen(Gate("click", **options)).both().numbers("click"))
    known = {"std_error": 1e-3, "df": 500.0, "enough_safe": True}
    below, above = (Recorded.weigh({**numbers, **known, "estimate": limit + by}).futile_log_e for by in (-0.01, 0.01))
    assert below > math.log(20) > 0 > above


@pytest.mark.parametrize(
    ("criterion", "harm", "margin"),
    [
        (Guardrail("latency", threshold_s=0.1, margin=0.05, harm=0.02), 0.02, 0.05),
        (Guardrail("latency_mean", margin=0.2, harm=0.1), math.log(1.1), math.log(1.2)),
        (Guardrail("cost", better="lower", margin=0.05, harm=0.02), 0.02, 0.05),
    ],
)
def test_harm_and_margin_are_the_differences_that_are_surely_exceeded_or_not(criterion, harm, margin):
    known = {"std_error": 1e-3, "df": 500.0, "enough": True, "enough_harm": True, "enough_safe": True, "value": 1.0}

    def weigh(estimate):
        found = {**Seen(criterion).both().numbers(criterion.label), **known, "estimate": estimate}
        return metric_of(criterion).weigh({**found, "for_harm": found})

    assert (False, True) == (weigh(harm - 0.01).is_harm, weigh(harm + 0.01).is_harm)
    assert (True, False) == (weigh(margin - 0.01).is_safe, weigh(margin + 0.01).is_safe)


@pytest.mark.parametrize(("better", "value"), [("higher", 0.35), ("lower", 0.65)])
def test_exact_bets_on_yes_or_no_prove_harm_beyond_what_is_allowed(better, value):
    log_es = {}
    for harm in (0.0, 0.2):
        seen = Seen(Guardrail("click", margin=0.3, harm=harm, better=better))
        for arm, rate in (("control", 0.5), ("v2", value)):
            for _ in range(1000):
                seen.call(arm, bucket=seen.rng.randrange(512), values={"click": float(seen.rng.random() < rate)})
        log_es[harm] = seen.numbers("click")["exact_harm"]
    # It is worse by .15.
    assert log_es[0.2] < 0 < math.log(20) < log_es[0.0]


@pytest.mark.parametrize("criterion", [Guardrail("error_rate"), Guardrail("latency", threshold_s=0.1, margin=0.3)])
def test_exact_bets_on_errors_and_slow_calls_prove_harm_beyond_what_is_allowed(criterion):
    log_es = []
    # 1.5 times the control's 20 %: more than the same, less than twice as many.
    for harm in (0.0, 1.0 if criterion.metric == "error_rate" else 0.2):
        seen = Seen(evolve(criterion, harm=harm))
        for arm, events in (("control", 200), ("v2", 300)):
            for number in range(1000):
                hit, bucket = number < events, seen.rng.randrange(512)
                seen.call(arm, failed=hit, duration_s=0.2 if hit else 0.01, bucket=bucket)
        log_es.append(seen.numbers(criterion.label)["exact_harm"])
    assert log_es[0] > math.log(20) > 0 > log_es[1]


def test_what_a_difference_is_relative_to_is_a_standard_error_below_the_controls_mean():
    sums = StratifiedBuckets()
    for bucket in range(512):
        sums.add("0:50%", "control", bucket, float(bucket < 100), 10.0)
        sums.add("0:50%", "v2", bucket, float(bucket < 1), 10.0)
    # 100 events: one standard error is 10. Of none, half an event is what there may be.
    assert 90 / 5120 == pytest.approx(least_mean(sums, "control", "v2"))
    none = StratifiedBuckets()
    none.add("0:50%", "control", 3, 0.0, 1000.0)
    none.add("0:50%", "v2", 3, 1.0, 1000.0)
    assert 0.5 / 1000 == pytest.approx(least_mean(none, "control", "v2"))


def test_of_two_candidates_both_must_pass_before_the_rollout_goes_on():
    seen = Seen(evolve(ERRORS, floor=0.2), shares={"control": 0.4, "v2": 0.3, "v3": 0.3})
    seen.call("control", 50).call("v2", 50).call("v3", 5)
    verdict = seen.verdict(candidates=("v2", "v3"))
    assert ["PASS", "INCONCLUSIVE"] == [each.outcome for each in verdict.findings if each.candidate]
    assert ("INCONCLUSIVE", ()) == (verdict.outcome, verdict.passed)
    both = seen.call("v3", 45).verdict(candidates=("v2", "v3"))
    assert ("PASS", ("v2", "v3")) == (both.outcome, both.passed)


@pytest.mark.parametrize(("elapsed_s", "units", "outcome"), [(59.9, 50, "INSUFFICIENT_DATA"), (60.0, 50, "PASS")])
def test_a_step_lasts_exactly_its_least_time(elapsed_s, units, outcome):
    seen = Seen(evolve(ERRORS, floor=0.2)).both(units)
    assert outcome == seen.verdict(step=Step("50%", min_units=units, min_time="1m"), elapsed_s=elapsed_s).outcome


def test_what_a_person_can_do_something_about_is_the_reason_of_the_whole():
    """A futile gate before one that lacks data, and that before one that only needs more time, in whatever order they are."""
    futile, lacking = Gate("click", mde=0.5), SCORE
    seen = Seen(ERRORS, futile)
    for number in range(200):
        for arm in HALF:
            seen.call(arm, values={"click": toss(arm, number)})
    assert ("FUTILE", "click: ") == (seen.verdict().outcome, seen.verdict().reason[:7])
    assert "INSUFFICIENT_DATA" == Seen(ERRORS, lacking).both(200).verdict().outcome


def test_a_gate_for_the_promotion_is_not_futile_before_it():
    seen = Seen(ERRORS, Gate("click", mde=0.5, before="promotion"))
    for number in range(200):
        for arm in HALF:
            seen.call(arm, values={"click": toss(arm, number)})
    assert [(), ("click",)] == [seen.verdict(is_last=last).futile for last in (False, True)]


def test_a_phase_that_has_just_begun_is_not_idle():
    assert [False, True] == [Seen(ERRORS).verdict(entered_s=NOW_S - ago).idle for ago in (600, 601)]
    # Of several checks, the one that waits longest counts.
    patient = Seen(ERRORS, Guardrail("cost", margin=1, grace="1h"))
    assert [False, True] == [patient.verdict(entered_s=NOW_S - ago).idle for ago in (3600, 3601)]
