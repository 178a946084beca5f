"""The options of a rollout, and their validation when the function is decorated."""

from rollout_sdk.settings.options import Effects, MissingUnit, OnError, Settings

__all__ = ["Effects", "MissingUnit", "OnError", "Settings"]
