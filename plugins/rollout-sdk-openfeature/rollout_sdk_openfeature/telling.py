"""Log events of this package, through the SDK's logger."""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

from rollout_sdk.extending import get_logger

__all__ = ["tell"]


def tell(level: Literal["info", "warning"], event: str, rollout: str, **fields: object) -> None:
    """Emit an event about a rollout; never raises, because the application's logging may."""
    with suppress(Exception, SystemExit):
        getattr(get_logger(), level)(event, rollout=rollout, **fields)
