"""The kill switch: while it is off, every decorated function is its control and nothing else."""

from __future__ import annotations

import os

__all__ = ["disable", "enable", "is_disabled"]

off = os.environ.get("ROLLOUT_DISABLED", "").strip().lower() in {"1", "true", "yes", "on"}
"""Read on every call; change it with `disable` and `enable`."""


def disable() -> None:
    """From now on, in this process, no candidate starts: every call is answered by its control, and nothing is recorded.

    The same as starting the process with ROLLOUT_DISABLED=1.
    """
    global off  # noqa: PLW0603 - one switch for the process is its purpose
    off = True


def enable() -> None:
    """Undo `disable`."""
    global off  # noqa: PLW0603 - one switch for the process is its purpose
    off = False


def is_disabled() -> bool:
    """Whether the switch is off."""
    return off
