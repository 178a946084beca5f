"""What a second reviewer found: each test states what should hold."""

import random
import threading
from contextlib import closing, suppress

import pytest

from rollout_sdk import Canary, Gate, Guardrail, Runtime, Step, rollout
from rollout_sdk.control.stores import SQLiteStore
from rollout_sdk.judging import Evidence, judge
from tests.judging.calls import PHASE, call, criteria, found, situation


def watched(plan, seed, calls, minutes, behave):
    """The first PASS or FAIL of a look every five minutes and its minute, or the last verdict.

    `behave(arm, minute, rng)` says whether a call fails, how long it takes, and whether it ends in a click.
    """
    rng, evidence, verdict, number = random.Random(seed), Evidence(plan.all), None, 0
    for minute in range(1, minutes):
        for index in range(calls):
            time_s = minute * 60.0 + 60 * index / calls
            arm = "v2" if rng.random() < 0.5 else "control"
            failed, duration_s, clicked = behave(arm, minute, rng)
            _, bucket = call(evidence, rng, time_s, arm=arm, failed=failed, duration_s=duration_s)
            number += 1
            if clicked:
                evidence.add_outcome(
                    "click", 1.0, decision=str(number), phase_name=PHASE, arm=arm, bucket=bucket, decided_s=time_s,
                    time_s=time_s,
                )  # fmt: skip
        if minute % 5 == 4:
            now_s = minute * 60.0 + 59.9
            evidence.fold(now_s)
            verdict = judge(evidence, plan, situation(), now_s, verdict)
            if verdict.outcome in {"PASS", "FAIL"}:
                return verdict, minute
    return verdict, minutes


def passes(plan, calls, minutes, behave, runs=3):
    return sum(watched(plan, seed, calls, minutes, behave)[0].outcome == "PASS" for seed in range(runs))


# Outages ------------------------------------------------------------------------------------------------------------------


def slow(arm, rng):
    """1 % of the control's calls are slow, and 2.1 % of the candidate's: more than the margin of 1 % allows."""
    return 0.2 if rng.random() < (0.021 if arm == "v2" else 0.01) else 0.01


def test_calls_of_an_outage_in_which_all_are_slow_are_left_out_like_their_slowness():
    def behave(arm, minute, rng):
        return False, 0.2 if 20 <= minute < 80 else slow(arm, rng), False

    assert 0 == passes(criteria(Guardrail("latency", threshold_s=0.1)), 200, 120, behave)


def test_calls_that_fail_fast_in_an_outage_make_no_slow_candidate_pass():
    def behave(arm, minute, rng):
        return (True, 0.001, False) if 20 <= minute < 80 else (False, slow(arm, rng), False)

    assert 0 == passes(criteria(Guardrail("latency", threshold_s=0.1)), 200, 120, behave)


def test_calls_that_fail_fast_in_an_outage_do_not_change_the_mean_latency():
    def behave(arm, minute, rng):
        usual = 0.05 * rng.lognormvariate(0, 0.1) * (1.2 if arm == "v2" else 1.0)
        return (True, 0.001, False) if minute < 60 else (False, usual, False)

    # 20 % slower, where a rollback takes more than 10 %; half of the time everything fails after a millisecond.
    plan = criteria(Guardrail("latency_mean", dry_run=True))
    verdict, _ = watched(plan, 1, 100, 120, behave)
    assert 0.15 < found(verdict, "latency_mean").relative


def test_calls_of_an_outage_that_can_have_no_outcome_make_no_worse_candidate_pass():
    def behave(arm, minute, rng):
        return (True, 0.001, False) if 20 <= minute < 80 else (False, 0.01, rng.random() < (0.08 if arm == "v2" else 0.10))

    # 2 points worse, exactly the margin.
    assert 0 == passes(criteria(Guardrail("click", margin=0.02)), 200, 120, behave)


def clicks_through_an_outage(evidence, rng, *, minutes, down, late_s=0.0):
    """Add calls, of which all are slow in some minutes and every tenth is clicked in any; return calls and clicks outside."""
    totals, later = {}, []
    for minute in range(minutes):
        for index in range(60):
            time_s, arm = (minute + index / 60) * 60.0, rng.choice(["control", "v2"])
            _, bucket = call(evidence, rng, time_s, arm=arm, failed=False, duration_s=0.2 if minute in down else 0.01)
            clicked = rng.random() < 0.1
            if clicked:
                later.append((time_s + late_s, time_s, arm, bucket))
            if minute not in down:
                before = totals.get(arm, (0, 0))
                totals[arm] = before[0] + 1, before[1] + clicked
        due, later = [each for each in later if each[0] < (minute + 1) * 60], [e for e in later if e[0] >= (minute + 1) * 60]
        if minute == minutes - 1:
            due, later = due + later, []
        for recorded_s, decided_s, arm, bucket in due:
            evidence.add_outcome(
                "click", 1.0, decision=f"{decided_s}", phase_name=PHASE, arm=arm, bucket=bucket, decided_s=decided_s,
                time_s=recorded_s,
            )  # fmt: skip
        if minute % 5 == 4:
            evidence.fold((minute + 1) * 60.0)
    return totals


