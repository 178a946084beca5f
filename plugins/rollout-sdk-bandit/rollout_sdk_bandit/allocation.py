"""Shares from sums of rewards: the probability of being best (Thompson sampling), and epsilon-greedy. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from rollout_sdk import ConfigurationError
from rollout_sdk_bandit.rewards import ArmSums

__all__ = ["Reward", "best_chances", "epsilon_greedy", "with_floor"]

Reward = Literal["binary", "normal"]

_POINTS: Final = 400
_SPREAD: Final = 9.0


def with_floor(shares: Mapping[str, float], floor: float) -> dict[str, float]:
    """Raise every share to at least the floor: p becomes floor + (1 - K floor) p, with K arms.

    Raises:
        ConfigurationError: K floors are more than 1.
    """
    rest = 1.0 - len(shares) * floor
    if floor < 0 or rest < -1e-12:
        raise ConfigurationError(
            f"floor={floor:g} gives {len(shares)} arms {len(shares) * floor:.0%} together. Every arm, including the control, "
            f"gets at least the floor. Choose {1 / len(shares):.3f} at most."
        )
    total = math.fsum(shares.values())
    return {arm: floor + max(0.0, rest) * share / total for arm, share in shares.items()}


def best_chances(sums: Mapping[str, ArmSums], *, reward: Reward = "binary") -> dict[str, float]:
    """Return the posterior probability that each arm has the largest mean: the shares of Thompson sampling.

    "binary": rewards are 0 or 1, with a uniform prior on each mean (a Beta posterior). "normal": each posterior is normal
    around the arm's mean, with the pooled variance of all arms; an arm with fewer than two rewards is as uncertain as one with
    two.

    The integral of one arm's density times the distribution functions of all others uses the trapezoidal rule and is accurate
    to 1e-4.
    """
    posteriors = [_binary(each) for each in sums.values()] if reward == "binary" else _normal(list(sums.values()))
    grid = sorted({x for posterior in posteriors for x in posterior.grid()})
    densities = [[posterior.density(x) for x in grid] for posterior in posteriors]
    distributions = [_cumulated(grid, density) for density in densities]
    chances = []
    for own, density in enumerate(densities):
        others = [each for index, each in enumerate(distributions) if index != own]
        values = [height * math.prod(other[i] for other in others) for i, height in enumerate(density)]
        chances.append(_cumulate(grid, values)[-1])
    total = math.fsum(chances)
    return {arm: chance / total for arm, chance in zip(sums, chances, strict=True)}


def epsilon_greedy(sums: Mapping[str, ArmSums], *, epsilon: float = 0.1) -> dict[str, float]:
    """Return 1 - epsilon for the arm with the largest mean (divided among ties), plus epsilon divided among all arms.

    While an arm has no reward, all shares are equal.
    """
    means = {arm: each.mean for arm, each in sums.items()}
    if any(math.isnan(mean) for mean in means.values()):
        return dict.fromkeys(sums, 1 / len(sums))
    best = [arm for arm, mean in means.items() if mean == max(means.values())]
    return {arm: epsilon / len(sums) + (1 - epsilon) / len(best) * (arm in best) for arm in sums}


class _Posterior:
    """A density on an interval, up to a factor."""

    def __init__(self, center: float, deviation: float, low: float = -math.inf, high: float = math.inf) -> None:
        self._from = max(low, center - _SPREAD * deviation)
        self._to = min(high, center + _SPREAD * deviation)

    def grid(self) -> list[float]:
        """Return the points of integration."""
        step = (self._to - self._from) / _POINTS
        return [self._from + index * step for index in range(_POINTS + 1)]

    def density(self, x: float) -> float:
        """Return the density at x."""
        raise NotImplementedError


class _Beta(_Posterior):
    def __init__(self, a: float, b: float) -> None:
        self._a, self._b = a, b
        self._log_factor = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
        super().__init__(a / (a + b), math.sqrt(a * b / (a + b + 1)) / (a + b), 0.0, 1.0)

    def density(self, x: float) -> float:
        if not 0 < x < 1:
            return math.exp(self._log_factor) if (x <= 0 and self._a == 1) or (x >= 1 and self._b == 1) else 0.0
        return math.exp(self._log_factor + (self._a - 1) * math.log(x) + (self._b - 1) * math.log1p(-x))


class _Normal(_Posterior):
    def __init__(self, mean: float, deviation: float) -> None:
        self._mean, self._deviation = mean, deviation
        super().__init__(mean, deviation)

    def density(self, x: float) -> float:
        return math.exp(-(((x - self._mean) / self._deviation) ** 2) / 2) / self._deviation


def _binary(sums: ArmSums) -> _Posterior:
    return _Beta(1 + min(max(sums.total, 0.0), sums.count), 1 + max(sums.count - sums.total, 0.0))


def _normal(sums: Sequence[ArmSums]) -> list[_Posterior]:
    count = math.fsum(each.count for each in sums)
    mean = math.fsum(each.total for each in sums) / count if count else 0.0
    within = math.fsum(each.squares - each.total**2 / each.count for each in sums if each.count)
    degrees = count - sum(each.count > 0 for each in sums)
    deviation = math.sqrt(max(within, 0.0) / degrees) if degrees >= 1 else 1.0
    # If all rewards of each arm are equal, any difference between means is certain.
    deviation = deviation or 1e-9 * max(1.0, abs(mean))
    return [_Normal(each.mean if each.count else mean, deviation / math.sqrt(max(each.count, 2.0))) for each in sums]


def _cumulate(grid: Sequence[float], values: Sequence[float]) -> list[float]:
    total, cumulated = 0.0, [0.0]
    for index in range(1, len(grid)):
        total += (values[index - 1] + values[index]) / 2 * (grid[index] - grid[index - 1])
        cumulated.append(total)
    return cumulated


def _cumulated(grid: Sequence[float], density: Sequence[float]) -> list[float]:
    cumulated = _cumulate(grid, density)
    return [each / cumulated[-1] for each in cumulated]
