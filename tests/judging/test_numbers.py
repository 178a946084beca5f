"""The numbers in the judge's rules, one by one: what holds just on one side of each, and not on the other."""

import math
import random
from collections import Counter

import pytest
from attrs import evolve
from scipy import stats

from rollout_sdk import Gate, Guardrail, Step
from rollout_sdk.judging import Evidence, PhaseEvidence, Situation, add_routed, add_shadowed, judge
from rollout_sdk.judging.e_values import Weight
from rollout_sdk.judging.ingest import first_item_of
from rollout_sdk.judging.look import Look
from rollout_sdk.judging.metrics import metric_of
from rollout_sdk.judging.metrics.assignment import weigh_assignment
from rollout_sdk.judging.metrics.base import is_clustered, least_mean
from rollout_sdk.judging.metrics.error_rate import ErrorRate
from rollout_sdk.judging.metrics.means import Recorded
from rollout_sdk.judging.minutes import Minute, Minutes
from rollout_sdk.judging.pairs import completeness
from rollout_sdk.judging.unit_sample import UnitSample
from rollout_sdk.plan import Criteria
from rollout_sdk.records import Decision, RoutedEvent, Run, ShadowedEvent
from rollout_sdk.stats import StratifiedBuckets, rate_below_log_e, spending_boundaries, srm_log_e

HALF = {"control": 0.5, "v2": 0.5}
PAIRS = {"control": 1.0, "v2": 1.0}
ERRORS = Guardrail("error_rate")
SLOW = Guardrail("latency", threshold_s=0.1, margin=0.05)
NOW_S = 1e6
START_MINUTE = 1000


def situation(**changed):
    about = {
        "rollout": "model", "phase": "0:50%", "revision": 0, "control": "control", "candidates": ("v2",),
        "step": Step("50%", min_units=0, min_time=0), "entered_s": 0.0,
    }  # fmt: skip
    return Situation(**{**about, **changed})


def criteria(*each, **options):
    guardrails = [criterion for criterion in each if isinstance(criterion, Guardrail)]
    gates = [criterion for criterion in each if isinstance(criterion, Gate)]
    return Criteria(steps=["50%"], guardrails=guardrails, gates=gates, **options)


class Seen:
    """Evidence that is added to by hand; each call is one of a new unit, and the units fill the buckets evenly."""

    def __init__(self, *each, phase="0:50%", shares=None, seed=1, **options):
        self.plan, self.phase, self.shares = criteria(*each, **options), phase, shares or HALF
        self.evidence, self.rng, self.count = Evidence(self.plan.all), random.Random(seed), Counter()

    def call(self, arm="v2", number=1, *, failed=False, duration_s=0.01, time_s=0.0, cell=None, bucket=None, values=(), **more):
        for _ in range(number):
            unit = self.rng.getrandbits(32) if cell is None else cell
            at = self.count[arm] % 512 if bucket is None else bucket
            self.count[arm] += 1
            self.evidence.add_call(
                self.phase, arm, self.shares, unit, at, failed=failed, duration_s=duration_s, time_s=time_s, **more
            )
            for metric, value in dict(values).items():
                self.evidence.add_outcome(
                    metric, value, decision=f"{self.phase}/{arm}/{self.count[arm]}", phase_name=self.phase, arm=arm, bucket=at,
                    decided_s=time_s, time_s=time_s,
                )  # fmt: skip
        return self

    def both(self, number=1, **call):
        for arm in HALF:
            self.call(arm, number, **call)
        return self

    def verdict(self, now_s=NOW_S, previous=None, **changed):
        return judge(self.evidence, self.plan, situation(phase=self.phase, **changed), now_s, previous)

    def finding(self, name, **options):
        return next(each for each in self.verdict(**options).findings if each.name == name)

    def numbers(self, name, **options):
        return self.finding(name, **options).numbers

    def look(self, now_s=NOW_S, **changed):
        return Look(self.evidence.in_order(), self.plan, situation(phase=self.phase, **changed), now_s)


