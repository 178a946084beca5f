"""Comparisons of shadows as evidence: `shadow.mismatch` and `shadow.difference`."""

import math
import random

import pytest

from rollout_sdk import Canary, Comparison, ConfigurationError, Gate, Guardrail, Step
from rollout_sdk.judging import Evidence, add_shadowed, judge
from rollout_sdk.judging.unit_sample import FirstPairs, first_pairs
from rollout_sdk.plan import Criteria
from rollout_sdk.records import Decision, ShadowedEvent
from rollout_sdk.stats import rate_above_log_e, rate_below_log_e
from tests.judging.seen import PAIRS, situation

PHASE = "0:0%"
SHADOWING = Step(0, shadow=1.0, min_units=0, min_time=0)
SAME, OTHER = Comparison(match=True, difference=0.0), Comparison(match=False, difference=0.5, reason="value")


class Shadows:
    """Pairs of a shadow phase, added by hand."""

    def __init__(self, *guardrails, seed=1):
        self.plan = Criteria(steps=[SHADOWING], guardrails=guardrails)
        self.evidence, self.rng = Evidence(self.plan.all), random.Random(seed)

    def pair(self, comparison, *, unit=None, variant="v2", evidence=None, time_s=100.0, **about):
        unit = self.rng.getrandbits(64) if unit is None else unit
        decision = Decision("control", id=f"{self.rng.getrandbits(64):x}", phase=PHASE, bucket=unit % 512, time_s=time_s)
        event = ShadowedEvent(
            decision, variant, "ok", duration_s=0.01, comparison=comparison, unit=f"{unit:016x}", control_duration_s=0.01
        )
        for name, value in about.items():
            object.__setattr__(event, name, value)
        add_shadowed(self.evidence if evidence is None else evidence, event, PAIRS)
        return self

    def pairs(self, number, rate=0.0, **about):
        for _ in range(number):
            self.pair(OTHER if self.rng.random() < rate else SAME, **about)
        return self

    def verdict(self):
        return judge(self.evidence, self.plan, situation(phase=PHASE, step=SHADOWING, shadowing=True), 1000.0)

    def finding(self, name="shadow.mismatch"):
        return next(each for each in self.verdict().findings if each.name == name)


def mismatch(margin=0.02, **options):
    return Guardrail("shadow.mismatch", margin=margin, **options)


def test_less_than_one_percent_is_certain_after_348_pairs_without_a_mismatch():
    shadows = Shadows(mismatch(0.01)).pairs(347)
    assert shadows.finding().outcome == "INCONCLUSIVE"
    assert shadows.pairs(1).verdict().outcome == "PASS"


def test_a_candidate_whose_every_answer_differs_is_rolled_back_in_its_shadow_step():
    verdict = Shadows(mismatch()).pairs(20, rate=1.0).verdict()
    assert (verdict.outcome, verdict.failed) == ("FAIL", ("v2",))
    assert "100 % of 20 pairs" in verdict.reason


def test_a_single_odd_answer_rolls_nothing_back():
    assert Shadows(mismatch(0.001)).pair(OTHER).finding().outcome == "INCONCLUSIVE"


def test_agreement_has_an_interval_also_when_every_pair_matches():
    finding = Shadows(mismatch()).pairs(500).finding()
    assert 0 == finding.low < finding.high < 0.01


def test_a_finding_can_be_recomputed_from_its_numbers():
    shadows = Shadows(mismatch()).pairs(200, rate=0.03)
    finding = shadows.finding()
    (metric,) = shadows.evidence.metrics
    weight = metric.weigh(finding.numbers)
    assert (weight.harm_log_e, weight.safe_log_e) == (finding.harm_log_e, finding.safe_log_e)


def test_pairs_of_one_unit_count_as_one():
    shadows = Shadows(mismatch(0.01))
    for _ in range(2000):
        shadows.pair(SAME, unit=7)
    assert shadows.finding().outcome == "INCONCLUSIVE"
    assert shadows.finding().numbers["units"] == 1


def test_a_few_units_that_always_differ_are_not_called_the_rule():
    shadows = Shadows(mismatch(0.1))
    for unit in range(4):
        for _ in range(500):
            shadows.pair(OTHER, unit=unit + 1)
    shadows.pairs(2000)
    assert shadows.finding().outcome == "INCONCLUSIVE"


