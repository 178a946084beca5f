"""The judge: five verdicts, each with its arithmetic, and never a wrong one for want of data."""

import json
import math
import random
import re

import pytest
from attrs import evolve

from rollout_sdk import Gate, Guardrail, Step
from rollout_sdk.judging import Evidence, Situation, Verdict, judge
from rollout_sdk.judging.metrics import metric_of
from rollout_sdk.judging.metrics.assignment import weigh_assignment
from rollout_sdk.plan import Criteria
from rollout_sdk.stats import rare_event_safe_log_e

ERRORS = Guardrail("error_rate")
SLOW = Guardrail("latency", threshold_s=0.1, margin=0.05)
DAY_S = 86_400.0


def situation(**changed):
    about = {
        "rollout": "model", "phase": "0:50%", "revision": 3, "control": "control", "candidates": ("v2",),
        "step": Step("50%", min_units=100, min_time=0), "entered_s": 0.0,
    }  # fmt: skip
    return Situation(**{**about, **changed})


def criteria(*guardrails, gates=(), **options):
    return Criteria(steps=["50%"], guardrails=guardrails, gates=gates, **options)


def lived(plan, units, rates, *, calls=1, share=0.5, seed=1, phase="0:50%", outcomes=None, evidence=None):
    """Evidence of units that err at these rates, by arm; each unit has so many calls."""
    rng, shares = random.Random(seed), {"control": 1 - share, "v2": share}
    evidence = Evidence(plan.all) if evidence is None else evidence
    for unit in range(units):
        arm, cell, bucket = ("v2" if rng.random() < share else "control"), rng.getrandbits(32), rng.randrange(512)
        for number in range(calls):
            about = {"failed": rng.random() < rates[arm], "duration_s": 0.01, "time_s": float(unit)}
            evidence.add_call(phase, arm, shares, cell, bucket, **about)
            for metric, of in (outcomes or {}).items():
                value = of(rng, arm)
                evidence.add_outcome(
                    metric, value, decision=f"{phase}/{unit}/{number}", phase_name=phase, arm=arm, bucket=bucket,
                    decided_s=float(unit), time_s=float(unit),
                )  # fmt: skip
    return evidence


def found(verdict, name):
    (finding,) = [finding for finding in verdict.findings if finding.name == name]
    return finding


def verdict_of(plan, evidence, now_s=1e6, **changed):
    return judge(evidence, plan, situation(**changed), now_s)


BOTH = {"control": 0.004, "v2": 0.004}


def test_without_any_data_there_is_no_verdict():
    plan = criteria(ERRORS, SLOW, gates=[Gate("click")])
    verdict = verdict_of(plan, Evidence(plan.all))
    assert ("INSUFFICIENT_DATA", (), ()) == (verdict.outcome, verdict.passed, verdict.failed)
    assert "control has had 0 of at least 100 units" in verdict.reason


def test_a_candidate_that_fails_much_more_often_is_rolled_back_after_a_handful_of_errors():
    plan = criteria(ERRORS)
    verdict = verdict_of(plan, lived(plan, 400, {"control": 0.005, "v2": 0.2}))
    assert ("FAIL", ("v2",)) == (verdict.outcome, verdict.failed)
    assert "units with an error had v2, where its shares predict" in verdict.reason


def test_a_rollback_waits_for_no_minimum_of_units_or_time():
    plan = criteria(ERRORS)
    verdict = verdict_of(plan, lived(plan, 40, {"control": 0.0, "v2": 1.0}), now_s=1.0)
    assert "FAIL" == verdict.outcome


def test_a_shared_outage_rolls_nothing_back():
    plan = criteria(ERRORS, SLOW)
    verdict = verdict_of(plan, lived(plan, 4000, {"control": 0.6, "v2": 0.6}))
    assert () == verdict.failed


def test_a_candidate_that_is_as_good_passes_once_it_surely_is():
    plan = criteria(ERRORS, SLOW)
    few, many = (verdict_of(plan, lived(plan, units, BOTH)) for units in (300, 12_000))
    assert ("INCONCLUSIVE", "PASS") == (few.outcome, many.outcome)
    assert ("v2",) == many.passed


def test_a_model_that_never_fails_can_pass():
    plan = criteria(ERRORS)
    verdict = verdict_of(plan, lived(plan, 2500, {"control": 0.0, "v2": 0.0}))
    assert "PASS" == verdict.outcome
    assert "significantly fewer than 1 %" in found(verdict, "error_rate").reason


