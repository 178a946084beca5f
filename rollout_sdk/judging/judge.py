"""Judges evidence by criteria. Pure: reads no clock and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import evolve

from rollout_sdk.judging.evidence import Evidence
from rollout_sdk.judging.look import Look, Situation
from rollout_sdk.judging.metrics import metric_of
from rollout_sdk.judging.metrics.assignment import assignment
from rollout_sdk.judging.pairs import incomplete, unjudged_answers, unmeasured
from rollout_sdk.judging.phase_evidence import number_of
from rollout_sdk.judging.verdicts import Finding, Outcome, Verdict
from rollout_sdk.plan import Criteria, Criterion, Gate, Guardrail, as_duration, is_judged, is_measured

__all__ = ["judge"]

_LONGEST_REASON = 200


def judge(
    evidence: Evidence, criteria: Criteria, situation: Situation, now_s: float, previous: Verdict | None = None
) -> Verdict:
    """Return the verdict at one look.

    Guardrails are judged on all evidence so far, phase by phase; metrics with a window on decisions that are old enough.
    Frequent looks make no verdict less reliable.

    Args:
        evidence: The evidence.
        criteria: The guardrails and gates.
        situation: The state of the rollout.
        now_s: Current time, in seconds since 1970.
        previous: The previous verdict on this rollout and version; planned looks continue from it.
    """
    # Evidence from before an assignment alarm was cleared does not count.
    phases = [(name, phase) for name, phase in evidence.in_order() if number_of(name) >= situation.valid_from]
    look = Look(phases, criteria, situation, now_s, previous, evidence.covariates())
    shares = assignment(look)
    findings = [
        _finding(look, each, name)
        for name in situation.candidates
        for each in criteria.all
        # Users see no candidate while it is shadowed, so only labels of its answers can be recorded for it.
        if not situation.shadowing or is_measured(each.metric) or is_judged(each.metric) or look.has_pairs(each.label, name)
    ]
    deciding = [finding for finding in findings if finding.decides]
    to_roll_back = {finding.candidate for finding in deciding if finding.outcome == "FAIL" and finding.on_fail == "rollback"}
    failed = tuple(name for name in situation.candidates if name in to_roll_back)
    counted = [each for each in deciding if situation.is_last or not _is_later(criteria, each)]
    units = {arm: sample.estimate for arm, sample in look.current.units.items()}
    waits = _waits(look, units)
    unusual = look.unusual_control()
    passed = tuple(
        name
        for name in situation.candidates
        # If all are dry runs, nothing supports a pass.
        if deciding
        and shares.outcome != "ERROR"
        and not waits
        and not unusual
        and all(each.outcome == "PASS" for each in counted if each.candidate == name)
    )
    verdict = Verdict(
        rollout=situation.rollout,
        outcome="INCONCLUSIVE",
        reason="",
        phase=situation.phase,
        revision=situation.revision,
        time_s=now_s,
        failed=failed,
        passed=passed,
        ready=passed,
        pauses=tuple(dict.fromkeys(each.name for each in deciding if each.outcome == "FAIL" and each.on_fail == "pause")),
        futile=tuple(dict.fromkeys(each.name for each in counted if each.outcome == "FUTILE")),
        idle=_is_idle(look),
        valid=shares.outcome != "ERROR",
        findings=(shares, *findings),
        units=units,
        outcomes=dict(evidence.outcomes),
    )
    outcome, reason = _summary(verdict, situation, shares, counted, waits, unusual)
    warned = [each for each in findings if each.on_fail == "warn" and not each.dry_run and each.outcome == "FAIL"]
    for each in warned:
        reason = f"{reason} Warning: {each.name}: {each.reason}"
    if outcome == "PASS":
        reason += unjudged_answers(look)
    return evolve(verdict, outcome=outcome, reason=reason, passed=passed if outcome == "PASS" else ())


def _finding(look: Look, criterion: Criterion, candidate: str) -> Finding:
    """Judge one candidate by one criterion; if that raises, the finding is an ERROR, which holds the rollout."""
    kind = "gate" if isinstance(criterion, Gate) else "guardrail"
    on_fail = criterion.on_fail if isinstance(criterion, Guardrail) else "rollback"
    metric = metric_of(criterion)
    try:
        numbers = metric.numbers(look, candidate)
        weight = metric.weigh(numbers)
        outcome, reason = metric.explain(candidate, numbers, weight)
    except Exception as error:
        return Finding(
            name=criterion.label,
            kind=kind,  # type: ignore[arg-type]
            candidate=candidate,
            outcome="ERROR",
            reason=f"{type(error).__qualname__}: {error}"[:_LONGEST_REASON],
            numbers={},
            dry_run=criterion.dry_run,
            on_fail=on_fail,
        )
    return Finding(
        name=criterion.label,
        kind=kind,  # type: ignore[arg-type]
        candidate=candidate,
        outcome=outcome,
        reason=reason,
        estimate=numbers.get("estimate"),
        low=weight.ends.low,
        high=weight.ends.high,
        relative=weight.ends.relative,
        relative_low=weight.ends.relative_low,
        relative_high=weight.ends.relative_high,
        control=numbers.get("control"),
        value=numbers.get("value"),
        harm_log_e=weight.harm_log_e,
        harm_needed=weight.harm_needed,
        safe_log_e=weight.safe_log_e,
        safe_needed=weight.safe_needed,
        futile_log_e=weight.futile_log_e,
        numbers=numbers,
        matured=numbers.get("matured", 1.0),
        dry_run=criterion.dry_run,
        on_fail=on_fail,
    )


def _is_later(criteria: Criteria, finding: Finding) -> bool:
    """Whether the finding is required only for the promotion."""
    return finding.kind == "gate" and any(gate.label == finding.name and gate.before == "promotion" for gate in criteria.gates)


def _is_idle(look: Look) -> bool:
    """Whether the phase has had no traffic for longer than any criterion's grace period."""
    grace_s = max((each.grace for each in look.criteria.all), default=0.0)
    return look.now_s - max(look.current.last_s, look.situation.entered_s) > grace_s


