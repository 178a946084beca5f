"""Means whose uncertainty respects that the calls of one unit belong together."""

from __future__ import annotations

import math
from collections.abc import Iterable

from attrs import frozen

from rollout_sdk.stats.student import student_t_quantile

__all__ = ["MeanInterval", "ratio_of_sums"]


@frozen
class MeanInterval:
    """A mean and its interval.

    Attributes:
        mean: The estimate; None where nothing was measured.
        low: Lower end of the interval; None with fewer than two units, or when all units are alike: then the data do not
            say how different the next would be.
        high: Upper end.
        units: Number of units (clusters) behind it.
    """

    mean: float | None
    low: float | None
    high: float | None
    units: int


def ratio_of_sums(clusters: Iterable[tuple[float, float]], *, confidence: float = 0.95) -> MeanInterval:
    """The ratio sum(x) / sum(d) over clusters (x, d), with a cluster-robust interval for one look at the data.

    Linearised scores L_u = (x_u - R d_u) / mean(d), variance var(L) / n, Student's t with n - 1 degrees of freedom
    (the delta method: Deng et al., KDD 2018). With d the number of calls this is the mean per call; with d = 1 the mean per
    unit. The interval is for a report: a rule that looks again and again needs an anytime-valid one.

    Args:
        clusters: For every unit, its sum of values and its count. Counts are not negative.
        confidence: Coverage of the interval, between 0 and 1.
    """
    pairs = list(clusters)
    n = len(pairs)
    total = math.fsum(d for _, d in pairs)
    if not total:
        return MeanInterval(None, None, None, n)
    ratio = math.fsum(x for x, _ in pairs) / total
    if n < 2:
        return MeanInterval(ratio, None, None, n)
    # The scores add up to zero by construction: their mean need not be taken off.
    variance = math.fsum((x - ratio * d) ** 2 for x, d in pairs) / (n - 1) * (n / total) ** 2 / n
    if variance == 0:
        return MeanInterval(ratio, None, None, n)
    half = student_t_quantile((1 + confidence) / 2, n - 1) * math.sqrt(variance)
    return MeanInterval(ratio, ratio - half, ratio + half, n)
