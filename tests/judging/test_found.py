"""What a reviewer found: each test states what should hold."""

import json
import random

import pytest

from rollout_sdk import Gate, Guardrail
from rollout_sdk.judging import Evidence, PhaseEvidence, UnitSample, judge
from tests.judging.calls import call, criteria, found, outcome, situation


def ended(plan, seed, units, sales, *, look=200):
    """The first PASS or FAIL, or the last verdict, where units of an arm have a sale of a size with a probability."""
    rng, evidence, verdict = random.Random(seed), Evidence(plan.all), None
    for unit in range(units):
        arm, bucket = call(evidence, rng, unit * 10.0)
        chance, size = sales[arm]
        if rng.random() < chance:
            outcome(evidence, "value", size, unit, arm, bucket, unit * 10.0)
        if unit % look == look - 1:
            verdict = judge(evidence, plan, situation(), unit * 10.0 + 1)
            if verdict.outcome in {"PASS", "FAIL"}:
                break
    return verdict


def test_a_candidate_with_more_sales_and_less_revenue_passes_no_gate_about_revenue():
    # 1.0 a unit in the control, 0.6 in the candidate.
    sales = {"control": (0.05, 20.0), "v2": (0.15, 4.0)}
    plan = criteria(gates=[Gate("value", mde=0.5)])
    outcomes = [ended(plan, seed, 4_000, sales).outcome for seed in range(5)]
    assert 0 == outcomes.count("PASS")


def test_a_candidate_with_fewer_sales_and_more_revenue_is_not_rolled_back():
    # 1.0 a unit in the control, 1.1 in the candidate.
    sales = {"control": (0.2, 5.0), "v2": (0.02, 55.0)}
    plan = criteria(Guardrail("value", margin=0.1))
    outcomes = [ended(plan, seed, 4_000, sales).outcome for seed in range(5)]
    assert 0 == outcomes.count("FAIL")


def test_a_candidate_with_the_same_mean_cost_in_many_small_parts_is_not_rolled_back():
    # 1.0 a unit in both arms.
    sales = {"control": (0.02, 50.0), "v2": (0.2, 5.0)}
    plan = criteria(Guardrail("value", better="lower", margin=0.1))
    outcomes = [ended(plan, seed, 4_000, sales).outcome for seed in range(5)]
    assert 0 == outcomes.count("FAIL")


def test_a_mean_over_outcomes_is_not_worse_because_there_are_fewer_of_them():
    # Every rating is 4 in both arms; the candidate has a fifth fewer ratings.
    sales = {"control": (0.5, 4.0), "v2": (0.4, 4.0)}
    plan = criteria(Guardrail("value", margin=0.05, per="outcome"))
    outcomes = [ended(plan, seed, 6_000, sales).outcome for seed in range(5)]
    assert 0 == outcomes.count("FAIL")


def mixed_minutes(guardrail, rate, minutes, seed):
    """A/A with 22 calls of the control in a minute on average: the first verdict that decides of hourly looks."""
    plan, rng = criteria(guardrail), random.Random(seed)
    evidence, verdict = Evidence(plan.all), None
    for minute in range(minutes):
        # So that a minute has sometimes fewer and sometimes more than twenty calls of an arm.
        for _ in range(44):
            bad = rng.random() < rate
            call(evidence, rng, minute * 60.0 + 5, duration_s=0.2 if bad else 0.01)
        if minute % 60 == 59:
            verdict = judge(evidence, plan, situation(), minute * 60.0 + 30)
            if verdict.outcome in {"PASS", "FAIL"}:
                break
    return verdict


def test_leaving_out_outages_takes_as_much_from_the_candidate_as_from_an_identical_control():
    # Nothing is out of order: 42 % are slow in both arms, below the ceiling of 50 %.
    verdicts = [mixed_minutes(Guardrail("latency", threshold_s=0.1), 0.42, 2_000, seed) for seed in range(3)]
    differences = [found(verdict, "latency>0.1s").estimate for verdict in verdicts]
    assert [] == [verdict.reason for verdict in verdicts if verdict.outcome == "FAIL"]
    assert 0.01 > sum(differences) / len(differences)


def test_a_lower_ceiling_makes_no_identical_candidate_worse():
    guardrail = Guardrail("latency", threshold_s=0.1, ceiling=0.05)
    verdicts = [mixed_minutes(guardrail, 0.04, 1_500, seed) for seed in range(3)]
    assert [] == [verdict.reason for verdict in verdicts if verdict.outcome == "FAIL"]


