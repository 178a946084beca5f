"""A journal as four tables, for warehouses, dbt, GrowthBook or a notebook: exposures, outcomes, shadows and transitions.

docs/warehouse.md describes every column. A line of a batch is one exposure for each of its rows; what is in the journal twice
is in the tables once.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rollout_sdk.analysis.facts import recorded, stands_for
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.formatting import brief, several
from rollout_sdk.journal import Journal

if TYPE_CHECKING:
    import duckdb

__all__ = ["TABLES", "export", "read"]

_TELL_EVERY = 10_000
_TEXT, _NUMBER, _COUNT, _TIME, _FLAG = "VARCHAR", "DOUBLE", "BIGINT", "TIMESTAMP", "BOOLEAN"
_ARM = {"rollout": _TEXT, "fingerprint": _TEXT, "phase": _TEXT, "variant": _TEXT}

TABLES: Mapping[str, Mapping[str, str]] = {
    "exposures": {
        "time": _TIME, **_ARM, "strategy": _TEXT, "decision_id": _TEXT, "unit": _TEXT, "bucket": _COUNT, "served": _TEXT,
        "reason": _TEXT, "propensity": _NUMBER, "share": _NUMBER, "excluded": _FLAG, "duration_s": _NUMBER, "error": _TEXT,
        "caller_error": _TEXT, "covariate": _NUMBER, "segments": _TEXT, "stands_for": _COUNT,
    },
    "outcomes": {
        "time": _TIME, **_ARM, "metric": _TEXT, "value": _NUMBER, "decision_id": _TEXT, "decided": _TIME, "unit": _TEXT,
        "item": _TEXT, "position": _COUNT, "event_id": _TEXT, "of_shadow": _FLAG, "stands_for": _COUNT,
    },
    "shadows": {
        "time": _TIME, **_ARM, "decision_id": _TEXT, "unit": _TEXT, "bucket": _COUNT, "end": _TEXT, "duration_s": _NUMBER,
        "control_duration_s": _NUMBER, "error": _TEXT, "match": _FLAG, "difference": _NUMBER, "difference_reason": _TEXT,
        "comparator": _TEXT, "excluded": _FLAG, "stands_for": _COUNT,
    },
    "transitions": {
        "time": _TIME, "rollout": _TEXT, "fingerprint": _TEXT, "version": _TEXT, "id": _TEXT, "action": _TEXT, "status": _TEXT,
        "revision": _COUNT, "from_phase": _TEXT, "to_phase": _TEXT, "actor": _TEXT, "reason": _TEXT,
    },
}  # fmt: skip
"""The columns of every table, with their types."""

_EVENTS = {"decision": "exposures", "outcome": "outcomes", "shadow": "shadows", "transition": "transitions"}
_RENAMED = {"decision_id": "id", "covariate": "cov", "of_shadow": "shadow"}
_ROWS = (
    "SELECT * FROM read_csv('{}', header = true, auto_detect = false, delim = ',', quote = '\"', escape = '\"', "
    "new_line = '\\n', columns = {{{}}}, max_line_size = 8388608)"
)
_DEFAULTS = {"fingerprint": "", "excluded": False, "of_shadow": False}


def export(
    journal: Journal,
    to: str | os.PathLike[str],
    *,
    form: Literal["parquet", "csv"] = "parquet",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Write the tables of a journal, one file each; returns their numbers of rows.

    Args:
        journal: The journal; its counts are those of this reading.
        to: Folder of the files; made where it is missing. Files of an earlier export are replaced, each when it is whole.
        form: What to write: Parquet, which needs DuckDB, or CSV with a head, where an empty field is null.
        progress: Called with the bytes read so far, and with how many there are.

    Raises:
        ConfigurationError: DuckDB is not installed.
    """
    place = Path(to)
    with ExitStack() as stack:
        database = None
        if form == "parquet":
            database = stack.enter_context(_opened("Parquet is written with it", ", or export CSV"))
        place.mkdir(parents=True, exist_ok=True)
        aside = stack.enter_context(tempfile.TemporaryDirectory(prefix=".export-", dir=place))
        written = {name: Path(aside) / f"{name}.csv" for name in TABLES}
        counts = _write(journal, written, progress)
        for name, path in written.items():
            made = path
            if database is not None:
                made = path.with_suffix(".parquet")
                database.execute(f"COPY ({_rows(name, path)}) TO '{_quoted(made)}' (FORMAT parquet, COMPRESSION zstd)")
            made.replace(place / made.name)
    return counts


