"""The judge's inner loops over 512 buckets in numpy, for simulations: the same numbers, about ten times faster.

The SDK itself computes them in plain Python, because numpy is not one of its dependencies. `fast_numerics` replaces them while
it is entered; tests/judging/test_error_rates.py checks that the evidence equals that of the SDK's own code.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

from rollout_sdk.judging.metrics import bucket_bets, error_rate, events, means, slow_calls
from rollout_sdk.stats import StratifiedBuckets, buckets, cluster_bets, contrast
from rollout_sdk.stats.concentration import Concentration
from rollout_sdk.stats.multiplicity import mix_log_e

__all__ = ["fast_numerics"]

_ROUNDING = 1e-12
_ALTERNATIVES = np.array(cluster_bets._ALTERNATIVES)[:, None]
_WEIGHTS = cluster_bets._WEIGHTS
Floats = np.ndarray[Any, np.dtype[np.float64]]


def _floats(values: Sequence[float]) -> Floats:
    return np.frombuffer(values, dtype=np.float64) if isinstance(values, array) else np.asarray(values, dtype=np.float64)


class _Side:
    """As `rollout_sdk.stats.influence.Side`."""

    def __init__(self, number: int) -> None:
        self.buckets = number
        self.scores, self.lent, self.shares = np.zeros(number), np.zeros(number), np.zeros(number)
        self.occupied = np.zeros(number, bool)
        self.size = self.lent_size = 0.0

    def add(
        self, values: Sequence[float], weights: Sequence[float], *, ratio: float, weight: float, total: float, lent: float
    ) -> None:
        x, d = _floats(values), _floats(weights)
        residuals = x - ratio * d
        self.scores += total * residuals
        self.lent += lent * residuals
        self.shares += weight * d
        self.occupied |= d != 0
        size = float(x @ x + ratio * ratio * (d @ d))
        self.size += total * total * size
        self.lent_size += lent * lent * size

    def less(self, theta: float, covariate: _Side) -> None:
        self.scores -= theta * covariate.scores
        self.lent -= theta * covariate.lent
        self.size += theta * theta * covariate.size
        self.lent_size += theta * theta * covariate.lent_size

    @property
    def units(self) -> int:
        return int(self.occupied.sum())

    def scaled(self) -> tuple[Floats, float, float]:
        unbiased = self.units / (self.units - 1)
        scores = math.sqrt(unbiased) * self.scores
        own, lent = float(scores @ scores), unbiased * float(self.lent @ self.lent)
        if own <= _ROUNDING * _ROUNDING * self.size:
            scores, own = np.zeros(self.buckets), 0.0
        return scores, own, 0.0 if lent <= _ROUNDING * _ROUNDING * self.lent_size else lent


def _variance_of(
    candidate: _Side, control: _Side, *, effect: float, scale: float, paired: bool, fitted: int = 0
) -> tuple[float, float]:
    scores, own, lent = candidate.scaled()
    control_scores, control_own, control_lent = control.scaled()
    between = scores - control_scores
    variance = float(between @ between)
    if variance <= _ROUNDING * _ROUNDING * (candidate.size + control.size):
        variance = 0.0
    if not paired:
        missing, control_missing = _missing(own, control_lent), _missing(control_own, lent)
        own, control_own = own + missing, control_own + control_missing
        variance += missing + control_missing
    if variance == 0:
        if abs(effect) <= _ROUNDING * scale:
            effect = 0.0
        own, control_own = (effect * effect / 12 * float(side.shares @ side.shares) for side in (candidate, control))
        variance = own + control_own
    occupied = int((candidate.occupied | control.occupied).sum())
    part = own / (own + control_own) if own + control_own else 0.5
    welch = 1 / (part * part / (candidate.units - 1) + (1 - part) * (1 - part) / (control.units - 1))
    return variance, max(0.0, min(float(occupied - 1), welch) - fitted)


def _missing(own: float, least: float) -> float:
    return least - own if least - own > _ROUNDING * least else 0.0


def _regression(outcome: tuple[_Side, _Side], covariate: tuple[_Side, _Side]) -> float:
    dx = covariate[0].scores - covariate[1].scores
    variance = float(dx @ dx)
    if variance <= _ROUNDING * _ROUNDING * (covariate[0].size + covariate[1].size):
        return 0.0
    return float((outcome[0].scores - outcome[1].scores) @ dx) / variance


def _totals(cell: contrast.Cell) -> tuple[float, float]:
    return float(_floats(cell.values).sum()), float(_floats(cell.weights).sum())


def _put(sums: StratifiedBuckets, phase: str, arm: str, added: contrast.Cell) -> None:
    cell = sums._cell(phase, arm)
    values, weights = _floats(cell.values), _floats(cell.weights)
    values += _floats(added.values)
    weights += _floats(added.weights)


def _add_sums(sums: StratifiedBuckets, phase: str, arm: str, values: Sequence[float], weights: Sequence[float]) -> None:
    _put(sums, phase, arm, contrast.Cell(values, weights))  # type: ignore[arg-type]


def _concentration(sums: StratifiedBuckets, arm: str) -> Concentration:
    cells = [_floats(cell.weights) for cell in sums._of(arm)]
    weights = np.sum(cells, axis=0) if cells else np.zeros(1)
    total = float(weights.sum())
    if not total > 0:
        return Concentration(0.0, 0.0)
    shares, even = weights / total, 1 / len(weights)
    inverse = (float(shares @ shares) - even) / (1 - even)
    heaviest = max(0.0, (float(shares.max()) - even) / (1 - even))
    return Concentration(1 / inverse if inverse > 1e-12 else math.inf, heaviest)


def _nonzero(sums: StratifiedBuckets, arm: str) -> int:
    cells = [_floats(cell.values) != 0 for cell in sums._of(arm)]
    return int(np.any(cells, axis=0).sum()) if cells else 0


def _skewness_squared(sums: StratifiedBuckets, arm: str, *, units: float) -> float:
    cells = [(_floats(cell.values), _floats(cell.weights)) for cell in sums._of(arm)]
    if not cells:
        return 0.0
    residuals = sum((x - x.sum() / d.sum() * d for x, d in cells if d.sum() > 0), np.zeros(sums.buckets))
    influences = residuals[np.any([d != 0 for _, d in cells], axis=0)]
    occupied, second = len(influences), float(influences @ influences)
    size = math.fsum(float(x @ x) for x, _ in cells)
    if occupied < 2 or second <= 1e-24 * size:
        return 0.0
    skewness = float(((influences / math.sqrt(second / occupied)) ** 3).sum()) / occupied
    surely = max(0.0, abs(skewness) - 2 * math.sqrt(6 / occupied))
    return surely * surely * max(1.0, units / occupied)


class _Clusters:
    """Clusters of events, all phases of one bucket together: candidate's and control's by phase and bucket, and shares."""

    def __init__(self, mine: Floats, other: Floats, shares: Floats) -> None:
        self.mine, self.other, self.shares = mine, other, shares


def _by_bucket(
    sums: StratifiedBuckets, shares: dict[str, float], candidate: str, control: str, *, weights: bool = False
) -> _Clusters | None:
    cells = [[_floats(sums.cell(phase, arm)[weights]) for phase in shares] for arm in (candidate, control)]
    if not shares:
        return _Clusters(np.zeros((0, sums.buckets)), np.zeros((0, sums.buckets)), np.zeros(0))
    mine, other = (np.array(each) for each in cells)
    if mine.min() < 0 or other.min() < 0:
        return None
    return _Clusters(mine, other, np.array(list(shares.values())))


def _bet(clusters: _Clusters | list[Any], *, ratio: float = 1.0, direction: str, counts: Any = None) -> float:
    numbers: Any = 1.0
    if isinstance(clusters, _Clusters):
        inside = (clusters.shares > 0) & (clusters.shares < 1)
        mine, other, share = clusters.mine[inside], clusters.other[inside], clusters.shares[inside][:, None]
    else:
        if not clusters:
            return 0.0
        rows = np.array([cluster[0] for cluster in clusters], dtype=np.float64)
        inside = (rows[:, 2] > 0) & (rows[:, 2] < 1)
        mine, other, share = rows[None, inside, 0], rows[None, inside, 1], rows[None, inside, 2]
        if counts is not None:
            numbers = np.array(counts, dtype=np.float64)[inside]
    whole = (mine + other).sum(axis=0)
    some = whole > 0
    if not some.any():
        return 0.0
    mine, other, whole = mine[:, some], other[:, some], whole[some]
    if share.shape[1] > 1:
        share = share[:, some]
    if isinstance(numbers, np.ndarray):
        numbers = numbers[some]
    null = share * ratio / (share * ratio + 1 - share)
    columns = (mine * (1 - null) - other * null) / whole
    alternatives = _ALTERNATIVES if direction == "above" else 1 / _ALTERNATIVES
    factors = np.ones((len(alternatives), mine.shape[1]))
    for phase in range(len(mine)):
        s = share[phase]
        factors += (alternatives - 1) * (s * ratio + 1 - s) / (s * ratio * alternatives + 1 - s) * columns[phase]
    return mix_log_e((np.log(factors) * numbers).sum(axis=1).tolist(), _WEIGHTS)


@contextmanager
def fast_numerics(*, intervals: bool = False) -> Iterator[None]:
    """Have the judge compute with numpy.

    Args:
        intervals: Whether intervals and relative lifts, which people read and which decide nothing, are computed, too.
    """
    swaps = [
        (contrast, "Side", _Side),
        (contrast, "variance_of", _variance_of),
        (contrast, "regression", _regression),
        (contrast.Cell, "totals", property(_totals)),
        (buckets.StratifiedBuckets, "_put", _put),
        (buckets.StratifiedBuckets, "add_sums", _add_sums),
        (buckets.StratifiedBuckets, "concentration", _concentration),
        (buckets.StratifiedBuckets, "nonzero", _nonzero),
        (buckets.StratifiedBuckets, "skewness_squared", _skewness_squared),
        (bucket_bets, "_by_bucket", _by_bucket),
        (bucket_bets, "cluster_bets_log_e", _bet),
        (events, "cluster_bets_log_e", _bet),
    ]
    if not intervals:
        swaps += [
            (error_rate, "rare_event_interval", lambda _strata, *, alpha: (0.0, math.inf)),
            (means, "relative", lambda *_: {}),
            (slow_calls, "relative", lambda *_: {}),
        ]
    with ExitStack() as stack:
        for owner, name, value in swaps:
            stack.enter_context(patch.object(owner, name, value))
        yield
