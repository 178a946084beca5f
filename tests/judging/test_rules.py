"""The rules of the judge, each with the number that it is about: what holds just on one side of it, and not on the other."""

import math
import random

import pytest
from attrs import evolve

from rollout_sdk import Gate, Guardrail, Step
from rollout_sdk.judging import Evidence, Situation, judge
from rollout_sdk.judging.e_values import MIN_EVENTS, MIN_UNITS
from rollout_sdk.plan import Criteria
from rollout_sdk.stats import MISMATCH

ERRORS = Guardrail("error_rate")
HALF = {"control": 0.5, "v2": 0.5}
NOW_S = 1e6


def situation(**changed):
    about = {
        "rollout": "model", "phase": "0:50%", "revision": 0, "control": "control", "candidates": ("v2",),
        "step": Step("50%", min_units=0, min_time=0), "entered_s": 0.0,
    }  # fmt: skip
    return Situation(**{**about, **changed})


def criteria(*guardrails, gates=(), **options):
    return Criteria(steps=["50%"], guardrails=guardrails, gates=gates, **options)


def found(verdict, name):
    (finding,) = [finding for finding in verdict.findings if finding.name == name]
    return finding


class Seen:
    """Evidence that is added to by hand."""

    def __init__(self, plan, *, phase="0:50%", shares=None, seed=1, **options):
        self.plan, self.phase, self.shares = plan, phase, shares or HALF
        self.evidence, self.rng, self.unit = Evidence(plan.all, **options), random.Random(seed), 0

    def call(self, arm, *, failed=False, duration_s=0.01, time_s=0.0, cell=None, bucket=None, values=(), **more):
        self.unit += 1
        cell = self.rng.getrandbits(32) if cell is None else cell
        bucket = self.rng.randrange(512) if bucket is None else bucket
        self.evidence.add_call(
            self.phase, arm, self.shares, cell, bucket, failed=failed, duration_s=duration_s, time_s=time_s, **more
        )
        for metric, value in dict(values).items():
            self.evidence.add_outcome(
                metric, value, decision=f"{self.phase}/{self.unit}", phase_name=self.phase, arm=arm, bucket=bucket,
                decided_s=time_s, time_s=time_s,
            )  # fmt: skip
        return self

    def verdict(self, now_s=NOW_S, **changed):
        return judge(self.evidence, self.plan, situation(phase=self.phase, **changed), now_s)


# How sure


@pytest.mark.parametrize(
    ("guardrails", "candidates", "needed"),
    [(1, ("v2",), 20), (4, ("v2",), 80), (1, ("v2", "v3", "v4"), 60), (4, ("v2", "v3", "v4"), 240)],
)
def test_a_rollback_takes_tests_over_alpha_and_a_pass_candidates_over_alpha(guardrails, candidates, needed):
    plan = criteria(*(Guardrail("latency", threshold_s=1.0 + number) for number in range(guardrails)), alpha=0.05)
    verdict = Seen(plan).call("control").call("v2").verdict(candidates=candidates)
    for finding in verdict.findings:
        if finding.kind == "guardrail":
            assert needed == pytest.approx(math.exp(finding.harm_needed))
            assert 20 * len(candidates) == pytest.approx(math.exp(finding.safe_needed))


def test_warnings_and_dry_runs_take_no_part_of_alpha():
    plan = criteria(ERRORS, Guardrail("latency", threshold_s=1, on_fail="warn"), Guardrail("cost", margin=1, dry_run=True))
    verdict = Seen(plan).call("control").call("v2").verdict()
    assert 20 == pytest.approx(math.exp(found(verdict, "error_rate").harm_needed))


@pytest.mark.parametrize("evidence", [0.98, 1.02])
def test_a_rollback_happens_at_the_evidence_it_takes_and_not_before(monkeypatch, evidence):
    from rollout_sdk.judging.e_values import Weight

    needed = math.log(20)
    weight = Weight(harm_log_e=evidence * needed, harm_needed=needed)
    assert (evidence > 1) == weight.is_harm


def test_the_shares_are_surely_wrong_at_a_thousand_to_one():
    assert 1000 == pytest.approx(math.exp(MISMATCH))
    for extra, valid in ((200, True), (300, False)):
        seen = Seen(criteria(ERRORS))
        for number in range(4000 + extra):
            seen.call("v2" if number % 2 or number >= 4000 else "control")
        verdict = seen.verdict()
        assert (valid, not valid) == (verdict.valid, found(verdict, "assignment").harm_log_e >= math.log(1000)), extra
        if valid:
            # More than ten to one, and no alarm.
            assert found(verdict, "assignment").harm_log_e > math.log(10)


