"""A forecast says what the judge does: times with their probability, against simulated canaries."""

import math
import random

import pytest
from attrs import evolve
from scipy.stats import norm, poisson

from rollout_sdk import ConfigurationError, Gate, Guardrail, Step
from rollout_sdk.analysis import passage
from rollout_sdk.analysis.forecast import Traffic, forecast
from rollout_sdk.analysis.passage import Chances, crossed_by_counts, crossed_by_motion
from rollout_sdk.analysis.waiting import Wait
from rollout_sdk.judging import Evidence, Situation, judge
from rollout_sdk.plan import Criteria

# First passages --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "slope", "drift"), [(2.0, 0.0, 1.0), (1.0, 0.5, 0.2), (3.0, -0.1, 0.5)])
def test_a_motion_crosses_a_line_with_the_probability_of_the_formula(level, slope, drift):
    times = [1e-2 * 1.1**place for place in range(80)]
    found = crossed_by_motion(times, [level + slope * t for t in times], drift=drift)
    for t, chance in zip(times, found, strict=True):
        root = math.sqrt(t)
        lost = level + slope * t - drift * t
        exact = norm.cdf(-lost / root) + math.exp(-2 * level * (slope - drift)) * norm.cdf((lost - 2 * level) / root)
        assert chance == pytest.approx(exact, abs=2e-3)


def test_a_boundary_that_is_far_away_takes_no_more_room_than_a_near_one(monkeypatch):
    sizes, nodes = [], passage._nodes
    monkeypatch.setattr(passage, "_nodes", lambda *given: sizes.append(len(found := nodes(*given))) or found)
    times = [1e-2 * 1.1**place for place in range(20)]
    # While there is little to judge by, what would decide can be a million deviations away.
    assert [0.0] * 20 == pytest.approx(crossed_by_motion(times, [1e3] * 20, drift=1.0), abs=1e-5)
    assert max(sizes) < 200


def test_planned_looks_cross_with_the_probability_that_their_boundaries_spend():
    from rollout_sdk.stats import spending_boundaries

    fractions = [0.2, 0.4, 0.6, 0.8, 1.0]
    boundaries = [z * math.sqrt(t) for z, t in zip(spending_boundaries(fractions, alpha=0.05), fractions, strict=True)]
    found = crossed_by_motion(fractions, boundaries, drift=0.0, is_watched=False)
    spent = [2 * norm.sf(norm.isf(0.025) / math.sqrt(t)) for t in fractions]
    assert found == pytest.approx(spent, abs=1e-3)


def test_counts_stay_within_their_limits_with_the_probability_of_the_poisson_distribution():
    (only,) = crossed_by_counts([3.0], [(2, 29)])
    assert only == pytest.approx(poisson.cdf(2, 3.0), abs=1e-6)
    # None at the first look, or one at most at the second.
    found = crossed_by_counts([1.0, 3.0], [(0, 29), (1, 29)])
    assert found == pytest.approx([math.exp(-1), math.exp(-1) + math.exp(-1) * math.exp(-2)], abs=1e-6)
    # From 30 on, another limit holds.
    (many,) = crossed_by_counts([30.0], [(5, 33)])
    assert many == pytest.approx(poisson.cdf(5, 30) + poisson.cdf(33, 30) - poisson.cdf(29, 30), abs=1e-6)


def test_chances_are_known_between_their_days_unless_they_come_in_steps():
    for stepped, between in ((False, 0.5), (True, 0.4)):
        chances = Chances((1.0, 4.0), (0.4, 0.6), is_stepped=stepped)
        assert [0.0, 0.4, between, 0.6, 0.6] == pytest.approx([chances.at(day) for day in (0.5, 1.0, 2.0, 4.0, 9.0)])


# Against the judge -----------------------------------------------------------------------------------------------------------

TRAFFIC = Traffic(units_per_day=10_000, error_rate=0.05, means={"click": (0.3, math.sqrt(0.21))}, latency_spread=0.7)
# The judge adds up each minute: as many units in fewer minutes take less time to simulate.
SIMULATED = evolve(TRAFFIC, units_per_day=100_000)
EVERY_S = 86_400 / SIMULATED.units_per_day


