"""Many metrics at once, from their e-values."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["e_bh", "log_sum_exp", "mix_log_e"]


def mix_log_e(log_es: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """The logarithm of the weighted mean of e-values, which is an e-value again whatever their dependence.

    log sum_i w_i exp(log e_i). It is large when any of them is: one with the weight w needs log(1/w) more than alone. Fix the
    weights before the data.

    Args:
        log_es: Logarithms of e-values; -inf stands for the e-value 0.
        weights: One for each, not negative, adding up to 1; None weighs them equally.

    Raises:
        ValueError: There are none, the lengths differ, a logarithm is NaN, or the weights are negative or do not add up to 1.
    """
    if weights is None:
        weights = [1 / len(log_es)] * len(log_es) if log_es else []
    if not log_es or len(log_es) != len(weights):
        raise ValueError(
            f"mix_log_e: {len(log_es)} e-values and {len(weights)} weights. Give one weight for each, and at least one."
        )
    if any(math.isnan(each) for each in log_es):
        raise ValueError(f"mix_log_e(log_es={list(log_es)!r}): a logarithm is NaN. Leave out what was not measured.")
    if not all(weight >= 0 for weight in weights) or abs(math.fsum(weights) - 1) > 1e-9:
        raise ValueError(f"mix_log_e(weights={list(weights)!r}): weights are 0 or more and add up to 1. Divide by their sum.")
    return log_sum_exp([each + math.log(weight) for each, weight in zip(log_es, weights, strict=True) if weight > 0])


def log_sum_exp(terms: Sequence[float]) -> float:
    """Log sum exp(terms), which neither overflows nor loses small terms; inf and -inf are allowed."""
    top = max(terms)
    return top if math.isinf(top) else top + math.log(math.fsum(math.exp(term - top) for term in terms))


def e_bh(e_values: Sequence[float], *, alpha: float = 0.05) -> list[int]:
    """The hypotheses to reject when at most a part `alpha` of the rejections may be false on average; indices, ascending.

    Rejects the k with the largest e-values, for the largest k whose k-th largest e-value is K / (k alpha) or more. The false
    discovery rate is at most `alpha` under any dependence between the metrics.

    Source: Wang and Ramdas, Journal of the Royal Statistical Society B 84 (2022).

    Args:
        e_values: One e-value (not its logarithm) for every hypothesis; inf is allowed.
        alpha: Bound on the false discovery rate.

    Raises:
        ValueError: An e-value is negative or NaN, or `alpha` not strictly between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"e_bh(alpha={alpha!r}): alpha is a false discovery rate, strictly between 0 and 1.")
    for i, e in enumerate(e_values):
        if not e >= 0:
            raise ValueError(f"e_bh: e-value {i} is {e!r}. E-values are 0 or more; give exp(log_e), not log_e.")
    ranked = sorted(range(len(e_values)), key=lambda i: -e_values[i])
    rejected = 0
    for k, i in enumerate(ranked, 1):
        if k * alpha * e_values[i] >= len(e_values):
            rejected = k
    return sorted(ranked[:rejected])