def test_a_unit_of_two_processes_counts_by_its_earlier_pair():
    one, other = FirstPairs(), FirstPairs()
    one.add(7, 20, differs=True)
    other.add(7, 10, differs=False)
    one.seen.merge(other.seen)
    one.differing.merge(other.differing)
    assert first_pairs([one]) == (0, 1)


def test_a_unit_of_two_phases_counts_in_the_first():
    one, other = FirstPairs(), FirstPairs()
    one.add(7, 10, differs=False)
    other.add(7, 20, differs=True)
    other.add(8, 20, differs=True)
    assert first_pairs([one, other]) == (1, 2)


def test_evidence_of_processes_adds_up():
    shadows, other = Shadows(mismatch()), Evidence([mismatch()])
    for number in range(400):
        shadows.pair(OTHER if number % 50 == 0 else SAME, evidence=other if number % 2 else None)
    shadows.evidence.merge(other)
    numbers = shadows.finding().numbers
    assert (numbers["value_count"], numbers["units"], numbers["events"]) == (400, 400, 8)


def test_pairs_that_could_not_be_compared_hold_the_step():
    shadows = Shadows(mismatch()).pairs(900)
    for _ in range(100):
        shadows.pair(None)
    finding = shadows.finding()
    assert finding.outcome == "INSUFFICIENT_DATA"
    assert "only 90.0% of the pairs could be compared" in finding.reason
    assert shadows.verdict().outcome == "INSUFFICIENT_DATA"


@pytest.mark.parametrize(("missed", "lacking"), [(10, False), (11, True)])
def test_exactly_nineteen_of_twenty_pairs_must_be_compared(missed, lacking):
    shadows = Shadows(mismatch()).pairs(190)
    for _ in range(missed):
        shadows.pair(None)
    assert lacking == ("of the pairs could be compared" in shadows.finding().reason)


def test_errors_are_errors_and_no_mismatches():
    shadows = Shadows(mismatch()).pairs(10)
    shadows.pair(None, end="error", error="ValueError")
    shadows.pair(Comparison(match=False, reason="control_error", name="error"), control_error="ValueError")
    numbers = shadows.finding().numbers
    assert (numbers["value_count"], numbers["missed"]) == (10, 0)


def test_a_field_is_judged_alone():
    shadows = Shadows(Guardrail("shadow.mismatch.label", margin=0.02), Guardrail("shadow.mismatch.score", margin=0.02))
    for _ in range(400):
        shadows.pair(Comparison(match=False, fields={"label": SAME, "score": OTHER}))
    assert shadows.finding("shadow.mismatch.label").outcome == "PASS"
    assert shadows.finding("shadow.mismatch.score").outcome == "FAIL"


def test_a_field_that_no_comparison_has_is_named():
    finding = Shadows(Guardrail("shadow.mismatch.lable", margin=0.02)).pairs(400).finding("shadow.mismatch.lable")
    assert finding.outcome == "INSUFFICIENT_DATA"
    assert "'lable'" in finding.reason


@pytest.mark.parametrize(("noise", "rate", "outcome"), [(0.3, 0.3, "PASS"), (0.0, 0.3, "FAIL"), (0.1, 0.4, "FAIL")])
def test_the_noise_of_the_control_is_subtracted(noise, rate, outcome):
    shadows = Shadows(mismatch(0.1)).pairs(3000, rate=rate).pairs(1500, rate=noise, variant="control")
    finding = shadows.finding()
    assert finding.outcome == outcome
    assert finding.estimate == pytest.approx(rate - noise, abs=0.03)


def test_a_second_run_of_the_control_is_no_call_of_an_arm():
    shadows = Shadows(mismatch()).pairs(5, variant="control")
    assert shadows.evidence.phases == {}
    shadows.pairs(5).pairs(5, variant="control")
    assert {arm: sum(calls) for arm, calls in shadows.evidence.phases[PHASE].calls.items()} == {"control": 5, "v2": 5}


@pytest.mark.parametrize(("rate", "outcome"), [(0.01, "PASS"), (0.2, "FAIL")])
def test_the_mean_difference_is_judged(rate, outcome):
    found = (
        Shadows(Guardrail("shadow.difference", margin=0.02, clip=(0, 1))).pairs(4000, rate=rate).finding("shadow.difference")
    )
    assert found.outcome == outcome


