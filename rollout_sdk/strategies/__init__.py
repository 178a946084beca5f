"""The built-in strategies: decisions only. They enter by the same entry-point group as anybody else's."""

from rollout_sdk.strategies.ab import ABTest
from rollout_sdk.strategies.canary import Canary
from rollout_sdk.strategies.interleave import Interleave
from rollout_sdk.strategies.shadow import Shadow

__all__ = ["ABTest", "Canary", "Interleave", "Shadow"]
