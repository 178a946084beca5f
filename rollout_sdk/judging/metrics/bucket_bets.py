"""Exact bets on recorded yes-or-no metrics: which arm has how much of a bucket's sum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from rollout_sdk.judging.metrics.base import is_clustered, least_mean
from rollout_sdk.plan import Criterion, Gate, Guardrail
from rollout_sdk.stats import StratifiedBuckets, cluster_bets_log_e, mix_log_e

__all__ = ["gain_log_e", "harm_log_e", "label_rate_log_e"]

Cluster = list[tuple[float, float, float]]


def harm_log_e(
    criterion: Criterion, sums: StratifiedBuckets, shares: Mapping[str, float], candidate: str, control: str
) -> float | None:
    """Evidence that a guardrail's yes-or-no metric is worse by more than `harm`; None where there is no such bet.

    The bet is on the ratio of both arms, so `harm` is taken relative to a cautious estimate of the control's mean. It counts
    who has an event rather than how many, so it is made only while events do not come in clusters: fewer users with more events
    each would look worse, and more users with fewer better.
    """
    if not isinstance(criterion, Guardrail):
        return None
    assert criterion.harm is not None
    rises = criterion.better == "lower"
    return _ratio_log_e(criterion, sums, shares, candidate, control, by=criterion.harm, rises=rises)


def gain_log_e(
    criterion: Criterion, sums: StratifiedBuckets, shares: Mapping[str, float], candidate: str, control: str
) -> float | None:
    """Evidence that a gate's yes-or-no metric is better by more than `min_effect`; None for what accepts a loss.

    A bet on "not much worse" would not be exact: see `cluster_bets_log_e`.
    """
    if not isinstance(criterion, Gate) or criterion.min_effect < 0:
        return None
    rises = criterion.better == "higher"
    return _ratio_log_e(criterion, sums, shares, candidate, control, by=criterion.min_effect, rises=rises)


def _ratio_log_e(
    criterion: Criterion,
    sums: StratifiedBuckets,
    shares: Mapping[str, float],
    candidate: str,
    control: str,
    *,
    by: float,
    rises: bool,
) -> float | None:
    """Evidence that the candidate's mean is more than `by` above the control's, or below it; None without such a bet."""
    least = least_mean(sums, control, candidate)
    if least <= 0 or any(is_clustered(sums, arm) for arm in (control, candidate)):
        return None
    if criterion.per == "outcome":
        # Events among outcomes: what is equally likely is an outcome's arm, however many outcomes each arm has.
        shares = {phase: _share_of_outcomes(sums, phase, candidate, control) for phase in shares}
    clusters = _by_bucket(sums, shares, candidate, control)
    if rises:
        return cluster_bets_log_e(clusters, ratio=1 + by / least, direction="above")
    return None if by >= least else cluster_bets_log_e(clusters, ratio=1 - by / least, direction="below")


def label_rate_log_e(sums: StratifiedBuckets, shares: Mapping[str, float], candidate: str, control: str) -> float:
    """Evidence that outcomes of the two arms do not arrive in the configured shares: labels that are missing not at random."""
    clusters = _by_bucket(sums, shares, candidate, control, weights=True)
    directions: tuple[Literal["above", "below"], ...] = ("above", "below")
    return mix_log_e([cluster_bets_log_e(clusters, ratio=1.0, direction=each) for each in directions], [0.5, 0.5])


def _share_of_outcomes(sums: StratifiedBuckets, phase: str, candidate: str, control: str) -> float:
    mine, other = (math.fsum(sums.cell(phase, arm)[1]) for arm in (candidate, control))
    return mine / (mine + other) if mine + other else 0.0


def _by_bucket(
    sums: StratifiedBuckets, shares: Mapping[str, float], candidate: str, control: str, *, weights: bool = False
) -> list[Cluster]:
    """For every bucket with any, the totals of both arms by phase."""
    clusters: list[Cluster] = [[] for _ in range(sums.buckets)]
    for phase, share in shares.items():
        mine, other = (sums.cell(phase, arm)[weights] for arm in (candidate, control))
        for cluster, ours, theirs in zip(clusters, mine, other, strict=True):
            if ours or theirs:
                cluster.append((ours, theirs, share))
    return [cluster for cluster in clusters if cluster]
