"""How long a test still takes, given that it has not passed by now."""

import pytest
from attrs import evolve

from rollout_sdk import Gate, Guardrail, Step
from rollout_sdk.analysis.forecast import Traffic, forecast
from rollout_sdk.analysis.passage import Chances
from rollout_sdk.analysis.sums_of_batches import Batch
from rollout_sdk.analysis.togo import to_go, whole
from rollout_sdk.analysis.verdict import ToGo
from rollout_sdk.judging import Finding
from rollout_sdk.judging.minutes import Minute, bit_of
from rollout_sdk.plan import Criteria

ERRORS, CLICKS = Guardrail("error_rate"), Gate("click", mde=0.05)
TRAFFIC = Traffic(units_per_day=1000.0, error_rate=0.01, means={"click": (0.3, 0.46)})


class Known:
    """Forecasts of which the result is known."""

    def __init__(self, chances):
        self.chances = chances

    def passing(self, name, wait):
        return self.chances


def left(chances, days, *, criterion=ERRORS, arms=(0.5, 0.5), numbers=("alpha", "tests", "candidates")):
    known = {"alpha": 0.05, "tests": 1, "candidates": 1}
    finding = Finding(
        name=criterion.label, candidate="v2", outcome="INCONCLUSIVE", reason="", kind="guardrail",
        numbers={name: known[name] for name in numbers},
    )  # fmt: skip
    return to_go(criterion, finding, TRAFFIC, arms, days, Known(chances))


@pytest.mark.parametrize(
    ("chances", "days", "expected"),
    [
        # By day 2 with a probability of 60 %, and never with more.
        (Chances((1.0, 2.0), (0.2, 0.6), is_stepped=True), 0.0, (2.0, None)),
        (Chances((1.0, 2.0), (0.2, 0.9), is_stepped=True), 0.5, (1.5, 1.5)),
        (Chances((1.0, 2.0, 4.0), (0.5, 0.7, 0.8), is_stepped=True), 0.0, (1.0, 4.0)),
        # It has not passed by day 1, although one in two has: of the rest, a half is 75 %, and four fifths are 90 %.
        (Chances((1.0, 2.0, 4.0), (0.5, 0.75, 0.9), is_stepped=True), 1.0, (1.0, 3.0)),
        (Chances((1.0, 2.0, 4.0), (0.5, 0.7, 0.74), is_stepped=True), 1.0, (None, None)),
        # It should have passed long ago, will not within ten years, or never will.
        (Chances((1.0, 2.0), (0.5, 0.9995), is_stepped=True), 3.0, (None, None)),
        (Chances((3651.0,), (1.0,), is_stepped=True), 0.0, (None, None)),
        (Chances((), ()), 0.0, (None, None)),
    ],
)
def test_days_left_are_those_until_half_and_four_fifths_of_what_has_not_passed_yet(chances, days, expected):
    found = left(chances, days)
    assert expected == (pytest.approx(found.days_50), pytest.approx(found.days_80))
    units = [None if each is None else pytest.approx(1000 * each, abs=1) for each in expected]
    assert units == [found.units_50, found.units_80]


def test_between_two_days_the_chance_grows_with_the_logarithm_of_time():
    assert 2.0 == pytest.approx(left(Chances((1.0, 4.0), (0.4, 0.6)), 0.0).days_50)


def test_the_effect_is_that_which_a_gate_hopes_for():
    chances = Chances((1.0,), (1.0,))
    assert (0.0, 0.05) == (left(chances, 0.0).effect, left(chances, 0.0, criterion=CLICKS).effect)


@pytest.mark.parametrize("options", [{"arms": (1.0, 0.0)}, {"arms": (0.0, 1.0)}, {"numbers": ("alpha", "tests")}])
def test_nothing_is_said_of_what_has_no_traffic_or_was_not_judged(options):
    assert left(Chances((1.0,), (1.0,)), 0.0, **options) is None


def test_all_have_passed_when_the_slowest_has():
    fast = ToGo(days_50=1.0, days_80=2.0, units_50=10, units_80=20, effect=0.1)
    slow = ToGo(days_50=3.0, days_80=4.0, units_50=30, units_80=40, effect=0.05)
    assert evolve(slow, effect=0.1) == whole([fast, None, slow])
    never = evolve(slow, days_80=None, units_80=None)
    assert evolve(never, effect=0.1) == whole([fast, never])
    assert whole([None]) is None


@pytest.mark.parametrize(
    ("before", "dry_run", "asked"),
    [("step", False, [True, True]), ("promotion", False, [False, True]), ("step", True, [False, False])],
)
def test_each_step_waits_for_its_gates_and_the_last_for_those_of_the_promotion(before, dry_run, asked):
    gate = Gate("click", before=before, dry_run=dry_run, mde=0.05, horizon=3_000)
    steps = [Step(0, shadow=0.1), Step("20%"), Step("50%")]
    found = forecast(Criteria(steps=steps, guardrails=[], gates=[gate]), TRAFFIC)
    assert [False, *asked] == ["click" in step.by for step in found.steps]


@pytest.mark.parametrize(
    ("criterion", "rate"),
    [(Guardrail("latency", threshold_s=0.1), 0.995), (Guardrail("latency", threshold_s=0.1), 1 - 1e-9), (ERRORS, 0.995)],
)
def test_where_nearly_every_call_is_slow_or_fails_already_any_number_of_them_passes(criterion, rate):
    # However many of the candidate's are, it is hardly worse: this does not search for how many are too many.
    plan = Criteria(steps=[Step("50%", min_units=0, min_time=0)], guardrails=[criterion])
    step = forecast(plan, Traffic(units_per_day=10_000, slow_rate=rate, error_rate=rate)).steps[0]
    assert 0 < step.days_50 <= step.days_80 < 3


def test_minutes_that_a_database_adds_up_are_those_that_are_added_line_by_line():
    batch, one_by_one = Batch(), Minute()
    for bucket in (1, 2, 70):
        one_by_one.calls += 1
        one_by_one.units |= bit_of(bucket)
        batch.add_minute("0:50%", "v2", "", 7, 1, bit_of(bucket))
    for bucket in (2, 70):
        one_by_one.add_event("error_rate", bucket)
        batch.add_minute("0:50%", "v2", "error_rate", 7, 1, bit_of(bucket))
    assert {7: one_by_one} == batch.phase("0:50%").minutes["v2"].kept
