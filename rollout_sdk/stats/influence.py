"""Variance of a comparison from bucket sums: the influence of every bucket, arm by arm."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from operator import mul, or_, sub

from attrs import define, field

__all__ = ["Side", "regression", "squares", "units_behind", "variance_of"]

_ROUNDING = 1e-12
"""Scores smaller than this fraction of the minuend are rounding errors, not variance."""


@define
class Side:
    """One arm's part of the influences psi, over all phases.

    Attributes:
        buckets: Number of buckets.
        scores: By bucket.
        lent: By bucket, the scores that this arm's units would have in the other arm: a lower bound for that arm's variance.
        shares: By bucket, its share of the arm's weight, with the phases weighted.
        occupied: 1 for every bucket in which the arm has weight.
        size: Sum of squares of the terms that the scores are differences of: the scale of their rounding errors.
        lent_size: The same for the lent scores.
    """

    buckets: int
    scores: list[float] = field(init=False)
    lent: list[float] = field(init=False)
    shares: list[float] = field(init=False)
    occupied: bytearray = field(init=False)
    size: float = 0.0
    lent_size: float = 0.0

    def __attrs_post_init__(self) -> None:
        """Start empty."""
        self.scores, self.lent, self.shares = ([0.0] * self.buckets for _ in range(3))
        self.occupied = bytearray(self.buckets)

    def add(
        self, values: array[float], weights: array[float], *, ratio: float, weight: float, total: float, lent: float
    ) -> None:
        """Add a phase by its sums.

        Args:
            values: X by bucket.
            weights: D by bucket.
            ratio: The ratio of their totals.
            weight: Factor of its shares.
            total: Factor of its scores.
            lent: Factor of its lent scores.
        """
        residuals = [x - ratio * d for x, d in zip(values, weights, strict=True)]
        self.scores = [s + total * r for s, r in zip(self.scores, residuals, strict=True)]
        self.lent = [s + lent * r for s, r in zip(self.lent, residuals, strict=True)]
        self.shares = [s + weight * d for s, d in zip(self.shares, weights, strict=True)]
        self.occupied = bytearray(map(or_, self.occupied, map(bool, weights)))
        size = sum(map(mul, values, values)) + ratio * ratio * sum(map(mul, weights, weights))
        self.size += total * total * size
        self.lent_size += lent * lent * size

    def less(self, theta: float, covariate: Side) -> None:
        """Subtract `theta` times the covariate's scores."""
        self.scores = [s - theta * x for s, x in zip(self.scores, covariate.scores, strict=True)]
        self.lent = [s - theta * x for s, x in zip(self.lent, covariate.lent, strict=True)]
        self.size += theta * theta * covariate.size
        self.lent_size += theta * theta * covariate.lent_size

    @property
    def units(self) -> int:
        """Number of occupied buckets."""
        return self.occupied.count(1)

    def scaled(self) -> tuple[list[float], float, float]:
        """Return the scores scaled for an unbiased variance, the sum of their squares, and that of the lent ones."""
        unbiased = self.units / (self.units - 1)
        factor = math.sqrt(unbiased)
        scores = [factor * s for s in self.scores]
        own, lent = squares(scores), unbiased * squares(self.lent)
        if own <= _ROUNDING * _ROUNDING * self.size:
            scores, own = [0.0] * self.buckets, 0.0
        return scores, own, 0.0 if lent <= _ROUNDING * _ROUNDING * self.lent_size else lent


def squares(numbers: Sequence[float]) -> float:
    """The sum of squares."""
    return math.fsum(map(mul, numbers, numbers))


def variance_of(
    candidate: Side, control: Side, *, effect: float, scale: float, paired: bool, fitted: int = 0
) -> tuple[float, float]:
    """The variance of a comparison, and its degrees of freedom.

    Args:
        candidate: The influences of one arm.
        control: Those of the other.
        effect: The estimate; if nothing varies, it sets the scale of unseen variation.
        scale: Size of the terms that the estimate is a difference of: the scale of its rounding error.
        paired: Whether both arms have the same units, so that neither can lack what the other has.
        fitted: Number of coefficients estimated from the same influences.
    """
    scores, own, lent = candidate.scaled()
    control_scores, control_own, control_lent = control.scaled()
    variance = squares(list(map(sub, scores, control_scores)))
    if variance <= _ROUNDING * _ROUNDING * (candidate.size + control.size):
        variance = 0.0
    if not paired:
        missing, control_missing = _missing(own, control_lent), _missing(control_own, lent)
        own, control_own = own + missing, control_own + control_missing
        variance += missing + control_missing
    if variance == 0:
        if abs(effect) <= _ROUNDING * scale:
            effect = 0.0
        # Half an event to either side in every bucket, of the size of the effect: a rectangle of width 1 has variance 1/12.
        own, control_own = (effect * effect / 12 * squares(side.shares) for side in (candidate, control))
        variance = own + control_own
    occupied = bytearray(map(or_, candidate.occupied, control.occupied)).count(1)
    df, control_df = candidate.units - 1, control.units - 1
    # Welch's degrees of freedom, in fractions of the total so that no square underflows.
    part = own / (own + control_own) if own + control_own else 0.5
    welch = 1 / (part * part / df + (1 - part) * (1 - part) / control_df)
    return variance, max(0.0, min(float(occupied - 1), welch) - fitted)


def _missing(own: float, least: float) -> float:
    """Return the shortfall of a sum of squares from its lower bound, ignoring rounding errors."""
    return least - own if least - own > _ROUNDING * least else 0.0


def regression(outcome: tuple[Side, Side], covariate: tuple[Side, Side]) -> float:
    """The slope of the influences on a covariate's, by bucket, both arms together; 0.0 where the covariate is constant."""
    (y, y_control), (x, x_control) = outcome, covariate
    dx = list(map(sub, x.scores, x_control.scores))
    variance = squares(dx)
    if variance <= _ROUNDING * _ROUNDING * (x.size + x_control.size):
        return 0.0
    return math.fsum(map(mul, map(sub, y.scores, y_control.scores), dx)) / variance


def units_behind(occupied: int, buckets: int) -> int:
    """Estimate the number of units from occupied buckets; if all are occupied, half a bucket counts as free."""
    return round(-buckets * math.log1p(-min(occupied, buckets - 0.5) / buckets))