def read(folder: str | os.PathLike[str]) -> duckdb.DuckDBPyConnection:
    """The four tables of a journal in a DuckDB database in memory: `exposures`, `outcomes`, `shadows` and `transitions`.

    docs/warehouse.md has their columns. What a query gives becomes a pandas, Polars or Arrow table with `.df()`, `.pl()` or
    `.arrow()`: `read("journal").sql("SELECT variant, avg(duration_s) FROM exposures GROUP BY variant").df()`. Needs the extra
    `[analysis]`; memory grows with the journal. A warning says where the tables are not of the whole journal.

    Args:
        folder: Folder of the journal.

    Raises:
        ConfigurationError: There is no such journal, or DuckDB is not installed.
    """
    journal, database = Journal(folder), _opened("It holds the tables", "")
    with tempfile.TemporaryDirectory(prefix="rollout-") as aside:
        written = {name: Path(aside) / f"{name}.csv" for name in TABLES}
        _write(journal, written, None)
        for name, path in written.items():
            database.execute(f"CREATE TABLE {name} AS {_rows(name, path)}")
    for why in _lacking(journal):
        warnings.warn(why, stacklevel=2)
    return database


def _lacking(journal: Journal) -> Iterator[str]:
    """What the tables of a journal that was read do not have, a sentence each."""
    named = f"the journal {str(journal.folder)!r}"
    if not any(map(journal.size, journal.files)):
        yield f"T{named[1:]} is empty: no process has written there yet. Compare the folder with that of Runtime(journal=...)."
    if damaged := journal.damaged:
        lines = several(damaged, "line or file", "lines or files")
        yield f"{lines} of {named} cannot be read; the tables are of the others. Look for the cause: rollout doctor."
    if missing := journal.missing:
        yield (
            f"{several(len(missing), 'part')} of {named} was moved away or deleted, such as {brief(missing[0], 120)}. "
            "The tables are of the others. Put it back, as it was or compressed (.jsonl.gz)."
        )


def _opened(why: str, otherwise: str) -> duckdb.DuckDBPyConnection:
    try:
        import duckdb
    except ModuleNotFoundError:
        raise ConfigurationError(
            f"DuckDB is not installed. {why}. Run: pip install 'rollout-sdk[analysis]'{otherwise}."
        ) from None
    database = duckdb.connect()
    database.execute("SET enable_progress_bar = false")
    return database


def _rows(name: str, path: Path) -> str:
    """The query for the rows of a table that was written to a file."""
    return _ROWS.format(_quoted(path), ", ".join(f"'{column}': '{kind}'" for column, kind in TABLES[name].items()))


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _write(
    journal: Journal, paths: Mapping[str, Path], progress: Callable[[int, int], None] | None
) -> dict[str, int]:  # fmt: skip
    total, counts = sum(map(journal.size, journal.files)), dict.fromkeys(TABLES, 0)
    with ExitStack() as stack:
        writers = {}
        for name, path in paths.items():
            writers[name] = csv.writer(stack.enter_context(path.open("w", encoding="utf-8", newline="")), lineterminator="\n")
            writers[name].writerow(TABLES[name])
        for number, record in enumerate(_once(journal)):
            name = _EVENTS[record["event"]]
            writers[name].writerow([_cell(record, column, kind) for column, kind in TABLES[name].items()])
            counts[name] += 1
            if progress is not None and not number % _TELL_EVERY:
                progress(min(journal.bytes, total), total)
    if progress is not None:
        progress(total, total)
    return counts


def _once(journal: Journal) -> Iterator[dict[str, Any]]:
    """The records of tables; outcomes and transitions of several processes once."""
    seen: set[object] = set()
    for record in journal:
        event = record["event"]
        if event not in _EVENTS:
            continue
        same: object = None
        if event == "outcome":
            same = recorded(record).identity
        elif event == "transition" and "id" in record:
            same = record["rollout"], record["id"]
        if same is not None:
            if same in seen:
                continue
            seen.add(same)
        yield record


def _cell(record: Mapping[str, Any], column: str, kind: str) -> Any:
    if column == "stands_for":
        return stands_for(record)
    if column in ("time", "decided"):
        return _moment(record.get("t" if column == "time" else "decided"))
    if record["event"] == "decision" and column in ("duration_s", "error"):
        return next(
            (run[1 if column == "duration_s" else 2] for run in record.get("runs", ()) if run[0] == record["variant"]), None
        )
    name = "error" if column == "caller_error" else _RENAMED.get(column, column)
    value = record.get(name, _DEFAULTS.get(column))
    if kind == _FLAG and value is not None:
        return str(bool(value)).lower()
    if isinstance(value, Mapping):
        return json.dumps(value, separators=(",", ":"))
    # In one line, and no null where a text is empty.
    return value.replace("\x00", "\\0") if isinstance(value, str) else value


def _moment(time_s: float | None) -> str | None:
    try:
        return None if time_s is None else datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    # A time that no calendar has.
    except (OverflowError, OSError, ValueError):
        return None
