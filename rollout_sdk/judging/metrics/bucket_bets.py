"""Exact bets on recorded metrics: which arm has how much of a bucket's sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from rollout_sdk.judging.metrics.base import least_mean
from rollout_sdk.plan import Criterion, Gate, Guardrail
from rollout_sdk.stats import StratifiedBuckets, cluster_bets_log_e, mix_log_e

__all__ = ["gain_log_e", "harm_log_e", "label_rate_log_e"]

Cluster = list[tuple[float, float, float]]


def harm_log_e(
    criterion: Criterion,
    sums: StratifiedBuckets,
    shares: Mapping[str, float],
    candidate: str,
    control: str,
) -> float | None:
    """Evidence that a guardrail's metric is worse by more than `harm`; None where it has negative values, or is a gate's.

    The bet is on the ratio of both arms, so `harm` is taken relative to a cautious estimate of the control's mean. A candidate
    that halves the values of its units, and not their number, moves the ratio less than that: the bet is then cautious.
    """
    if not isinstance(criterion, Guardrail):
        return None
    assert criterion.harm is not None
    return _ratio_log_e(sums, shares, candidate, control, by=criterion.harm, rises=criterion.better == "lower")


def gain_log_e(
    criterion: Criterion,
    sums: StratifiedBuckets,
    shares: Mapping[str, float],
    candidate: str,
    control: str,
) -> float | None:
    """Evidence that a gate's metric is better by more than `min_effect`; None for what accepts a loss.

    A bet on "not much worse" would not be exact: a candidate that lowers values, and not the number of units that have one,
    leaves the ratio nearly as it is.
    """
    if not isinstance(criterion, Gate) or criterion.min_effect < 0:
        return None
    return _ratio_log_e(sums, shares, candidate, control, by=criterion.min_effect, rises=criterion.better == "higher")


def _ratio_log_e(
    sums: StratifiedBuckets, shares: Mapping[str, float], candidate: str, control: str, *, by: float, rises: bool
) -> float | None:
    """Evidence that the candidate's mean is more than `by` above the control's, or below it; None without such a bet."""
    clusters, least = _by_bucket(sums, shares, candidate, control), least_mean(sums, control, candidate)
    if clusters is None or least <= 0:
        return None
    if rises:
        return cluster_bets_log_e(clusters, ratio=1 + by / least, direction="above")
    return None if by >= least else cluster_bets_log_e(clusters, ratio=1 - by / least, direction="below")


def label_rate_log_e(sums: StratifiedBuckets, shares: Mapping[str, float], candidate: str, control: str) -> float:
    """Evidence that outcomes of the two arms do not arrive in the configured shares: labels that are missing not at random."""
    clusters = _by_bucket(sums, shares, candidate, control, weights=True)
    directions: tuple[Literal["above", "below"], ...] = ("above", "below")
    return mix_log_e([cluster_bets_log_e(clusters or [], ratio=1.0, direction=each) for each in directions], [0.5, 0.5])


def _by_bucket(
    sums: StratifiedBuckets, shares: Mapping[str, float], candidate: str, control: str, *, weights: bool = False
) -> list[Cluster] | None:
    """For every bucket the totals of both arms by phase; None where there are negative ones."""
    clusters: list[Cluster] = [[] for _ in range(sums.buckets)]
    for phase, share in shares.items():
        mine, other = (sums.cell(phase, arm)[weights] for arm in (candidate, control))
        if min(mine) < 0 or min(other) < 0:
            return None
        for cluster, ours, theirs in zip(clusters, mine, other, strict=True):
            if ours or theirs:
                cluster.append((ours, theirs, share))
    return [cluster for cluster in clusters if cluster]
