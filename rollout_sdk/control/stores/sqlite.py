"""A store in one file, for all processes of one machine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from rollout_sdk.control.stores.sqlite_file import SQLiteFile, checked_timeout
from rollout_sdk.control.stores.swap_log import LoggedSwap
from rollout_sdk.control.stores.validation import checked_document, checked_name, checked_number, checked_text, parsed, plain
from rollout_sdk.plugins.store_protocol import Gathered, Stored

__all__ = ["SQLiteStore"]

_MOST_CLAIMS = 1_000_000
_AT_ONCE = 500
_CLAIMS = """CREATE TABLE IF NOT EXISTS claims (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL, epoch INTEGER NOT NULL, name TEXT NOT NULL, claimant TEXT NOT NULL,
    UNIQUE (key, epoch, name))"""


class SQLiteStore:
    """Keeps everything in a file of SQLite. See `StateStore` for what the methods promise.

    Its history stands beside it, in a file with "-history.jsonl" behind the same name: a store that is deleted, cut short or
    restored from a backup is brought forward to it, so that an abort stays. To begin anew, remove both.

    The file must be on a disk of this machine: SQLite's locks do not hold on a network's. What was done lasts, through
    `kill -9` and failing power. A forked child uses the store by a connection of its own; a pickled store is its settings.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout_s: float = 1.0, must_exist: bool = False) -> None:
        """Name the file; it is opened, and made if it is not there (mode 0600), by the first use.

        Args:
            path: The file, in a directory that is there.
            timeout_s: How long a method may wait for other threads and processes, in seconds.
            must_exist: Make no file: one that is not there is an error of the first use, for operators, whose address may
                have a typo.

        Raises:
            ConfigurationError: There can be no store at this path.
        """
        self._begin(path, checked_timeout(timeout_s), must_exist)
        self._file.check()

    def _begin(self, path: str | os.PathLike[str], timeout_s: float, must_exist: bool) -> None:  # noqa: FBT001 - its state
        self._file = SQLiteFile(path, timeout_s, must_exist=must_exist)

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    @property
    def timeout_s(self) -> float:
        """How long a method may wait, in seconds."""
        return self._file.timeout_s

    def __repr__(self) -> str:
        """Its settings."""
        return f"SQLiteStore({str(self.path)!r}, timeout_s={self.timeout_s})"

    def __getstate__(self) -> tuple[str, float, bool]:
        """Its settings."""
        return (str(self.path), self.timeout_s, self._file.must_exist)

    def __setstate__(self, state: tuple[str, float, bool]) -> None:
        """The same store, where it is unpickled; what is not there is an error of its first use."""
        self._begin(*state)

    def load(self, key: str) -> Stored | None:
        """The document of this key."""
        checked_name("key", key)
        with self._file.transaction("read") as connection:
            row = connection.execute("SELECT revision, document FROM documents WHERE key = ?", (key,)).fetchone()
            return None if row is None else Stored(_whole(row[0]), parsed(row[1]))

    def swap(self, key: str, expected: int | None, document: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
        """Replace the document if it is the expected one, and note why."""
        checked_name("key", key)
        revision, epoch, text = checked_document(expected, document)
        told = plain("record", record)
        with self._file.transaction("written", writes=True) as connection:
            # A backup can take the file's place while it is open.
            self._file.log.level(connection)
            row = connection.execute("SELECT revision, epoch FROM documents WHERE key = ?", (key,)).fetchone()
            if expected != (None if row is None else row[0]):
                return False
            if row is not None:
                checked_number("epoch", epoch, above=_whole(row[1]) - 1)
            connection.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)", (key, revision, epoch, text))
            connection.execute("INSERT INTO history (key, record) VALUES (?, ?)", (key, told))
            connection.execute("DELETE FROM parts WHERE key = ? AND epoch != ?", (key, epoch))
        # After the commit: what failed must not be done later. Where this fails, the next process makes up for it.
        with suppress(OSError):
            self._file.log.append(LoggedSwap(key, revision, epoch, text, told))
        return True

    def publish(self, key: str, epoch: int, writer: str, parts: Mapping[str, str]) -> bool:
        """Replace these parts of this writer, if the document is of this epoch."""
        checked_name("key", key)
        checked_number("epoch", epoch)
        checked_name("writer", writer)
        texts = {checked_name("part", part): checked_text("part", text) for part, text in parts.items()}
        with self._file.transaction("written", writes=True) as connection:
            row = connection.execute("SELECT epoch FROM documents WHERE key = ?", (key,)).fetchone()
            if row is None or row[0] != epoch:
                return False
            # One writer at a time has come so far, so that cursors become visible in order.
            (cursor,) = connection.execute("SELECT cursor FROM rollout_store").fetchone()
            before = connection.total_changes
            # A part that is as it was is not written, and not gathered again.
            connection.executemany(
                "INSERT INTO parts VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key, epoch, writer, part) "
                "DO UPDATE SET cursor = excluded.cursor, text = excluded.text WHERE text != excluded.text",
                [(key, epoch, writer, part, cursor + 1, text) for part, text in texts.items()],
            )
            if connection.total_changes != before:
                connection.execute("UPDATE rollout_store SET cursor = ?", (cursor + 1,))
        return True

    def gather(self, key: str, epoch: int, after: int = 0) -> Gathered:
        """The parts of all writers in this epoch that have changed after this cursor."""
        checked_name("key", key)
        checked_number("epoch", epoch)
        checked_number("cursor", after)
        with self._file.transaction("read") as connection:
            cursor = _whole(connection.execute("SELECT cursor FROM rollout_store").fetchone()[0])
            # A cursor from the future is another file's: it is better to hear something twice than never.
            found = connection.execute(
                "SELECT writer, part, text FROM parts WHERE key = ? AND epoch = ? AND cursor > ?",
                (key, epoch, after if after <= cursor else 0),
            )
            with closing(found):
                return Gathered(cursor, {(writer, part): _text(text) for writer, part, text in found})

    def claim(self, key: str, epoch: int, claimant: str, names: Sequence[str]) -> frozenset[str]:
        """Claim names, if the document is of this epoch; those that are this claimant's. The last million is remembered."""
        checked_name("key", key)
        checked_number("epoch", epoch)
        checked_name("claimant", claimant)
        wanted = [checked_name("claim", name) for name in names]
        own: set[str] = set()
        with self._file.transaction("written", writes=True) as connection:
            row = connection.execute("SELECT epoch FROM documents WHERE key = ?", (key,)).fetchone()
            if row is None or row[0] != epoch:
                return frozenset()
            # With the first claim: most stores never have one.
            connection.execute(_CLAIMS)
            connection.execute("DELETE FROM claims WHERE key = ? AND epoch != ?", (key, epoch))
            connection.executemany(
                "INSERT OR IGNORE INTO claims (key, epoch, name, claimant) VALUES (?, ?, ?, ?)",
                [(key, epoch, name, claimant) for name in wanted],
            )
            for start in range(0, len(wanted), _AT_ONCE):
                some = wanted[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                found = connection.execute(
                    f"SELECT name FROM claims WHERE key = ? AND epoch = ? AND claimant = ? AND name IN ({marks})",  # noqa: S608 - marks
                    (key, epoch, claimant, *some),
                )
                with closing(found):
                    own.update(_text(name) for (name,) in found)
            connection.execute("DELETE FROM claims WHERE number <= (SELECT MAX(number) FROM claims) - ?", (_MOST_CLAIMS,))
        return frozenset(own)

    def note(self, key: str, name: str, text: str) -> None:
        """Leave the last word on something."""
        row = (checked_name("key", key), checked_name("note", name), checked_text("note", text))
        with self._file.transaction("written", writes=True) as connection:
            connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", row)

    def noted(self, key: str, name: str) -> str | None:
        """The last word on something."""
        of = (checked_name("key", key), checked_name("note", name))
        with self._file.transaction("read") as connection:
            row = connection.execute("SELECT text FROM notes WHERE key = ? AND name = ?", of).fetchone()
            return None if row is None else _text(row[0])

    def history(self, key: str) -> list[Mapping[str, Any]]:
        """The records of all swaps that were done, oldest first."""
        checked_name("key", key)
        with self._file.transaction("read") as connection:
            found = connection.execute("SELECT record FROM history WHERE key = ? ORDER BY number", (key,))
            with closing(found):
                return [parsed(record) for (record,) in found]

    def keys(self) -> list[str]:
        """The keys that have a document, sorted."""
        with self._file.transaction("read") as connection, closing(connection.execute("SELECT key FROM documents")) as found:
            return sorted(_text(key) for (key,) in found)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def _whole(value: object) -> int:
    """A number of the file's; a damaged file may hold anything anywhere."""
    if not isinstance(value, int):
        raise ValueError(f"{value!r:.60} stands where a whole number was written")  # noqa: TRY004 - a damaged file, no misuse
    return value


def _text(value: object) -> str:
    """A text of the file's; a damaged file may hold anything anywhere."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.60} stands where a text was written")  # noqa: TRY004 - a damaged file, no misuse
    return value
