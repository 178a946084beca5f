"""Outcomes from a file of another system: a row each, with the unit, the value and the time, into a journal.

An import can be repeated: what is in the journal is not written again. Rows that cannot be used are counted, with the first of
each kind, and the others are imported all the same.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any, AnyStr, TextIO

from attrs import Factory, define

from rollout_sdk.analysis.facts import recorded
from rollout_sdk.assignment import UnitHash, unit_hash
from rollout_sdk.exceptions import ConfigurationError, OutcomeError
from rollout_sdk.formatting import brief, nearest
from rollout_sdk.journal import Journal, JournalSink, JournalWriter
from rollout_sdk.recording.outcomes import by_unit, identified
from rollout_sdk.records import RecordedEvent

__all__ = ["Columns", "Imported", "import_outcomes"]

_AT_ONCE = 5_000
_LONGEST_LINE = 4 << 20
_MILLISECONDS = 1e11
"""A time from here on is in milliseconds; in seconds, it would be in the year 5138."""


@define
class Columns:
    """Names of the columns of a file: unit, value and time, and of the event's id where there is one."""

    unit: str
    value: str
    time: str
    event_id: str | None = None


@define
class Imported:
    """What an import did.

    Attributes:
        rows: Rows of the file.
        written: Outcomes that were written.
        known: Rows that the journal has already.
        repeated: Rows that are in the file twice.
        left_out: Rows that cannot be used, by why.
        first: The first such row of each kind, from 1.
    """

    rows: int = 0
    written: int = 0
    known: int = 0
    repeated: int = 0
    left_out: Counter[str] = Factory(Counter)
    first: dict[str, int] = Factory(dict)


