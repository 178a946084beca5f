"""The kill switch: while it is off, every decorated function is its control and nothing else."""

from __future__ import annotations

import os

__all__ = ["enable", "is_disabled"]

off = os.environ.get("ROLLOUT_DISABLED", "").strip().lower() in {"1", "true", "yes", "on"}
"""Read on every call, and again where a candidate starts."""


def enable() -> None:
    """Undo `rollout_sdk.disable()`."""
    global off  # noqa: PLW0603 - one switch for the process is its purpose
    off = False


def is_disabled() -> bool:
    """Whether the switch is off."""
    return off
