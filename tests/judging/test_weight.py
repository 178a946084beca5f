"""What a metric makes of its numbers: fair bets, lifts, rarity, and how much data a forecast takes for enough."""

import math

import pytest

from rollout_sdk import Gate, Guardrail
from rollout_sdk.judging.metrics.base import Traffic
from rollout_sdk.judging.metrics.error_rate import ErrorRate
from rollout_sdk.judging.metrics.judged import Judged
from rollout_sdk.judging.metrics.slow_calls import SlowCalls
from tests.judging.seen import ERRORS, SLOW, START_MINUTE, Seen

np = pytest.importorskip("numpy")

ERROR = 0.004
PREFERENCE = Guardrail("judge.preference", margin=0.05, audit=0.2)
NUMBERS = {
    "alpha": 0.05, "tests": 1, "candidates": 1, "estimate": 0.0, "std_error": ERROR, "df": None, "control": 0.02, "value": 0.03,
    "harm": 0.01, "margin": 0.02, "mde": 0.02, "floor": None, "floor_events": 60, "floor_units": 2000, "events": 60,
    "units": 2000, "enough": True, "enough_harm": True, "enough_safe": True, "exact_harm": 0.0, "exact_safe": 0.0,
    "ratio_low": 0.5, "ratio_high": None, "complete": 1.0, "lift": 0.5, "lift_std_error": None, "lift_df": None,
}  # fmt: skip


def differing(estimate):
    return {"estimate": estimate, "std_error": ERROR, "df": None}


@pytest.mark.parametrize(
    ("metric", "at", "of"),
    [
        (ErrorRate, lambda z: {"over_harm": differing(z), "over_margin": differing(-9.0)}, "harm_log_e"),
        (ErrorRate, lambda z: {"over_harm": differing(-9.0), "over_margin": differing(-z)}, "safe_log_e"),
        (SlowCalls, lambda z: differing(0.01 + z), "harm_log_e"),
        (SlowCalls, lambda z: differing(0.02 - z), "safe_log_e"),
        (Judged, lambda z: differing(-0.01 - z), "harm_log_e"),
        (Judged, lambda z: differing(-0.02 + z), "safe_log_e"),
    ],
)
def test_evidence_is_a_fair_bet_on_a_candidate_exactly_at_the_limit(metric, at, of):
    """Averaged over what chance does to the estimate, neither more nor less than what was staked comes back."""
    back = 0.0
    # A bet on a large effect wins seldom, and much.
    for z in np.arange(-8, 250, 0.1):
        weight = metric.weigh({**NUMBERS, "value": 1.0, **at(ERROR * z)})
        back += 0.1 * math.exp(getattr(weight, of) - z * z / 2) / math.sqrt(2 * math.pi)
    assert 1.0 == pytest.approx(back, abs=0.002)


def test_the_lift_of_errors_is_that_of_the_rates_and_unknown_without_errors_of_the_control():
    seen = Seen(ERRORS).call("control", 50, failed=True).call("control", 950).call("v2", 75, failed=True).call("v2", 925)
    assert 0.5 == pytest.approx(seen.finding("error_rate").relative)
    assert Seen(ERRORS).call("v2", 75, failed=True).both(900).finding("error_rate").relative is None
    assert Seen(ERRORS).call("control", 75, failed=True).call("control", 925).finding("error_rate").relative is None


@pytest.mark.parametrize(("failed", "by_floor"), [(0, True), (2, True), (100, False)])
def test_a_candidate_with_hardly_any_error_passes_by_its_floor(failed, by_floor):
    seen = Seen(Guardrail("error_rate", floor=0.01)).both(4000 - failed).both(failed, failed=True)
    finding = seen.finding("error_rate")
    assert "PASS" == finding.outcome
    assert by_floor == (f"{failed} of 4,000 units of v2 saw an error: significantly fewer than 1 %" in finding.reason)


