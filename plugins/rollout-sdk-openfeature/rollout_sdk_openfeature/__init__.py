"""OpenFeature for rollout_sdk: rollouts as flags, flags in traces, and a flag that drives a rollout's share or kill switch."""

from rollout_sdk_openfeature.driver import FlagDriver
from rollout_sdk_openfeature.flags import ShareFlag, SwitchFlag
from rollout_sdk_openfeature.hook import RolloutHook
from rollout_sdk_openfeature.provider import RolloutProvider

__all__ = ["FlagDriver", "RolloutHook", "RolloutProvider", "ShareFlag", "SwitchFlag"]
