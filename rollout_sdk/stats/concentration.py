"""How much of an arm depends on few units, and how skewed they are, from sums by bucket."""

from __future__ import annotations

import math
from collections.abc import Sequence

from attrs import frozen

from rollout_sdk.stats.contrast import Cell

__all__ = ["Concentration", "concentration_of", "skewness_squared_of"]


@frozen
class Concentration:
    """How unevenly an arm's weight is spread over its units.

    Attributes:
        effective_units: Effective number of units, (sum d)^2 / sum d^2 over the units' weights d; inf if the buckets are at
            least as even as chance would make them, and 0.0 without any weight.
        heaviest: Approximate share of the heaviest unit: the excess of the heaviest bucket over its even share. 0.0 if
            buckets are even, or without any weight.
    """

    effective_units: float
    heaviest: float


def concentration_of(weights: Sequence[float]) -> Concentration:
    """`StratifiedBuckets.concentration`, from the weights of all buckets, empty ones included."""
    total = math.fsum(weights)
    if not total > 0:
        return Concentration(0.0, 0.0)
    shares = [weight / total for weight in weights]
    buckets, largest = len(weights), max(shares)
    if buckets == 1:
        return Concentration(1.0, 1.0)  # a single bucket cannot separate units
    even = 1 / buckets
    # A unit with share q falls into one of B buckets: E sum p_b^2 = sum q^2 + (1 - sum q^2) / B.
    inverse = (math.fsum(share * share for share in shares) - even) / (1 - even)
    return Concentration(1 / inverse if inverse > 1e-12 else math.inf, max(0.0, (largest - even) / (1 - even)))


def skewness_squared_of(cells: Sequence[Cell], *, units: float) -> float:
    """`StratifiedBuckets.skewness_squared`, from the sums of one arm in all its phases."""
    if not 0 <= units < math.inf:
        raise ValueError(f"skewness_squared(units={units!r}): a number of units is 0 or more and finite.")
    weighed = [(cell, *cell.totals) for cell in cells]
    residuals = [
        [x - value / weight * d for x, d in zip(cell.values, cell.weights, strict=True)]
        for cell, value, weight in weighed
        if weight > 0
    ]
    has_weight = (any(column) for column in zip(*(cell.weights for cell in cells), strict=True))
    influences = [math.fsum(column) for column, d in zip(zip(*residuals, strict=True), has_weight, strict=False) if d]
    occupied, second = len(influences), math.fsum(each * each for each in influences)
    size = math.fsum(x * x for cell in cells for x in cell.values)
    if occupied < 2 or second <= 1e-24 * size:
        return 0.0  # constant up to rounding
    # Standardised first, so that no power of a large influence overflows.
    root = math.sqrt(second / occupied)
    skewness = math.fsum((each / root) ** 3 for each in influences) / occupied
    at_least = max(0.0, abs(skewness) - 2 * math.sqrt(6 / occupied))
    return at_least * at_least * max(1.0, units / occupied)
