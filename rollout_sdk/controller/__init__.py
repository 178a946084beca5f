"""What users hold as `function.rollout`: decides calls, records outcomes, executes operators' commands, reports the status."""

from rollout_sdk.controller.controller import RolloutController

__all__ = ["RolloutController"]
