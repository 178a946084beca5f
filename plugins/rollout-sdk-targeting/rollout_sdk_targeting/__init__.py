"""Shares by segment: a strategy for rollout_sdk that selects a segment by the call's arguments, then a variant by the unit."""

from rollout_sdk_targeting.rules import Rule, Where
from rollout_sdk_targeting.strategy import Targeting, rollout_strategies

__all__ = ["Rule", "Targeting", "Where", "rollout_strategies"]
