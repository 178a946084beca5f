"""Means of e-values, by their logarithms."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["log_sum_exp", "mix_log_e"]


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