def toss(arm, number):
    """1.0 for a third of the units, and for others in the other arm."""
    return float((number + (arm == "v2")) % 3 == 0)


# How sure


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
    failed, answered = Run("v2", 0.25, "ValueError"), Run("control", 9.0, first_item_s=0.5)
    assert (0.75, 0.5, None) == (first_item_of((failed, answered)), first_item_of((answered,)), first_item_of((failed,)))


# How much data


def counted(criterion, units, events, *, control_events=None):
    """The numbers of a criterion where each arm has so many units, and so many with an event."""
    seen = Seen(criterion)
    for arm in HALF:
        had = events if arm == "v2" or control_events is None else control_events
        for number in range(units):
            hit = number < had
            seen.call(arm, failed=hit, duration_s=0.2 if hit else 0.01, values={"score": float(hit)})
    return seen.numbers(criterion.label)


SCORE = Guardrail("score", margin=0.5)


@pytest.mark.parametrize("criterion", [ERRORS, SLOW])
@pytest.mark.parametrize(("units", "events", "enough"), [(100, 30, True), (99, 30, False), (100, 29, False)])
def test_a_test_of_means_takes_a_hundred_units_and_thirty_events(criterion, units, events, enough):
    numbers = counted(criterion, units, events)
    assert (enough, enough) == (numbers["enough_harm"], numbers["enough_safe"])
    # For harm, the control's may be fewer: what matters is how well the candidate's are known.
    fewer = counted(criterion, units, events, control_events=29)
    assert (enough, False) == (fewer["enough_harm"], fewer["enough_safe"])


@pytest.mark.parametrize("units", [99, 100])
def test_log_latency_speaks_from_a_hundred_units_on(units):
    assert (units == 100) == counted(Guardrail("latency_mean"), units, 0)["enough"]


@pytest.mark.parametrize(("control", "enough"), [(29, False), (30, True)])
def test_an_arm_without_values_is_harm_where_it_should_have_had_thirty(control, enough):
    numbers = counted(SCORE, 200, 0, control_events=control)
    assert (enough, False) == (numbers["enough_harm"], numbers["enough_safe"])


@pytest.mark.parametrize(("control", "enough"), [(227, False), (228, True)])
def test_what_an_arm_should_have_had_goes_by_its_calls(control, enough):
    """Of 1,000 calls in full buckets, 228 buckets with a value are 302 units; of 100 calls, 30 were due."""
    seen = Seen(SCORE).call("v2", 100)
    for number in range(1000):
        seen.call("control", values={"score": float(number < control)})
    assert enough == seen.numbers("score")["enough_harm"]


def test_a_mean_takes_355_times_its_squared_skewness():
    """Kohavi's rule; of a yes-or-no metric the exact bet speaks from the first event on, and thirty are enough."""
    needed = {}
    for size in (1.0, 2.0):
        seen = Seen(SCORE)
        for arm in HALF:
            for number in range(500):
                seen.call(arm, values={"score": size if number % 10 == 0 else 0.0})
        needed[size] = seen.numbers("score")["units_needed"]
        squared = seen.evidence.sums(SCORE).skewness_squared("control", units=500)
    assert {1.0: None, 2.0: pytest.approx(355 * squared)} == needed
    assert 3.0 < squared < 7.1


def with_a_bot(criterion, calls):
    seen = Seen(criterion).both(40, failed=True, duration_s=0.2, values={"score": 1.0}).both(360)
    return seen.call("v2", calls, cell=7, bucket=3).numbers(criterion.label)