def test_a_candidate_with_as_many_slow_calls_spread_over_more_units_is_not_rolled_back():
    plan, rng = criteria(Guardrail("latency", threshold_s=0.1)), random.Random(1)
    evidence, verdicts = Evidence(plan.all), []
    for number in range(6_000):
        # Of 20 calls of a unit: in the control all of every fiftieth unit are slow, in the candidate each with 2 %.
        unit, arm = (rng.getrandbits(32), rng.randrange(512)), "v2" if number % 2 else "control"
        for _ in range(20):
            slow = rng.random() < 0.02 if number % 2 else number // 2 % 50 == 0
            call(evidence, rng, number * 30.0, arm=arm, unit=unit, duration_s=0.2 if slow else 0.01)
        if number % 500 == 499:
            verdicts.append(judge(evidence, plan, situation(), number * 30.0 + 30))
    last = found(verdicts[-1], "latency>0.1s")
    assert 0.002 > abs(last.value - last.control)
    assert [] == [verdict.reason for verdict in verdicts if verdict.outcome == "FAIL"]


def test_shares_are_right_after_the_cause_is_fixed_and_the_alarm_cleared():
    rng, plan = random.Random(1), criteria(Guardrail("error_rate"))
    evidence = Evidence(plan.all)
    users = [
        (rng.choice(("control", "v2")), (rng.getrandbits(32), rng.randrange(512)), rng.random() < 0.1) for _ in range(20_000)
    ]
    for arm, unit, is_lost in users:
        if not (is_lost and arm == "v2"):
            call(evidence, rng, 60.0, arm=arm, unit=unit)
    assert not judge(evidence, plan, situation(), 3_600.0).valid
    # The redirect is fixed, and the same users come back: all of them, in the phase that begins with the clearing.
    for arm, unit, _ in users:
        call(evidence, rng, 7_200.0, arm=arm, unit=unit, phase="1:50%")
    assert judge(evidence, plan, situation(phase="1:50%", valid_from=1), 12_000.0).valid


def fleet(processes):
    """A fleet with 100 calls of each arm in a minute: an hour at 2 % errors, an outage of ten minutes, an hour at 2 %."""
    rng, plan = random.Random(1), criteria(Guardrail("error_rate"))
    parts = [Evidence(plan.all) for _ in range(processes)]
    for minute in range(1, 140):
        for _ in range(200):
            down = 60 <= minute < 70
            call(parts[rng.randrange(processes)], rng, minute * 60.0 + 1, failed=down or rng.random() < 0.02)
        for part in parts:
            part.fold(minute * 60.0 + 59)
    whole = Evidence(plan.all)
    for part in parts:
        for name, phase in part.phases.items():
            whole.phase(name).merge(PhaseEvidence.from_dict(json.loads(json.dumps(phase.as_dict(), allow_nan=False))))
    return found(judge(whole, plan, situation(), 140 * 60.0), "error_rate")


def test_an_outage_is_no_evidence_however_many_processes_share_the_traffic():
    one, many = fleet(1), fleet(20)
    assert one.control == pytest.approx(many.control, rel=0.2)
    assert sum(one.numbers["strata"][0][:2]) == pytest.approx(sum(many.numbers["strata"][0][:2]), rel=0.2)


def test_folding_old_minutes_changes_no_evidence():
    rng, plan = random.Random(1), criteria(Guardrail("error_rate", ceiling=0.1))
    evidence = Evidence(plan.all)
    for minute in range(1, 140):
        for _ in range(100):
            call(evidence, rng, minute * 60.0, failed=rng.random() < (0.16 if 30 <= minute < 50 else 0.01))
    before = found(judge(evidence, plan, situation(), 8_400.0), "error_rate")
    evidence.fold(8_400.0)
    after = found(judge(evidence, plan, situation(), 8_400.0), "error_rate")
    assert before.numbers["strata"] == after.numbers["strata"]
    assert before.safe_log_e == pytest.approx(after.safe_log_e)


