"""Evidence about a ratio of event rates that no clustering of the events can fool."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from rollout_sdk.stats.multiplicity import mix_log_e

__all__ = ["cluster_bets_log_e"]

_FINE, _COARSE = 24, 6
_ALTERNATIVES = (
    *(1.1 * (10 / 1.1) ** (k / (_FINE - 1)) for k in range(_FINE)),
    *(10 * 10 ** ((k + 1) / _COARSE) for k in range(_COARSE)),
)
_WEIGHTS = (*(0.95 / _FINE,) * _FINE, *(0.05 / _COARSE,) * _COARSE)
"""Most is on ratios that need many events; what is on large ones saves an error where nearly all fail."""

_CHUNK = 100
"""A factor lies within 1/100..100, so that the product of a hundred fits into a float."""


def cluster_bets_log_e(
    clusters: Iterable[Iterable[tuple[float, float, float]]],
    *,
    ratio: float = 1.0,
    direction: Literal["above", "below"],
    counts: Sequence[float] | None = None,
) -> float:
    """The evidence that the rate ratio of candidate to control is above (or below) `ratio`, one bet for each cluster.

    A cluster is what belongs together: a bucket of units with all their phases, or a minute. Of its events in phase h the part
    x_h is the candidate's, and the phase has the part w_h of the cluster's events. With the candidate's share s of the exposure
    and q(r) = s r / (s r + 1 - s), the cluster's factor for an alternative ratio r_k is
    f_k = sum_h w_h (1 + lambda_hk (x_h - q_h0)), lambda_hk = (q_hk - q_h0) / (q_h0 (1 - q_h0)), q_h0 at r = `ratio`:
    q_hk / q_h0 where all events are the candidate's, (1 - q_hk) / (1 - q_h0) where none is.
    e = sum_k weight_k prod over clusters f_k over 30 alternatives: 24 log-spaced in (1.1..10) `ratio` with .95 of the weight, 6
    more up to 100 `ratio` with .05; for "below" their mirror image. With one event in a cluster f_k is the factor of
    `rare_event_log_e`.

    **Why no clustering fools it.** f_k is linear in x. Where units are assigned by chance and the arms are alike, the
    totals of a cluster do not depend on the assignment, and E x_h = s_h whether its events are those of one unit that always
    fails or of a hundred; so E f_k = 1, whatever the phases of a cluster have to do with each other. Different clusters
    must be independent: a unit belongs to one of them, for the whole rollout. Looked at while clusters grow it is an e-value at
    each look and not a martingale over looks: a cluster that has been bet on gets new events. Simulated at alpha = .05 with 40
    to 160 looks, units that always fail gave false alarms in at most .01 of the runs, and 3,000 units that fail seldom, the
    hardest case, in .02 to .05 ("above") and .00 to .06 ("below", 300 runs each).

    **Where it holds.** Where rates differ, a unit that fails ten times in the control and twelve times in the candidate moves
    x less than twelve units with one failure each: with `ratio` r_0, E x lies between s and q(r_0). Hence "above" needs
    `ratio` >= 1 and "below" `ratio` <= 1. "Below" a ratio above 1 (no more than twice the errors) holds only if a cluster
    has one event, such as the first of a unit: `rare_event_safe_log_e`. Others are refused.

    It is weaker than a test of single events: a cluster counts once, however many events it has.

    Args:
        clusters: For every cluster one triple for each phase: the events of the candidate, those of the control, and the
            candidate's share of the exposure of the two. Clusters and phases without events, and phases with a share of 0 or
            1, contribute nothing.
        ratio: The rate ratio of the null hypothesis.
        direction: "above" against "ratio or less", "below" against "ratio or more".
        counts: How many clusters there are of each; None: one.

    Raises:
        ValueError: `counts` has another length than `clusters`, a count is negative or not finite, a share not between 0 and 1,
            `direction` neither "above" nor "below", or `ratio` not 1 or on the side of 1 for which the bets hold.
    """
    if direction not in {"above", "below"}:
        raise ValueError(f'cluster_bets_log_e(direction={direction!r}): "above" or "below".')
    if not (1 <= ratio < math.inf if direction == "above" else 0 < ratio <= 1):
        raise ValueError(
            f"cluster_bets_log_e(ratio={ratio!r}, direction={direction!r}): clusters of many events prove a ratio above one of "
            "1 or more, or below one of 1 or less. Count each unit once and use rare_event_safe_log_e() for the rest."
        )
    columns, numbers = _columns(clusters, counts, ratio)
    if not columns:
        return 0.0
    log_es = []
    for alternative in _ALTERNATIVES:
        other = alternative if direction == "above" else 1 / alternative
        factors = [1.0] * len(next(iter(columns.values())))
        for share, column in columns.items():
            # lambda without a difference of two nearly equal probabilities.
            slope = (other - 1) * (share * ratio + 1 - share) / (share * ratio * other + 1 - share)
            factors = [f + slope * c for f, c in zip(factors, column, strict=True)]
        log_es.append(_log_product(factors, numbers))
    return mix_log_e(log_es, _WEIGHTS)


def _columns(
    clusters: Iterable[Iterable[tuple[float, float, float]]], counts: Sequence[float] | None, ratio: float
) -> tuple[dict[float, list[float]], list[float] | None]:
    """For every share, w (x - q_0) of all clusters that have events; and how many there are of each, None for one."""
    rows: list[list[tuple[float, float, float]]] = []
    numbers: list[float] = []
    pairs = ((cluster, 1.0) for cluster in clusters) if counts is None else zip(clusters, counts, strict=True)
    for cluster, number in pairs:
        phases = list(cluster)
        for phase in phases:
            _check(phase)
        if kept := [phase for phase in phases if 0 < phase[2] < 1 and (phase[0] > 0 or phase[1] > 0)]:
            rows.append(kept)
            numbers.append(number)
    columns: dict[float, list[float]] = {}
    for i, row in enumerate(rows):
        # By the largest, so that no sum of counts overflows.
        top = max(max(candidate, control) for candidate, control, _ in row)
        whole = math.fsum(candidate / top + control / top for candidate, control, _ in row)
        for candidate, control, share in row:
            column = columns.get(share)
            if column is None:
                column = columns[share] = [0.0] * len(rows)
            null = _chance(share, ratio)
            column[i] += (candidate / top * (1 - null) - control / top * null) / whole
    return columns, None if counts is None else numbers


def _chance(share: float, ratio: float) -> float:
    """The probability that an event is the candidate's, at this ratio of rates."""
    return share * ratio / (share * ratio + 1 - share)


def _log_product(factors: Sequence[float], numbers: Sequence[float] | None) -> float:
    if numbers is not None:
        return math.fsum(number * math.log(factor) for factor, number in zip(factors, numbers, strict=True))
    return math.fsum(math.log(math.prod(factors[i : i + _CHUNK])) for i in range(0, len(factors), _CHUNK))


def _check(phase: tuple[float, float, float]) -> None:
    candidate, control, share = phase
    if not (0 <= candidate < math.inf and 0 <= control < math.inf):
        raise ValueError(f"cluster_bets_log_e: phase {phase!r} has a count that is not 0 or more and finite.")
    if not 0 <= share <= 1:
        raise ValueError(
            f"cluster_bets_log_e: phase {phase!r} has a share outside 0..1. "
            "Give the candidate's part of the exposure of candidate and control."
        )