@pytest.mark.parametrize("criterion", [ERRORS, SLOW, Guardrail("latency_mean"), SCORE])
def test_a_unit_that_leaves_fewer_than_a_hundred_that_count_alike_keeps_every_mean_silent(criterion):
    # 400 units of one call, and one of c: (400 + c)^2 / (400 + c^2) count alike, 100 with c = 44.
    few, many = with_a_bot(criterion, 50), with_a_bot(criterion, 38)
    assert (False, True) == (few["enough_effective"], many["enough_effective"])
    assert few["effective_units"] < 100 < many["effective_units"]
    for numbers, speaks in ((few, False), (many, True)):
        assert {speaks} == {numbers[name] for name in ("enough", "enough_harm", "enough_safe") if name in numbers}


@pytest.mark.parametrize(("calls", "named"), [(38, False), (52, True)])
def test_a_unit_is_named_from_a_tenth_of_the_calls_on(calls, named):
    assert named == ("heaviest" in with_a_bot(ERRORS, calls))


def test_an_arm_is_sampled_beyond_8192_units():
    sample = UnitSample(range(8192))
    assert (0, 8192) == (sample.level, sample.estimate)
    sample.add(8192)
    assert (1, 8194) == (sample.level, sample.estimate)


def test_erring_units_are_counted_at_the_sampling_level_of_each_arm():
    seen = Seen(ERRORS).both(10)
    phase = seen.evidence.phases["0:50%"]
    phase.units = {"control": UnitSample(range(0, 4000, 4), 2), "v2": UnitSample(range(1000))}
    phase.events = {
        ("error_rate", "control"): UnitSample(range(0, 400, 4), 2),
        ("error_rate", "v2"): UnitSample(range(90)),
    }
    # Of the control's units one in four is there, so 4 of 5 in both samples should be the candidate's.
    assert [[90, 100, 0.8]] == seen.numbers("error_rate")["strata"]


def test_how_rare_errors_are_is_counted_at_one_sampling_level():
    seen = Seen(ERRORS).both(10)
    phase = seen.evidence.phases["0:50%"]
    phase.units["v2"], phase.events["error_rate", "v2"] = UnitSample(range(0, 4000, 4), 2), UnitSample(range(90))
    numbers = seen.numbers("error_rate")
    # 23 of the 90 are multiples of 4: those that are among the 1,000.
    assert (23, 1000) == (numbers["floor_events"], numbers["floor_units"])


def test_how_rare_slow_calls_are_is_counted_at_one_sampling_level_and_among_units_whose_wait_is_known():
    seen = Seen(SLOW).call("v2", 10).call("v2", 5, duration_s=None)
    # One that left early, and had a slow call before, had one.
    seen.call("v2", duration_s=None, cell=7).call("v2", duration_s=0.2, cell=7)
    numbers = seen.call("control").numbers(SLOW.label)
    assert (1, 11) == (numbers["events"], numbers["units"])
    phase = seen.evidence.phases["0:50%"]
    phase.units["v2"], phase.events[SLOW.label, "v2"] = UnitSample(range(0, 4000, 4), 2), UnitSample(range(90))
    phase.events["untimed " + SLOW.label, "v2"] = UnitSample(range(200))
    numbers = seen.numbers(SLOW.label)
    # Of the 50 multiples of 4 below 200 it is not known, unless they are among the 23 below 90.
    assert (23, 1000 - (50 - 23)) == (numbers["events"], numbers["units"])


@pytest.mark.parametrize(("calls", "counts"), [(3, 3), (4, 3)])
def test_exactly_max_calls_per_unit_count(calls, counts):
    evidence = Evidence([ERRORS], max_calls_per_unit=3)
    for _ in range(calls):
        evidence.add_call("0:50%", "v2", HALF, 7, 3, failed=False, duration_s=0.01, time_s=0.0)
    assert counts == sum(evidence.phases["0:50%"].calls["v2"])


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


# Planned ends


