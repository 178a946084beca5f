"""Many metrics at once, from their e-values."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["e_bh"]


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
