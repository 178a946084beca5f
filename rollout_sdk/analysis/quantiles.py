"""Quantiles of latency, the candidate's against the control's, with an interval that holds at every look."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from rollout_sdk.analysis.arms import Arm
from rollout_sdk.analysis.report import QuantileReport
from rollout_sdk.stats import MIN_EFFECTIVE_UNITS, effective_units
from rollout_sdk.stats.quantiles import design_effect, quantile_interval

__all__ = ["quantile", "quantiles_of"]

_QUANTILES = (0.5, 0.95, 0.99)
_ALPHA = 0.05


def quantile(ordered: Sequence[float], q: float) -> float:
    """The q-quantile of sorted values, linear between neighbours (Hyndman and Fan, type 7)."""
    position = (len(ordered) - 1) * q
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def quantiles_of(arms: Mapping[str, Arm], control: str, *, is_void: bool = False) -> tuple[QuantileReport, ...]:
    """The quantiles of each candidate's own runs against the control's, where both have some.

    Each arm has an interval at level 1 - alpha / 2, whose counts are divided by the design effect of the units' buckets: calls
    of a user, or of a slow minute of a user, are no independent draws. The difference lies between the ends of both.

    Args:
        arms: The arms of a phase, by variant.
        control: Name of the control.
        is_void: Whether arms cannot be compared: then there is no interval.
    """
    if control not in arms or control not in arms[control].latency_s:
        return ()
    known = {name: list(_intervals(arm, name, is_void=is_void)) for name, arm in arms.items() if name in arm.latency_s}
    return tuple(
        QuantileReport(
            q=q,
            candidate=name,
            control_s=ours[0],
            value_s=theirs[0],
            difference_s=theirs[0] - ours[0],
            low_s=_finite(theirs[1] - ours[2]),
            high_s=_finite(theirs[2] - ours[1]),
        )
        for name, found in known.items()
        if name != control
        for q, ours, theirs in zip(_QUANTILES, known[control], found, strict=True)
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _intervals(arm: Arm, name: str, *, is_void: bool) -> Iterator[tuple[float, float, float]]:
    """For each quantile: its estimate and the ends of its interval."""
    runs = arm.latency_s[name]
    ordered = runs.ordered()
    estimates = [quantile(ordered, q) for q in _QUANTILES]
    if is_void or effective_units(arm.units.values())[0] < MIN_EFFECTIVE_UNITS:
        yield from ((estimate, -math.inf, math.inf) for estimate in estimates)
        return
    calls = runs.by_bucket()
    for q, estimate in zip(_QUANTILES, estimates, strict=True):
        above = runs.above(estimate)
        effect = design_effect(((count - above[bucket], count) for bucket, count in calls.items()), q)
        yield estimate, *quantile_interval(ordered, q, alpha=_ALPHA / 2, effect=effect)