def import_outcomes(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    rollout: str,
    metric: str,
    columns: Columns,
    layer: str | None = None,
    key: bytes | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Imported:
    """Write the outcomes of a file into a journal.

    Args:
        path: The file: .csv with a head, .jsonl (or .ndjson), or .parquet, which needs DuckDB.
        folder: Folder of the journal.
        rollout: Key of the rollout whose units they are of.
        metric: Name of the metric.
        columns: Names of the columns.
        layer: Name of the rollout's layer, if it has one.
        key: The secret of the processes that serve (`ROLLOUT_KEY`); pseudonyms of units depend on it.
        progress: Called with the rows read so far, and with how many there may be.

    Raises:
        ConfigurationError: The file or a column is not there, the journal has no call of the rollout, or DuckDB is not
            installed.
    """
    file, journal = Path(path), Journal(folder)
    hash_, item_hash = unit_hash(rollout, layer, key), UnitHash(rollout, key)
    rows = _rows(file, columns)
    units = {record["unit"] for record in journal.only("decision") if record["rollout"] == rollout and "unit" in record}
    if not units:
        raise ConfigurationError(
            f"The journal {str(folder)!r} has no call of {brief(rollout)} with a unit. Outcomes of units go to their calls. "
            "Look at: rollout report."
        )
    known = {
        recorded(record).identity
        for record in journal.only("outcome")
        if record["rollout"] == rollout and record["metric"] == metric
    }
    done, seen, batch = Imported(), set(), list[RecordedEvent]()
    sink = JournalSink(JournalWriter(journal.folder), describe=lambda _: None, failed=_raised)
    try:
        for number, row in enumerate(rows, 1):
            done.rows = number
            try:
                event = _event(row, columns, rollout, metric, hash_, item_hash)
                if event.unit not in units:
                    raise OutcomeError("a unit that has no call in the journal")
            except OutcomeError as error:
                done.left_out[str(error)] += 1
                done.first.setdefault(str(error), number)
                continue
            if event.identity in seen:
                done.repeated += 1
            elif event.identity in known:
                done.known += 1
            else:
                batch.append(event)
            seen.add(event.identity)
            if len(batch) >= _AT_ONCE:
                done.written += _written(sink, batch)
                if progress is not None:
                    progress(number, number + 1)
        done.written += _written(sink, batch)
    finally:
        sink.close()
    return done


def _raised(where: str, error: BaseException) -> None:
    del where
    raise error


def _written(sink: JournalSink, batch: list[RecordedEvent]) -> int:
    count = len(batch)
    sink(batch, 0)
    batch.clear()
    return count


def _event(
    row: Mapping[str, Any] | None, columns: Columns, rollout: str, metric: str, hash_: UnitHash, item_hash: UnitHash
) -> RecordedEvent:
    """The outcome of a row.

    Raises:
        OutcomeError: It cannot be used; the message says why, and is the same for all rows of its kind.
    """
    if row is None:
        raise OutcomeError("a row that cannot be read")
    unit: Hashable = row.get(columns.unit)
    if unit is None or unit == "":
        raise OutcomeError("no unit")
    event_id = None if columns.event_id is None else row.get(columns.event_id)
    try:
        f"{unit}{event_id}".encode()
    except UnicodeEncodeError:
        raise OutcomeError("a unit or an event id that is not UTF-8") from None
    try:
        value = float(row[columns.value])
    except (KeyError, TypeError, ValueError):
        raise OutcomeError("a value that is not a number") from None
    if not math.isfinite(value):
        raise OutcomeError("a value that is not finite")
    time_s = _seconds(row.get(columns.time))
    if time_s is None:
        raise OutcomeError("a time that cannot be read")
    try:
        return identified(
            by_unit(metric, value, unit, rollout=rollout, hash_=hash_, time_s=time_s), event_id or None, item_hash
        )
    except OutcomeError:
        raise OutcomeError("a unit, a time or an event id that is not valid") from None


def _seconds(value: Any) -> float | None:
    """A time in seconds since 1970: of a number, in seconds or milliseconds, or of a date, in UTC where it names no zone."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value / 1000 if abs(value) >= _MILLISECONDS else float(value)


# Files --------------------------------------------------------------------------------------------------------------------


def _rows(path: Path, columns: Columns) -> Iterator[Mapping[str, Any] | None]:
    if not path.is_file():
        raise ConfigurationError(f"There is no file {str(path)!r}. Outcomes are imported from a file. Check its path.")
    readers = {".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConfigurationError(
            f"The file {path.name!r} cannot be imported. Files that can end in {', '.join(readers)}. Convert it to one of them."
        )
    names, rows = reader(path)
    if names is not None:
        for name in filter(None, (columns.unit, columns.value, columns.time, columns.event_id)):
            if name not in names:
                if not names:
                    raise ConfigurationError(
                        f"The file {path.name!r} has no columns. Its first line names them. Check the file."
                    )
                near = nearest(name, names)
                meant = f" Did you mean {near!r}?" if near is not None else ""
                raise ConfigurationError(f"The file {path.name!r} has no column {name!r}.{meant} It has: {', '.join(names)}.")
    return rows


def _csv(path: Path) -> tuple[list[str] | None, Iterator[Mapping[str, Any] | None]]:
    def rows(file: TextIO) -> Iterator[list[str] | None]:
        reader = csv.reader(_lines(file))
        while True:
            try:
                yield next(reader)
            except StopIteration:
                return
            # Such as a field that has no end.
            except csv.Error:
                yield None

    def opened() -> TextIO:
        # A unit that is not UTF-8 makes its row unusable, not the file.
        return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")

    with opened() as file:
        names = next(rows(file), None) or []

    def named() -> Iterator[Mapping[str, Any] | None]:
        with opened() as file:
            for row in islice(rows(file), 1, None):
                # Lines without anything are no rows.
                if row != []:
                    yield None if row is None else dict(zip(names, row, strict=False))

    return names, named()


def _json_lines(path: Path) -> tuple[list[str] | None, Iterator[Mapping[str, Any] | None]]:
    def rows() -> Iterator[Mapping[str, Any] | None]:
        with path.open("rb") as file:
            for line in _lines(file):
                if line.isspace():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    row = None
                yield row if isinstance(row, dict) else None

    first = next((row for row in rows() if row is not None), None)
    return ([] if first is None else list(first)), rows()


def _lines(file: IO[AnyStr]) -> Iterator[AnyStr]:
    """The lines of a file; the memory of one that has none is bounded."""
    while line := file.readline(_LONGEST_LINE):
        yield line


def _parquet(path: Path) -> tuple[list[str] | None, Iterator[Mapping[str, Any]]]:
    try:
        import duckdb
    except ModuleNotFoundError:
        raise ConfigurationError(
            "DuckDB is not installed. Parquet is read with it. Run: pip install 'rollout-sdk[analysis]', or convert it to CSV."
        ) from None
    database = duckdb.connect().execute("SET enable_progress_bar = false")
    try:
        result = database.execute("SELECT * FROM read_parquet($1)", [str(path)])
    except duckdb.Error as error:
        why = str(error).partition("\n")[0]
        raise ConfigurationError(f"The file {path.name!r} cannot be read as Parquet: {why:.200}. Check the file.") from None
    names = [each[0] for each in result.description or ()]

    def rows() -> Iterator[Mapping[str, Any]]:
        with database:
            while found := result.fetchmany(_AT_ONCE):
                for row in found:
                    yield dict(zip(names, row, strict=True))

    return names, rows()
