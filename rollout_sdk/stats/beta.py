"""Logarithms of what likelihoods of counts are made of."""

from __future__ import annotations

import math

__all__ = ["log_beta_ratio", "times_log"]


def log_beta_ratio(a: float, b: float, s: float, f: float) -> float:
    """Log( B(a + s, b + f) / B(a, b) ), exactly 0 without counts."""
    return (
        (math.lgamma(a + s) - math.lgamma(a))
        + (math.lgamma(b + f) - math.lgamma(b))
        - (math.lgamma(a + b + s + f) - math.lgamma(a + b))
    )


def times_log(count: float, p: float) -> float:
    """The product count log p, with 0 log 0 = 0."""
    return count * math.log(p) if count else 0.0