@pytest.mark.parametrize("late_s", [0.0, 600.0, 5_400.0])
def test_outcomes_of_calls_in_an_outage_are_left_out_as_these_calls_are(late_s):
    plan = criteria(Guardrail("click", margin=0.02), Guardrail("latency", threshold_s=0.1))
    evidence = Evidence(plan.all)
    totals = clicks_through_an_outage(evidence, random.Random(1), minutes=150, down=range(30, 60), late_s=late_s)
    numbers = found(judge(evidence, plan, situation(), 150 * 60.0), "click").numbers
    expected = {arm: clicks / calls for arm, (calls, clicks) in totals.items()}
    assert {"control": numbers["control"], "v2": numbers["value"]} == pytest.approx(expected)


def test_all_outcomes_are_summed_up_with_all_calls():
    plan = criteria(Guardrail("click", margin=0.02), Guardrail("latency", threshold_s=0.1), Guardrail("error_rate"))
    evidence, clicked = Evidence(plan.all), 0
    totals = clicks_through_an_outage(evidence, random.Random(2), minutes=100, down=range(30, 60))
    assert sum(calls for calls, _ in totals.values()) == 70 * 60
    sums = evidence.sums(plan.guardrails[0])
    clicked, calls = map(sum, zip(*(sums.totals(PHASE, arm) for arm in ("control", "v2")), strict=True))
    assert (clicked, calls) == (evidence.outcomes["counted"], 100 * 60)
    slow = evidence.sums(plan.guardrails[1])
    assert sum(slow.totals(PHASE, arm)[0] for arm in ("control", "v2")) == 30 * 60


def errors(minutes, share, arms=("control", "v2")):
    """2 % of the control's calls fail and 4 % of the candidate's: exactly the margin; and a share of all in some minutes."""

    def behave(arm, minute, rng):
        down = arm in arms and minute in minutes and rng.random() < share
        return down or rng.random() < (0.04 if arm == "v2" else 0.02), 0.01, False

    return behave


AT_MARGIN = Guardrail("error_rate", floor=0, harm=1.0)


def test_an_outage_of_all_calls_is_recognised_at_thirty_calls_a_minute_too():
    # 15 calls of the control in a minute, and an outage of twenty minutes.
    assert 0 == passes(criteria(AT_MARGIN), 30, 100, errors(range(40, 60), 1.0))


def test_nothing_passes_during_an_outage_of_a_third_however_long_it_lasts():
    # From the eleventh minute on, "before" is the outage itself.
    ended = [watched(criteria(AT_MARGIN), seed, 60, 60, errors(range(30, 60), 0.3)) for seed in range(3)]
    assert [] == [minute for verdict, minute in ended if verdict.outcome == "PASS"]


def test_an_outage_of_a_third_makes_no_candidate_pass_when_it_is_over():
    assert 0 == passes(criteria(AT_MARGIN), 300, 80, errors(range(40, 45), 0.3))


def test_a_burst_of_errors_of_the_control_alone_makes_no_candidate_pass():
    # A bad host takes a fifth of the control's calls for three minutes.
    assert 0 == passes(criteria(AT_MARGIN), 300, 80, errors(range(40, 43), 0.2, ("control",)))


def test_a_bad_host_of_the_candidate_for_two_minutes_counts_twice_at_most_in_a_step_of_a_small_share():
    # Identical models; the candidate has 5 %, and a burst counts once by default below 10 %.
    plan, shares = criteria(Guardrail("error_rate", floor=0)), {"control": 0.95, "v2": 0.05}
    rng, evidence = random.Random(1), Evidence(plan.all)
    for minute in range(1, 90):
        for index in range(600):
            arm = "v2" if rng.random() < 0.05 else "control"
            failed = (arm == "v2" and minute in {80, 81}) or rng.random() < 0.02
            call(evidence, rng, minute * 60.0 + index / 10, arm=arm, failed=failed, shares=shares)
    verdict = judge(evidence, plan, situation(), 90 * 60.0)
    assert 1 > found(verdict, "error_rate").numbers["exact_harm"]
    assert "FAIL" != verdict.outcome, verdict.reason


# Heavy units, shadows, alarms ---------------------------------------------------------------------------------------------


