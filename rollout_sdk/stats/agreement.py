"""Agreement of two models: of their classes, their rankings, and the distributions of their scores."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

__all__ = ["average_overlap", "cohens_kappa", "population_stability", "rank_biased_overlap"]

_SMOOTHING = 0.5


def cohens_kappa(table: Sequence[Sequence[float]]) -> float:
    """Agreement of two classifiers beyond chance: (po - pe) / (1 - pe); 1 is perfect, 0 is what chance alone would give.

    po is the share of cases on the diagonal, pe the share expected there if both chose independently, each as often as it does.
    NaN if it is undefined: without cases, or if both always choose the same class.

    Source: Cohen, Educational and Psychological Measurement 20 (1960).

    Args:
        table: Counts, square: row i and column j count the cases that the control put into class i and the candidate into j.

    Raises:
        ValueError: The table is not square, or a count is negative or not finite.
    """
    size = len(table)
    if any(len(row) != size for row in table) or not all(0 <= count < math.inf for row in table for count in row):
        raise ValueError(f"cohens_kappa(table={table!r:.60}): a square table of counts, none of them negative.")
    total = math.fsum(count for row in table for count in row)
    if not total:
        return math.nan
    observed = math.fsum(table[i][i] for i in range(size)) / total
    rows = [math.fsum(row) / total for row in table]
    columns = [math.fsum(row[i] for row in table) / total for i in range(size)]
    expected = math.fsum(row * column for row, column in zip(rows, columns, strict=True))
    return (observed - expected) / (1 - expected) if expected < 1 else math.nan


def rank_biased_overlap(a: Sequence[Hashable], b: Sequence[Hashable], *, p: float = 0.9) -> float:
    """Similarity of two rankings, from 0 to 1, in which the first places count most.

    A reader looks at the next place with probability `p`: the first ten places have 86 % of the weight at p = .9. Of lists that
    end, the agreement beyond the end is extrapolated (RBO_EXT); lists of different lengths are allowed.

    Source: Webber, Moffat and Zobel, ACM Transactions on Information Systems 28 (2010), equation 32.

    Args:
        a: A ranking, the best first.
        b: The other.
        p: Persistence, strictly between 0 and 1.

    Raises:
        ValueError: `p` is not between 0 and 1, or an item is in a ranking twice.
    """
    if not 0 < p < 1:
        raise ValueError(f"rank_biased_overlap(p={p!r}): p is a probability, strictly between 0 and 1.")
    _without_repeats("rank_biased_overlap", a, b)
    short, long = sorted((a, b), key=len)
    if not short:
        return float(not long)
    overlaps = _overlaps(a, b, len(long))
    s, l_ = len(short), len(long)
    at_short, at_long = overlaps[s - 1], overlaps[l_ - 1]
    seen = math.fsum(overlap / d * p**d for d, overlap in enumerate(overlaps, 1))
    beyond = math.fsum(at_short * (d - s) / (s * d) * p**d for d in range(s + 1, l_ + 1))
    return (1 - p) / p * (seen + beyond) + ((at_long - at_short) / l_ + at_short / s) * p**l_


def average_overlap(a: Sequence[Hashable], b: Sequence[Hashable], *, depth: int) -> float:
    """The mean over the depths 1 to `depth` of the share of items that the tops of two rankings have in common.

    Source: Fagin, Kumar and Sivakumar, SIAM Journal on Discrete Mathematics 17 (2003).

    Args:
        a: A ranking, the best first.
        b: The other.
        depth: How far to look, at least 1; lists that end before have nothing there.

    Raises:
        ValueError: `depth` is less than 1, or an item is in a ranking twice.
    """
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise ValueError(f"average_overlap(depth={depth!r}): a depth is a whole number of at least 1.")
    _without_repeats("average_overlap", a, b)
    return math.fsum(overlap / d for d, overlap in enumerate(_overlaps(a, b, depth), 1)) / depth


def population_stability(expected: Sequence[float], actual: Sequence[float]) -> float:
    """The population stability index of two histograms over the same bins: sum of (q - p) log(q / p); 0 for equal ones.

    Each count is raised by .5, so that empty bins do not make it infinite. Its usual limits (.1 "some", .25 "much" change) are
    customs of credit scoring and not tests: it depends on the bins, and shrinks with the number of cases.

    Args:
        expected: Counts by bin, of the control.
        actual: Counts by the same bins, of the candidate.

    Raises:
        ValueError: The histograms have different numbers of bins, or none; or a count is negative or not finite.
    """
    if len(expected) != len(actual) or not expected:
        raise ValueError(f"population_stability: {len(expected)} and {len(actual)} bins. Both histograms have the same bins.")
    if not all(0 <= count < math.inf for count in (*expected, *actual)):
        raise ValueError("population_stability: a count is negative or not finite.")
    p, q = ([(n + _SMOOTHING) / (math.fsum(each) + _SMOOTHING * len(each)) for n in each] for each in (expected, actual))
    return math.fsum((y - x) * math.log(y / x) for x, y in zip(p, q, strict=True))


def _overlaps(a: Sequence[Hashable], b: Sequence[Hashable], depth: int) -> list[int]:
    """Return the number of common items at each depth."""
    ours: set[Hashable] = set()
    theirs: set[Hashable] = set()
    common, found = 0, []
    for d in range(depth):
        if d < len(a):
            ours.add(a[d])
            common += a[d] in theirs
        if d < len(b):
            theirs.add(b[d])
            common += b[d] in ours
        found.append(common)
    return found


def _without_repeats(function: str, *rankings: Sequence[Hashable]) -> None:
    for ranking in rankings:
        if len(set(ranking)) != len(ranking):
            raise ValueError(f"{function}: an item is in a ranking twice. A ranking has each item once.")
