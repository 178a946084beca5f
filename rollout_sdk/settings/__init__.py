"""The options of a rollout, and their validation when the function is decorated."""

from rollout_sdk.settings.options import Effects, MissingUnit, OnAbort, OnError, Settings

__all__ = ["Effects", "MissingUnit", "OnAbort", "OnError", "Settings"]
