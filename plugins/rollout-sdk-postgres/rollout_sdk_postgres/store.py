"""A store in Postgres, for processes on many machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from time import monotonic, monotonic_ns
from typing import Any

from psycopg import errors

from rollout_sdk import StoreError
from rollout_sdk.control.stores import (
    Gathered,
    Stored,
    checked_document,
    checked_name,
    checked_number,
    checked_text,
    parsed,
    plain,
)
from rollout_sdk_postgres import statements
from rollout_sdk_postgres.addresses import DEFAULT_SCHEMA, Address
from rollout_sdk_postgres.connections import Connections, TimedConnection
from rollout_sdk_postgres.failures import cause_of, cure_of
from rollout_sdk_postgres.listening import Listener
from rollout_sdk_postgres.schema import MIGRATIONS, migrate, version_of

__all__ = ["PostgresStore"]

_MOST_CLAIMS = 1_000_000
_LOOK_AT_VERSION_EVERY_S = 5.0


class PostgresStore:
    """Keeps everything in a schema of a Postgres database. See `rollout_sdk.control.stores.StateStore` for what it promises.

    The first process that writes creates the schema. A forked child opens its own connections; a store is pickled as its
    settings.
    """

    def __init__(self, url: str, *, timeout_s: float = 1.0, schema: str = DEFAULT_SCHEMA) -> None:
        """Create a store; it connects at its first use.

        Args:
            url: `postgresql://user:password@host:5432/database`, with the options of libpq (`sslmode=verify-full`, several
                hosts and `target_session_attrs=read-write`, ...) and `timeout_s`, `schema`, and `listen`: `host:port` of the
                server behind a pooler, or `off`.
            timeout_s: Seconds that the server may take to answer. Connecting may take 2 s, libpq's minimum.
            schema: The schema of all tables.

        Raises:
            ConfigurationError: `url` is not an address of Postgres.
        """
        self._url = url
        self._address = Address.parse(url, timeout_s=timeout_s, schema=schema)
        self._connections = Connections(self._address.options, self._address.timeout_s)
        self._listener = Listener(self._address)
        self._version, self._look_again_at = 0, 0.0
        self._closed = False

    @property
    def timeout_s(self) -> float:
        """Seconds that the server may take to answer."""
        return self._address.timeout_s

    def __repr__(self) -> str:
        """Show the address without login and options."""
        return f"PostgresStore({self._address.shown!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the settings."""
        address = self._address
        return (partial(PostgresStore, timeout_s=address.timeout_s, schema=address.schema), (self._url,))

    def load(self, key: str) -> Stored | None:
        """Return the document of this key."""
        with self._rows(statements.LOAD, key) as rows:
            return Stored(rows[0][0], parsed(rows[0][1])) if rows else None

    def swap(self, key: str, expected: int | None, document: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
        """Replace the document if it has the expected revision, and add the record to the history."""
        revision, epoch, text = checked_document(expected, document)
        values = {"revision": revision, "epoch": epoch, "document": text, "record": plain("record", record)}
        values |= {"expected": expected, "channel": self._address.schema}
        statement = statements.CREATE if expected is None else statements.REPLACE
        # A later version may have come while this process runs, and a rollout must not move in what it does not know.
        self._look_again_at = 0.0
        with self._rows(statement, key, writes=True, **values) as rows:
            if rows[0][0]:
                return True
        stored = self.load(key)
        if stored is not None and stored.revision == expected:
            checked_number("epoch", epoch, above=stored.document["epoch"] - 1)
        return False

    def publish(self, key: str, epoch: int, writer: str, parts: Mapping[str, str]) -> bool:
        """Replace these parts of this writer, if the document has this epoch."""
        checked_number("epoch", epoch)
        values: dict[str, Any] = {"epoch": epoch, "writer": checked_name("writer", writer).encode(), "sent": monotonic_ns()}
        values["names"] = [checked_name("part", part).encode() for part in parts]
        values["texts"] = [checked_text("part", text).encode() for text in parts.values()]
        with self._rows(statements.PUBLISH, key, writes=True, **values) as rows:
            return bool(rows[0][0])

    def gather(self, key: str, epoch: int, after: int = 0) -> Gathered:
        """Return the parts of all writers in this epoch that have changed after this cursor."""
        values: dict[str, Any] = {"epoch": checked_number("epoch", epoch), "after": checked_number("cursor", after)}
        with self._rows(statements.GATHER, key, **values) as rows:
            found = {(writer.decode(), part.decode()): text.decode() for _, writer, part, text in rows if part is not None}
            return Gathered(rows[0][0] if rows else 0, found)

    def claim(self, key: str, epoch: int, claimant: str, names: Sequence[str]) -> frozenset[str]:
        """Claim names, if the document has this epoch. The last million claims are remembered."""
        values: dict[str, Any] = {"epoch": checked_number("epoch", epoch)}
        values["claimant"] = checked_name("claimant", claimant).encode()
        values["names"] = sorted({checked_name("claim", name).encode() for name in names})
        with self._rows(statements.CLAIM, key, writes=True, **values) as rows:
            own = frozenset(name.decode() for (name,) in rows)
        with self._rows(statements.FORGET_CLAIMS, key, most=_MOST_CLAIMS):
            return own

    def note(self, key: str, name: str, text: str) -> None:
        """Set a note."""
        values = {"name": checked_name("note", name).encode(), "text": checked_text("note", text).encode()}
        with self._rows(statements.NOTE, key, writes=True, **values):
            pass

    def noted(self, key: str, name: str) -> str | None:
        """Return a note."""
        with self._rows(statements.NOTED, key, name=checked_name("note", name).encode()) as rows:
            return str(rows[0][0].decode()) if rows else None

    def history(self, key: str) -> list[Mapping[str, Any]]:
        """Return the records of all successful swaps, oldest first."""
        with self._rows(statements.HISTORY, key) as rows:
            return [parsed(record) for (record,) in rows]

    def keys(self) -> list[str]:
        """Return the keys that have a document, sorted."""
        with self._rows(statements.KEYS) as rows:
            return sorted(key.decode() for (key,) in rows)

    def wait_for_change(self, timeout_s: float) -> bool:
        """Wait until the server reports a changed document, for at most `timeout_s`."""
        with self._failing():
            return self._listener.wait(timeout_s)

    def close(self) -> None:
        """Close the connections."""
        self._closed = True
        self._connections.close()
        self._listener.close()

    @contextmanager
    def _rows(self, statement: str, key: str | None = None, *, writes: bool = False, **values: Any) -> Iterator[list[Any]]:
        """Provide the rows of a statement; none if there is no schema."""
        if key is not None:
            values["key"] = checked_name("key", key).encode()
        with self._failing():
            with self._connections.one() as connection:
                if self._is_ready(connection, writes=writes):
                    cursor = connection.execute(statement.format(schema=self._address.schema).encode(), values)
                    rows = cursor.fetchall() if cursor.description else []
                else:
                    rows = []
            yield rows

    def _is_ready(self, connection: TimedConnection, *, writes: bool) -> bool:
        """Whether there are tables; creates them for writes only, so that reading changes nothing."""
        if self._version < len(MIGRATIONS) or monotonic() >= self._look_again_at:
            # Whatever fails, it is looked at again.
            self._version = 0
            self._version = version_of(connection, self._address.schema, self._address.shown)
            self._look_again_at = monotonic() + _LOOK_AT_VERSION_EVERY_S
        if self._version < len(MIGRATIONS) and writes:
            migrate(connection, self._address.schema, self._address.shown)
            self._version = len(MIGRATIONS)
        return self._version > 0

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Convert every error into a `StoreError`."""
        if self._closed:
            raise StoreError(f"The store {self._address.shown!r} was used after it was closed. Open another.")
        try:
            yield
        except StoreError:
            raise
        # Any exception: stored data may be damaged.
        except Exception as error:
            if isinstance(error, errors.UndefinedTable | errors.InvalidSchemaName | errors.UndefinedColumn):
                self._version = 0
            raise StoreError(f"The store {self._address.shown!r} failed: {cause_of(error)}. {cure_of(error)}") from error