# How much data


def spread(plan, units, **call):
    seen = Seen(plan)
    for number in range(units):
        for arm in HALF:
            seen.call(arm, bucket=number % 512, **{name: value(arm, number) for name, value in call.items()})
    return seen


@pytest.mark.parametrize(("units", "outcome"), [(99, "INSUFFICIENT_DATA"), (100, "FAIL")])
def test_a_mean_speaks_from_a_hundred_units_in_each_arm_on(units, outcome):
    assert 100 == MIN_UNITS
    # Negative values are no shares of a sum: no exact bet speaks of them.
    plan = criteria(Guardrail("score", margin=0.1))
    seen = spread(plan, units, values=lambda arm, number: {"score": -1.0 - (arm == "v2") * 5 - (number % 7) / 10})
    assert outcome == found(seen.verdict(), "score").outcome


@pytest.mark.parametrize(("events", "speaks"), [(29, False), (30, True)])
def test_a_mean_speaks_from_thirty_values_other_than_zero_in_each_arm_on(events, speaks):
    assert 30 == MIN_EVENTS
    plan = criteria(Guardrail("score", margin=0.1))
    some = lambda arm, number: {"score": (-1.0 - number % 3) if number < (events if arm == "v2" else 400) else 0.0}
    finding = found(spread(plan, 500, values=some).verdict(), "score")
    assert speaks == (finding.safe_log_e is not None)
    if not speaks:
        assert "an arm has 29 values other than 0" in finding.reason


def test_a_unit_that_makes_most_calls_keeps_the_means_silent_and_is_named():
    plan = criteria(gates=[Gate("click")])
    seen = spread(plan, 400, values=lambda arm, number: {"click": float(number % 10 == 0)})
    for _ in range(1500):
        seen.call("v2", cell=7, bucket=3, values={"click": 1.0})
    verdict = seen.verdict()
    finding = found(verdict, "click")
    assert "INSUFFICIENT_DATA" == finding.outcome
    assert "one unit makes about 79 % of the calls of v2" in finding.reason
    assert "one unit makes about 79 % of the calls of v2" in str(verdict)


def test_calls_of_a_unit_beyond_the_most_that_count_are_not_judged():
    plan = criteria(ERRORS)
    seen = Seen(plan, max_calls_per_unit=3)
    for _ in range(10):
        seen.call("v2", cell=7, failed=True)
    seen.call("control")
    assert 3 == sum(seen.evidence.phases["0:50%"].calls["v2"])
    assert {"capped": 7} == dict(seen.verdict().outcomes)


def test_very_unequal_values_ask_for_as_many_units_as_their_skewness_needs():
    rng = random.Random(5)
    plan = criteria(Guardrail("revenue", margin=1.0))
    wild = spread(plan, 2000, values=lambda arm, number: {"revenue": rng.paretovariate(1.3)})
    finding = found(wild.verdict(), "revenue")
    assert "INSUFFICIENT_DATA" == finding.outcome
    assert "Set clip=(low, high)" in finding.reason
    assert finding.numbers["units_needed"] > 2000


# Rare, constant and heavy


def rare(plan, *, units, rate, share, seed, of=lambda rng, arm: 1.0, metric="purchase"):
    seen = Seen(plan, shares={"control": 1 - share, "v2": share}, seed=seed)
    for _ in range(units):
        arm = "v2" if seen.rng.random() < share else "control"
        value = of(seen.rng, arm) if seen.rng.random() < rate else None
        seen.call(arm, values={} if value is None else {metric: value})
    return seen


def test_an_arm_without_an_event_is_not_surely_worse():
    """2 % buy, the candidate has 1 % of 8,000 users: one arm often has none or one, and a variance of about nothing."""
    plan = criteria(Guardrail("purchase", margin=0.01))
    failed = sum(bool(rare(plan, units=8000, rate=0.02, share=0.01, seed=seed).verdict().failed) for seed in range(20))
    assert 0 == failed


