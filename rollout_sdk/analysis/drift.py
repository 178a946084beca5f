"""How two distributions of numbers differ: the values of the control's answers and of the candidate's."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

from attrs import frozen

from rollout_sdk.stats import population_stability

__all__ = ["Drift", "drift_of"]

_BINS = 10


@frozen
class Drift:
    """Distances of two distributions; no p-values, because with enough calls every difference is significant.

    Attributes:
        population_stability: The population stability index over the deciles of the control.
        kolmogorov_smirnov: The largest difference of the cumulative distributions.
        wasserstein: The mean distance that values have to move, in the metric's unit.
        jensen_shannon: The Jensen-Shannon divergence over the same deciles, in bits: 0 for equal ones, 1 for disjoint ones.
    """

    population_stability: float
    kolmogorov_smirnov: float
    wasserstein: float
    jensen_shannon: float


def drift_of(control: Sequence[float], candidate: Sequence[float]) -> Drift:
    """Compare two samples of numbers, neither of them empty."""
    ours, theirs = sorted(control), sorted(candidate)
    edges = sorted({ours[len(ours) * place // _BINS] for place in range(1, _BINS)})
    expected, actual = _histogram(ours, edges), _histogram(theirs, edges)
    largest, area = _distances(ours, theirs)
    return Drift(population_stability(expected, actual), largest, area, _jensen_shannon(expected, actual))


def _histogram(ordered: Sequence[float], edges: Sequence[float]) -> list[int]:
    """Count values by bin; a value at an edge belongs to the bin above it."""
    counts = [0] * (len(edges) + 1)
    for value in ordered:
        counts[bisect_right(edges, value)] += 1
    return counts


def _distances(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Return the largest difference of two cumulative distributions, and the area between them."""
    largest = area = 0.0
    i = j = 0
    n, m = len(ours), len(theirs)
    last = min(ours[0], theirs[0])
    gap = 0.0
    while i < n or j < m:
        value = min(ours[i] if i < n else math.inf, theirs[j] if j < m else math.inf)
        area += gap * (value - last)
        while i < n and ours[i] == value:
            i += 1
        while j < m and theirs[j] == value:
            j += 1
        gap, last = abs(i / n - j / m), value
        largest = max(largest, gap)
    return largest, area


def _jensen_shannon(one: Sequence[int], other: Sequence[int]) -> float:
    found = 0.0
    for a, b in zip(one, other, strict=True):
        p, q = a / sum(one), b / sum(other)
        middle = (p + q) / 2
        found += sum(each / 2 * math.log2(each / middle) for each in (p, q) if each)
    return max(0.0, found)
