"""Quantiles of latency and of recorded metrics: the candidate's against the control's, with intervals for every look."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from rollout_sdk.analysis.arms import Arm, Sample
from rollout_sdk.analysis.phase_report import QuantileReport
from rollout_sdk.stats import MIN_EFFECTIVE_UNITS
from rollout_sdk.stats.clusters import effective_of
from rollout_sdk.stats.quantiles import design_effect, quantile_interval

__all__ = ["LATENCY", "quantile", "quantiles_of"]

LATENCY = "latency"

_QUANTILES = (0.5, 0.95, 0.99)
_ALPHA = 0.05


def quantile(ordered: Sequence[float], q: float) -> float:
    """The q-quantile of sorted values, linear between neighbours (Hyndman and Fan, type 7)."""
    position = (len(ordered) - 1) * q
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def quantiles_of(arms: Mapping[str, Arm], control: str, *, is_void: bool = False) -> tuple[QuantileReport, ...]:
    """The quantiles of each candidate's own runs, and of each recorded metric, against the control's, where both have some.

    Each arm has an interval at level 1 - alpha / 2, whose counts are divided by the design effect of the units' buckets: calls
    of a user, or of a slow minute of a user, are no independent draws. The difference lies between the ends of both. A metric
    whose values are all 0 or 1 has none.

    Args:
        arms: The arms of a phase, by variant.
        control: Name of the control.
        is_void: Whether arms cannot be compared: then there is no interval.
    """
    runs = {name: (arm.latency_s[name], arm.by_unit().calls) for name, arm in arms.items() if name in arm.latency_s}
    found = list(_compared(LATENCY, runs, control, is_void=is_void))
    for metric in sorted({metric for arm in arms.values() for metric in arm.values}):
        values = {
            name: (arm.values[metric], arm.by_unit().of(metric).units) for name, arm in arms.items() if metric in arm.values
        }
        if any(sample.is_graded() for sample, _ in values.values()):
            found += _compared(metric, values, control, is_void=is_void)
    return tuple(found)


def _compared(
    metric: str, samples: Mapping[str, tuple[Sample, Mapping[float, int]]], control: str, *, is_void: bool
) -> Iterator[QuantileReport]:
    """The quantiles of a metric, from its values in each arm, and how many units have so many calls or values."""
    if control not in samples:
        return
    known = {name: list(_intervals(*sample, is_void=is_void)) for name, sample in samples.items()}
    for name, theirs in known.items():
        if name == control:
            continue
        for q, ours, (value, low, high) in zip(_QUANTILES, known[control], theirs, strict=True):
            yield QuantileReport(
                metric=metric,
                q=q,
                candidate=name,
                control=ours[0],
                value=value,
                difference=value - ours[0],
                low=_finite(low - ours[2]),
                high=_finite(high - ours[1]),
            )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _intervals(sample: Sample, units: Mapping[float, int], *, is_void: bool) -> Iterator[tuple[float, float, float]]:
    """For each quantile: its estimate and the ends of its interval."""
    ordered = sample.ordered()
    estimates = [quantile(ordered, q) for q in _QUANTILES]
    if is_void or effective_of(units)[0] < MIN_EFFECTIVE_UNITS:
        yield from ((estimate, -math.inf, math.inf) for estimate in estimates)
        return
    for q, estimate in zip(_QUANTILES, estimates, strict=True):
        effect = design_effect(sample.below(estimate).values(), q)
        yield estimate, *quantile_interval(ordered, q, alpha=_ALPHA / 2, effect=effect)
