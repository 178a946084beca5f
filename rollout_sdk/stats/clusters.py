"""Means with cluster-robust uncertainty: the calls of one unit are correlated."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen

from rollout_sdk.stats.distributions import student_t_quantile

__all__ = [
    "MIN_EFFECTIVE_UNITS",
    "MIN_VALUES",
    "MOST_OF_ONE_UNIT",
    "Kind",
    "MeanInterval",
    "effective_of",
    "effective_units",
    "kinds_of",
    "ratio_of_kinds",
    "ratio_of_sums",
]

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


@frozen
class Kind:
    """The clusters (x, d) of one count d: enough of them for `ratio_of_kinds`, without each.

    Attributes:
        count: d.
        many: How many clusters there are.
        mean: Mean of x.
        squares: Sum of the squared distances of x from its mean.
        low: The least x.
        high: The greatest x.
        zeros: How many have x = 0.
        full: How many have the greatest x that is possible, where there is such a bound.
    """

    count: float
    many: int
    mean: float
    squares: float
    low: float
    high: float
    zeros: int
    full: int


def effective_units(counts: Iterable[float]) -> tuple[float, float | None]:
    """The number of equally active units with as much information, (sum d)^2 / sum d^2, and the share of the most active one.

    400 users with one call each and one with 4,000 count as 1.2 units. Without any count: (0.0, None).

    Args:
        counts: The count of every unit, such as its calls; not negative.
    """
    return effective_of(Counter(counts))


def effective_of(units: Mapping[float, int]) -> tuple[float, float | None]:
    """The same as `effective_units`, from how many units have each count."""
    total = math.fsum(count * many for count, many in units.items())
    if not total:
        return 0.0, None
    return 1 / math.fsum(many * (count / total) ** 2 for count, many in units.items()), max(units) / total


def kinds_of(clusters: Iterable[tuple[float, float]], greatest: float | None = None) -> list[Kind]:
    """The clusters (x, d), those of each count d together.

    Args:
        clusters: For every unit, its sum of values and its count.
        greatest: The greatest possible value of one count; None if it is unbounded.
    """
    # Units that are alike are computed once: of clicks or errors, there are some hundred kinds of units, however many units.
    by_count: dict[float, list[tuple[float, int]]] = defaultdict(list)
    for (x, d), many in Counter((x, d) for x, d in clusters).items():
        by_count[d].append((x, many))
    return [_kind(d, alike, greatest) for d, alike in by_count.items()]


def _kind(count: float, alike: Sequence[tuple[float, int]], greatest: float | None) -> Kind:
    many, low, high = sum(k for _, k in alike), min(x for x, _ in alike), max(x for x, _ in alike)
    mean, squares = low, 0.0
    # What is larger has no interval, and its sum may be no number.
    if low < high and max(abs(low), abs(high)) <= _LARGEST:
        mean = math.fsum(k * x for x, k in alike) / many
        squares = math.fsum(k * (x - mean) ** 2 for x, k in alike)
    zeros = sum(k for x, k in alike if x == 0)
    full = 0 if greatest is None else sum(k for x, k in alike if x == greatest * count)
    return Kind(count, many, mean, squares, low, high, zeros, full)


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
    kinds = kinds_of(clusters, None if within is None else within[1])
    return ratio_of_kinds(kinds, confidence=confidence, within=within)


def ratio_of_kinds(
    kinds: Sequence[Kind], *, confidence: float = 0.95, within: tuple[float, float] | None = None
) -> MeanInterval:
    """The same as `ratio_of_sums`, from what is known of the units of each count; a count may be there several times."""
    n, total = sum(kind.many for kind in kinds), math.fsum(kind.many * kind.count for kind in kinds)
    if not total:
        return MeanInterval(None, None, None, n, caution="nothing was measured")
    largest = max(max(abs(kind.low), abs(kind.high)) for kind in kinds)
    if not largest <= _LARGEST:
        return MeanInterval(None, None, None, n, caution="values too large to be added up")
    ratio = math.fsum(kind.many * kind.mean for kind in kinds) / total
    shares, many = [kind.count / total for kind in kinds], [kind.many for kind in kinds]
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
    residual = max(max(abs(kind.low - ratio * kind.count), abs(kind.high - ratio * kind.count)) for kind in kinds)
    if residual <= _ROUNDING * largest:
        ends = None if within is None else _alike(ratio, effective, (1 - confidence) / 2, within)
        return interval(ends, "all units are alike" if ends is None else _few(effective, heaviest))
    if heaviest >= 1:
        return interval(None, _few(effective, heaviest))
    squares = [kind.squares + kind.many * (kind.mean - ratio * kind.count) ** 2 for kind in kinds]
    variance, df = _jackknife(squares, shares, many)
    half = student_t_quantile((1 + confidence) / 2, df) * math.sqrt(variance) / total
    return interval((ratio - half, ratio + half), _few(effective, heaviest) or _rare(kinds, within))


def _few(effective: float, heaviest: float) -> str | None:
    if heaviest > MOST_OF_ONE_UNIT:
        return f"one unit has {heaviest:.1%} of the counts"
    return f"fewer than {MIN_EFFECTIVE_UNITS} effective units" if effective < MIN_EFFECTIVE_UNITS else None


def _rare(kinds: Sequence[Kind], within: tuple[float, float] | None) -> str | None:
    if sum(kind.many - kind.zeros for kind in kinds) < MIN_VALUES:
        return f"fewer than {MIN_VALUES} units with a value other than 0"
    # Of two outcomes, either may be the rare one.
    if within is not None and sum(kind.many - kind.full for kind in kinds) < MIN_VALUES:
        return f"fewer than {MIN_VALUES} units with a value other than {within[1]:g}"
    return None


def _alike(ratio: float, effective: float, tail: float, within: tuple[float, float]) -> tuple[float, float]:
    """Return the interval if all units are alike: at most this share of units may differ, as much as `within` allows."""
    differ = -math.expm1(math.log(tail) / effective)
    least, greatest = within
    return ratio - differ * max(0.0, ratio - least), ratio + differ * max(0.0, greatest - ratio)


def _jackknife(squares: Sequence[float], h: Sequence[float], many: Sequence[int]) -> tuple[float, float]:
    """The variance of the sum of the residuals by leaving out one unit at a time, and its degrees of freedom.

    With a_u = 1 / (1 - h_u) and working variances w_u, the variance is a quadratic form with the matrix
    G = diag(p) - q r' - r q' + W r r', where p = a^2 w, q = a w, r = a h and W = sum(w): its trace and the sum of its squared
    elements give Satterthwaite's degrees of freedom, tr(G)^2 / tr(G^2), without a matrix.

    Args:
        squares: Sum of the squared residuals of every kind of unit.
        h: Its share of the counts.
        many: How many units are of this kind.
    """
    n = sum(many)
    a = [1 / (1 - share) for share in h]
    variance = (n - 1) / n * math.fsum(each * each * square for each, square in zip(a, squares, strict=True))
    w = _working_variances(squares, h, many)
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
    trace_squared = pp - 4 * pqr + 2 * whole * prr + 2 * (qq * rr + qr * qr) - 4 * whole * qr * rr + (whole * rr) ** 2
    return variance, max(1.0, trace * trace / trace_squared)


def _working_variances(squares: Sequence[float], h: Sequence[float], many: Sequence[int]) -> list[float]:
    """Return A d + B d^2 for every kind of unit, relative to the sum over all units: independent calls, plus what the calls of
    a unit share.

    A and B are the least-squares line of e^2 / d on d, neither of them below 0.
    """
    active = [(share, square / share, k) for square, share, k in zip(squares, h, many, strict=True) if share > 0]
    units = sum(k for _, _, k in active)
    mean_h = math.fsum(k * share for share, _, k in active) / units
    mean_y = math.fsum(y for _, y, _ in active) / units
    spread = math.fsum(k * (share - mean_h) ** 2 for share, _, k in active)
    slope = math.fsum((share - mean_h) * (y - k * mean_y) for share, y, k in active) / spread if spread > _ROUNDING else 0.0
    slope = max(0.0, slope)
    base = max(0.0, mean_y - slope * mean_h)
    if base == 0 == slope:
        base = 1.0
    w = [base * share + slope * share * share for share in h]
    whole = math.fsum(k * each for each, k in zip(w, many, strict=True))
    return [each / whole for each in w]
