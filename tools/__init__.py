"""Tools for those who develop rollout_sdk; not in the wheel."""
