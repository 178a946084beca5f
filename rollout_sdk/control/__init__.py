"""The control plane: what state a rollout is in, and how it may change."""

from rollout_sdk.control.state import RolloutState, Status

__all__ = ["RolloutState", "Status"]
