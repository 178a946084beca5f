"""A journal in DuckDB: its lines as typed events. Needs the extra [analysis]."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Self

from rollout_sdk.analysis.relations import Relations, sql_text, statements
from rollout_sdk.journal import Journal
from rollout_sdk.journal.compacted import parquet_of

__all__ = ["KEY_OF", "InDuckDB", "events_of", "is_installed"]

_MEMORY = "1GB"
# Rows may be lists of all durations of a bucket.
_ROWS_AT_ONCE = 64
_LINES = (
    "SELECT filename AS file, json AS line FROM read_json_objects($paths, format = 'newline_delimited', ignore_errors = true, "
    "filename = true, maximum_object_size = 4194304)"
)
QUOTE = "'"
KEY_OF = "CREATE TEMP MACRO key_of(name) AS CAST(md5_number_lower(name) >> 1 AS BIGINT)"
NUMBER_OF = "CREATE TEMP MACRO number_of(name) AS hash(name)"
_NO_LINES = "SELECT '' AS file, '' AS line WHERE false"
_KEPT = "SELECT * REPLACE (CASE WHEN NOT is_plain THEN line END AS line) FROM"
# Numbers of this process alone: DuckDB's hash may change with its version.
_EVENTS = """
CREATE TEMP VIEW events AS
SELECT *, CASE WHEN event = 'outcome' THEN hash(rollout, metric, item, is_position, named,
    CASE WHEN named IS NULL THEN value END, CASE WHEN named IS NULL THEN trunc(t * 1000) END,
    CASE WHEN named IS NULL THEN call END, CASE WHEN named IS NULL AND call IS NULL THEN unit END) END AS happening
FROM ({})
"""
_LISTED = """
CREATE TEMP VIEW listed AS
SELECT unnest(json_extract_string(line, '$.ids[*]')) AS id FROM events WHERE event = 'rows' AND NOT is_plain
"""


def events_of(*, files: bool = True) -> str:
    """The query for the events of JSON lines: of $paths, or of no file."""
    return " ".join(["WITH lines AS (", _LINES if files else _NO_LINES, ") SELECT * FROM (", sql_text("events.sql"), ")"])


def is_installed() -> bool:
    """Whether DuckDB is installed."""
    return find_spec("duckdb") is not None


class InDuckDB(Relations):
    """The events of a journal, in a database of their own in memory, which goes to disk where memory is short."""

    def __init__(self, journal: Journal, *, memory: str = _MEMORY) -> None:
        """Read the lines.

        Args:
            journal: The journal.
            memory: Most memory that DuckDB may use.

        Raises:
            duckdb.Error: A file cannot be read, or a line is longer than 4 MiB.
        """
        import duckdb

        super().__init__()
        self._statements |= statements("judge.sql")
        self._spill = tempfile.TemporaryDirectory(prefix="rollout-")
        self.database = duckdb.connect(config={"memory_limit": memory, "temp_directory": self._spill.name})
        # DuckDB would draw its own on standard output, where the report goes.
        self.database.execute("SET enable_progress_bar = false")
        self.database.execute(KEY_OF)
        # Numbers of this process alone, as those below.
        self.database.execute(NUMBER_OF)
        compacted = journal.compacted
        paths = [str(path) for path in journal.files if path.name not in compacted and journal.size(path)]
        parquet = [file for folder in {part.folder for part in compacted.values()} for file in parquet_of(folder)]
        self.database.execute(
            f"CREATE TEMP TABLE written AS {_KEPT} ({events_of(files=bool(paths))})", {"paths": paths} if paths else None
        )
        events = "SELECT *, rowid AS number FROM written"
        if parquet:
            listed = ", ".join(f"'{file.replace(QUOTE, QUOTE * 2)}'" for file in parquet)
            events += f" UNION ALL BY NAME {_KEPT} read_parquet([{listed}], hive_partitioning = false, union_by_name = true)"
        self.database.execute(_EVENTS.format(events))
        self.database.execute(_LISTED)
        left_out = sum(part.damaged for part in compacted.values())
        ((lines, damaged),) = self.reduced("lines")
        self.lines, self.damaged = lines + left_out, int(damaged or 0) + left_out
        self.cut = sum(part.cut for part in compacted.values())

    def __enter__(self) -> Self:
        """Close it in the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.database.close()
        self._spill.cleanup()

    def rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a query; they are read before the next query is made."""
        result = self.database.execute(query)
        while found := result.fetchmany(_ROWS_AT_ONCE):
            yield from found

    def define(self, name: str, query: str, *, is_kept: bool) -> None:
        """Make a view of a query, or, where it is kept, a table."""
        self.database.execute(f"CREATE TEMP {'TABLE' if is_kept else 'VIEW'} {name} AS {query}")

    def drop(self, name: str) -> None:
        """Forget a table that no statement needs any more."""
        self.database.execute(f"DROP TABLE IF EXISTS {name}")

    def keep(self, name: str, columns: Mapping[str, str], rows: Iterable[tuple[Any, ...]]) -> None:
        """Make a table of rows, with these columns and their types in SQL, in place of an earlier one."""
        lists = dict(zip(columns, map(list, zip(*rows, strict=True)), strict=False))
        made = ", ".join(f"CAST(unnest(${column}) AS {kind}) AS {column}" for column, kind in columns.items())
        self.database.execute(
            f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT {made}", {each: lists.get(each, []) for each in columns}
        )