def test_outcomes_of_calls_beyond_the_most_of_a_unit_do_not_count_either():
    rng, plan = random.Random(1), criteria(Guardrail("click", margin=0.05))
    evidence, decision = Evidence(plan.all, max_calls_per_unit=10), 0
    for number in range(2_000):
        unit, arm = (rng.getrandbits(32), rng.randrange(512)), "v2" if number % 2 else "control"
        for _ in range(1_000 if number == 7 else 5):
            decision += 1
            call(evidence, rng, number * 10.0, arm=arm, unit=unit, decision=str(decision))
            outcome(evidence, "click", 1.0, decision, arm, unit[1], number * 10.0)
    finding = found(judge(evidence, plan, situation(), 1e5), "click")
    assert 1.0 == pytest.approx(finding.value)


def test_a_planned_end_waits_until_the_decisions_of_its_units_are_old_enough():
    plan, rng = criteria(gates=[Gate("buy", mde=0.03, horizon=4_000, window="1d")]), random.Random(1)
    evidence, previous = Evidence(plan.all), None
    for hour in range(30):
        # All units come within 20 hours: the first label is mature four hours later, the last 20 hours after that.
        for number in range(200 if hour < 20 else 0):
            time_s = hour * 3_600.0 + number * 18
            arm, bucket = call(evidence, rng, time_s)
            if rng.random() < 0.1:
                outcome(evidence, "buy", 1.0, f"{hour}/{number}", arm, bucket, time_s)
        previous = judge(evidence, plan, situation(), hour * 3_600.0 + 3_599, previous)
    finding = found(previous, "buy")
    assert 0.5 > finding.matured
    # One look, at the end, and FUTILE for good would be the whole test.
    assert [] == [part for part, _, _, _ in finding.numbers["looks"] if part > 0.5]


def planned_with_a_bot(seed):
    """A/A with a planned end, where one unit makes 60 % of all calls, and clicks more often than others."""
    plan, rng = criteria(gates=[Gate("buy", mde=0.02, horizon=3_000)]), random.Random(seed)
    evidence, previous, decision = Evidence(plan.all), None, 0
    bot, bot_arm = (rng.getrandbits(32), rng.randrange(512)), rng.choice(("control", "v2"))
    for number in range(3_000):
        for is_bot in [False] + [True] * rng.choice((1, 2)):
            decision += 1
            arm, bucket = call(evidence, rng, float(number), **({"arm": bot_arm, "unit": bot} if is_bot else {}))
            if rng.random() < (0.5 if is_bot else 0.1):
                outcome(evidence, "buy", 1.0, decision, arm, bucket, float(number))
        if number % 600 == 599:
            previous = judge(evidence, plan, situation(), number + 1.0, previous)
    return previous


def test_a_planned_end_lets_no_heavy_unit_decide():
    verdicts = [planned_with_a_bot(seed) for seed in range(20)]
    # 5 % and three standard errors: 4 of 20. One unit in two is the candidate's.
    assert 4 >= sum(verdict.outcome == "PASS" for verdict in verdicts)


def sampled(rng, units):
    """So many units that a sample keeps some of, at its level."""
    level = 0
    while units >> level > 8_192:
        level += 1
    kept = sum(1 for _ in range(units) if not rng.getrandbits(level)) if level else units
    sample = UnitSample(level=level)
    sample.first = {rng.getrandbits(32 - level) << level: 100 for _ in range(kept)}
    return sample


def test_a_tenth_of_the_candidates_users_lost_in_the_second_step_is_noticed_too():
    alarms, plan = 0, criteria(Guardrail("error_rate"))
    for seed in range(5):
        rng, evidence = random.Random(seed), Evidence(plan.all)
        for name, share, kept in (("0:0.5%", 0.005, 1.0), ("1:1%", 0.01, 0.9)):
            phase = evidence.phase(name)
            phase.shares = {"control": 1 - share, "v2": share}
            here = int(1_000_000 * share * kept)
            phase.units = {"control": sampled(rng, int(1_000_000 * (1 - share))), "v2": sampled(rng, here)}
        alarms += not judge(evidence, plan, situation(phase="1:1%"), 1e5).valid
    assert 4 <= alarms


def test_values_far_smaller_than_the_margin_can_be_judged():
    rng, plan = random.Random(1), criteria(Guardrail("tiny", margin=0.1))
    evidence = Evidence(plan.all)
    for number in range(600):
        arm, bucket = call(evidence, rng, number * 10.0)
        outcome(evidence, "tiny", 1e-200 * rng.random(), number, arm, bucket, number * 10.0)
    assert "ERROR" != judge(evidence, plan, situation(), 1e5).outcome