def looked(gate, *, step=50, number=20, each=None, **options):
    """The findings of `number` looks, each after `step` more units."""
    seen, previous, found = Seen(gate, **options), None, []
    for look in range(number):
        for unit in range(step // 2):
            for arm in HALF:
                seen.call(arm, values={gate.metric: (each or toss)(arm, unit)})
        previous = seen.verdict(NOW_S + look, previous)
        found.append(next(finding for finding in previous.findings if finding.name == gate.label))
    return found


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_a_planned_end_is_looked_at_five_times_at_the_boundaries_of_obrien_and_fleming(better):
    """One-sided 5 %: Lan and DeMets' spending function at fifths of the horizon, as quantiles of Student's t."""
    gate = Gate("click", mde=0.2, min_effect=0.01, horizon=1000, better=better)
    findings = looked(gate, each=lambda arm, unit: float(unit % (2 if arm == "v2" else 3) == 0))
    looks = findings[-1].numbers["looks"]
    assert [0.2, 0.4, 0.6, 0.8, 1.0] == pytest.approx([part for part, *_ in looks])
    sign = 1 if better == "higher" else -1
    for (part, z, boundary, _), normal in zip(looks, (4.2292, 2.8884, 2.2982, 1.9621, 1.7397), strict=True):
        numbers = findings[round(part * 20) - 1].numbers
        assert (sign * numbers["estimate"] - 0.01) / numbers["std_error"] == pytest.approx(z)
        assert stats.t.isf(stats.norm.sf(normal), numbers["df"]) == pytest.approx(boundary, rel=1e-3)


def test_looks_at_a_ramp_are_related_by_their_information_and_spend_by_their_users():
    seen, previous, gate = Seen(Gate("click", mde=0.2, horizon=10_000)), None, None
    for name, share in (("0:10%", 0.1), ("1:50%", 0.5)):
        seen.phase, seen.shares = name, {"control": 1 - share, "v2": share}
        for arm, part in seen.shares.items():
            for number in range(round(5_000 * part)):
                seen.call(arm, values={"click": toss(arm, number)})
        previous = seen.verdict(previous=previous)
        gate = next(finding for finding in previous.findings if finding.name == "click")
    looks, information = gate.numbers["looks"], [450.0, 450.0 + 1_250.0]
    assert information == pytest.approx([each[3] for each in looks])
    # Half of the users have 26 % of the information that all have.
    normal = spending_boundaries([0.5, 1.0], alpha=0.05, information=information)[-1]
    assert normal > spending_boundaries([0.5, 1.0], alpha=0.05)[-1]
    assert stats.t.isf(stats.norm.sf(normal), gate.numbers["df"]) == pytest.approx(looks[-1][2], rel=1e-9)


def test_a_planned_end_that_nothing_has_passed_is_the_end():
    findings = looked(Gate("click", mde=0.2, horizon=1000))
    assert [False] * 19 + [True] == [finding.numbers["is_over"] for finding in findings]
    assert "the planned horizon has been reached" in findings[-1].reason


def test_a_planned_look_waits_for_thirty_values_in_each_arm():
    findings = looked(
        Gate("click", mde=0.2, horizon=500), number=8, each=lambda arm, unit: float(0 <= unit - 4 * (arm == "v2") < 4)
    )
    # Four values in each arm a look, and each look a tenth of the horizon: thirty at the eighth.
    assert [0] * 7 + [1] == [len(finding.numbers["looks"]) for finding in findings]


def test_a_planned_time_is_that_of_decisions_whose_window_is_over():
    gate = Gate("click", mde=0.2, horizon="10d", window="1d")
    seen, day_s = Seen(gate), 86_400.0
    for number in range(200):
        for arm in HALF:
            seen.call(arm, time_s=day_s, values={"click": toss(arm, number)})
    early, due = (seen.numbers("click", now_s=(1 + days) * day_s)["looks"] for days in (2.99, 3.0))
    assert ([], [pytest.approx(0.2)]) == (early, [part for part, *_ in due])


def test_a_planned_number_of_units_counts_those_whose_window_is_over():
    gate = Gate("click", mde=0.2, horizon=1000, window="1h")
    seen = Seen(gate)
    for time_s, units in ((10_000.0, 100), (90_000.0, 300)):
        for number in range(units):
            for arm in HALF:
                seen.call(arm, time_s=time_s, values={"click": toss(arm, number)})
    # 800 of the 1,000 units are there, and a quarter of them is old enough.
    (look,) = seen.numbers("click", now_s=90_060.0)["looks"]
    assert 0.2 == pytest.approx(look[0])


# Labels


@pytest.mark.parametrize(("more", "held"), [(0.04, False), (0.06, True)])
def test_a_pass_waits_while_one_arm_has_a_twentieth_more_labels(more, held):
    seen = Seen(Gate("label", mde=0.1, min_effect=-0.5, per="outcome"))
    for arm in HALF:
        labels = round(1000 * ((1 + more) if arm == "v2" else 1.0))
        for number in range(2000):
            bucket = seen.rng.randrange(512)
            seen.call(arm, bucket=bucket, values={"label": float(number % 2)} if number < labels else {})
    assert (held, "INCONCLUSIVE" if held else "PASS") == (
        seen.numbers("label")["label_lift"] > 0.05,
        seen.finding("label").outcome,
    )


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_an_arm_with_half_as_many_outcomes_is_not_bet_against_for_having_half_as_many_good_ones(better):
    seen = Seen(Guardrail("label", margin=0.05, per="outcome", better=better))
    for arm, labels in (("control", 400 if better == "higher" else 200), ("v2", 200 if better == "higher" else 400)):
        for number in range(1000):
            value = float(seen.rng.random() < 0.5)
            seen.call(arm, bucket=seen.rng.randrange(512), values={"label": value} if number < labels else {})
    assert seen.numbers("label")["exact_harm"] < 1.0


def test_an_arm_without_any_label_is_not_compared():
    seen = Seen(Gate("label", mde=0.1, min_effect=-0.5, per="outcome")).call("control", 50, values={"label": 1.0})
    assert seen.call("v2", 50).numbers("label")["label_lift"] > 0.05


def test_labels_are_mature_when_the_whole_slice_of_their_window_is_old_enough():
    seen = Seen(Gate("label", mde=0.1, per="outcome", window="8h"))
    # Slices are an eighth of the window: these decisions lie between hour 10 and hour 11.
    seen.both(time_s=10.5 * 3600, values={"label": 1.0})
    assert [0.0, 1.0] == [seen.finding("label", now_s=hour * 3600).matured for hour in (18.99, 19.0)]


def test_outcomes_count_until_the_window_is_over_and_folded_ones_do_not_ripen_sooner():
    label = Gate("label", mde=0.1, per="outcome", window="8h")
    evidence = Evidence([label])
    for late, decision in ((0.0, "at the end"), (1.0, "after it")):
        evidence.add_outcome(
            "label", 1.0, decision=decision, phase_name="0:50%", arm="v2", bucket=1, decided_s=36_000.0,
            time_s=36_000.0 + 8 * 3600 + late,
        )  # fmt: skip
    assert {"counted": 1, "late": 1} == dict(evidence.outcomes)
    evidence.fold(36_000.0 + 12 * 3600)
    assert (0.0, 0.0) == evidence.sums(label, 36_000.0).totals("0:50%", "v2")


# Outages


def minute(calls, events, *, units=None, hit=None, label="error_rate"):
    """A minute of so many units, each with as many of the calls, of which so many had an event."""
    units, hit = units or calls, hit if hit is not None else events
    bits = lambda number: (1 << min(64, number)) - 1
    return Minute(calls, bits(units), Counter({label: events}), {label: bits(hit)})


QUARTER = minute(1000, 250)


@pytest.mark.parametrize(
    ("now", "elsewhere", "ceiling", "is_outage"),
    [
        # Five standard errors above what is usual: .25 + 5 * sqrt(.25 * .75 / 100) = .4665.
        (minute(100, 46), QUARTER, 0.4, False),
        (minute(100, 47), QUARTER, 0.4, True),
        # And above the ceiling.
        (minute(100, 50), QUARTER, 0.5, False),
        (minute(100, 51), QUARTER, 0.5, True),
        # Ten calls, of eight units.
        (minute(9, 9), QUARTER, 0.4, False),
        (minute(100, 100, units=7), QUARTER, 0.5, False),
        (minute(100, 100, units=8), QUARTER, 0.5, True),
        # Below the ceiling, five times what is usual, one per cent at least, and surely.
        (minute(100, 5), minute(1000, 0), 0.5, False),
        (minute(100, 9), minute(1000, 0), 0.5, True),
        # Not the errors of one unit.
        (minute(100, 60, hit=1), QUARTER, 0.5, False),
        # What is usual is the rate of the better half of all calls: with little beside it, that of the minute itself.
        (minute(100, 52), minute(200, 0), 0.5, True),
        (minute(100, 52), minute(20, 0), 0.5, False),
        (minute(100, 100), Minute(), 0.5, False),
    ],
)
def test_a_minute_is_part_of_an_outage(now, elsewhere, ceiling, is_outage):
    minutes = Minutes({7: now, 8: elsewhere})
    assert is_outage == (7 in minutes.outages("error_rate", ceiling))


@pytest.mark.parametrize(("calls", "events", "doubtful"), [(14, 3, True), (9, 2, False), (100, 20, False), (100, 21, True)])
def test_a_minute_is_doubtful_with_three_events_in_more_than_a_fifth_of_its_calls(calls, events, doubtful):
    assert doubtful == (7 in Minutes({7: minute(calls, events)}).doubtful("error_rate"))


def test_of_doubtful_minutes_the_newest_240_stay_apart():
    minutes = Minutes({number: minute(10, 10) for number in range(1, 301)})
    assert frozenset(range(61, 301)) == minutes.doubtful("error_rate")


def test_minutes_stay_apart_for_an_hour_and_no_longer():
    minutes = Minutes({number: minute(10, 1) for number in range(1, 101)})
    minutes.fold(100, keep=frozenset({7}))
    assert {7, *range(40, 101)} == set(minutes.kept)
    assert (380, 38) == (minutes.before[""], minutes.before["error_rate"])


def test_only_minutes_that_are_over_for_two_minutes_are_added_up():
    seen = Seen(ERRORS)
    for number in range(1000, 1010):
        seen.call(failed=True, time_s=60.0 * number)
    seen.evidence.fold(60.0 * 1010)
    assert {-1, 1008, 1009} == set(seen.evidence.phases["0:50%"].sums["error_rate"].slices)


def test_an_outage_is_dropped_when_it_is_added_up_and_a_doubtful_minute_stays_apart():
    seen = Seen(evolve(ERRORS, ceiling=0.4))
    for number in range(1000, 1100):
        # 1050: an outage by this guardrail's ceiling. 1060: too few calls to know.
        rate, calls = {1050: (0.48, 100), 1060: (1.0, 9)}.get(number, (0.02, 100))
        seen.call("control", round(calls * rate), failed=True, time_s=60.0 * number)
        seen.call("control", calls - round(calls * rate), time_s=60.0 * number)
    seen.evidence.fold(60.0 * 1100)
    phase = seen.evidence.phases["0:50%"]
    assert {-1, 1060, 1098, 1099} == set(phase.sums["error_rate"].slices)
    assert (2.0 * 96, 0.0) == phase.sums["error_rate"].slices[-1].totals("0:50%", "control")
    assert {1050, *range(1040, 1100)} == set(phase.minutes["control"].kept)


def paced(recent, before, *, minutes_ago=5, criterion=ERRORS):
    """What is unusual about a control with (calls, events) in the last minutes, and before."""
    seen, now_s = Seen(criterion), 60.0 * START_MINUTE
    for (calls, events), ago in ((recent, minutes_ago), (before, 100)):
        # In several minutes, each too small to be an outage by itself.
        for number in range(calls):
            at_s = now_s - 60.0 * ago - (0 if ago < 100 else 60.0 * (number % 100))
            seen.call("control", failed=number < events, duration_s=0.2 if number < events else 0.01, time_s=at_s)
    return seen.look(now_s).unusual_control()


@pytest.mark.parametrize(
    ("recent", "before", "unusual"),
    [
        # At least one per cent is usual.
        ((250, 12), (1000, 0), False),
        ((250, 13), (1000, 0), True),
        # Ten events at the least.
        ((100, 9), (1000, 0), False),
        ((100, 10), (1000, 0), True),
        # Twenty calls at the least, before and now.
        ((100, 20), (19, 0), False),
        ((100, 20), (100, 0), True),
        ((19, 10), (1000, 0), False),
        ((20, 10), (1000, 0), True),
        # Half of the calls, whatever was before.
        ((100, 50), (0, 0), False),
        ((100, 51), (0, 0), True),
    ],
)
def test_a_control_is_unusual(recent, before, unusual):
    assert unusual == (paced(recent, before) is not None)


@pytest.mark.parametrize(("minutes_ago", "unusual"), [(10, True), (11, False)])
def test_the_last_ten_minutes_are_now(minutes_ago, unusual):
    assert unusual == (paced((100, 20), (1000, 0), minutes_ago=minutes_ago) is not None)


def test_each_guardrail_has_a_ceiling_of_its_own_and_errors_are_watched_without_one():
    lower = Guardrail("latency", threshold_s=0.1, ceiling=0.2)
    assert "above the ceiling of 20 %" in paced((100, 21), (0, 0), criterion=lower)
    assert "above the ceiling of 50 %" in paced((100, 60), (0, 0), criterion=evolve(lower, ceiling=0.9))


@pytest.mark.parametrize(("rate", "unusual"), [(0.5, False), (0.6, True)])
def test_a_control_that_failed_in_more_than_half_of_the_phase_is_unusual_also_when_nothing_comes_now(rate, unusual):
    seen = Seen(ERRORS)
    for number in range(START_MINUTE, START_MINUTE + 10):
        seen.call("control", round(100 * rate), failed=True, time_s=60.0 * number)
        seen.call("control", 100 - round(100 * rate), time_s=60.0 * number)
    assert unusual == (seen.look(60.0 * START_MINUTE + 86_400).unusual_control() is not None)


def test_an_outage_that_is_over_is_not_unusual():
    seen = Seen(ERRORS)
    for number in range(START_MINUTE, START_MINUTE + 40):
        down = number < START_MINUTE + 5
        seen.call("control", 300 if down else 30, failed=down, time_s=60.0 * number)
    assert None is seen.look(60.0 * (START_MINUTE + 40)).unusual_control()


@pytest.mark.parametrize("criterion", [ERRORS, SLOW])
def test_neither_units_nor_calls_of_an_outage_count(criterion):
    seen = Seen(criterion)
    for number in range(START_MINUTE, START_MINUTE + 60):
        bad = 100 if number == START_MINUTE + 30 else 2
        for arm in HALF:
            seen.call(arm, bad, failed=True, duration_s=0.2, time_s=60.0 * number)
            seen.call(arm, 100 - bad, time_s=60.0 * number)
    numbers = seen.numbers(criterion.label)
    assert 2 * 59 == numbers["value_total"]
    if "strata" in numbers:
        assert [[2 * 59, 2 * 59, 0.5]] == numbers["strata"]
    assert 2 * 59 < 2 * 59 + 100 == seen.look().units_of("v2", criterion.label).estimate


# Bursts and clusters


def burst(share, options, *, failing=40, minutes=(600,), is_shadow=False, metric=ERRORS):
    shares = {"control": 1.0, "v2": 1.0} if is_shadow else {"control": 1 - share, "v2": share}
    seen = Seen(evolve(metric, **options), shares=shares).both(200, time_s=60.0)
    for number in range(failing):
        seen.call(failed=True, duration_s=0.2, time_s=60.0 * minutes[number % len(minutes)])
    return seen.numbers(metric.label, shadowing=is_shadow)


def test_errors_of_a_minute_count_once_by_default_below_a_tenth_and_all_from_a_tenth_on():
    for share, same_as in ((0.099, "1m"), (0.1, "0s")):
        assert burst(share, {})["exact_harm"] == burst(share, {"burst": same_as})["exact_harm"], share
        assert burst(share, {})["exact_safe"] == burst(share, {"burst": same_as})["exact_safe"], share
    assert burst(0.05, {"burst": "1m"})["exact_harm"] < math.log(20) < burst(0.05, {"burst": "0s"})["exact_harm"]
    assert burst(0.05, {}, is_shadow=True)["exact_harm"] == burst(0.05, {"burst": "0s"}, is_shadow=True)["exact_harm"]


def test_a_burst_is_as_long_as_its_guardrail_says():
    for length, minutes in (("5m", (600, 601, 604)), ("1m", (600,))):
        assert burst(0.05, {"burst": "1m"})["exact_harm"] == burst(0.05, {"burst": length}, minutes=minutes)["exact_harm"]
    assert burst(0.05, {"burst": "5m"})["exact_harm"] < burst(0.05, {"burst": "5m"}, minutes=(604, 605))["exact_harm"]


def test_events_whose_minute_is_not_known_are_no_burst():
    untimed = burst(0.05, {"burst": "1m"}, minutes=(0,))
    assert burst(0.05, {"burst": "0s"})["exact_harm"] == untimed["exact_harm"]


@pytest.mark.parametrize("metric", [ERRORS, SLOW])
def test_a_burst_is_one_of_the_thirty_events_that_a_mean_takes(metric):
    assert not burst(0.05, {"burst": "1m"}, metric=metric)["enough_harm"]
    assert burst(0.05, {"burst": "0s"}, metric=metric)["enough_harm"]
    assert burst(0.05, {"burst": "1m"}, metric=metric, minutes=range(600, 640))["enough_harm"]


def test_a_burst_of_the_control_proves_a_candidate_good_no_sooner_than_one_error():
    proofs = {}
    for length in ("0s", "5m"):
        seen = Seen(evolve(ERRORS, burst=length)).both(300, time_s=60.0)
        # Too few calls in each minute to be an outage.
        for minute_ in range(600, 605):
            seen.call("control", 9, failed=True, time_s=60.0 * minute_)
        proofs[length] = seen.numbers("error_rate")["exact_safe"]
    assert 0 < proofs["5m"] < math.log(4) < math.log(20) < proofs["0s"]


@pytest.mark.parametrize(("twice", "once", "clustered"), [(0, 100, False), (30, 40, False), (50, 0, True)])
def test_events_are_clustered_whose_sums_vary_half_as_much_again_as_single_ones(twice, once, clustered):
    # 100 events in 512 buckets of ten calls: the sum of (x - .195)^2 over 100 * (1 - .0195) is .82, 1.43 and 1.84.
    sums = StratifiedBuckets()
    for bucket in range(512):
        sums.add("0:50%", "v2", bucket, 2.0 if bucket < twice else float(bucket < twice + once), 10.0)
    assert clustered == is_clustered(sums, "v2")


def test_slow_calls_and_clicks_that_come_in_clusters_are_not_bet_on():
    click = Guardrail("click", margin=0.01, better="lower")
    bets = {}
    for units in (1, 120):
        seen = Seen(Guardrail("latency", threshold_s=0.1, margin=0.01, burst=0), click).both(4000)
        for number in range(120):
            at = number % units
            seen.call("v2", duration_s=0.2, cell=at + 1, bucket=at, values={"click": 1.0})
        bets[units] = seen.numbers("latency>0.1s")["exact_harm"], seen.numbers("click")["exact_harm"]
    assert (0.0, None) == bets[1]
    assert all(log_e > 1 for log_e in bets[120])