def test_a_mean_difference_without_bounds_needs_pairs_that_differ():
    finding = Shadows(Guardrail("shadow.difference", margin=0.02)).pairs(4000).finding("shadow.difference")
    assert finding.outcome == "INSUFFICIENT_DATA"
    assert "clip=(0, most)" in finding.reason


def test_a_mismatch_without_a_difference_is_not_compared():
    shadows = Shadows(Guardrail("shadow.difference", margin=0.02, clip=(0, 1))).pairs(400)
    for _ in range(100):
        shadows.pair(Comparison(match=False, reason="type"))
    assert shadows.finding("shadow.difference").numbers["missed"] == 100


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "no margin"),
        ({"margin": 0.02, "window": "1h"}, "is measured by the SDK itself"),
        ({"margin": 0.02, "clip": (0, 1)}, "is measured by the SDK itself"),
        ({"margin": 1.5}, "a share of the pairs"),
    ],
)
def test_what_cannot_be_judged_is_refused(options, why):
    with pytest.raises(ConfigurationError, match=why):
        Guardrail("shadow.mismatch", **options)


def test_a_gate_on_it_is_refused():
    with pytest.raises(ConfigurationError, match=r"Write Guardrail\('shadow.mismatch'\)"):
        Gate("shadow.mismatch")


@pytest.mark.parametrize("steps", [["1%"], [Step("0%"), "1%"], [Step("1%", shadow=0.5)]])
def test_a_canary_without_a_step_that_only_shadows_refuses_it(steps):
    with pytest.raises(ConfigurationError, match=r"Begin with one: Step\('0%', shadow='100%'\)"):
        Canary(steps, guardrails=[mismatch()])


def test_a_shadow_step_that_passes_although_answers_differ_says_so():
    shadows = Shadows(Guardrail("error_rate", floor=0.2)).pairs(200, rate=1.0)
    verdict = shadows.verdict()
    assert verdict.outcome == "PASS"
    assert "Warning: answers of v2 differ in 100.0% of 200 pairs, and no guardrail judges that" in verdict.reason
    assert "Warning" not in Shadows(Guardrail("error_rate", floor=0.2)).pairs(200).verdict().reason


# How often it is wrong -------------------------------------------------------------------------------------------------------


def crossed(log_e, rate, limit, trials, runs, seed=5):
    """Share of runs in which evidence against a true null exceeds 20 at any of the trials."""
    rng, found = random.Random(seed), 0
    for _ in range(runs):
        events = 0
        for trial in range(1, trials + 1):
            events += rng.random() < rate
            if log_e(events, trial, limit=limit) >= math.log(20):
                found += 1
                break
    return found / runs


@pytest.mark.parametrize("log_e", [rate_above_log_e, rate_below_log_e])
@pytest.mark.parametrize("limit", [0.02, 0.3])
def test_at_the_limit_neither_side_is_certain_in_more_than_alpha_of_the_runs(log_e, limit):
    runs = 300
    assert crossed(log_e, limit, limit, 400, runs) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_the_bets_above_a_limit_are_a_mean_of_likelihood_ratios():
    rates = [0.1 ** (power) for power in (0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 11 / 12)]
    expected = sum((r / 0.1) ** 3 * ((1 - r) / 0.9) ** 5 for r in rates) / 7
    assert math.exp(rate_above_log_e(3, 8, limit=0.1)) == pytest.approx(expected)


@pytest.mark.parametrize(("limit", "successes", "expected"), [(0, 0, 0.0), (0, 1, math.inf), (1, 5, 0.0)])
def test_limits_at_the_ends(limit, successes, expected):
    assert rate_above_log_e(successes, 5, limit=limit) == expected


def test_users_who_call_often_do_not_make_it_wrong():
    """Units whose share of differing pairs varies, with a mean exactly at the margin, and up to 30 pairs each."""
    runs, wrong = 60, 0
    for seed in range(runs):
        shadows = Shadows(mismatch(0.1), seed=seed)
        for _ in range(4):
            for _ in range(50):
                unit = shadows.rng.getrandbits(64)
                rate = 1.0 if shadows.rng.random() < 0.1 else 0.0
                for _ in range(shadows.rng.choice([1, 1, 30])):
                    shadows.pair(OTHER if shadows.rng.random() < rate else SAME, unit=unit)
            if shadows.finding().outcome in ("PASS", "FAIL"):
                wrong += 1
                break
    assert wrong / runs <= 2 * 0.05 + 3 * math.sqrt(0.1 * 0.9 / runs)
