"""A journal in DuckDB: its lines as typed events, and the statements that reduce them. Needs the extra [analysis]."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from rollout_sdk.analysis.segment_sums import Asked
from rollout_sdk.journal import Journal
from rollout_sdk.journal.compacted import parquet_of

__all__ = ["KEY_OF", "Relations", "events_of", "is_installed", "statements"]

_MEMORY = "1GB"
_ROWS_AT_ONCE = 10_000
_LINES = (
    "SELECT filename AS file, json AS line FROM read_json_objects($paths, format = 'newline_delimited', ignore_errors = true, "
    "filename = true, maximum_object_size = 4194304)"
)
QUOTE = "'"
KEY_OF = "CREATE TEMP MACRO key_of(name) AS CAST(md5_number(name) % 9223372036854775807 AS BIGINT)"
_NO_LINES = "SELECT '' AS file, '' AS line WHERE false"
_KEPT = "SELECT * REPLACE (CASE WHEN NOT is_plain THEN line END AS line) FROM"
_STATEMENT = re.compile(r"^-- name: (\w+)\n(.*?);\n", re.MULTILINE | re.DOTALL)


def events_of(*, files: bool = True) -> str:
    """The query for the events of JSON lines: of $paths, or of no file."""
    return " ".join(["WITH lines AS (", _LINES if files else _NO_LINES, ") SELECT * FROM (", _text("events.sql"), ")"])


def is_installed() -> bool:
    """Whether DuckDB is installed."""
    return find_spec("duckdb") is not None


_NUMBERED = """
CREATE TEMP VIEW numbered AS
SELECT *, row_number() OVER (PARTITION BY happening ORDER BY file, number) AS copy FROM events WHERE event = 'outcome'
"""
_ONCE = "CREATE TEMP VIEW numbered AS SELECT *, 1 AS copy FROM events WHERE event = 'outcome'"
_OUTCOMES = """
CREATE TEMP VIEW outcomes AS
SELECT *, coalesce(call IN (SELECT call FROM special), false) AS is_of_rows FROM numbered WHERE copy = 1 AND is_plain
"""
_SPECIAL = """
CREATE TEMP TABLE special AS
SELECT call FROM events WHERE event = 'decision' AND NOT is_plain AND call IS NOT NULL
UNION ALL
SELECT key_of(id) AS call FROM (
    SELECT unnest(json_extract_string(line, '$.ids[*]')) AS id FROM events WHERE event = 'rows' AND NOT is_plain
)
"""


_ASKED = (
    "CREATE OR REPLACE TEMP TABLE asked (rollout VARCHAR, fingerprint VARCHAR, metric VARCHAR, is_label INTEGER, "
    "is_windowed INTEGER, window_s DOUBLE, until_s DOUBLE, low DOUBLE, high DOUBLE)"
)


def _text(name: str) -> str:
    return files("rollout_sdk.analysis").joinpath("sql", name).read_text(encoding="utf-8")


def statements() -> Mapping[str, str]:
    """The statements that reduce events to sufficient statistics, by name: plain SQL, for DuckDB and Spark."""
    return {found[1]: found[2] for found in _STATEMENT.finditer(_text("reduce.sql"))}


class Relations:
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

        self._spill = tempfile.TemporaryDirectory(prefix="rollout-")
        self.database = duckdb.connect(config={"memory_limit": memory, "temp_directory": self._spill.name})
        # DuckDB would draw its own on standard output, where the report goes.
        self.database.execute("SET enable_progress_bar = false")
        self.database.execute(KEY_OF)
        self._statements = statements()
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
        self.database.execute(f"CREATE TEMP VIEW events AS {events}")
        left_out = sum(part.damaged for part in compacted.values())
        self.lines = self.value("SELECT count(*) FROM events") + left_out
        self.damaged = self.value("SELECT count(*) FROM events WHERE NOT is_plain AND line IS NULL") + left_out
        self.cut = sum(part.cut for part in compacted.values())

    def __enter__(self) -> Self:
        """Close it in the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.database.close()
        self._spill.cleanup()

    def prepare(self) -> bool:
        """Make `special`, calls that the Python reader reads, and `outcomes`, each once; whether some are there repeatedly."""
        self.database.execute(_SPECIAL)
        repeated = self.value("SELECT count(happening) - count(DISTINCT happening) FROM events WHERE event = 'outcome'")
        self.database.execute(_NUMBERED if repeated else _ONCE)
        self.database.execute(_OUTCOMES)
        return bool(repeated)

    def ask(self, asked: Mapping[tuple[str, str], Asked]) -> None:
        """Make `asked`, what is asked about segments by rollout and fingerprint; a row without a metric asks for calls only."""
        self.database.execute(_ASKED)
        rows = [
            (*which, metric, int(each.per == "outcome"), int(each.window > 0), each.window or math.inf, one.until_s(each),
             *(each.clip or (-math.inf, math.inf)))
            for which, one in asked.items()
            for metric, each in one.criteria.items()
        ]  # fmt: skip
        rows += [(*which, "", 0, 0, math.inf, math.inf, -math.inf, math.inf) for which in asked]
        self.database.executemany("INSERT INTO asked VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def value(self, query: str) -> Any:
        """The only value of a query."""
        found = self.database.execute(query).fetchone()
        return None if found is None else found[0]

    def rows(self, query: str, values: Mapping[str, Any] | None = None) -> Iterator[tuple[Any, ...]]:
        """The rows of a query; not to be interleaved with another."""
        result = self.database.execute(query, values)
        while found := result.fetchmany(_ROWS_AT_ONCE):
            yield from found

    def reduced(self, name: str) -> Iterator[tuple[Any, ...]]:
        """The rows of one of the statements."""
        return self.rows(self._statements[name])

    def file(self, name: str) -> Path:
        """The path of a file that a row names."""
        return Path(name)
