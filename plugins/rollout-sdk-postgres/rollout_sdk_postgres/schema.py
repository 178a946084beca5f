"""The tables, which the first process that writes creates or migrates.

Names and texts are bytes in UTF-8, so that a database of any encoding can hold any text; documents and records are JSON in
ASCII.
"""

from __future__ import annotations

from typing import Any

from rollout_sdk import StoreError
from rollout_sdk_postgres.connections import TimedConnection

__all__ = ["MIGRATIONS", "migrate", "script", "version_of"]

MIGRATIONS = (
    # The epoch and the cursor of a rollout are in their own small row, because every publication locks and writes it.
    """
CREATE TABLE {schema}.documents (
    key bytea PRIMARY KEY, revision bigint NOT NULL, epoch bigint NOT NULL, document text NOT NULL);
CREATE TABLE {schema}.fences (key bytea PRIMARY KEY, epoch bigint NOT NULL, cursor bigint NOT NULL);
CREATE TABLE {schema}.history (number bigserial PRIMARY KEY, key bytea NOT NULL, record text NOT NULL);
CREATE INDEX history_of_key ON {schema}.history (key, number);
CREATE TABLE {schema}.parts (
    key bytea NOT NULL, writer bytea NOT NULL, part bytea NOT NULL, epoch bigint NOT NULL, cursor bigint NOT NULL,
    sent bigint NOT NULL, text bytea NOT NULL, PRIMARY KEY (key, writer, part));
CREATE INDEX parts_after_cursor ON {schema}.parts (key, cursor);
CREATE TABLE {schema}.notes (key bytea NOT NULL, name bytea NOT NULL, text bytea NOT NULL, PRIMARY KEY (key, name));
""",
    # Outcomes that several processes receive and that count once.
    """
CREATE TABLE {schema}.claims (
    number bigserial PRIMARY KEY, key bytea NOT NULL, epoch bigint NOT NULL, name bytea NOT NULL, claimant bytea NOT NULL,
    UNIQUE (key, epoch, name));
""",
)
_LOCK = 0x726F6C6C6F7574
_VERSIONS = "CREATE TABLE {schema}.migrations (version bigint PRIMARY KEY, made_at timestamptz NOT NULL DEFAULT now());"


def script(schema: str, after: int = 0) -> str:
    """Return the statements that migrate a schema from a version to the newest; from 0, they create the tables."""
    steps = [
        f"{step.format(schema=schema)}INSERT INTO {schema}.migrations (version) VALUES ({number});"  # noqa: S608 - a checked name
        for number, step in enumerate(MIGRATIONS[after:], after + 1)
    ]
    return "\n".join([_VERSIONS.format(schema=schema), *steps] if after == 0 else steps)


def version_of(connection: TimedConnection, schema: str, shown: str) -> int:
    """Return the version of a schema; 0 if it does not exist.

    Raises:
        StoreError: A later version of this package created it.
    """
    # Read from a catalog table, because to_regclass may return what was true before the lock was taken.
    if not _first(connection, "SELECT count(*) FROM pg_tables WHERE schemaname = %s AND tablename = 'migrations'", schema):
        return 0
    version = int(_first(connection, f"SELECT coalesce(max(version), 0) FROM {schema}.migrations"))  # noqa: S608 - a checked name
    if version > len(MIGRATIONS):
        raise StoreError(
            f"The schema {schema!r} of the store {shown!r} has the version {version}, and this process knows "
            f"{len(MIGRATIONS)}. A later rollout-sdk-postgres has created it. Install that version here, too."
        )
    return version


def migrate(connection: TimedConnection, schema: str, shown: str) -> None:
    """Create or migrate the schema. If many processes start at the same time, one of them does it.

    Raises:
        StoreError: A later version of this package created it.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        version = version_of(connection, schema, shown)
        # The owner of an existing schema may lack the right to create one.
        if not _first(connection, "SELECT count(*) FROM pg_namespace WHERE nspname = %s", schema):
            connection.execute(f"CREATE SCHEMA {schema}".encode())
        connection.execute(script(schema, version).encode())


def _first(connection: TimedConnection, query: str, *values: object) -> Any:
    row = connection.execute(query.encode(), values or None).fetchone()
    return None if row is None else row[0]