def days_to_pass(criterion, share, rng, longest):
    """Days until the judge passes a simulated candidate, as good as the criterion hopes for; inf where it does not."""
    is_gate = isinstance(criterion, Gate)
    step = Step(share, min_units=0, min_time=0)
    criteria = Criteria(steps=[step], **({"gates": [criterion], "guardrails": []} if is_gate else {"guardrails": [criterion]}))
    evidence, units, look = Evidence(criteria.all), 0, 200
    situation = Situation(rollout="m", phase="0", revision=0, control="control", candidates=("v2",), step=step, entered_s=0.0)
    while units < longest * SIMULATED.units_per_day:
        for _ in range(look - units):
            units += 1
            arm, cell, bucket = ("v2" if rng.random() < share else "control"), rng.getrandbits(32), rng.getrandbits(9)
            evidence.add_call(
                "0", arm, {"control": 1 - share, "v2": share}, cell, bucket,
                failed=not is_gate and rng.random() < SIMULATED.error_rate,
                duration_s=math.exp(rng.gauss(-2, SIMULATED.latency_spread)), time_s=units * EVERY_S,
            )  # fmt: skip
            if is_gate and rng.random() < 0.3 + criterion.mde * (arm == "v2"):
                evidence.add_outcome(
                    "click", 1.0, decision=str(units), phase_name="0", arm=arm, bucket=bucket, decided_s=0.0, time_s=0.0
                )
        verdict = judge(evidence, criteria, situation, units * EVERY_S)
        if verdict.outcome == "PASS":
            return units / SIMULATED.units_per_day
        if verdict.outcome in ("FAIL", "FUTILE"):
            return math.inf
        look = math.ceil(units * 1.05)
    return math.inf


@pytest.mark.parametrize(
    ("criterion", "share"),
    [
        (Guardrail("error_rate", floor=0.0), 0.5),
        (Guardrail("error_rate", floor=0.2), 0.1),
        (Guardrail("latency_mean"), 0.5),
        (Gate("click", mde=0.06), 0.5),
    ],
)
def test_the_judge_passes_when_the_forecast_says_as_often_as_it_says(criterion, share):
    """Of simulated canaries, about a half has passed by the time for 50 %, and about 80 % by the time for 80 %."""
    wait = Wait.of(criterion, Criteria(steps=[share]), SIMULATED, (1 - share, share))
    chances, runs, rng = wait.passing(), 60, random.Random(5)
    criteria = Criteria(
        steps=[Step(share, min_units=0, min_time=0)],
        **({"gates": [criterion], "guardrails": []} if isinstance(criterion, Gate) else {"guardrails": [criterion]}),
    )
    step = forecast(criteria, SIMULATED).steps[0]
    assert [0.5, 0.8] == pytest.approx([chances.at(step.days_50), chances.at(step.days_80)], abs=0.12)
    days = [days_to_pass(criterion, share, rng, 1.01 * step.days_80) for _ in range(runs)]
    for expected, limit in ((chances.at(step.days_50), step.days_50), (chances.at(step.days_80), step.days_80)):
        # Three standard errors of the runs, and what looking at every 5 % and rounded variances cost.
        bound = 3 * math.sqrt(expected * (1 - expected) / runs) + 0.05
        assert expected == pytest.approx(sum(each <= limit * 1.02 for each in days) / runs, abs=bound)


def test_means_pass_at_096_and_173_times_the_fixed_sample():
    """C18: the time for 50 %, and the time for 80 %, beside the test of one look with power .5 and .8."""
    gate = Gate("click", mde=0.03, min_effect=-1e-9)
    step = forecast(Criteria(steps=["50%"], guardrails=[], gates=[gate]), TRAFFIC).steps[0]
    fixed = (norm.isf(0.05) + norm.ppf(0.8)) ** 2 * 0.21 * 4 / 0.03**2 / TRAFFIC.units_per_day
    assert [0.96, 1.73] == pytest.approx([step.days_50 / fixed, step.days_80 / fixed], rel=0.06)