def _waits(look: Look, units: Mapping[str, int]) -> str | None:
    """Explain why it is too early for the next step, whatever the numbers; None if it is not."""
    situation, step = look.situation, look.situation.step
    if step is None:
        return "the shares were set by hand, outside the plan: call promote() to go on"
    if (why := unmeasured(look)) is not None:
        return why
    for arm in (situation.control, *situation.candidates):
        if units.get(arm, 0) < step.min_units:
            return f"{arm} has had {units.get(arm, 0):,} of at least {step.min_units:,} units in this step"
    if look.elapsed_s < step.min_time:
        return f"the step has lasted {as_duration(look.elapsed_s)} of at least {as_duration(step.min_time)}"
    return incomplete(look) if situation.shadowing else None


def _summary(
    verdict: Verdict,
    situation: Situation,
    shares: Finding,
    counted: Sequence[Finding],
    waits: str | None,
    unusual: str | None,
) -> tuple[Outcome, str]:
    """Return the overall outcome and its reason, the most decisive one first."""
    if verdict.failed:
        found = next(each for each in counted if each.outcome == "FAIL" and each.on_fail == "rollback")
        return "FAIL", f"{found.candidate}: {found.name}: {found.reason}"
    if shares.outcome == "ERROR":
        return "ERROR", shares.reason
    broken = next((each for each in counted if each.outcome == "ERROR"), None)
    if broken is not None:
        return "ERROR", f"{broken.name} cannot be judged: {broken.reason}"
    paused = next((each for each in counted if each.outcome == "FAIL"), None)
    if paused is not None:
        return "INCONCLUSIVE", f"paused until it has recovered: {paused.candidate}: {paused.name}: {paused.reason}"
    if unusual is not None:
        return "INCONCLUSIVE", f"{unusual}: an outage says nothing about the candidate."
    if waits is not None:
        return "INSUFFICIENT_DATA", f"{waits}."
    if verdict.passed and len(verdict.passed) == len(situation.candidates):
        return "PASS", "every guardrail holds, and every gate required at this step has passed."
    open_ = sorted((each for each in counted if each.outcome != "PASS"), key=lambda each: _RANK.get(each.outcome, 2))
    if not open_:
        return "INCONCLUSIVE", "nothing is judged: call promote() to go on."
    return open_[0].outcome, f"{open_[0].name}: {open_[0].reason}"


_RANK: Mapping[str, int] = {"FUTILE": 0, "INSUFFICIENT_DATA": 1}
