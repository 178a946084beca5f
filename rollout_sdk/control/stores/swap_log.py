"""A log of all swaps in a second file beside the store's, so that they survive the loss of the first.

If a store is deleted, truncated, or restored from last night's backup, its state of a rollout is out of date, and an aborted
candidate would come back. So every process that opens the store, or is about to change it, brings whichever of the two is
behind up to date: the store from the log or, if a process was killed between its commit and its line, the log from the store.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from json import dumps, loads
from pathlib import Path
from typing import Any

from attrs import frozen

from rollout_sdk.control.stores.validation import LARGEST_NUMBER, is_unicode, parsed

__all__ = ["LoggedSwap", "SwapLog"]

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT
for _flag in ("O_CLOEXEC", "O_NOFOLLOW", "O_BINARY"):
    # Windows has only the last, and needs it: otherwise it would write two bytes for a newline.
    _FLAGS |= getattr(os, _flag, 0)


@frozen
class LoggedSwap:
    """A completed swap.

    Attributes:
        key: Key of the rollout.
        revision: Revision of the document.
        epoch: Its epoch.
        document: The document, as stored.
        record: The record for the history, as stored.
    """

    key: str
    revision: int
    epoch: int
    document: str
    record: str


class SwapLog:
    """The log of a store's swaps: each line is one write, so that many processes can append.

    Attributes:
        path: Its path.
    """

    def __init__(self, store: Path) -> None:
        """Derive the path from the store's."""
        self.path = store.with_name(f"{store.name}-history.jsonl")

    def append(self, swap: LoggedSwap) -> None:
        """Append a swap and sync it to the disk.

        Raises:
            OSError: It may not be on the disk.
        """
        line = dumps([swap.key, swap.revision, swap.epoch, swap.document, swap.record])
        # A newline first, so that a line truncated by a kill or a full disk stays separate.
        data = f"\n{line}\n".encode()
        file = os.open(self.path, _FLAGS, 0o600)
        try:
            os.write(file, data)
            os.fsync(file)
        finally:
            os.close(file)

    def swaps(self) -> dict[str, dict[int, LoggedSwap]]:
        """Return the swaps of every rollout, by revision.

        Raises:
            OSError: It cannot be read.
        """
        found: dict[str, dict[int, LoggedSwap]] = {}
        try:
            with self.path.open("rb") as file:
                for line in file:
                    swap = _parsed(line)
                    if swap is not None:
                        found.setdefault(swap.key, {})[swap.revision] = swap
        except FileNotFoundError:
            return {}
        return found

    def is_level(self, connection: sqlite3.Connection) -> bool:
        """Whether the store and the log have the same revisions."""
        return _revisions(connection) == {key: max(swaps) for key, swaps in self.swaps().items()}

    def level(self, connection: sqlite3.Connection) -> None:
        """Replay swaps that the store has lost, and append those that the log lacks; needs a writing transaction.

        Raises:
            OSError: The log cannot be read or written.
        """
        logged, there = self.swaps(), _revisions(connection)
        for key, swaps in logged.items():
            behind = [swaps[revision] for revision in sorted(swaps) if revision > there.get(key, -1)]
            # A damaged line must not replace what is there.
            if lost := [swap for swap in behind if _is_sound(swap)]:
                last = lost[-1]
                document = (key, last.revision, last.epoch, last.document)
                connection.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)", document)
                connection.executemany("INSERT INTO history (key, record) VALUES (?, ?)", [(key, each.record) for each in lost])
                connection.execute("DELETE FROM parts WHERE key = ? AND epoch != ?", (key, last.epoch))
        for key, revision in there.items():
            if revision > max(logged.get(key, (-1,))):
                self.append(_newest(connection, key))


def _revisions(connection: sqlite3.Connection) -> dict[str, int]:
    with closing(connection.execute("SELECT key, revision FROM documents")) as rows:
        found = dict(rows)
    for key, revision in found.items():
        if not isinstance(key, str) or not isinstance(revision, int):
            raise ValueError(f"{key!r:.60} has the revision {revision!r:.60}")  # noqa: TRY004 - a damaged file, not misuse
    return found


def _newest(connection: sqlite3.Connection, key: str) -> LoggedSwap:
    """Return the last swap of a rollout in the store."""
    document = connection.execute("SELECT revision, epoch, document FROM documents WHERE key = ?", (key,)).fetchone()
    record = connection.execute("SELECT record FROM history WHERE key = ? ORDER BY number DESC LIMIT 1", (key,)).fetchone()
    revision, epoch, text = document
    if not isinstance(epoch, int) or not isinstance(text, str) or not (record is None or isinstance(record[0], str)):
        raise ValueError(f"the document of {key!r:.60} is damaged")
    return LoggedSwap(key, revision, epoch, text, "{}" if record is None else record[0])


def _is_sound(swap: LoggedSwap) -> bool:
    """Whether document and record are as a swap writes them."""
    try:
        parsed(swap.record)
        return bool(parsed(swap.document).get("revision") == swap.revision)
    except ValueError:
        return False


def _parsed(line: bytes) -> LoggedSwap | None:
    try:
        fields: Any = loads(line)
        key, revision, epoch, document, record = fields
    except (ValueError, TypeError, RecursionError):
        return None
    is_swap = [type(field) for field in fields] == [str, int, int, str, str]
    # The SDK writes no numbers that SQLite cannot hold, and no keys that it cannot write.
    is_swap = is_swap and 0 <= revision <= LARGEST_NUMBER and 0 <= epoch <= LARGEST_NUMBER and is_unicode(key)
    return LoggedSwap(key, revision, epoch, document, record) if is_swap else None