@pytest.mark.parametrize(("control", "v2"), [(1.0, 0.0), (1.0, 0.5)])
@pytest.mark.parametrize("per", ["call", "outcome"])
def test_a_metric_that_is_constant_in_each_arm_and_worse_is_rolled_back(control, v2, per):
    plan = criteria(Guardrail("quality", margin=0.02, per=per))
    seen = spread(plan, 1000, values=lambda arm, number: {"quality": v2 if arm == "v2" else control})
    assert "FAIL" == seen.verdict().outcome


def test_a_gate_sees_that_a_constant_metric_is_better():
    plan = criteria(gates=[Gate("quality")])
    seen = spread(plan, 1500, values=lambda arm, number: {"quality": float(arm == "v2")})
    assert "PASS" == found(seen.verdict(), "quality").outcome


def test_constant_metrics_that_are_alike_are_neither_worse_nor_better():
    plan = criteria(gates=[Gate("quality")])
    seen = spread(plan, 1500, values=lambda arm, number: {"quality": 1.0})
    assert found(seen.verdict(), "quality").outcome in ("INCONCLUSIVE", "INSUFFICIENT_DATA", "FUTILE")


SLOW = Guardrail("latency", threshold_s=0.1, margin=0.01)


@pytest.mark.parametrize(("slow", "base"), [(1.0, 0.0), (0.9, 0.0), (0.5, 0.0), (0.1, 0.0), (1.0, 0.05), (0.9, 0.05)])
def test_a_candidate_that_is_slow_more_often_is_rolled_back_also_when_it_always_is(slow, base):
    seen = Seen(criteria(SLOW))
    for _ in range(1500):
        for arm, rate in (("control", base), ("v2", slow)):
            seen.call(arm, duration_s=0.2 if seen.rng.random() < rate else 0.01)
    assert "FAIL" == seen.verdict().outcome


def test_a_call_that_takes_exactly_the_threshold_is_not_slow():
    seen = Seen(criteria(SLOW))
    seen.call("v2", duration_s=0.1)
    assert ("latency>0.1s", "v2") not in seen.evidence.phases["0:50%"].events
    seen.call("v2", duration_s=math.nextafter(0.1, 1))
    assert 1 == seen.evidence.phases["0:50%"].events["latency>0.1s", "v2"].estimate


def test_few_heavy_units_with_slow_calls_do_not_pass_by_their_number():
    """Four users of two thousand are slow, and make nearly half of the candidate's calls."""
    seen = Seen(criteria(Guardrail("latency", threshold_s=0.1, margin=0.01)))
    for number in range(2000):
        for arm in HALF:
            seen.call(arm)
        for heavy in range(4):
            if number % 5 == 0:
                seen.call("v2", cell=heavy + 1, bucket=heavy, duration_s=0.2)
    finding = found(seen.verdict(), "latency>0.1s")
    assert finding.outcome != "PASS"
    assert finding.value > 0.2


# Once in a rollout


def test_users_who_fail_in_every_step_are_not_new_evidence_in_every_step():
    plan = Criteria(steps=["5%", "10%", "20%", "40%"], guardrails=[evolve(ERRORS, burst=0, harm=0.0)])
    seen = Seen(plan, phase="0:5%")
    for number, share in enumerate((0.05, 0.1, 0.2, 0.4)):
        seen.phase, seen.shares = f"{number}:x", {"control": 1 - share, "v2": share}
        for user in range(20):
            # Two of them are among the first 5 %, and stay in.
            seen.call("v2" if user < 20 * share else "control", cell=user + 1, bucket=user, failed=True)
    strata = found(seen.verdict(), "error_rate").numbers["strata"]
    assert [[1, 19], [0, 0], [0, 0], [0, 0]] == [stratum[:2] for stratum in strata]


def test_a_user_of_an_earlier_step_is_not_counted_again_in_the_shares():
    plan = criteria(ERRORS)
    seen = Seen(plan, phase="0:50%")
    for user in range(100):
        seen.call("v2" if user % 2 else "control", cell=user + 1)
    seen.phase = "1:50%"
    for user in range(100):
        seen.call("v2", cell=user + 1)
    assert [[50, 50], [0, 0]] == [counts for counts, _ in found(seen.verdict(), "assignment").numbers["strata"]]