# What a step says ------------------------------------------------------------------------------------------------------------


def step_of(step, traffic=TRAFFIC, **options):
    return forecast(Criteria(steps=[step], **options), traffic).steps[0]


def test_a_step_says_whether_its_time_is_enough():
    free = step_of(Step("10%"))
    assert "" == free.pause
    for days, word in (
        (2 * free.days_80, ""),
        ((free.days_50 * free.days_80) ** 0.5, "may be"),
        (0.9 * free.days_50, "will be"),
    ):
        found = step_of(Step("10%", max_time=days * 86_400))
        assert found.pause.startswith(word)
        assert bool(word) == ("raise max_time, or raise " in found.pause)


@pytest.mark.parametrize(
    ("step", "options", "setting"),
    [
        (Step("10%", min_time="9d"), {}, "min_time"),
        (Step("10%", min_units=100_000), {}, "min_units"),
        (Step(0, min_units=100), {}, "share"),
        (Step("50%"), {"guardrails": [Guardrail("error_rate", floor=0.5)], "gates": [Gate("click", mde=0.01)]}, "mde"),
        (Step("50%"), {"guardrails": [], "gates": [Gate("click", mde=0.01, min_effect=0.02)]}, "min_effect"),
        (Step("50%"), {"guardrails": [], "gates": [Gate("click", mde=0.01, horizon=3_000)]}, "horizon"),
        (Step("50%"), {"guardrails": [], "gates": [Gate("click", mde=0.1, window="7d")]}, "window"),
        (Step("50%"), {"guardrails": [Guardrail("error_rate", floor=0.0)]}, "margin"),
        (Step("10%", min_units=0), {"guardrails": [Guardrail("error_rate", floor=0.2)]}, "floor"),
        (Step("10%"), {"guardrails": [Guardrail("error_rate", margin=0.0, floor=0.001)]}, "margin and floor"),
        (Step("10%"), {"guardrails": [Guardrail("latency_mean")]}, "margin"),
    ],
)
def test_a_step_names_the_setting_that_it_waits_for(step, options, setting):
    found = step_of(step, **options)
    assert setting == found.bottleneck.setting
    assert found.bottleneck.cure


def test_a_shadow_step_is_judged_by_pairs_and_passes_recorded_metrics_over():
    options = {"guardrails": [Guardrail("error_rate"), Guardrail("click", margin=0.1)], "gates": [Gate("click2")]}
    shadow, half = (step_of(step, **options) for step in (Step(0, shadow=0.5), Step(0, shadow=0.25)))
    assert {"min_time", "min_units", "error_rate"} == set(shadow.by)
    assert half.days_50 == pytest.approx(2 * shadow.days_50, rel=0.02)
    served = step_of(Step("50%"))
    # Half of the calls, twice: as many of each arm as at a share of a half.
    assert shadow.by["error_rate"].days_50 == pytest.approx(served.by["error_rate"].days_50, rel=0.02)
    assert (0.5, 0.0) == (shadow.shadow, served.shadow)


def test_a_gate_with_a_horizon_says_when_that_ends_and_passes_at_its_looks():
    options = {"guardrails": [], "gates": [Gate("click", mde=0.06, horizon=5_000)]}
    found = step_of(Step("50%", min_units=0, min_time=0), **options)
    assert {"click": 0.5} == found.planned_ends
    assert found.days_50 in [pytest.approx(0.1 * look, rel=1e-4) for look in range(1, 6)]
    assert found.days_80 is None or found.days_80 <= 0.5 * 1.001
    again = step_of(Step("50%", min_units=0, min_time=0), guardrails=[], gates=[Gate("click", mde=0.06, horizon="12h")])
    assert (found.days_50, found.planned_ends) == (again.days_50, again.planned_ends)


