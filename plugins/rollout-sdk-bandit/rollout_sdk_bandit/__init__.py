"""Bandits for rollout_sdk: shares that follow the rewards, in phases of constant shares.

@rollout(candidates={"v2": rank_v2, "v3": rank_v3}, strategy=ThompsonSampling("click", window_s=3600), unit="user")
def rank(user: str) -> list[str]: ...
"""

from rollout_sdk_bandit.allocation import best_chances, epsilon_greedy, with_floor
from rollout_sdk_bandit.best_arm import optimal_allocation, stopping_statistic, stopping_threshold
from rollout_sdk_bandit.inference import ArmEstimate, Estimates, estimate
from rollout_sdk_bandit.rewards import ArmSums
from rollout_sdk_bandit.strategies import EpsilonGreedy, ThompsonSampling, TrackAndStop

__all__ = [
    "ArmEstimate",
    "ArmSums",
    "EpsilonGreedy",
    "Estimates",
    "ThompsonSampling",
    "TrackAndStop",
    "best_chances",
    "epsilon_greedy",
    "estimate",
    "optimal_allocation",
    "stopping_statistic",
    "stopping_threshold",
    "with_floor",
]