@pytest.mark.parametrize(
    ("units", "entered_s", "reason"), [(150, 0.0, "of at least 100 units"), (2500, 999_990.0, "lasted 10s")]
)
def test_nothing_goes_on_before_its_minimum_of_units_and_time(units, entered_s, reason):
    plan = criteria(Guardrail("error_rate", floor=0.5))
    step = Step("50%", min_units=100, min_time="1m")
    verdict = verdict_of(plan, lived(plan, units, {"control": 0.0, "v2": 0.0}), step=step, entered_s=entered_s)
    assert "INSUFFICIENT_DATA" == verdict.outcome
    assert reason in verdict.reason


def test_shares_that_were_set_by_hand_wait_for_a_person():
    plan = criteria(Guardrail("error_rate", floor=0.5))
    verdict = verdict_of(plan, lived(plan, 2500, BOTH), step=None)
    assert "INSUFFICIENT_DATA" == verdict.outcome
    assert "by hand" in verdict.reason


def test_a_slow_candidate_fails_and_one_that_is_a_little_slower_passes():
    plan = criteria(SLOW)
    slow, quick = Evidence(plan.all), Evidence(plan.all)
    rng = random.Random(3)
    for unit in range(8000):
        arm, cell = ("v2" if unit % 2 else "control"), rng.getrandbits(32)
        for evidence, share in ((slow, 0.2), (quick, 0.03)):
            duration_s = 0.5 if rng.random() < (share if arm == "v2" else 0.02) else 0.01
            evidence.add_call(
                "0:50%", arm, {"control": 0.5, "v2": 0.5}, cell, cell % 512, failed=False, duration_s=duration_s, time_s=0.0
            )
    assert ("FAIL", "PASS") == (verdict_of(plan, slow).outcome, verdict_of(plan, quick).outcome)


def clicks(control, v2):
    return {"click": lambda rng, arm: float(rng.random() < (v2 if arm == "v2" else control))}


def test_a_gate_passes_when_the_candidate_is_surely_better_and_holds_until_then():
    plan = criteria(gates=[Gate("click")])
    better = verdict_of(plan, lived(plan, 6000, BOTH, outcomes=clicks(0.10, 0.16)))
    alike = verdict_of(plan, lived(plan, 6000, BOTH, outcomes=clicks(0.10, 0.10)))
    worse = verdict_of(plan, lived(plan, 6000, BOTH, outcomes=clicks(0.16, 0.10)))
    assert ("PASS", "INCONCLUSIVE", "FUTILE") == (better.outcome, alike.outcome, worse.outcome)
    gate = found(better, "click")
    assert gate.low <= 0.06 <= gate.high
    assert (0.10, 0.16) == pytest.approx((gate.control, gate.value), abs=0.02)


def test_a_gate_can_ask_for_not_much_worse():
    plan = criteria(gates=[Gate("click", min_effect=-0.05)])
    assert "PASS" == verdict_of(plan, lived(plan, 8000, BOTH, outcomes=clicks(0.10, 0.10))).outcome


def test_a_gate_for_the_promotion_does_not_hold_the_steps_before_it():
    plan = Criteria(
        steps=["25%", "50%"], guardrails=[Guardrail("error_rate", floor=0.5)], gates=[Gate("click", before="promotion")]
    )
    evidence = lived(plan, 2500, BOTH, outcomes=clicks(0.1, 0.1))
    assert ("PASS", "INCONCLUSIVE") == (
        verdict_of(plan, evidence).outcome,
        verdict_of(plan, evidence, is_last=True).outcome,
    )


def test_lower_is_better_where_it_is_said():
    plan = criteria(Guardrail("cost", margin=0.1, better="lower"))
    cost = {"cost": lambda rng, arm: rng.gauss(2.0 if arm == "v2" else 1.0, 0.5)}
    assert "FAIL" == verdict_of(plan, lived(plan, 3000, BOTH, outcomes=cost)).outcome
    assert (
        "PASS"
        == verdict_of(
            criteria(Guardrail("cost", margin=0.1)), lived(criteria(Guardrail("cost", margin=0.1)), 3000, BOTH, outcomes=cost)
        ).outcome
    )


