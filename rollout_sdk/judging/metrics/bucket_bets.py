"""Exact bets on recorded binary metrics: how each bucket's sum is divided between the arms."""

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
    """Return the evidence that a guardrail's binary metric is worse by more than `harm`; None if no bet applies.

    The bet is on the ratio of the arms, so `harm` is taken relative to a conservative estimate of the control's mean. It counts
    units with an event rather than events, so it applies only if events do not come in clusters: fewer users with more events
    each would otherwise look worse, and more users with fewer events better.
    """
    if not isinstance(criterion, Guardrail):
        return None
    assert criterion.harm is not None
    rises = criterion.better == "lower"
    return _ratio_log_e(criterion, sums, shares, candidate, control, by=criterion.harm, rises=rises)


def gain_log_e(
    criterion: Criterion, sums: StratifiedBuckets, shares: Mapping[str, float], candidate: str, control: str
) -> float | None:
    """Return the evidence that a gate's binary metric is better by more than `min_effect`; None if the gate accepts a loss.

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
    """Return the evidence that the candidate's mean is more than `by` above, or below, the control's; None without a bet."""
    least = least_mean(sums, control, candidate)
    if least <= 0 or any(is_clustered(sums, arm) for arm in (control, candidate)):
        return None
    if criterion.per == "outcome":
        # For events among outcomes, the null hypothesis concerns an outcome's arm, whatever the number of outcomes per arm.
        shares = {phase: _share_of_outcomes(sums, phase, candidate, control) for phase in shares}
    clusters = _by_bucket(sums, shares, candidate, control)
    if rises:
        return cluster_bets_log_e(clusters, ratio=1 + by / least, direction="above")
    return None if by >= least else cluster_bets_log_e(clusters, ratio=1 - by / least, direction="below")


def label_rate_log_e(sums: StratifiedBuckets, shares: Mapping[str, float], candidate: str, control: str) -> float:
    """Return the evidence that outcomes of the arms do not arrive in the configured shares: labels not missing at random."""
    clusters = _by_bucket(sums, shares, candidate, control, weights=True)
    directions: tuple[Literal["above", "below"], ...] = ("above", "below")
    return mix_log_e([cluster_bets_log_e(clusters, ratio=1.0, direction=each) for each in directions], [0.5, 0.5])


def _share_of_outcomes(sums: StratifiedBuckets, phase: str, candidate: str, control: str) -> float:
    mine, other = (math.fsum(sums.cell(phase, arm)[1]) for arm in (candidate, control))
    return mine / (mine + other) if mine + other else 0.0


def _by_bucket(
    sums: StratifiedBuckets, shares: Mapping[str, float], candidate: str, control: str, *, weights: bool = False
) -> list[Cluster]:
    """Return the totals of both arms by phase, for every bucket that has any."""
    clusters: list[Cluster] = [[] for _ in range(sums.buckets)]
    for phase, share in shares.items():
        mine, other = (sums.cell(phase, arm)[weights] for arm in (candidate, control))
        for cluster, ours, theirs in zip(clusters, mine, other, strict=True):
            if ours or theirs:
                cluster.append((ours, theirs, share))
    return [cluster for cluster in clusters if cluster]
