"""The judge: evidence and criteria to a verdict. Pure: it reads no clock and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rollout_sdk.judging.bench import Bench, Situation
from rollout_sdk.judging.evidence import Evidence
from rollout_sdk.judging.sums import PhaseEvidence
from rollout_sdk.judging.verdicts import Finding, Outcome, Verdict
from rollout_sdk.plan import Criteria, as_duration

__all__ = ["judge"]


def judge(
    evidence: Evidence,
    criteria: Criteria,
    situation: Situation,
    now_s: float,
    previous: Verdict | None = None,  # noqa: ARG001 - the rules that need it follow
) -> Verdict:
    """What this look comes to.

    Guardrails are judged on everything seen so far, phase by phase; gates on decisions that are old enough. Looking more often
    makes no verdict less reliable.
    """
    current = evidence.phases.get(situation.phase, PhaseEvidence())
    bench = Bench(evidence, criteria, situation, now_s)
    assignment = bench.assignment()
    findings = [bench.finding(each, name) for name in situation.candidates for each in criteria.all]
    deciding = [finding for finding in findings if not finding.dry_run]
    surely_worse = {finding.candidate for finding in deciding if finding.outcome == "FAIL"}
    failed = tuple(name for name in situation.candidates if name in surely_worse)
    valid = assignment.outcome != "ERROR"
    units = {arm: sample.estimate for arm, sample in current.units.items()}
    waits = _waits(situation, units, now_s)
    counted = [each for each in deciding if situation.is_last or not bench.is_later(each)]
    passed = tuple(
        name
        for name in situation.candidates
        # Where all are dry runs, nothing says that it may go on.
        if deciding and valid and not waits and all(each.outcome == "PASS" for each in counted if each.candidate == name)
    )
    outcome, reason = _summary(situation, assignment, counted, failed, passed, waits)
    return Verdict(
        rollout=situation.rollout,
        outcome=outcome,
        reason=reason,
        phase=situation.phase,
        revision=situation.revision,
        time_s=now_s,
        failed=failed,
        passed=passed if outcome == "PASS" else (),
        valid=valid,
        findings=(assignment, *findings),
        units=units,
        outcomes=dict(evidence.outcomes),
    )


def _waits(situation: Situation, units: Mapping[str, int], now_s: float) -> str | None:
    """Why it is too early to go on, whatever the numbers say; None when it is not."""
    step = situation.step
    if step is None:
        return "the shares were set by hand, outside the plan: promote() goes on"
    for arm in (situation.control, *situation.candidates):
        if units.get(arm, 0) < step.min_units:
            return f"{arm} has had {units.get(arm, 0):,} of at least {step.min_units:,} units in this step"
    passed_s = now_s - situation.entered_s if situation.elapsed_s is None else situation.elapsed_s
    if passed_s < step.min_time:
        return f"the step has lasted {as_duration(max(0.0, passed_s))} of at least {as_duration(step.min_time)}"
    return None


def _summary(
    situation: Situation,
    assignment: Finding,
    counted: Sequence[Finding],
    failed: Sequence[str],
    passed: Sequence[str],
    waits: str | None,
) -> tuple[Outcome, str]:
    if failed:
        found = next(each for each in counted if each.outcome == "FAIL")
        return "FAIL", f"{found.candidate}: {found.reason}"
    if assignment.outcome == "ERROR":
        return "ERROR", assignment.reason
    broken = next((each for each in counted if each.outcome == "ERROR"), None)
    if broken is not None:
        return "ERROR", f"{broken.name} could not be judged: {broken.reason}"
    if waits is not None:
        return "INSUFFICIENT_DATA", f"{waits}."
    if passed and len(passed) == len(situation.candidates):
        return "PASS", "every guardrail holds, and every gate that is asked for now has passed."
    open_ = [each for each in counted if each.outcome != "PASS"]
    if any(each.outcome == "INSUFFICIENT_DATA" for each in open_):
        return "INSUFFICIENT_DATA", next(each.reason for each in open_ if each.outcome == "INSUFFICIENT_DATA")
    return "INCONCLUSIVE", next((each.reason for each in open_), "nothing is judged: promote() goes on.")