@pytest.mark.parametrize(("lost", "valid"), [(0.0, True), (0.1, False)])
def test_a_tenth_of_the_candidates_users_lost_at_one_percent_is_seen_among_a_million(lost, valid):
    from rollout_sdk.judging import UnitSample

    plan, rng = criteria(ERRORS), random.Random(4)
    evidence = Evidence(plan.all)
    phase = evidence.phase("0:50%")
    phase.shares = {"control": 0.99, "v2": 0.01}
    for arm, number in (("control", 990_000), ("v2", round(10_000 * (1 - lost)))):
        sample = phase.units[arm] = UnitSample()
        for _ in range(number):
            sample.add(rng.getrandbits(32))
    assert valid == judge(evidence, plan, situation(), NOW_S).valid


# Bursts and outages


def incidents(burst, seed, *, share=0.05, hosts=40):
    """The candidate's users fail in two incidents of twelve, the control's in scattered ones."""
    plan = criteria(evolve(ERRORS, burst=burst))
    seen = Seen(plan, shares={"control": 1 - share, "v2": share}, seed=seed)
    for minute in range(200):
        for _ in range(20):
            arm = "v2" if seen.rng.random() < share else "control"
            seen.call(arm, failed=arm == "control" and seen.rng.random() < 0.005, time_s=60.0 * (minute + 1))
        if minute in (50, 150):
            for _ in range(12):
                seen.call("v2", failed=True, time_s=60.0 * (minute + 1))
    return seen.verdict(now_s=60.0 * 201)


def test_an_incident_of_one_arm_counts_once_however_many_users_it_hits():
    assert ("FAIL", ()) == (incidents("0s", 1).outcome, incidents("1m", 1).failed)


def test_bursts_count_once_by_default_where_the_candidate_has_less_than_a_tenth():
    groups = {}
    for share in (0.05, 0.5):
        plan = criteria(ERRORS)
        seen = Seen(plan, shares={"control": 1 - share, "v2": share})
        for _ in range(40):
            seen.call("v2", failed=True, time_s=600.0)
        seen.call("control")
        groups[share] = found(seen.verdict(), "error_rate").harm_log_e
    assert groups[0.05] < math.log(20) < groups[0.5]


@pytest.mark.parametrize("rate", [1.0, 0.9, 0.6])
@pytest.mark.parametrize("what", ["failed", "slow"])
def test_nothing_goes_on_while_the_control_itself_is_abnormal(rate, what):
    plan = criteria(ERRORS, Guardrail("latency", threshold_s=0.1, margin=0.2))
    seen = Seen(plan)
    for number in range(6000):
        bad = seen.rng.random() < rate
        about = {"failed": bad} if what == "failed" else {"duration_s": 0.2 if bad else 0.01}
        seen.call("v2" if number % 2 else "control", time_s=NOW_S - 300, **about)
    verdict = seen.verdict()
    assert ("INCONCLUSIVE", (), ()) == (verdict.outcome, verdict.passed, verdict.failed)
    assert "an outage says nothing about the candidate" in verdict.reason


def outage_between(ceiling=0.5, ratio=2.0, base=0.02):
    """A candidate with twice the errors, and an hour in which everything fails."""
    plan = criteria(Guardrail("error_rate", floor=0, ceiling=ceiling))
    seen = Seen(plan)
    for minute in range(1, 181):
        for number in range(60):
            arm = "v2" if number % 2 else "control"
            rate = 1.0 if 60 <= minute < 120 else base * (ratio if arm == "v2" else 1)
            seen.call(arm, failed=seen.rng.random() < rate, time_s=60.0 * minute)
    return seen


def test_what_was_seen_in_an_outage_is_not_evidence_that_both_are_alike():
    seen = outage_between()
    finding = found(seen.verdict(now_s=60.0 * 200), "error_rate")
    assert finding.outcome != "PASS"
    assert 0.1 > finding.control
    seen.evidence.fold(60.0 * 200)
    assert finding.safe_log_e == pytest.approx(found(seen.verdict(now_s=60.0 * 200), "error_rate").safe_log_e)


def test_a_control_that_fails_many_times_as_often_as_before_holds_the_step():
    seen = Seen(criteria(ERRORS))
    for minute in range(1, 301):
        for number in range(40):
            rate = 0.2 if minute > 290 else 0.001
            seen.call("v2" if number % 2 else "control", failed=seen.rng.random() < rate, time_s=60.0 * minute)
    verdict = seen.verdict(now_s=60.0 * 301)
    assert "INCONCLUSIVE" == verdict.outcome
    assert "usually do: an outage says nothing" in verdict.reason


# Shadow phases


