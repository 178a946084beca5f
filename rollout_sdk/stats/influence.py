"""How sure sums by bucket are of a difference: the influence of every bucket on it, arm by arm."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from operator import mul, or_, sub

from attrs import define

__all__ = ["Side", "units_behind", "variance_of"]

_ROUNDING = 1e-12
"""Scores smaller than this part of what they are the difference of are rounding errors, not variance."""


@define
class Side:
    """One arm's part of the influences psi, over all phases.

    Attributes:
        scores: By bucket.
        occupied: 1 for every bucket in which the arm has weight.
        size: Sum of squares of what the scores are the differences of: the scale of their rounding errors.
    """

    scores: list[float]
    occupied: bytearray
    size: float = 0.0

    def add(self, values: array[float], weights: array[float], ratio: float, factor: float) -> None:
        """Add a phase: its sums by bucket, the ratio of their totals, and what one of its scores counts."""
        self.scores = [s + factor * (x - ratio * d) for s, x, d in zip(self.scores, values, weights, strict=True)]
        self.occupied = bytearray(map(or_, self.occupied, map(bool, weights)))
        self.size += factor * factor * (sum(map(mul, values, values)) + ratio * ratio * sum(map(mul, weights, weights)))

    def scaled(self) -> tuple[list[float], float, int]:
        """Scores as an unbiased variance needs them, the sum of their squares, and its degrees of freedom."""
        occupied = self.occupied.count(1)
        factor = math.sqrt(occupied / (occupied - 1))
        scores = [factor * s for s in self.scores]
        squares = _squares(scores)
        if squares <= _ROUNDING * _ROUNDING * self.size:
            return [0.0] * len(scores), 0.0, occupied - 1
        return scores, squares, occupied - 1


def _squares(numbers: Sequence[float]) -> float:
    return math.fsum(map(mul, numbers, numbers))


def variance_of(candidate: Side, control: Side) -> tuple[float, float]:
    """The sum of squared influences of both arms, and its degrees of freedom."""
    scores, squares, df = candidate.scaled()
    control_scores, control_squares, control_df = control.scaled()
    variance = _squares(list(map(sub, scores, control_scores)))
    if variance <= _ROUNDING * _ROUNDING * (candidate.size + control.size):
        return 0.0, float(min(df, control_df))
    # Welch's, in parts of the whole so that no square can vanish.
    part = squares / (squares + control_squares)
    welch = 1 / (part * part / df + (1 - part) * (1 - part) / control_df)
    occupied = bytearray(map(or_, candidate.occupied, control.occupied)).count(1)
    return variance, min(float(occupied - 1), welch)


def units_behind(occupied: int, buckets: int) -> int:
    """The number of units that leave this many buckets occupied on average; half a bucket is taken to be free when none is."""
    return round(-buckets * math.log1p(-min(occupied, buckets - 0.5) / buckets))
