"""An SQLite file: its connection and transactions, also in forked children."""

from __future__ import annotations

import os
import sqlite3
import stat
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.control.stores.swap_log import SwapLog
from rollout_sdk.control.stores.transaction_lock import TransactionLock
from rollout_sdk.control.stores.validation import MOST_BYTES
from rollout_sdk.exceptions import ConfigurationError, StoreError
from rollout_sdk.formatting import nearest

__all__ = ["SCHEMA", "SQLiteFile"]

SCHEMA = 1
_TABLES = (
    "CREATE TABLE rollout_store (schema INTEGER NOT NULL, cursor INTEGER NOT NULL)",
    "CREATE TABLE documents (key TEXT PRIMARY KEY, revision INTEGER NOT NULL, epoch INTEGER NOT NULL, document TEXT NOT NULL)",
    "CREATE TABLE history (number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, record TEXT NOT NULL)",
    "CREATE INDEX history_of ON history (key, number)",
    """CREATE TABLE parts (
        key TEXT NOT NULL, epoch INTEGER NOT NULL, writer TEXT NOT NULL, part TEXT NOT NULL,
        cursor INTEGER NOT NULL, text TEXT NOT NULL, PRIMARY KEY (key, epoch, writer, part))""",
    "CREATE INDEX parts_after ON parts (key, epoch, cursor)",
    "CREATE TABLE notes (key TEXT NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (key, name))",
)

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_LOCKED = "Another program has it locked: it is tried again, and if this lasts, find the program (fuser, lsof)."
_CURES = {
    **dict.fromkeys(_BUSY, _LOCKED),
    sqlite3.SQLITE_FULL: "Make room on its disk.",
    sqlite3.SQLITE_READONLY: "Let this process write the file and its directory.",
    sqlite3.SQLITE_CANTOPEN: "Let this process read and write the file and its directory.",
    sqlite3.SQLITE_CORRUPT: "The file is damaged: move it away, and it is recreated from the history beside it.",
    sqlite3.SQLITE_NOTADB: "This is not a database: give the store its own file.",
}
_CURE = "Check its disk; if the file is damaged, move it away, and it is recreated from the history beside it."