def shadowed(plan, pairs, *, ends=("ok",), late=0.0, wrong=0.0, seed=1):
    from rollout_sdk.judging import add_shadowed
    from rollout_sdk.records import Decision, ShadowedEvent

    evidence, rng = Evidence(plan.all), random.Random(seed)
    for number in range(pairs):
        end = ends[number % len(ends)]
        if end == "ok" and rng.random() < wrong:
            end = "error"
        decision = Decision("control", id=f"d{number}", phase="0:0%", bucket=rng.randrange(512), time_s=1000.0)
        ran = end in ("ok", "error", "timeout")
        event = ShadowedEvent(
            decision, "v2", end, duration_s=(0.2 if rng.random() < late else 0.01) if ran else None,
            control_duration_s=0.01, unit=f"{rng.getrandbits(64):016x}",
        )  # fmt: skip
        add_shadowed(evidence, event, {"control": 1.0, "v2": 1.0})
    where = situation(phase="0:0%", shadowing=True, step=Step("0%", shadow="100%", min_units=100, min_time=0))
    return judge(evidence, plan, where, NOW_S)


def test_nothing_that_is_recorded_is_asked_for_while_the_candidate_is_shadowed():
    plan = criteria(evolve(ERRORS, floor=0.05), Guardrail("click", margin=0.05), gates=[Gate("order")])
    verdict = shadowed(plan, 1000)
    assert ("PASS", {"assignment", "error_rate"}) == (verdict.outcome, {each.name for each in verdict.findings})


@pytest.mark.parametrize(("dropped", "outcome"), [(1, "PASS"), (2, "INSUFFICIENT_DATA")])
def test_a_shadow_step_waits_until_nineteen_of_twenty_planned_pairs_are_there(dropped, outcome):
    ends = ["ok"] * (39 - dropped + 1) + ["dropped_full"] * (2 * dropped - 1)
    verdict = shadowed(criteria(evolve(ERRORS, floor=0.05)), 2000, ends=ends)
    assert outcome == verdict.outcome
    if dropped == 2:
        assert "'dropped_full'" in verdict.reason
        assert "raise ShadowLimits.workers" in verdict.reason


def test_dropped_shadows_are_no_broken_split():
    verdict = shadowed(criteria(evolve(ERRORS, floor=0.05)), 2000, ends=["ok", "dropped_full"])
    assert verdict.valid


@pytest.mark.parametrize("end", ["timeout", "error"])
def test_a_shadow_that_times_out_has_failed_as_one_that_raises(end):
    assert "FAIL" == shadowed(criteria(ERRORS), 300, ends=[end]).outcome


def test_a_slow_shadow_is_held_against_the_control_of_the_same_calls():
    verdict = shadowed(criteria(Guardrail("latency", threshold_s=0.1, margin=0.1)), 2000, late=0.5)
    assert "FAIL" == verdict.outcome


def test_pairs_that_are_slow_in_the_very_same_calls_pass():
    plan = criteria(Guardrail("latency", threshold_s=0.1, margin=0.02))
    seen = Seen(plan, phase="0:0%", shares={"control": 1.0, "v2": 1.0})
    for number in range(6000):
        cell, bucket = seen.rng.getrandbits(32), seen.rng.randrange(512)
        for arm in HALF:
            seen.call(arm, duration_s=0.2 if number % 10 == 0 else 0.01, cell=cell, bucket=bucket)
    finding = found(seen.verdict(shadowing=True), "latency>0.1s")
    assert (0.0, "PASS") == (finding.estimate, finding.outcome)


# Labels


def labelled(window, *, early_harm=False, age_s=0.0):
    plan = criteria(Guardrail("label", margin=0.02, per="outcome", window=window, early_harm=early_harm))
    seen = Seen(plan)
    for number in range(3000):
        arm = "v2" if number % 2 else "control"
        seen.call(arm, time_s=1000.0, values={"label": float(seen.rng.random() < (0.5 if arm == "v2" else 0.7))})
    return seen.verdict(now_s=1000.0 + age_s)


def test_harm_waits_for_decisions_that_are_old_enough_unless_labels_of_both_arms_come_equally_fast():
    assert () == labelled("1h", age_s=60).failed
    assert ("v2",) == labelled("1h", age_s=2 * 3600).failed
    assert ("v2",) == labelled("1h", age_s=60, early_harm=True).failed


