"""Comparison of two arms by their bucket sums, phase by phase."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from attrs import evolve, frozen

from rollout_sdk.stats.influence import Side, regression, units_behind, variance_of

__all__ = ["Cell", "Estimate", "Pair", "difference_of", "meetings", "relative_of"]


@frozen
class Estimate:
    """An estimated effect and its precision.

    Attributes:
        estimate: The effect, in the unit of the metric; 0.0 if nothing was measured.
        std_error: Its standard error; inf if it cannot be estimated (an empty arm, or one with a single occupied bucket), 0.0
            if all units of both arms are alike. Neither counts as evidence in `rollout_sdk.stats.sequential`.
        df: Degrees of freedom of the standard error; 0 if it is inf.
        n_units_hint: Approximate number of units of the smaller arm, from its occupied buckets: -B log(1 - occupied / B). It
            saturates: with every bucket occupied it is B log(2 B) (3,549 for 512), and the true number may be any larger one.
        weight: Total weight of the phases, the sum of D_T D_C / (D_T + D_C): up to a constant, the information of the estimate
            about the effect.
    """

    estimate: float
    std_error: float
    df: float
    n_units_hint: int
    weight: float = 0.0


NOTHING = Estimate(0.0, math.inf, 0.0, 0)


class Cell(NamedTuple):
    """The sums of one arm in one phase: values X and weights D by bucket."""

    values: array[float]
    weights: array[float]

    @property
    def totals(self) -> tuple[float, float]:
        """The sums over all buckets."""
        return math.fsum(self.values), math.fsum(self.weights)


@frozen
class Pair:
    """One phase in which both arms have weight.

    Attributes:
        cells: The sums of the candidate and of the control.
        ratios: R = sum X / sum D of both.
        weights: Sum D of both.
        weight: Weight of the phase, D_T D_C / (D_T + D_C).
        covariates: The sums of a covariate in the same phase, or None.
    """

    cells: tuple[Cell, Cell]
    ratios: tuple[float, float]
    weights: tuple[float, float]
    weight: float
    covariates: Pair | None = None


def meetings(
    cells: Iterable[tuple[tuple[Cell | None, Cell | None], tuple[Cell | None, Cell | None]]],
) -> list[Pair]:
    """The phases in which both arms have weight.

    Args:
        cells: For every phase, the cells of both arms, and those of a covariate.
    """
    found = ((_pair(*both), _pair(*covariates)) for both, covariates in cells)
    return [
        Pair(pair.cells, pair.ratios, pair.weights, pair.weight, covariate) for pair, covariate in found if pair is not None
    ]


def _pair(candidate: Cell | None, control: Cell | None) -> Pair | None:
    if candidate is None or control is None:
        return None
    (value, exposure), (control_value, control_exposure) = candidate.totals, control.totals
    if not (exposure > 0 and control_exposure > 0):
        return None
    weight = exposure / (exposure + control_exposure) * control_exposure
    ratios = value / exposure, control_value / control_exposure
    return Pair((candidate, control), ratios, (exposure, control_exposure), weight)


def difference_of(pairs: Sequence[Pair], *, times: float, paired: bool) -> Estimate:
    """`StratifiedBuckets.difference`, from the phases in which both arms have weight."""
    if not pairs:
        return NOTHING
    whole = math.fsum(pair.weight for pair in pairs)
    parts = [(pair.weight / whole, *pair.ratios) for pair in pairs]
    effect = math.fsum(part * (ratio - times * control) for part, ratio, control in parts)
    scale = math.fsum(part * (abs(ratio) + abs(times * control)) for part, ratio, control in parts)
    sides = _sides(pairs, whole, (1.0, times))
    fitted = 0
    covered = [pair for pair in pairs if pair.covariates is not None]
    if covered:
        # Uses the metric's weights, so that the covariate's difference concerns the same calls.
        covariates = [(pair.weight / whole, pair.covariates) for pair in covered if pair.covariates is not None]
        others = _sides([each for _, each in covariates], 1.0, (1.0, 1.0), [part for part, _ in covariates])
        theta = regression(sides, others)
        if theta:
            fitted = 1
            effect -= theta * math.fsum(part * (each.ratios[0] - each.ratios[1]) for part, each in covariates)
            for side, other in zip(sides, others, strict=True):
                side.less(theta, other)
    return evolve(_estimate(sides, effect=effect, scale=scale, paired=paired, fitted=fitted), weight=whole)


def relative_of(pairs: Sequence[Pair], *, paired: bool) -> Estimate | None:
    """`StratifiedBuckets.relative`, from the phases in which both arms have weight."""
    if not pairs:
        return None
    whole = math.fsum(pair.weight for pair in pairs)
    mean, control = (math.fsum(pair.weight / whole * pair.ratios[i] for pair in pairs) for i in (0, 1))
    if not (mean > 0 and control > 0):
        return None
    effect = math.log(mean) - math.log(control)
    found = _estimate(_sides(pairs, whole, (1 / mean, 1 / control)), effect=effect, scale=1.0, paired=paired)
    return evolve(found, weight=whole)


def _sides(
    pairs: Sequence[Pair], whole: float, factors: tuple[float, float], parts: Sequence[float] | None = None
) -> tuple[Side, Side]:
    """Return the influences of both arms; `factors` multiply their means."""
    buckets = len(pairs[0].cells[0].values)
    sides = Side(buckets), Side(buckets)
    for pair, part in zip(pairs, parts or [pair.weight / whole for pair in pairs], strict=True):
        for i, side in enumerate(sides):
            cell, weight = pair.cells[i], pair.weights[i]
            base = part / weight
            side.add(
                cell.values,
                cell.weights,
                ratio=pair.ratios[i],
                weight=base,
                total=factors[i] * base,
                # In the other arm, a unit of weight counts 1 / D of that arm, and there are D units of weight.
                lent=factors[1 - i] * part / math.sqrt(weight) / math.sqrt(pair.weights[1 - i]),
            )
    return sides


def _estimate(sides: tuple[Side, Side], *, effect: float, scale: float, paired: bool, fitted: int = 0) -> Estimate:
    hint = min(units_behind(side.units, side.buckets) for side in sides)
    if min(side.units for side in sides) < 2:
        return Estimate(effect, math.inf, 0.0, hint)
    variance, df = variance_of(*sides, effect=effect, scale=scale, paired=paired, fitted=fitted)
    return Estimate(effect, math.sqrt(variance), df, hint)
