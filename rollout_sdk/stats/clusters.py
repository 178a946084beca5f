"""Means with cluster-robust uncertainty: the calls of one unit are correlated."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from attrs import frozen

from rollout_sdk.stats.distributions import student_t_quantile

__all__ = ["MIN_EFFECTIVE_UNITS", "MIN_VALUES", "MOST_OF_ONE_UNIT", "MeanInterval", "effective_units", "ratio_of_sums"]

MIN_EFFECTIVE_UNITS = 100
"""Minimum of effective units for an interval without a caution."""

MOST_OF_ONE_UNIT = 0.1
"""Maximum share of the counts of a single unit for an interval without a caution."""

MIN_VALUES = 30
"""Minimum of units with a value other than 0 for an interval without a caution."""

_LARGEST = 1e140
"""Sums beyond it have squares that no float holds."""

_FEWEST_EFFECTIVE = 5
"""Minimum of effective units of unequal weight for any interval: below it, the interval would describe one unit."""

_ROUNDING = 1e-12
"""Residuals smaller than this fraction of the values are rounding errors, not variance."""


@frozen
class MeanInterval:
    """A mean and its interval.

    Attributes:
        mean: The estimate; None if nothing was measured.
        low: Lower end of the interval; None if the data do not support one, as `caution` explains.
        high: Upper end.
        units: Number of units (clusters).
        effective_units: Number of equally active units with the same information: (sum d)^2 / sum d^2.
        heaviest: Share of the most active unit in sum d; None if nothing was measured.
        caution: Why there is no interval, or why it should not be trusted; None for a reliable interval.
    """

    mean: float | None
    low: float | None
    high: float | None
    units: int
    effective_units: float = 0.0
    heaviest: float | None = None
    caution: str | None = None


def effective_units(counts: Iterable[float]) -> tuple[float, float | None]:
    """The number of equally active units with as much information, (sum d)^2 / sum d^2, and the share of the most active one.

    400 users with one call each and one with 4,000 count as 1.2 units. Without any count: (0.0, None).

    Args:
        counts: The count of every unit, such as its calls; not negative.
    """
    counts = list(counts)
    total = math.fsum(counts)
    if not total:
        return 0.0, None
    shares = [d / total for d in counts]
    return 1 / math.fsum(share * share for share in shares), max(shares)


def ratio_of_sums(
    clusters: Iterable[tuple[float, float]], *, confidence: float = 0.95, within: tuple[float, float] | None = None
) -> MeanInterval:
    """The ratio sum(x) / sum(d) over clusters (x, d), with a cluster-robust interval for one look at the data.

    The variance is the jackknife's, from leaving out one unit at a time (CR3): with R the ratio, D = sum(d) and h_u = d_u / D,
    (n - 1) / n sum ((x_u - R d_u) / (1 - h_u))^2 / D^2. Student's t uses the degrees of freedom of Bell and McCaffrey:
    Satterthwaite's for this variance if the calls of a unit are correlated as much as the data suggest (the working model of
    Imbens and Kolesár, Review of Economics and Statistics 98 (2016)): var(x_u - R d_u) = A d_u + B d_u^2, with A and B fitted
    to the residuals by least squares. With equal counts it is the t interval with n - 1 degrees of freedom.

    With d the number of calls this is the mean per call; with d = 1 the mean per unit. The interval is meant for reports: a
    rule that looks repeatedly needs an anytime-valid one.

    Args:
        clusters: For every unit, its sum of values and its count. Counts are not negative.
        confidence: Coverage of the interval, between 0 and 1.
        within: The smallest and largest possible value of one count, such as (0, 1) for clicked or not. The interval is
            clipped to it, and if all units are alike, it is exact for the share of units that may still differ: 0 of n
            (Clopper and Pearson), with the effective number of units for n.
    """
    # Units that are alike are computed once: of clicks or errors, there are some hundred kinds of units, however many units.
    alike = Counter((x, d) for x, d in clusters)
    pairs, many = list(alike), list(alike.values())
    n, total = sum(many), math.fsum(k * d for (_, d), k in zip(pairs, many, strict=True))
    if not total:
        return MeanInterval(None, None, None, n, caution="nothing was measured")
    if max(abs(x) for x, _ in pairs) > _LARGEST:
        return MeanInterval(None, None, None, n, caution="values too large to be added up")
    ratio = math.fsum(k * x for (x, _), k in zip(pairs, many, strict=True)) / total
    shares = [d / total for _, d in pairs]
    effective, heaviest = 1 / math.fsum(k * share * share for share, k in zip(shares, many, strict=True)), max(shares)

    def interval(ends: tuple[float, float] | None, caution: str | None) -> MeanInterval:
        low, high = ends or (None, None)
        if low is not None and high is not None and within is not None:
            low, high = max(low, min(within[0], ratio)), min(high, max(within[1], ratio))
        return MeanInterval(ratio, low, high, n, effective, heaviest, caution)

    if n < 2:
        return interval(None, "a single unit")
    # Equal units are not dominated by one of them, even if there are few.
    if effective < min(_FEWEST_EFFECTIVE, n / 2):
        return interval(None, f"one unit has {heaviest:.1%} of the counts")
    residuals = [x - ratio * d for x, d in pairs]
    if max(map(abs, residuals)) <= _ROUNDING * max(abs(x) for x, _ in pairs):
        ends = None if within is None else _alike(ratio, effective, (1 - confidence) / 2, within)
        return interval(ends, "all units are alike" if ends is None else _few(effective, heaviest))
    if heaviest >= 1:
        return interval(None, _few(effective, heaviest))
    variance, df = _jackknife(residuals, shares, many)
    half = student_t_quantile((1 + confidence) / 2, df) * math.sqrt(variance) / total
    return interval((ratio - half, ratio + half), _few(effective, heaviest) or _rare(pairs, many, within))


def _few(effective: float, heaviest: float) -> str | None:
    if heaviest > MOST_OF_ONE_UNIT:
        return f"one unit has {heaviest:.1%} of the counts"
    return f"fewer than {MIN_EFFECTIVE_UNITS} effective units" if effective < MIN_EFFECTIVE_UNITS else None


def _rare(
    pairs: Sequence[tuple[float, float]], many: Sequence[int], within: tuple[float, float] | None
) -> str | None:  # fmt: skip
    if sum(k * (x != 0) for (x, _), k in zip(pairs, many, strict=True)) < MIN_VALUES:
        return f"fewer than {MIN_VALUES} units with a value other than 0"
    # Of two outcomes, either may be the rare one.
    if within is not None and sum(k * (x != within[1] * d) for (x, d), k in zip(pairs, many, strict=True)) < MIN_VALUES:
        return f"fewer than {MIN_VALUES} units with a value other than {within[1]:g}"
    return None


def _alike(ratio: float, effective: float, tail: float, within: tuple[float, float]) -> tuple[float, float]:
    """Return the interval if all units are alike: at most this share of units may differ, as much as `within` allows."""
    differ = -math.expm1(math.log(tail) / effective)
    least, greatest = within
    return ratio - differ * max(0.0, ratio - least), ratio + differ * max(0.0, greatest - ratio)


def _jackknife(residuals: Sequence[float], h: Sequence[float], many: Sequence[int]) -> tuple[float, float]:
    """The variance of the sum of the residuals by leaving out one unit at a time, and its degrees of freedom.

    With a_u = 1 / (1 - h_u) and working variances w_u, the variance is a quadratic form with the matrix
    G = diag(p) - q r' - r q' + W r r', where p = a^2 w, q = a w, r = a h and W = sum(w): its trace and the sum of its squared
    elements give Satterthwaite's degrees of freedom, tr(G)^2 / tr(G^2), without a matrix.

    Args:
        residuals: Of every kind of unit.
        h: Its share of the counts.
        many: How many units are of this kind.
    """
    n = sum(many)
    a = [1 / (1 - share) for share in h]
    variance = (n - 1) / n * math.fsum(k * (each * e) ** 2 for each, e, k in zip(a, residuals, many, strict=True))
    w = _working_variances(residuals, h, many)
    p = [each * each * v for each, v in zip(a, w, strict=True)]
    q = [each * v for each, v in zip(a, w, strict=True)]
    r = [each * share for each, share in zip(a, h, strict=True)]
    rows = list(zip(p, q, r, many, strict=True))
    whole, trace_p, qq, qr, rr, pqr, prr, pp = (
        math.fsum(terms)
        for terms in (
            (k * v for v, k in zip(w, many, strict=True)),
            (k * x for x, _, _, k in rows),
            (k * y * y for _, y, _, k in rows),
            (k * y * z for _, y, z, k in rows),
            (k * z * z for _, _, z, k in rows),
            (k * x * y * z for x, y, z, k in rows),
            (k * x * z * z for x, _, z, k in rows),
            (k * x * x for x, _, _, k in rows),
        )
    )
    trace = trace_p - 2 * qr + whole * rr
    squares = pp - 4 * pqr + 2 * whole * prr + 2 * (qq * rr + qr * qr) - 4 * whole * qr * rr + (whole * rr) ** 2
    return variance, max(1.0, trace * trace / squares)


def _working_variances(residuals: Sequence[float], h: Sequence[float], many: Sequence[int]) -> list[float]:
    """Return A d + B d^2 for every kind of unit, relative to the sum over all units: independent calls, plus what the calls of
    a unit share.

    A and B are the least-squares line of e^2 / d on d, neither of them below 0.
    """
    active = [(share, e * e / share, k) for e, share, k in zip(residuals, h, many, strict=True) if share > 0]
    units = sum(k for _, _, k in active)
    mean_h = math.fsum(k * share for share, _, k in active) / units
    mean_y = math.fsum(k * y for _, y, k in active) / units
    spread = math.fsum(k * (share - mean_h) ** 2 for share, _, k in active)
    slope = math.fsum(k * (share - mean_h) * (y - mean_y) for share, y, k in active) / spread if spread > _ROUNDING else 0.0
    slope = max(0.0, slope)
    base = max(0.0, mean_y - slope * mean_h)
    if base == 0 == slope:
        base = 1.0
    w = [base * share + slope * share * share for share in h]
    whole = math.fsum(k * each for each, k in zip(w, many, strict=True))
    return [each / whole for each in w]
