"""Which processes serve a rollout: each says so in the store now and then, and at once when it has followed a change.

That is a part of the rollout, as a process's evidence is: it goes with the epoch, so that processes of a version that was
replaced are not counted, and each writer replaces only its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from json import loads

from attrs import frozen

__all__ = ["PRESENCE", "Process", "processes_in"]

PRESENCE = "process"
"""Name of the part."""

_GONE_AFTER_S = 30.0


@frozen
class Process:
    """A process that serves a rollout.

    Attributes:
        host: Name of its machine.
        pid: Its process id there.
        seen_s: When it was last heard of, in seconds since 1970: every ten seconds, and at each change.
        revision: The revision that it stands at: that of the rollout, once it has followed.
        held_by: Who lets no candidate run in it, such as "control file"; empty when they run.
    """

    host: str
    pid: int
    seen_s: float
    revision: int
    held_by: tuple[str, ...] = ()


def processes_in(parts: Mapping[tuple[str, str], str], now_s: float) -> tuple[tuple[Process, ...], float | None]:
    """The processes that were heard of within 30 s, and when the last of the others was (None: there were none)."""
    found = list(_read(text for (_, part), text in parts.items() if part == PRESENCE))
    live = [each for each in found if now_s - each.seen_s < _GONE_AFTER_S]
    ordered = tuple(sorted(live, key=lambda each: (each.host, each.pid)))
    return ordered, max((each.seen_s for each in found if each not in live), default=None)


def _read(texts: Iterable[str]) -> Iterable[Process]:
    for text in texts:
        try:
            table = loads(text)
            if table is not None:
                held_by = tuple(str(each) for each in table["held_by"])
                seen_s, revision = float(table["seen_s"]), int(table["revision"])
                yield Process(str(table["host"]), int(table["pid"]), seen_s, revision, held_by)
        # Of another SDK, or damaged: its process says so anew within seconds.
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
            continue