def test_labels_that_come_late_are_waited_for():
    gate = Gate("label", per="outcome", window="7d")
    plan = criteria(gates=[gate])
    evidence = lived(plan, 6000, BOTH, outcomes={"label": lambda rng, arm: float(rng.random() < (0.9 if arm == "v2" else 0.7))})
    young, old = verdict_of(plan, evidence, now_s=6 * DAY_S), verdict_of(plan, evidence, now_s=9 * DAY_S)
    assert ("INSUFFICIENT_DATA", "PASS") == (young.outcome, old.outcome)
    assert (0.0, 1.0) == (found(young, "label").matured, found(old, "label").matured)
    assert "0% of the decisions are old enough" in found(young, "label").reason


def test_harm_is_seen_in_immature_outcomes_where_labels_of_both_arms_come_equally_fast():
    plan = criteria(Guardrail("label", margin=0.02, per="outcome", window="7d", early_harm=True))
    evidence = lived(plan, 6000, BOTH, outcomes={"label": lambda rng, arm: float(rng.random() < (0.5 if arm == "v2" else 0.7))})
    assert "FAIL" == verdict_of(plan, evidence, now_s=DAY_S).outcome


def test_a_dry_run_is_judged_and_reported_and_decides_nothing():
    sharp = evolve(ERRORS, dry_run=True)
    plan = criteria(sharp, Guardrail("latency", threshold_s=0.1, margin=0.5))
    verdict = verdict_of(plan, lived(plan, 4000, {"control": 0.005, "v2": 0.2}))
    assert ("FAIL", "PASS") == (found(verdict, "error_rate").outcome, verdict.outcome)
    without = criteria(Guardrail("latency", threshold_s=0.1, margin=0.5))
    alone = found(verdict_of(without, lived(without, 4000, BOTH)), "latency>0.1s")
    assert alone.harm_needed == found(verdict, "latency>0.1s").harm_needed


def test_where_all_are_dry_runs_nothing_goes_on_by_itself():
    """Time that has passed, and units that were seen, are no success."""
    plan = criteria(evolve(ERRORS, dry_run=True))
    verdict = verdict_of(plan, lived(plan, 12_000, BOTH))
    assert ("PASS", "INCONCLUSIVE", ()) == (found(verdict, "error_rate").outcome, verdict.outcome, verdict.passed)
    assert "nothing is judged: call promote() to go on." == verdict.reason


def test_units_in_the_wrong_shares_make_the_rollout_invalid_and_hold_it():
    plan = criteria(Guardrail("error_rate", floor=0.5))
    evidence = lived(plan, 30_000, BOTH, share=0.46)
    for phase in evidence.phases.values():
        phase.shares = {"control": 0.5, "v2": 0.5}
    verdict = verdict_of(plan, evidence)
    assert ("ERROR", False, ()) == (verdict.outcome, verdict.valid, verdict.passed)
    assert str(verdict).startswith("ERROR (INVALID) in phase 0:50%: the arms do not have")
    assert found(verdict, "assignment").harm_log_e > math.log(1000)


def test_wrong_shares_do_not_stop_a_rollback():
    plan = criteria(ERRORS)
    evidence = lived(plan, 30_000, {"control": 0.005, "v2": 0.1}, share=0.46)
    for phase in evidence.phases.values():
        phase.shares = {"control": 0.5, "v2": 0.5}
    verdict = verdict_of(plan, evidence)
    assert ("FAIL", False) == (verdict.outcome, verdict.valid)


def test_a_criterion_that_cannot_be_judged_is_an_error_and_holds(monkeypatch):
    def broken(numbers):
        raise ZeroDivisionError("in the judge")

    monkeypatch.setattr("rollout_sdk.judging.metrics.error_rate.ErrorRate.weigh", staticmethod(broken))
    plan = criteria(ERRORS, Guardrail("latency", threshold_s=0.1, margin=0.5))
    verdict = verdict_of(plan, lived(plan, 4000, BOTH))
    assert ("ERROR", ()) == (verdict.outcome, verdict.passed)
    assert "ZeroDivisionError: in the judge" == found(verdict, "error_rate").reason


