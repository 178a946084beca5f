"""The built-in strategies, which only decide. They are registered through the same entry-point group as third-party ones."""

from rollout_sdk.strategies.ab import ABTest
from rollout_sdk.strategies.canary import Canary
from rollout_sdk.strategies.interleave import Interleave
from rollout_sdk.strategies.shadow import Shadow

__all__ = ["ABTest", "Canary", "Interleave", "Shadow"]