def test_a_candidate_that_fails_in_most_of_its_calls_does_not_pass_because_few_units_make_them():
    rng, plan, verdict = random.Random(1), criteria(Guardrail("error_rate")), None
    evidence = Evidence(plan.all)
    for number in range(2_600):
        unit, arm = (rng.getrandbits(32), rng.randrange(512)), "v2" if number % 2 else "control"
        # Three units of each arm make 55 % of its calls. The control answers them; the candidate fails in each.
        heavy = number // 2 in {120, 300, 500}
        for _ in range(500 if heavy else 1):
            call(evidence, rng, number * 20.0 + 20 * rng.random(), arm=arm, unit=unit, failed=heavy and arm == "v2")
        if number % 100 == 99:
            verdict = judge(evidence, plan, situation(), number * 20.0 + 25, verdict)
            finding = found(verdict, "error_rate")
            assert not (verdict.outcome == "PASS" and finding.value > 0.5), finding.reason


def test_units_that_a_step_only_shadowed_are_no_part_of_a_planned_end():
    rng, plan = random.Random(1), criteria(gates=[Gate("buy", mde=0.05, horizon=4_000)])
    evidence, verdict = Evidence(plan.all), None
    for number in range(2_000):
        for arm in ("control", "v2"):
            call(evidence, rng, number * 10.0, arm=arm, unit=(number << 8, number % 512), shares={"control": 1.0, "v2": 1.0},
                 phase="0:shadow")  # fmt: skip
    for number in range(400):
        time_s = 20_000.0 + number * 10
        arm, bucket = call(evidence, rng, time_s, phase="1:50%")
        if rng.random() < 0.3:
            evidence.add_outcome(
                "buy", 1.0, decision=str(number), phase_name="1:50%", arm=arm, bucket=bucket, decided_s=time_s, time_s=time_s
            )
        if number % 50 == 49:
            verdict = judge(evidence, plan, situation(phase="1:50%"), time_s + 1, verdict)
    # 400 of 4,000 units can have a purchase.
    assert "FUTILE" != verdict.outcome, verdict.reason


class Clock:
    """A clock that is moved by hand."""

    def __init__(self):
        self.now_s = 1.8e9

    def __call__(self):
        return int(self.now_s * 1e9)


def test_what_was_seen_while_the_shares_were_wrong_passes_no_candidate_after_the_alarm_is_cleared():
    clock, rng = Clock(), random.Random(1)
    failing = {"control": 0.1, "v2": 0.0}

    def variant(name):
        def answer(user):
            if rng.random() < failing[name]:
                raise ValueError(name)
            return name

        return answer

    strategy = Canary(
        [Step("50%", min_units=100, min_time=0), Step("60%", min_units=100, min_time=0)],
        guardrails=[Guardrail("error_rate", floor=0)],
    )
    with closing(Runtime(time_ns=clock)) as runtime:
        function = rollout(
            candidates={"v2": variant("v2")}, strategy=strategy, unit="user", key="model", runtime=runtime, version="1"
        )(variant("control"))

        def ask(user):
            clock.now_s += 1
            with suppress(ValueError):
                function(user)

        # A fifth of the candidate's users is lost before they are counted: those on whom it would have failed.
        for number in range(4_000):
            if not (function.rollout.assign(f"u{number}").variant == "v2" and rng.random() < 0.2):
                ask(f"u{number}")
        assert not function.rollout.judge().valid
        function.rollout.resume(clear_invalid=True, actor="ann", reason="the redirect is repaired")
        # Now all are counted, and the candidate fails twice as often as the control.
        failing["v2"] = 0.2
        for number in range(10_000, 10_260):
            ask(f"u{number}")
        assert "PASS" != function.rollout.judge().outcome


class SlowStore(SQLiteStore):
    """A store in which the publication of one thread takes long."""

    def __init__(self, path):
        super().__init__(path)
        self.waits, self.goes_on = threading.Event(), threading.Event()

    def publish(self, *about):
        if threading.current_thread().name == "slow":
            self.waits.set()
            assert self.goes_on.wait(5)
        return super().publish(*about)


def test_an_older_publication_does_not_take_the_place_of_a_newer_one(tmp_path):
    clock, store = Clock(), SlowStore(tmp_path / "rollouts.db")
    strategy = Canary([Step("50%", min_units=10**6, min_time=0)], guardrails=[Guardrail("error_rate")])
    with closing(Runtime(time_ns=clock, store=store)) as runtime:
        function = rollout(candidate=lambda user: "v2", strategy=strategy, unit="user", key="model", runtime=runtime)(
            lambda user: "control"
        )
        reconciler = runtime.reconciler
        for number in range(100):
            function(f"u{number}")
        assert runtime.flush(5)
        # The background publishes what it has seen; meanwhile a person has it judged.
        publish = reconciler.rollouts["model"].publish
        slow = threading.Thread(name="slow", target=publish, args=(store, reconciler.writer, clock.now_s))
        slow.start()
        assert store.waits.wait(5)
        for number in range(100, 200):
            function(f"u{number}")
        before = function.rollout.judge().units
        store.goes_on.set()
        slow.join()
        assert before == function.rollout.judge().units
