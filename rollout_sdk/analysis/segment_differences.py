"""Differences within segments: of every metric and candidate, corrected for how many they are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import evolve

from rollout_sdk.analysis.judged import Judged
from rollout_sdk.analysis.segment_sums import Asked, Summed
from rollout_sdk.analysis.segments import SegmentDifference
from rollout_sdk.analysis.verdict import Kind
from rollout_sdk.judging.e_values import MIN_EVENTS, MIN_UNITS
from rollout_sdk.judging.metrics.base import compared, heavy_unit, interval, prior_precision, values
from rollout_sdk.plan import ERROR_RATE, Criterion, Gate, is_judged, is_measured
from rollout_sdk.plan.checks import OTHER
from rollout_sdk.stats import StratifiedBuckets, e_bh, log_e_two_sided

__all__ = ["asked_of", "segment_differences"]

_KOHAVI = 355.0
_SCALE = 0.05
_ERRORS_SCALE = 0.5
"""Relative difference at which the test of a metric without an `mde` is the most sensitive."""

_LARGEST_LOG_E = 600.0


def asked_of(found: Judged) -> Asked | None:
    """What is asked about the segments of a set of arms; None where none were declared."""
    if not found.segments:
        return None
    criteria = (*found.course.criteria.all, *found.undeclared)
    recorded = {each.metric: each for each in criteria if not is_measured(each.metric) and not is_judged(each.metric)}
    return Asked(found.segments, {name: each for name, each in recorded.items() if each.per != "list"}, found.now_s)


def segment_differences(found: Judged, sums: Summed, candidates: Sequence[str]) -> tuple[SegmentDifference, ...]:
    """Every metric of every candidate in every segment that has calls of both arms.

    Each is a bet that the metric differs in this segment, by the judge's own estimate and standard error. Of K of them, e-BH
    picks the k that differ significantly: on average, a share of at most alpha of these is false. Intervals have the level
    1 - alpha k / K (1 - alpha / K without any), so that exactly those of the k leave out 0.

    Source: Wang and Ramdas, JRSS B 84 (2022); Xu, Wang and Ramdas, arXiv:2203.12572, for the intervals.

    Args:
        found: What the judge saw.
        sums: The sums by segment.
        candidates: Names of the candidates.
    """
    asked = asked_of(found)
    if asked is None:
        return ()
    rows = list(_rows(found, asked, sums, candidates))
    alpha, count = found.course.criteria.alpha, len(rows)
    if not rows:
        return ()
    picked = set(e_bh([math.exp(min(each.log_e, _LARGEST_LOG_E)) for each, _, _ in rows], alpha=alpha))
    level = alpha * max(1, len(picked)) / count
    return tuple(
        evolve(each, is_discovery=index in picked, low=ends[0], high=ends[1])
        for index, (each, ends) in enumerate((each, _ends(numbers, mde, level)) for each, numbers, mde in rows)
    )


_Row = tuple[SegmentDifference, Mapping[str, Any] | None, float]
"""A difference, the numbers of its interval (None while there is too little), and the effect that its test is tuned to."""


def _rows(found: Judged, asked: Asked, sums: Summed, candidates: Sequence[str]) -> Iterator[_Row]:
    criteria: list[Criterion | None] = [*asked.criteria.values(), None]
    split = [(name, value) for name, listed in asked.segments.items() for value in (*listed, OTHER)]
    control, declared = found.course.control, {each.metric for each in found.course.criteria.all}
    for candidate in candidates:
        for criterion in criteria:
            parts = [(segment, sums.of(segment, criterion)) for segment in split]
            is_declared = (ERROR_RATE if criterion is None else criterion.metric) in declared
            scale = _scale(criterion, [part for _, part in parts], is_declared=is_declared)
            for segment, part in parts:
                if all(any(part.totals(phase, arm)[1] for phase in part.phases()) for arm in (control, candidate)):
                    kind: Kind = "exploratory" if not is_declared else "gate" if isinstance(criterion, Gate) else "guardrail"
                    yield _row(control, segment, candidate, criterion, part, sums, scale, kind)


def _scale(criterion: Criterion | None, parts: Sequence[StratifiedBuckets], *, is_declared: bool) -> float:
    """The effect that the test is tuned to: the declared one, or a share of the mean over all segments."""
    if criterion is not None and is_declared:
        return max(criterion.mde, 1e-9)
    totals = [part.totals(phase, arm) for part in parts for phase in part.phases() for arm in part.arms()]
    total, weight = (math.fsum(column) for column in zip(*totals, strict=True)) if totals else (0.0, 0.0)
    share = _ERRORS_SCALE if criterion is None else _SCALE
    return max(share * abs(total / weight) if weight else 0.0, 1e-9)


def _row(
    control: str,
    segment: tuple[str, str],
    candidate: str,
    criterion: Criterion | None,
    part: StratifiedBuckets,
    sums: Summed,
    scale: float,
    kind: Kind,
) -> _Row:
    difference, numbers = part.difference(candidate, control), values(part, control, candidate)
    metric = ERROR_RATE if criterion is None else criterion.metric
    others = sums.others.get((segment, metric), 0)
    units = [len(sums.units.get((segment, arm), ())) for arm in (control, candidate)]
    needed = max(MIN_UNITS, _KOHAVI * part.skewness_squared(control, units=units[0]) if others else 0.0)
    enough = (
        min(units) >= needed
        and heavy_unit(part, control, candidate)["enough_effective"]
        and min(part.nonzero(arm) for arm in (control, candidate)) >= MIN_EVENTS
    )
    numbers = {**numbers, **compared(difference)}
    log_e = 0.0
    if enough:
        log_e = log_e_two_sided(difference.estimate, difference.std_error, rho=prior_precision(scale), df=difference.df)
    row = SegmentDifference(
        attribute=segment[0],
        segment=segment[1],
        metric=metric,
        candidate=candidate,
        kind=kind,
        better="lower" if criterion is None else criterion.better or "higher",
        unit="value" if others else "share",
        counted="outcomes" if criterion is not None and criterion.per == "outcome" else "calls",
        control=numbers["control"],
        value=numbers["value"],
        control_total=numbers["control_total"],
        control_count=numbers["control_count"],
        value_total=numbers["value_total"],
        value_count=numbers["value_count"],
        control_units=units[0],
        value_units=units[1],
        estimate=difference.estimate if math.isfinite(difference.std_error) else None,
        log_e=log_e,
    )
    return row, numbers if enough else None, scale


def _ends(numbers: Mapping[str, Any] | None, mde: float, level: float) -> tuple[float | None, float | None]:
    if numbers is None:
        return None, None
    ends = interval({**numbers, "alpha": level, "candidates": 1}, mde=mde, enough=True)
    return ends.low, ends.high