def test_calls_of_an_outage_are_in_no_rate():
    seen = Seen(ERRORS)
    for number in range(20):
        failed = 100 if number == 10 else 2
        for arm in ("control", "v2"):
            seen.call(arm, failed, failed=True, time_s=60.0 * (START_MINUTE + number))
            seen.call(arm, 100 - failed, time_s=60.0 * (START_MINUTE + number))
    numbers = seen.numbers("error_rate", now_s=60.0 * (START_MINUTE + 20))
    assert (38 / 1900, 38 / 1900) == pytest.approx((numbers["control"], numbers["value"]))


@pytest.mark.parametrize(
    ("criterion", "names"),
    [
        (ERRORS, ["enough_harm", "enough_safe"]),
        (SLOW, ["enough_harm", "enough_safe"]),
        (Guardrail("latency_mean"), ["enough"]),
        (Guardrail("score", margin=0.5), ["enough_harm", "enough_safe"]),
        (Gate("score", min_effect=0.0, mde=0.5), ["enough_safe"]),
    ],
    ids=lambda each: getattr(each, "label", ""),
)
@pytest.mark.parametrize("arms", [(0.5, 0.5), (0.25, 0.75), (0.75, 0.25)])
def test_a_forecast_waits_for_a_hundred_units_in_both_arms(criterion, names, arms):
    from rollout_sdk.judging.metrics import metric_of

    for units, enough in ((100, True), (99.9, False)):
        traffic = Traffic(units_per_day=units / min(arms), error_rate=0.9, slow_rate=0.9, means={"score": (1.0, 1.0)})
        numbers = metric_of(criterion).expected(traffic, arms, 1.0, None)
        assert dict.fromkeys(names, enough) == {name: numbers[name] for name in names}


@pytest.mark.parametrize(
    ("criterion", "worse", "value"), [(ERRORS, 2.0, 0.04), (ERRORS, None, 0.02), (SLOW, 0.03, 0.05), (SLOW, None, 0.02)]
)
def test_a_forecast_expects_what_its_traffic_says(criterion, worse, value):
    from rollout_sdk.judging.metrics import metric_of

    traffic = Traffic(units_per_day=1000, calls_per_unit=3.0, error_rate=0.02, slow_rate=0.02)
    numbers = metric_of(criterion).expected(traffic, (0.75, 0.25), 4.0, worse)
    assert (0.02, value, value - 0.02) == pytest.approx((numbers["control"], numbers["value"], numbers["estimate"]))
    # Calls of a unit may be alike: the precision is that of the units.
    error = math.sqrt(0.02 * 0.98 / 3000 + value * (1 - value) / 1000)
    assert error == pytest.approx(numbers["std_error"])
    if criterion is ERRORS:
        assert [[1000 * value, 3000 * 0.02, 0.25]] == [pytest.approx(each) for each in numbers["strata"]]
        assert (1000 * value, 1000) == (numbers["floor_events"], numbers["floor_units"])
    else:
        assert (1000 * value, 1000) == (numbers["events"], numbers["units"])


def test_repeated_errors_of_a_unit_are_charged_to_the_candidate():
    seen = Seen(ERRORS).both(100).call("control", 5, failed=True)
    assert [1.0] == seen.numbers("error_rate")["firsts"]
    seen.call("v2", 4, failed=True, cell=7, bucket=3)
    assert [0.25] == seen.numbers("error_rate")["firsts"]


@pytest.mark.parametrize(("criterion", "worse"), [(ERRORS, 4.0), (SLOW, 0.7)])
def test_a_forecast_of_a_candidate_that_always_fails_is_of_no_more_than_all_calls(criterion, worse):
    from rollout_sdk.judging.metrics import metric_of

    traffic = Traffic(units_per_day=1000, error_rate=0.5, slow_rate=0.5)
    assert 1.0 == metric_of(criterion).expected(traffic, (0.5, 0.5), 1.0, worse)["value"]
