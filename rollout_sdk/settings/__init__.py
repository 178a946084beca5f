"""The options of a rollout, and everything that is refused when decorating."""

from rollout_sdk.settings.options import Effects, MissingUnit, OnError, Settings

__all__ = ["Effects", "MissingUnit", "OnError", "Settings"]
