"""Quantiles with an interval that may be looked at as often as you like; calls of one unit may be alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from rollout_sdk.stats.distributions import log_beta_ratio, times_log
from rollout_sdk.stats.sequential import plan_rho

__all__ = ["design_effect", "quantile_interval"]


def quantile_interval(
    ordered: Sequence[float], q: float, *, alpha: float = 0.05, effect: float = 1.0, t_opt: float = 1_000.0
) -> tuple[float, float]:
    """The interval of a quantile that holds at all looks with probability 1 - alpha; infinite ends while there is too little.

    A value lies below the true quantile with probability q. So the number k of n values below it is tested by the beta-binomial
    mixture e(k) = B(c q + k, c (1 - q) + n - k) / (B(c q, c (1 - q)) q^k (1 - q)^(n - k)), and the interval runs from the first
    to the last ordered value whose count is not refuted, e(k) < 1 / alpha. No form of the distribution is assumed.

    Calls of one unit are alike, which makes n of them worth n / `effect`: both counts are divided by it.

    Source: Howard and Ramdas, Bernoulli 2022, arXiv:1906.09712; for the design effect, Kish, Survey Sampling (1965).

    Args:
        ordered: The values, ascending.
        q: Which quantile, strictly between 0 and 1.
        alpha: Error probability of both ends together, over all looks.
        effect: `design_effect` of the values; 1.0 for independent ones.
        t_opt: Number of values at which the interval is to be narrowest.

    Raises:
        ValueError: `q` or `alpha` is not strictly between 0 and 1, `effect` is below 1, or `t_opt` is.
    """
    if not 0 < q < 1 or not 0 < alpha < 1:
        raise ValueError(f"quantile_interval(q={q!r}, alpha={alpha!r}): both are probabilities, strictly between 0 and 1.")
    if not 1 <= effect < math.inf or not 1 <= t_opt < math.inf:
        raise ValueError(f"quantile_interval(effect={effect!r}, t_opt={t_opt!r}): both are finite numbers from 1 on.")
    count, c = len(ordered), plan_rho(t_opt, alpha=alpha)

    def is_refuted(below: int) -> bool:
        k, n = below / effect, count / effect
        log_e = log_beta_ratio(c * q, c * (1 - q), k, n - k) - times_log(k, q) - times_log(n - k, 1 - q)
        return log_e >= -math.log(alpha)

    expected = min(count, max(0, round(count * q)))
    first = _first(0, expected, lambda below: not is_refuted(below))
    last = _first(expected, count + 1, is_refuted) - 1
    return ordered[first - 1] if first > 0 else -math.inf, ordered[last] if last < count else math.inf


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The first number in [low, high) for which it holds, as for all after it; high if there is none."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def design_effect(clusters: Iterable[tuple[float, float]], q: float) -> float:
    """How many calls are worth one independent call, for a quantile: at least 1.0, which is also that of no calls.

    sum_b (below_b - q calls_b)^2 / (calls q (1 - q)): the variance of the number of values below the quantile with the clusters
    as they are, over that of independent values. Clusters may be buckets of units.

    Args:
        clusters: For each cluster, how many of its values are at most the quantile, and how many values it has.
        q: Which quantile.
    """
    squares = total = 0.0
    for below, calls in clusters:
        squares += (below - q * calls) ** 2
        total += calls
    return max(1.0, squares / (total * q * (1 - q))) if total else 1.0
