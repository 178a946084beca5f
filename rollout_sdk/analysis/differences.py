"""A judge's findings as differences for a reader: counts, intervals, what could have been seen, and whether it lasts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from attrs import evolve

from rollout_sdk.analysis.judged import Judged, Looked
from rollout_sdk.analysis.verdict import Difference, Novelty, Point
from rollout_sdk.judging import Finding, Outcome
from rollout_sdk.judging.e_values import mean_log_e
from rollout_sdk.plan import LATENCY_MEAN, MEASURED, Criterion
from rollout_sdk.stats import StratifiedBuckets, e_bh, mix_log_e

__all__ = ["differences"]

_POWER_Z = 0.8416212335729143
_LEAST_NOVELTY_S = 2 * 86_400.0
_COUNTED: Mapping[str, Literal["calls", "outcomes", "lists"]] = {"call": "calls", "outcome": "outcomes", "list": "lists"}
_LARGEST_LOG_E = 600.0


def differences(found: Judged, findings: Sequence[Finding], undeclared: Sequence[Finding]) -> tuple[Difference, ...]:
    """Every metric of every candidate.

    Args:
        found: The rollout.
        findings: What the judge has found.
        undeclared: What was found of metrics that were not declared.
    """
    criteria = {each.label: each for each in (*found.course.criteria.all, *found.undeclared)}
    alpha = found.course.criteria.alpha
    declared = [_difference(found, each, criteria[each.name], alpha) for each in findings if each.kind != "assignment"]
    others = [_exploratory(_difference(found, each, criteria[each.name], alpha)) for each in undeclared]
    gates, guardrails = ([each for each in declared if each.kind == kind] for kind in ("gate", "guardrail"))
    return (*gates, *guardrails, *_corrected(others, alpha))


def _difference(found: Judged, finding: Finding, criterion: Criterion, alpha: float) -> Difference:
    numbers = finding.numbers
    rho = criterion.mde**-2 if criterion.mde > 1e-100 else None
    return Difference(
        metric=finding.name,
        candidate=str(finding.candidate),
        kind="gate" if finding.kind == "gate" else "guardrail",
        outcome=finding.outcome,
        reason=finding.reason,
        better=criterion.better or "higher",
        unit=_unit(criterion, numbers),
        control=finding.control,
        value=finding.value,
        control_total=numbers.get("control_total"),
        control_count=numbers.get("control_count"),
        value_total=numbers.get("value_total"),
        value_count=numbers.get("value_count"),
        counted=_COUNTED[criterion.per],
        estimate=finding.estimate,
        low=finding.low,
        high=finding.high,
        relative=finding.relative,
        relative_low=finding.relative_low,
        relative_high=finding.relative_high,
        mde=None if rho is None else _reached(numbers.get("std_error"), rho, alpha),
        harm_log_e=finding.harm_log_e,
        harm_needed=finding.harm_needed,
        safe_log_e=finding.safe_log_e,
        safe_needed=finding.safe_needed,
        is_discovery=None,
        matured=finding.matured,
        effective_units=numbers.get("effective_units"),
        heaviest=numbers.get("heaviest"),
        decides=finding.decides,
        novelty=_novelty(found, finding, criterion),
        course=_course(found.looks, finding),
        numbers=numbers,
    )


def _unit(criterion: Criterion, numbers: Mapping[str, Any]) -> Literal["share", "ratio", "value", "preference"]:
    if criterion.per == "list":
        return "preference"
    if criterion.metric == LATENCY_MEAN:
        return "ratio"
    if criterion.metric in MEASURED:
        return "share"
    # Zeros and ones, at most one a call: exact bets apply.
    control, value = numbers.get("control"), numbers.get("value")
    is_binary = numbers.get("units_needed") is None and all(each is None or 0 <= each <= 1 for each in (control, value))
    return "share" if is_binary else "value"


def _reached(std_error: float | None, rho: float, alpha: float) -> float | None:
    """The smallest effect that would be significant, at any look, with a probability of .8: statistics (i)."""
    if not std_error:
        return None
    information = std_error**-2
    boundary = math.sqrt((1 + rho / information) * math.log((information + rho) / (rho * alpha**2)))
    return (boundary + _POWER_Z) * std_error


def _course(looks: Sequence[Looked], finding: Finding) -> tuple[Point, ...]:
    name = finding.name, finding.kind, finding.candidate
    return tuple(
        Point(
            time_s=look.time_s,
            estimate=each.estimate,
            low=each.low,
            high=each.high,
            harm_log_e=each.harm_log_e,
            safe_log_e=each.safe_log_e,
        )
        for look in looks
        for each in (*look.findings, *look.others)
        if (each.name, each.kind, each.candidate) == name
    )


# The first days against the later ones -----------------------------------------------------------------------------------


def _novelty(found: Judged, finding: Finding, criterion: Criterion) -> Novelty | None:
    """The effect in the first part of the calls, up to a half, and in the rest."""
    before = [look for look in found.looks if finding.name in look.sums and look.calls * 2 <= found.calls]
    if not before or found.now_s - found.looks[0].time_s < _LEAST_NOVELTY_S or finding.candidate is None:
        return None
    first, whole = before[-1].sums[finding.name], found.course.evidence.sums(criterion)
    parts = [each.difference(finding.candidate, found.course.control) for each in (first, _less(whole, first))]
    errors = [each.std_error for each in parts]
    if not all(map(math.isfinite, errors)) or not any(errors):
        return None
    # Calls of one unit in both parts are correlated, so this standard error is rather too large.
    z = (parts[1].estimate - parts[0].estimate) / math.hypot(*errors)
    return Novelty(until_s=before[-1].time_s, first=parts[0].estimate, later=parts[1].estimate, z=z)


def _less(whole: StratifiedBuckets, part: StratifiedBuckets) -> StratifiedBuckets:
    """The sums of the calls after a part."""
    rest = StratifiedBuckets(whole.buckets)
    for phase in whole.phases():
        for arm in whole.arms():
            cells = zip(whole.cell(phase, arm), part.cell(phase, arm), strict=True)
            values, weights = ([one - other for one, other in zip(*each, strict=True)] for each in cells)
            # Late values of early calls may leave rounding errors, and no weights.
            rest.add_sums(phase, arm, values, [max(0.0, each) if abs(each) > 1e-9 else 0.0 for each in weights])
    return rest


# What was not declared ---------------------------------------------------------------------------------------------------


def _exploratory(each: Difference) -> Difference:
    """An undeclared metric: evidence that it differs at all, to either side, and no conclusion."""
    numbers, harm, safe = each.numbers, None, None
    enough = numbers.get("enough_harm") or numbers.get("enough")
    if enough and numbers.get("std_error"):
        worse = 1 if each.better == "lower" else -1
        of_control = max(0.05 * abs(numbers.get("control") or 0.0), 1e-9)
        scale = math.log1p(0.05) if each.unit == "ratio" else numbers.get("mde", of_control)
        harm = mean_log_e(numbers, sign=worse, null=0.0, mde=scale)
        safe = mean_log_e(numbers, sign=-worse, null=0.0, mde=scale)
    # Nothing was asked, so nothing has passed or failed.
    outcome: Outcome = each.outcome if each.outcome in ("INSUFFICIENT_DATA", "ERROR") else "INCONCLUSIVE"
    return evolve(
        each,
        kind="exploratory",
        outcome=outcome,
        harm_log_e=harm,
        safe_log_e=safe,
        harm_needed=None,
        safe_needed=None,
        decides=False,
    )


def _corrected(others: Sequence[Difference], alpha: float) -> list[Difference]:
    """The undeclared metrics, with those that differ significantly although so many were looked at (e-BH)."""
    if not others:
        return []
    log_es = [
        0.0 if each.harm_log_e is None or each.safe_log_e is None else mix_log_e([each.harm_log_e, each.safe_log_e])
        for each in others
    ]
    found = set(e_bh([math.exp(min(log_e, _LARGEST_LOG_E)) for log_e in log_es], alpha=alpha))
    return [evolve(each, is_discovery=index in found) for index, each in enumerate(others)]
