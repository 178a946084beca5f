"""Shares by segment: a strategy for rollout_sdk that looks at a call's arguments before it looks at the unit."""

from rollout_sdk_targeting.rules import Rule, Where
from rollout_sdk_targeting.strategy import Targeting, rollout_strategies

__all__ = ["Rule", "Targeting", "Where", "rollout_strategies"]