def test_a_ramp_with_a_drifting_base_rate_is_no_regression():
    """The trap of pooling: most of the candidate's calls come late, when everybody fails more often."""
    plan = criteria(ERRORS, Guardrail("ok", margin=0.01, per="call"))
    evidence = Evidence(plan.all)
    for number, (share, rate) in enumerate([(0.05, 0.01), (0.25, 0.05), (0.5, 0.15)]):
        about = {"share": share, "seed": number, "phase": f"{number}:x", "evidence": evidence}
        lived(
            plan,
            6000,
            {"control": rate, "v2": rate},
            outcomes={"ok": lambda rng, arm, r=rate: float(rng.random() > r)},
            **about,
        )
    verdict = verdict_of(plan, evidence, phase="2:x")
    assert () == verdict.failed
    pooled = {arm: sum(evidence.sums(plan.guardrails[1]).totals(phase, arm)[0] for phase in evidence.phases)
              / sum(evidence.sums(plan.guardrails[1]).totals(phase, arm)[1] for phase in evidence.phases)
              for arm in ("control", "v2")}  # fmt: skip
    assert pooled["v2"] < pooled["control"] - 0.02


def test_with_several_candidates_one_can_fail_while_the_other_goes_on():
    plan = criteria(Guardrail("error_rate", floor=0.5))
    evidence, rng = Evidence(plan.all), random.Random(1)
    shares = {"control": 0.4, "v2": 0.3, "v3": 0.3}
    for _ in range(3000):
        arm = rng.choices(list(shares), list(shares.values()))[0]
        cell = rng.getrandbits(32)
        about = {"failed": rng.random() < (0.3 if arm == "v3" else 0.01), "duration_s": 0.01, "time_s": 0.0}
        evidence.add_call("0:50%", arm, shares, cell, cell % 512, **about)
    verdict = verdict_of(plan, evidence, candidates=("v2", "v3"))
    assert ("FAIL", ("v3",)) == (verdict.outcome, verdict.failed)


def test_a_candidate_twice_as_bad_does_not_pass_because_nearly_all_units_that_come_often_see_an_error():
    plan = criteria(Guardrail("error_rate", margin=1.0))
    alike, twice = ({"control": 0.03, "v2": 0.03 * ratio} for ratio in (1, 2))
    bad = found(verdict_of(plan, lived(plan, 600, twice, calls=60)), "error_rate")
    ((mine, other, _),) = bad.numbers["strata"]
    assert mine < 1.3 * other, "the units do not tell that it makes twice the errors"
    assert rare_event_safe_log_e([(mine, other, 0.5)], margin=1.0) > math.log(1000)
    assert "FAIL" == bad.outcome
    assert bad.safe_log_e < 0
    good = found(verdict_of(plan, lived(plan, 600, alike, calls=60)), "error_rate")
    assert "PASS" == good.outcome, "all the errors tell that it is as good"
    assert "fewer than 2 times" in good.reason


def test_every_finding_can_be_computed_again_from_its_own_record():
    plan = criteria(ERRORS, SLOW, gates=[Gate("click")])
    verdict = verdict_of(plan, lived(plan, 5000, BOTH, outcomes=clicks(0.1, 0.12)))
    read = Verdict.from_dict(json.loads(json.dumps(verdict.as_dict(), allow_nan=False)))
    assert verdict == evolve(read, units=dict(read.units), outcomes=dict(read.outcomes))
    assert {"assignment", ERRORS.label, SLOW.label, "click"} == {finding.name for finding in read.findings}
    for finding in read.findings:
        criterion = next((each for each in plan.all if each.label == finding.name), None)
        again = weigh_assignment(finding.numbers) if criterion is None else metric_of(criterion).weigh(finding.numbers)
        assert (finding.harm_log_e, finding.safe_log_e, finding.low) == (again.harm_log_e, again.safe_log_e, again.ends.low)


def test_a_verdict_reads_like_one():
    plan = criteria(ERRORS, gates=[Gate("click")])
    text = str(verdict_of(plan, lived(plan, 12_000, BOTH, outcomes=clicks(0.1, 0.2))))
    for part in (
        "PASS in phase 0:50%",
        "units: ",
        "guardrail error_rate of v2",
        "gate click of v2",
        "as good by chance: less than 1 in a million (passed at 1 in 20)",
    ):
        assert part in text
    # The gate with what it is computed from: both means, over how many calls, the difference and its interval.
    assert re.search(
        r"control 0\.\d+ over [\d,]+  candidate 0\.\d+ over [\d,]+  difference \+0\.\d+ \[\+0\.\d+, \+0\.\d+\]", text
    )
    assert re.search(r"PASS +assignment: .*\n +other shares by chance: .+ \(an alarm at 1 in 1,000\)", text)