@pytest.mark.parametrize(("lost", "outcome"), [(0.0, "PASS"), (0.3, "ERROR")])
def test_labels_that_are_missing_in_one_arm_are_an_error_and_no_gain(lost, outcome):
    """Bad ratings of the control are lost: the mean of what is left looks worse or better than it is."""
    plan = criteria(gates=[Gate("rating", mde=0.1, min_effect=-0.2, per="outcome")])
    seen = Seen(plan)
    for number in range(20_000):
        arm, rating = ("v2" if number % 2 else "control"), seen.rng.gauss(4, 1)
        gone = arm == "control" and rating < 4 and seen.rng.random() < 2 * lost
        seen.call(arm, values={} if gone else {"rating": rating})
    verdict = seen.verdict()
    assert outcome == found(verdict, "rating").outcome
    if lost:
        assert "do not arrive in the configured shares" in verdict.reason


def test_a_metric_without_any_record_is_named_after_a_while():
    plan = criteria(Guardrail("clik", margin=0.01, grace="10m"))
    seen = spread(plan, 500)
    assert "is 'clik' the name passed to record()" in found(seen.verdict(elapsed_s=601.0), "clik").reason
    assert "is 'clik' the name" not in found(seen.verdict(elapsed_s=599.0), "clik").reason


# What a failure does


def bad(on_fail):
    plan = criteria(evolve(ERRORS, on_fail=on_fail), Guardrail("latency", threshold_s=1, margin=0.5))
    seen = Seen(plan)
    for number in range(1200):
        arm = "v2" if number % 2 else "control"
        seen.call(arm, failed=arm == "v2" and number % 4 == 1)
    return seen.verdict()


def test_a_failure_rolls_back_pauses_or_warns_as_the_guardrail_says():
    back, pause, warn = (bad(each) for each in ("rollback", "pause", "warn"))
    assert ("FAIL", ("v2",), ()) == (back.outcome, back.failed, back.pauses)
    assert ("INCONCLUSIVE", (), ("error_rate",)) == (pause.outcome, pause.failed, pause.pauses)
    assert ("PASS", (), ()) == (warn.outcome, warn.failed, warn.pauses)
    assert "Warning: error_rate: " in warn.reason


def test_what_decides_comes_first_where_a_person_reads_it():
    first = str(bad("rollback")).splitlines()[2]
    assert first.strip().startswith("FAIL              guardrail error_rate of v2: ")


def test_a_gate_that_surely_has_less_than_the_effect_worth_having_is_futile():
    plan = criteria(gates=[Gate("click", mde=0.1)])
    seen = spread(plan, 4000, values=lambda arm, number: {"click": float(number % 5 == 0)})
    for _ in range(4000):
        for arm in HALF:
            seen.call(arm, values={"click": float(seen.rng.random() < 0.2)})
    verdict = seen.verdict()
    assert ("FUTILE", ("click",)) == (verdict.outcome, verdict.futile)
    assert "has significantly less than the effect worth having (0.1)" in verdict.reason


def test_a_planned_end_is_reached_also_where_both_arms_are_alike_in_every_call():
    plan = criteria(gates=[Gate("click", horizon=1000)])
    seen = spread(plan, 600, values=lambda arm, number: {"click": 1.0})
    assert "FUTILE" == found(seen.verdict(), "click").outcome


def test_an_alarm_about_the_shares_stays_until_it_is_cleared():
    seen = spread(criteria(evolve(ERRORS, floor=0.05)), 1000)
    verdict = seen.verdict(invalid="units are not in the arms")
    assert ("ERROR", False, ()) == (verdict.outcome, verdict.valid, verdict.passed)


def test_shares_are_checked_from_the_phase_on_that_begins_when_the_alarm_is_cleared():
    seen = Seen(criteria(ERRORS))
    for _ in range(2000):
        seen.call("control")
    seen.phase = "1:50%"
    for number in range(1000):
        seen.call("v2" if number % 2 else "control")
    assert (False, True) == (seen.verdict().valid, seen.verdict(valid_from=1).valid)


def test_a_quiet_phase_is_idle_and_its_time_to_wait_does_not_run_out():
    seen = Seen(criteria(ERRORS)).call("control", time_s=1000.0)
    # The call was in the minute that ended at 1,020.
    assert (False, True) == (seen.verdict(now_s=1619.0).idle, seen.verdict(now_s=1621.0).idle)