class SQLiteFile:
    """One file and one connection, used by one thread at a time, in transactions."""

    def __init__(self, path: str | os.PathLike[str], timeout_s: float, *, must_exist: bool = False) -> None:
        """Open nothing yet."""
        self.path = Path(path).absolute()
        self.must_exist = must_exist
        self.timeout_s = timeout_s
        self.log = SwapLog(self.path)
        self._lock = TransactionLock(2 * timeout_s, self._renew)
        self._connection: sqlite3.Connection | None = None
        self._pid = os.getpid()
        self._opened: tuple[int, int] | None = None
        self._closed = False
        self._closing: weakref.finalize[..., Any] | None = None

    def check(self) -> None:
        """Refuse an impossible path, without access to the disk.

        Raises:
            ConfigurationError: The path has a NUL.
        """
        if "\0" in str(self.path):
            raise ConfigurationError(
                f"The store {str(self.path)!r} has a NUL in its path. A store is a file. Pass the path of one."
            )

    @contextmanager
    def transaction(self, action: str, *, writes: bool = False) -> Iterator[sqlite3.Connection]:
        """Provide a connection in a transaction, which is committed at the end, or rolled back on an exception.

        Args:
            action: The action, for errors: "read" or "written".
            writes: Whether to be the only writer from the start.

        Raises:
            StoreError: Anything failed; raised after about the timeout at the latest.
        """
        deadline = monotonic() + self.timeout_s
        # Even if the fork went unnoticed, a child must not use the parent's connection.
        if self._pid != os.getpid():
            self._renew()
        with self._lock.acquired(self.timeout_s) as is_ours:
            if self._closed:
                raise StoreError(f"The store {str(self.path)!r} was used after it was closed. Open another.")
            if not is_ours:
                raise StoreError(
                    f"The store {str(self.path)!r} could not be {action}: other threads used it for {self.timeout_s} s. "
                    "One thread at a time can use it. Try again, or pass a longer timeout_s."
                )
            try:
                with _transaction(self._connected(deadline), deadline, writes=writes) as connection:
                    yield connection
            except (sqlite3.Error, OSError, ValueError, MemoryError, OverflowError) as error:
                if isinstance(error, StoreError):
                    raise
                raise self._failed(action, error) from error

    def close(self) -> None:
        """Close the connection permanently."""
        if self._pid != os.getpid():
            self._renew()
        with self._lock.acquired(self.timeout_s):
            self._closed = True
            self._disconnect()

    def _connected(self, deadline: float) -> sqlite3.Connection:
        if self._lock.was_torn:
            raise StoreError(
                f"The store {str(self.path)!r} cannot be used in this process: it was forked in the middle of a transaction. "
                "SQLite treats the parent's locks as this process's own. Restart the process."
            )
        status = self._status()
        there = (status.st_dev, status.st_ino)
        if self._connection is not None and there != self._opened:
            # Another file was moved here. Using the old one would separate this process from those that start later.
            self._disconnect()
        if self._connection is None:
            # Only a file that was never used becomes a store.
            is_new = status.st_size == 0 and ((self._opened is None and not self.must_exist) or self.log.path.exists())
            self._connection = self._connect(deadline, is_new=is_new)
            self._opened = there
            # It references the connection, so that the connection is never collected first.
            self._closing = weakref.finalize(self, _close_here, self._connection, self._pid)
            self._closing.atexit = False
        if self._connection.in_transaction:  # after an interrupt
            self._connection.execute("ROLLBACK")
        return self._connection

    def _status(self) -> os.stat_result:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            if self._opened is not None and not self.log.path.exists():
                # An empty store in its place would restart every rollout, including the aborted ones.
                raise StoreError(
                    f"The store {str(self.path)!r} is gone, and so is its history. It is not recreated while processes use it, "
                    "or aborted rollouts would start again. Put both back, or restart the processes."
                ) from None
            if self.must_exist and not self.log.path.exists():
                raise StoreError(self._nothing_there()) from None
            if not self.path.parent.is_dir():
                raise StoreError(
                    f"The store {str(self.path)!r} has no directory: {str(self.path.parent)!r} does not exist. "
                    "A store creates its file, but no directory. Create or mount the directory; it is tried again."
                ) from None
            _create(self.path)
            status = self.path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(self._no_file())
        return status

    def _connect(self, deadline: float, *, is_new: bool) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode=rw",
            uri=True,
            timeout=max(deadline - monotonic(), 0.0),
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            self._prepare(connection, deadline, is_new=is_new)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection, deadline: float, *, is_new: bool) -> None:
        # Lengths in a damaged file are not trusted, and no page is mapped: truncating a mapped file would be a SIGBUS.
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 4 * MOST_BYTES)
        connection.execute("PRAGMA mmap_size = 0")
        connection.execute("PRAGMA cell_size_check = ON")
        # Not WAL: before 3.51.3, which Python does not ship yet, a reset of its log could lose commits, and it never works on
        # network file systems. TRUNCATE, not DELETE, because then the end of a transaction is synchronised as well.
        mode = connection.execute("PRAGMA journal_mode = TRUNCATE").fetchone()[0]
        if mode != "truncate":
            raise ValueError(f"it is in journal mode {mode!r}, and not in 'truncate'")
        # An abort that was confirmed must survive a power failure.
        connection.execute("PRAGMA synchronous = FULL")
        _wait(connection, deadline)
        if is_new and not _tables(connection):
            with _transaction(connection, deadline, writes=True):
                if not _tables(connection):  # no other process was faster
                    for statement in _TABLES:
                        connection.execute(statement)
                    connection.execute("INSERT INTO rollout_store VALUES (?, 0)", (SCHEMA,))
        if "rollout_store" not in _tables(connection):
            raise StoreError(
                f"The store {str(self.path)!r} is not a store: it is the database of another program, or was "
                "truncated. A store has its own file. Give it another path, or restore the file."
            )
        with closing(connection.execute("SELECT schema FROM rollout_store")) as rows:
            schema = [row[0] for row in rows]
        if schema != [SCHEMA]:
            raise StoreError(
                f"The store {str(self.path)!r} has the schema {schema!r:.60}, and this version of rollout_sdk knows {SCHEMA}. "
                "All processes of a store must know its schema. Update rollout_sdk, or give it another path."
            )
        if not self.log.is_level(connection):
            with _transaction(connection, deadline, writes=True):
                self.log.level(connection)

    def _disconnect(self) -> None:
        self._connection = None
        if self._closing is not None:
            self._closing()

    def _renew(self) -> None:
        """In a forked child, abandon the parent's connection."""
        self._disconnect()
        self._pid = os.getpid()

    def _failed(self, action: str, error: Exception) -> StoreError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code not in _BUSY:
            # After any other error, the next transaction opens a new connection.
            self._disconnect()
        cure = _CURES.get(code, _CURE)
        return StoreError(
            f"The store {str(self.path)!r} could not be {action}: {error}. It is an SQLite file that all processes of this "
            f"machine must be able to read and write, within {self.timeout_s} s. {cure}"
        )

    def _nothing_there(self) -> str:
        near = nearest(self.path.name, _stores_in(self.path.parent), cutoff=0.5)
        near_by = "" if near is None else f" Beside it is {near!r}."
        return (
            f"There is no store {str(self.path)!r}.{near_by} The first process that serves a rollout with it creates it. "
            "Pass the address that this process has, such as sqlite:////var/lib/app/rollouts.db."
        )

    def _no_file(self) -> str:
        return f"The store {str(self.path)!r} is not a regular file. A store is an SQLite file. Pass another path."


