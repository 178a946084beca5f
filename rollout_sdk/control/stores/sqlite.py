"""A store in one SQLite file, for all processes of one machine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from rollout_sdk.control.stores.sqlite_file import SQLiteFile
from rollout_sdk.control.stores.swap_log import LoggedSwap
from rollout_sdk.control.stores.validation import checked_document, checked_name, checked_number, checked_text, parsed, plain
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.plugins.store_protocol import Gathered, Stored

__all__ = ["SQLiteStore"]

_MOST_CLAIMS = 1_000_000
_AT_ONCE = 500
_CLAIMS = """CREATE TABLE IF NOT EXISTS claims (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL, epoch INTEGER NOT NULL, name TEXT NOT NULL, claimant TEXT NOT NULL,
    UNIQUE (key, epoch, name))"""


class SQLiteStore:
    """Keeps everything in an SQLite file. See `StateStore` for the contract of the methods.

    Its history is written to a second file, with "-history.jsonl" after the same name: a store that is deleted, truncated or
    restored from a backup is brought up to date from it, so that an abort stays. To start again, remove both.

    The file must be on a local disk: SQLite's locks do not work on network file systems. Changes survive `kill -9` and power
    failures. A forked child opens its own connection; a pickled store is its settings.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout_s: float = 1.0, must_exist: bool = False) -> None:
        """Set the path; the first use opens the file, and creates it if it is missing (mode 0600).

        Args:
            path: The file, in an existing directory.
            timeout_s: How long a method may wait for other threads and processes, in seconds.
            must_exist: Create no file: the first use of a missing one is an error, for operators, whose address may have a
                typo.

        Raises:
            ConfigurationError: The path or the timeout is not valid.
        """
        self._begin(path, _checked_timeout(timeout_s), must_exist)
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
        """Restore the settings; if the file is missing, the first use is an error."""
        self._begin(*state)

    def load(self, key: str) -> Stored | None:
        """Return the document of this key."""
        checked_name("key", key)
        with self._file.transaction("read") as connection:
            row = connection.execute("SELECT revision, document FROM documents WHERE key = ?", (key,)).fetchone()
            return None if row is None else Stored(_whole(row[0]), parsed(row[1]))

    def swap(self, key: str, expected: int | None, document: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
        """Replace the document if it has the expected revision, and add the record to the history."""
        checked_name("key", key)
        revision, epoch, text = checked_document(expected, document)
        line = plain("record", record)
        with self._file.transaction("written", writes=True) as connection:
            # The file may have been replaced by a backup while it is open.
            self._file.log.level(connection)
            row = connection.execute("SELECT revision, epoch FROM documents WHERE key = ?", (key,)).fetchone()
            if expected != (None if row is None else row[0]):
                return False
            if row is not None:
                checked_number("epoch", epoch, above=_whole(row[1]) - 1)
            connection.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)", (key, revision, epoch, text))
            connection.execute("INSERT INTO history (key, record) VALUES (?, ?)", (key, line))
            connection.execute("DELETE FROM parts WHERE key = ? AND epoch != ?", (key, epoch))
        # After the commit, because a failed swap must not be replayed. If this fails, the next process adds it.
        with suppress(OSError):
            self._file.log.append(LoggedSwap(key, revision, epoch, text, line))
        return True

    def publish(self, key: str, epoch: int, writer: str, parts: Mapping[str, str]) -> bool:
        """Replace these parts of this writer, if the document has this epoch."""
        checked_name("key", key)
        checked_number("epoch", epoch)
        checked_name("writer", writer)
        texts = {checked_name("part", part): checked_text("part", text) for part, text in parts.items()}
        with self._file.transaction("written", writes=True) as connection:
            row = connection.execute("SELECT epoch FROM documents WHERE key = ?", (key,)).fetchone()
            if row is None or row[0] != epoch:
                return False
            # Only one writer at a time gets here, so that cursors become visible in order.
            (cursor,) = connection.execute("SELECT cursor FROM rollout_store").fetchone()
            before = connection.total_changes
            # An unchanged part is not written, and not gathered again.
            connection.executemany(
                "INSERT INTO parts VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key, epoch, writer, part) "
                "DO UPDATE SET cursor = excluded.cursor, text = excluded.text WHERE text != excluded.text",
                [(key, epoch, writer, part, cursor + 1, text) for part, text in texts.items()],
            )
            if connection.total_changes != before:
                connection.execute("UPDATE rollout_store SET cursor = ?", (cursor + 1,))
        return True

    def gather(self, key: str, epoch: int, after: int = 0) -> Gathered:
        """Return the parts of all writers in this epoch that have changed after this cursor."""
        checked_name("key", key)
        checked_number("epoch", epoch)
        checked_number("cursor", after)
        with self._file.transaction("read") as connection:
            cursor = _whole(connection.execute("SELECT cursor FROM rollout_store").fetchone()[0])
            # A cursor from the future belongs to another file: parts may be returned twice, but must not be missed.
            found = connection.execute(
                "SELECT writer, part, text FROM parts WHERE key = ? AND epoch = ? AND cursor > ?",
                (key, epoch, after if after <= cursor else 0),
            )
            with closing(found):
                return Gathered(cursor, {(writer, part): _text(text) for writer, part, text in found})

    def claim(self, key: str, epoch: int, claimant: str, names: Sequence[str]) -> frozenset[str]:
        """Claim names, if the document has this epoch; return those of this claimant. The last million is kept."""
        checked_name("key", key)
        checked_number("epoch", epoch)
        checked_name("claimant", claimant)
        wanted = [checked_name("claim", name) for name in names]
        own: set[str] = set()
        with self._file.transaction("written", writes=True) as connection:
            row = connection.execute("SELECT epoch FROM documents WHERE key = ?", (key,)).fetchone()
            if row is None or row[0] != epoch:
                return frozenset()
            # Made by the first claim, also in stores of earlier versions.
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
        """Set a note."""
        row = (checked_name("key", key), checked_name("note", name), checked_text("note", text))
        with self._file.transaction("written", writes=True) as connection:
            connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", row)

    def noted(self, key: str, name: str) -> str | None:
        """Return a note."""
        of = (checked_name("key", key), checked_name("note", name))
        with self._file.transaction("read") as connection:
            row = connection.execute("SELECT text FROM notes WHERE key = ? AND name = ?", of).fetchone()
            return None if row is None else _text(row[0])

    def history(self, key: str) -> list[Mapping[str, Any]]:
        """Return the records of all swaps, oldest first."""
        checked_name("key", key)
        with self._file.transaction("read") as connection:
            found = connection.execute("SELECT record FROM history WHERE key = ? ORDER BY number", (key,))
            with closing(found):
                return [parsed(record) for (record,) in found]

    def keys(self) -> list[str]:
        """Return the keys that have a document, sorted."""
        with self._file.transaction("read") as connection, closing(connection.execute("SELECT key FROM documents")) as found:
            return sorted(_text(key) for (key,) in found)

    def close(self) -> None:
        """Close the connection."""
        self._file.close()


def _whole(value: object) -> int:
    """Return an integer read from the file, which may be damaged."""
    if not isinstance(value, int):
        raise ValueError(f"{value!r:.60} stands where a whole number was written")  # noqa: TRY004 - a damaged file, not misuse
    return value


def _text(value: object) -> str:
    """Return a string read from the file, which may be damaged."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.60} stands where a text was written")  # noqa: TRY004 - a damaged file, not misuse
    return value


def _checked_timeout(timeout_s: Any) -> float:
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s <= 3600:
        raise ConfigurationError(
            f"A store was given timeout_s={timeout_s!r:.40}. It is how long a store may wait, in seconds: above 0, at most "
            "3600. Leave it out for 1 s."
        )
    return float(timeout_s)
