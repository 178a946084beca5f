"""Where a rollout stands in its store now, which processes serve it, and what was changed there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rollout_sdk.charts import Markup, element, text
from rollout_sdk.control.stored_status import StoredStatus
from rollout_sdk.formatting import several, when
from rollout_sdk.page.rollout import history

__all__ = ["alive", "changes", "standing"]


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


def changes(records: Iterable[Mapping[str, Any]]) -> Markup:
    """The history in the store, to be opened. It also has what was changed while no process served the rollout.

    Args:
        records: As `StoredRollout.history` returns them.
    """
    names = ("action", "phase", "actor", "reason")
    return history("History in the store", ((_time(each), *(each.get(name, "") for name in names)) for each in records))


def _time(record: Mapping[str, Any]) -> float | None:
    """Its time; None where a damaged store has none."""
    time_s = record.get("time_s")
    return time_s if isinstance(time_s, int | float) else None