@contextmanager
def _transaction(connection: sqlite3.Connection, deadline: float, *, writes: bool) -> Iterator[sqlite3.Connection]:
    """Run a transaction whose start and end wait for other processes until the deadline."""
    _wait(connection, deadline)
    # If two readers become writers, one of them must fail: be a writer from the start.
    connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
    try:
        yield connection
        _wait(connection, deadline)
        connection.execute("COMMIT")
    finally:
        # After a commit nothing is open; after a full disk, SQLite has rolled back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _stores_in(folder: Path) -> list[str]:
    """List files that may be stores, for an address with a typo."""
    with suppress(OSError):
        return [path.name for path in folder.iterdir() if path.suffix in (".db", ".sqlite")]
    return []


def _close_here(connection: sqlite3.Connection, pid: int) -> None:
    """Close a connection, but only in the process that opened it."""
    if pid == os.getpid():
        with suppress(sqlite3.Error):
            connection.close()
        return
    # In a forked child, closing it, as its finalizer would, can roll back what the parent is about to commit. It must never be
    # finalized, not even at exit, when modules are cleared: give it a reference that is never dropped.
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _tables(connection: sqlite3.Connection) -> set[str]:
    with closing(connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")) as rows:
        return {row[0] for row in rows}


def _wait(connection: sqlite3.Connection, deadline: float) -> None:
    """Let the next statement wait for other processes until the deadline."""
    connection.execute(f"PRAGMA busy_timeout = {max(int((deadline - monotonic()) * 1000), 1)}")


def _create(path: Path) -> None:
    """Create an empty file that only its owner can read and write, if there is none."""
    with suppress(FileExistsError):
        try:
            # Without opening it: closing a file releases the locks that other connections of this process have on it.
            os.mknod(path, stat.S_IFREG | 0o600)
        except (PermissionError, AttributeError):
            # The directory is not writable; or this is macOS, where only root creates nodes, or Windows, which has none.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
