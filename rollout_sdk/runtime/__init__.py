"""What the rollouts of a process share, and what a process without rollouts records."""

from rollout_sdk.runtime.runtime import Runtime, all_runtimes, default_runtime

__all__ = ["Runtime", "all_runtimes", "default_runtime"]
