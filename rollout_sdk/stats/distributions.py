"""The normal and Student's t distributions, with logarithms that stay finite far out in the tails."""

from __future__ import annotations

import math
from statistics import NormalDist

__all__ = [
    "log_beta_ratio",
    "log_mills",
    "log_normal_cdf",
    "log_student_t_cdf",
    "normal_cdf",
    "normal_quantile",
    "student_t_quantile",
    "times_log",
]

_FAR = -12.0
_LOG_SQRT_2PI = math.log(2 * math.pi) / 2
_STANDARD = NormalDist()
_STEPS = 60
_NORMAL_FROM = 1e7


def log_beta_ratio(a: float, b: float, s: float, f: float) -> float:
    """Log( B(a + s, b + f) / B(a, b) ), exactly 0 without counts."""
    return (
        (math.lgamma(a + s) - math.lgamma(a))
        + (math.lgamma(b + f) - math.lgamma(b))
        - (math.lgamma(a + b + s + f) - math.lgamma(a + b))
    )


def times_log(count: float, p: float) -> float:
    """Return count log p, with 0 log 0 = 0."""
    return count * math.log(p) if count else 0.0


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
    """Log P(N <= x): about -x^2/2 in the lower tail, where the probability itself underflows."""
    return log_mills(x) - x * x / 2 - _LOG_SQRT_2PI if x <= _FAR else math.log(normal_cdf(x))


def _log_density(t: float, df: float) -> float:
    constant = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - math.log(df * math.pi) / 2
    return constant - (df + 1) / 2 * math.log1p(t * t / df)


def _beta_fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function, by Lentz's method (DLMF 8.17.22)."""
    tiny = 1e-300
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > tiny else tiny)
    value = d
    for m in range(1, 10_000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + numerator * d
            c = 1 + numerator / c
            d = 1 / (d if abs(d) > tiny else tiny)
            c = c if abs(c) > tiny else tiny
            value *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return value


def _upper_tail(t: float, df: float) -> float:
    """P(T > t) for t >= 0, from the incomplete beta function: I_x(df/2, 1/2) / 2 at x = df / (df + t^2)."""
    a, b, x = df / 2, 0.5, df / (df + t * t)
    if x >= 1:
        return 0.5
    if x == 0:
        return math.exp(log_student_t_cdf(-t, df))
    log_front = a * math.log(x) + b * math.log1p(-x) - math.lgamma(a) - math.lgamma(b) + math.lgamma(a + b)
    if x < (a + 1) / (a + b + 2):
        return math.exp(log_front) * _beta_fraction(x, a, b) / a / 2
    return (1 - math.exp(log_front) * _beta_fraction(1 - x, b, a) / b) / 2


def log_student_t_cdf(t: float, df: float) -> float:
    """Log P(T <= t), finite even where the probability itself underflows, for `df` > 0 degrees of freedom.

    The incomplete beta function in logarithms (DLMF 8.17); the normal distribution from 1e7 degrees of freedom on.
    """
    if df >= _NORMAL_FROM:
        return log_normal_cdf(t)
    if t > 0:
        return math.log1p(-math.exp(log_student_t_cdf(-t, df)))
    q = t / df * t
    if math.isinf(q):  # the tail is a power law: with q = t^2 / df, q^(-df/2) / (df/2 B(df/2, 1/2)) / 2
        log_q = 2 * math.log(-t) - math.log(df)
        return -df / 2 * log_q - math.log(df) + math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - math.log(math.pi) / 2
    if q == 0:
        return -math.log(2)
    a, b, y = df / 2, 0.5, q / (1 + q)
    log_front = -a * math.log1p(q) + b * math.log(y) - math.lgamma(a) - math.lgamma(b) + math.lgamma(a + b)
    if 1 - y < (a + 1) / (a + b + 2):
        return log_front + math.log(_beta_fraction(1 - y, a, b) / a / 2)
    return math.log1p(-math.exp(log_front) * _beta_fraction(y, b, a) / b) - math.log(2)


def student_t_quantile(p: float, df: float) -> float:
    """The t with P(T <= t) = p, for `df` > 0 degrees of freedom, to about 1e-10 relative.

    Bisection on the exact tail, which is the incomplete beta function (DLMF 8.17), with Newton steps while they stay inside.

    Raises:
        ValueError: `p` is not strictly between 0 and 1, or `df` is not positive.
    """
    if not 0 < p < 1 or not df > 0:
        raise ValueError(f"student_t_quantile(p={p!r}, df={df!r}): p lies strictly between 0 and 1, and df above 0.")
    if p == 0.5:
        return 0.0
    if df >= _NORMAL_FROM:
        return NormalDist().inv_cdf(p)
    tail = min(p, 1 - p)
    low, high = 0.0, 2.0
    while _upper_tail(high, df) > tail:
        low, high = high, high * 2
    if math.isinf(high):
        return math.copysign(high, p - 0.5)
    t = low + (high - low) / 2
    for _ in range(_STEPS):
        excess = _upper_tail(t, df) - tail
        low, high = (t, high) if excess > 0 else (low, t)
        density = math.exp(_log_density(t, df))
        step = t + excess / density if density else math.inf
        following = step if low < step < high else (low + high) / 2
        if abs(following - t) <= 1e-12 * t:
            break
        t = following
    return math.copysign(t, p - 0.5)