def test_more_traffic_takes_fewer_days_and_sees_smaller_effects():
    few, many = (
        step_of(Step("10%"), Traffic(units_per_day=units, means={"click": (0.1, 0.3)}), gates=[Gate("click")])
        for units in (1_000, 100_000)
    )
    assert few.by["click"].days_50 == pytest.approx(100 * many.by["click"].days_50, rel=0.01)
    assert many.effects_seen["click"] == pytest.approx(few.effects_seen["click"], rel=0.6)


def test_each_threshold_is_forecast_at_its_own_rate():
    traffic = Traffic(units_per_day=10_000, slow_rate=0.2, slow_rates={"latency>1s": 0.0001})
    step = step_of(
        Step("50%"), traffic, guardrails=[Guardrail("latency", threshold_s=1.0), Guardrail("first_item", threshold_s=0.2)]
    )
    assert step.by["latency>1s"].days_80 < step.by["first_item>0.2s"].days_50 / 5


def test_errors_until_a_rollback_are_about_those_of_simulated_canaries():
    criterion = Guardrail("error_rate", floor=0.0)
    criteria = Criteria(steps=[Step("50%", min_units=0, min_time=0)], guardrails=[criterion])
    expected = forecast(criteria, SIMULATED).steps[0].errors_seen
    situation = Situation(
        rollout="m", phase="0", revision=0, control="control", candidates=("v2",), step=criteria.steps[0], entered_s=0.0
    )
    for ratio in (10.0, 3.0):
        seen = []
        for seed in range(15):
            rng, evidence, units, errors = random.Random(seed), Evidence(criteria.all), 0, 0
            while True:
                arm = "v2" if rng.random() < 0.5 else "control"
                failed = rng.random() < SIMULATED.error_rate * (ratio if arm == "v2" else 1.0)
                cell, units = rng.getrandbits(32), units + 1
                evidence.add_call(
                    "0", arm, {"control": 0.5, "v2": 0.5}, cell, cell % 512, failed=failed, duration_s=0.1, time_s=units * 9.0
                )
                errors += failed and arm == "v2"
                if failed and judge(evidence, criteria, situation, units * 9.0).outcome == "FAIL":
                    break
            seen.append(errors)
        assert expected[ratio] == pytest.approx(sorted(seen)[7], rel=0.4)


def test_a_plan_that_can_never_pass_says_so():
    criteria = Criteria(steps=["10%"], guardrails=[Guardrail("error_rate", margin=0.0, floor=0.001)])
    found = forecast(criteria, Traffic(units_per_day=1000, error_rate=0.01))
    assert (None, None, None) == (found.days_50, found.days_80, found.steps[0].days_50)


def test_a_recorded_metric_that_the_traffic_does_not_know_is_asked_for():
    with pytest.raises(ConfigurationError, match="does not know 'spend'"):
        step_of(Step("10%"), gates=[Gate("spend")])


def test_a_shadow_step_waits_until_so_many_pairs_say_that_answers_hardly_differ():
    traffic = Traffic(units_per_day=1000.0, calls_per_unit=1.0)
    step = Step("0%", shadow="50%", min_units=0, min_time=0)
    plan = Criteria(steps=[step, "50%"], guardrails=[Guardrail("shadow.mismatch", margin=0.01)])
    shadow, served = forecast(plan, traffic).steps
    # 348 pairs without a mismatch.
    assert shadow.by["shadow.mismatch"].days_50 == pytest.approx(348 / 500, rel=0.01)
    assert "shadow.mismatch" not in served.by
    difference = Guardrail("shadow.difference", margin=0.1, clip=(0, 1))
    assert forecast(Criteria(steps=[step], guardrails=[difference]), traffic).steps[0].by["shadow.difference"].days_50 > 0


def test_a_shadow_step_whose_answers_nobody_judges_is_warned_of():
    (warning,) = Criteria(steps=[Step("0%", shadow="5%"), "50%"]).warnings
    assert "a candidate whose every answer differs passes it" in warning
    judged = Criteria(steps=[Step("0%", shadow="5%"), "50%"], guardrails=[Guardrail("shadow.mismatch", margin=0.1)])
    assert judged.warnings == ()
