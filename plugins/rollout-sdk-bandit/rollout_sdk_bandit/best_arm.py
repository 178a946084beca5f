"""The best of many arms, with a stopping rule: Garivier and Kaufmann, "Optimal best arm identification with fixed confidence",
COLT 2016 (arXiv:1602.04589), for rewards that are 0 or 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from rollout_sdk_bandit.rewards import ArmSums

__all__ = ["divergence", "optimal_allocation", "stopping_statistic", "stopping_threshold"]

_EPSILON: Final = 2.0**-52
_STEPS: Final = 200
_PRECISION: Final = 1e-11


def divergence(p: float, q: float) -> float:
    """Return the Kullback-Leibler divergence of two Bernoulli distributions, in nats."""
    p, q = min(max(p, _EPSILON), 1 - _EPSILON), min(max(q, _EPSILON), 1 - _EPSILON)
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def optimal_allocation(means: Sequence[float]) -> list[float]:
    """Return the shares with which the best arm is identified soonest: w* of the paper's Theorem 5.

    They maximise the smallest cost of confusing the best arm with another. If several arms are best, they have equal shares and
    the others none: no number of observations could distinguish them.

    Args:
        means: Mean reward of each arm, between 0 and 1.
    """
    best = max(means)
    first = means.index(best)
    leaders = [index for index, mean in enumerate(means) if mean == best]
    if len(leaders) > 1 or len(means) == 1:
        return [(index in leaders) / len(leaders) for index in range(len(means))]
    others = [index for index in range(len(means)) if index != first]

    def excess(y: float) -> float:
        return math.fsum(_ratio(best, means[index], _effort(best, means[index], y)) for index in others) - 1

    # Between 0 and the cost of the closest arm when it gets all observations.
    y = _root(excess, 0.0, min(divergence(best, means[index]) for index in others) * (1 - 1e-12))
    efforts = {index: _effort(best, means[index], y) for index in others}
    total = 1 + math.fsum(efforts.values())
    return [efforts.get(index, 1.0) / total for index in range(len(means))]


def stopping_statistic(sums: Mapping[str, ArmSums]) -> tuple[str, float]:
    """Return the arm with the largest mean, and Chernoff's statistic: its log generalised likelihood ratio against the next.

    The statistic is 0 while an arm has no reward, or several are best.
    """
    best = max(sums, key=lambda arm: sums[arm].mean if sums[arm].count else -math.inf)
    if not all(each.count for each in sums.values()):
        return best, 0.0
    return best, min(_distance(sums[best], other) for arm, other in sums.items() if arm != best)


def stopping_threshold(count: float, arms: int, delta: float) -> float:
    """Return log(2 t (K - 1) / delta).

    With this threshold, a wrong arm is selected with a probability of at most delta at any stopping time, for every rule that
    chooses arms (Theorem 10).
    """
    return math.log(2 * max(count, 1.0) * (arms - 1) / delta)


def _distance(best: ArmSums, other: ArmSums) -> float:
    middle = (best.total + other.total) / (best.count + other.count)
    return best.count * divergence(best.mean, middle) + other.count * divergence(other.mean, middle)


def _middle(best: float, mean: float, effort: float) -> float:
    return (best + effort * mean) / (1 + effort)


def _cost(best: float, mean: float, effort: float) -> float:
    """Return the cost of confusing another arm with the best, for `effort` observations of it per one of the best arm."""
    middle = _middle(best, mean, effort)
    return divergence(best, middle) + effort * divergence(mean, middle)


def _effort(best: float, mean: float, y: float) -> float:
    """Return the observations of the other arm, per one of the best arm, at which the cost is y."""
    high = 1.0
    while _cost(best, mean, high) < y and high < 1e15:
        high *= 2
    return _root(lambda effort: _cost(best, mean, effort) - y, 0.0, high)


def _ratio(best: float, mean: float, effort: float) -> float:
    middle = _middle(best, mean, effort)
    below = divergence(mean, middle)
    return divergence(best, middle) / below if below > 0 else math.inf


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return the root of an increasing function, by bisection."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if high - low <= _PRECISION * high:
            break
        if function(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
