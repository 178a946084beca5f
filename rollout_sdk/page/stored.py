"""Where a rollout stands in its store now, and which processes serve it."""

from __future__ import annotations

from rollout_sdk.charts import Markup, element, text
from rollout_sdk.control.stored_status import StoredStatus
from rollout_sdk.formatting import several, when

__all__ = ["alive", "standing"]


def alive(status: StoredStatus) -> str:
    """How many processes serve it, and how many of them have not followed the last change."""
    said = f"{several(len(status.processes), 'process', 'processes')} alive"
    return said + (f", {len(status.behind)} of them behind the last change" if status.behind else "")


def standing(status: StoredStatus, *, is_live: bool = False) -> Markup:
    """The state in the store, as a block.

    Args:
        status: The state.
        is_live: Whether the page follows the store; otherwise it says when this was read.
    """
    lines = [
        f"{status.status.replace('_', ' ')} in phase {status.phase} since {when(status.entered_s)}, revision {status.revision}",
        alive(status),
        *((f"INVALID: {status.invalid}",) if status.invalid else ()),
        *status.notes,
        *(() if is_live else (f"Read at {when(status.now_s)}.",)),
    ]
    return element(
        "section",
        element("h2", text("In the store")),
        *(element("p", text(line)) for line in lines),
        class_="block",
    )
