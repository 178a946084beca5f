"""Logarithms of the normal distribution that stay finite however far out they are asked for."""

from __future__ import annotations

import math
from statistics import NormalDist

__all__ = ["log_beta_ratio", "log_mills", "log_normal_cdf", "normal_cdf", "normal_quantile", "times_log"]


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


_FAR = -12.0
_LOG_SQRT_2PI = math.log(2 * math.pi) / 2
_STANDARD = NormalDist()


def normal_cdf(x: float) -> float:
    """P(N <= x), with full relative precision in the lower tail."""
    return math.erfc(-x / math.sqrt(2)) / 2


def normal_quantile(p: float) -> float:
    """The x with P(N <= x) = p, for p strictly between 0 and 1."""
    return _STANDARD.inv_cdf(p)


def log_mills(x: float) -> float:
    """Log(Phi(x) / phi(x)), the logarithm of Mills' ratio at -x: finite for every finite x <= 0.

    For x > -12 from `math.erfc`; below, from eight terms of the asymptotic series 1/|x| (1 - 1/x^2 + 3/x^4 - 15/x^6 + ...)
    (DLMF 7.12.1), whose error is smaller than the first term left out: 1.4e-12 of the whole.
    """
    if x > _FAR:
        return math.log(normal_cdf(x)) + x * x / 2 + _LOG_SQRT_2PI
    inverse = 1 / x / x
    series, term = 0.0, 1.0
    for k in range(1, 9):
        term *= -(2 * k - 1) * inverse
        series += term
    return math.log1p(series) - math.log(-x)


def log_normal_cdf(x: float) -> float:
    """Log P(N <= x): about -x^2/2 in the lower tail, where the probability itself has long been zero."""
    return log_mills(x) - x * x / 2 - _LOG_SQRT_2PI if x <= _FAR else math.log(normal_cdf(x))
