"""The compacted parts of a journal: lines in Parquet, by rollout and day, in one folder for each compaction.

    compacted/<number>/parts.json                           the parts whose lines are here, and what was wrong with them
    compacted/<number>/lines/rollout=<key>/day=<day>/*.parquet

A folder with a number is whole: it gets that name when everything in it is on the disk. A part that is in one of them is read
from there, whether its own file is still there or not. Reading needs the extra [analysis].
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from rollout_sdk.exceptions import ConfigurationError

__all__ = ["COMPACTED", "CompactedPart", "compacted_parts", "lines_of", "opened", "parquet_of"]

COMPACTED = "compacted"
_LINES_AT_ONCE = 10_000


@frozen
class CompactedPart:
    """A part that was compacted.

    Attributes:
        name: Name of its file.
        folder: The folder that its lines are in.
        bytes: Size of its file.
        damaged: Lines that are not JSON, which were left out.
        cut: Whether the last of them had no end.
    """

    name: str
    folder: Path
    bytes: int
    damaged: int = 0
    cut: bool = False


def compacted_parts(folder: Path) -> Mapping[str, CompactedPart]:
    """The compacted parts of a journal, by name."""
    found: dict[str, CompactedPart] = {}
    for path in sorted(folder.glob(f"{COMPACTED}/*/parts.json")):
        if not path.parent.name.isdigit():
            continue
        for each in json.loads(path.read_text(encoding="utf-8"))["parts"]:
            found[each["name"]] = CompactedPart(each["name"], path.parent, each["bytes"], each["damaged"], each["cut"])
    return found


def parquet_of(folder: Path) -> list[str]:
    """The Parquet files of one compaction."""
    return sorted(str(path) for path in folder.glob("lines/**/*.parquet"))


def lines_of(part: CompactedPart, database: Callable[[], Any]) -> Iterator[bytes]:
    """The lines of a part, in order, each with its end.

    Args:
        part: The part.
        database: Gives a DuckDB connection, where one is needed; several parts may be read by turns.
    """
    files = parquet_of(part.folder)
    if not files:
        return
    # A connection has one result at a time, and so does each of its cursors.
    with database().cursor() as cursor:
        cursor.execute("SET enable_progress_bar = false")
        query = "SELECT line FROM read_parquet($files, hive_partitioning = false) WHERE file = $name ORDER BY number"
        result = cursor.execute(query, {"files": files, "name": part.name})
        while rows := result.fetchmany(_LINES_AT_ONCE):
            for (line,) in rows:
                yield line.encode() + b"\n"


def opened() -> Any:
    """A DuckDB connection that reads Parquet.

    Raises:
        ConfigurationError: DuckDB is not installed.
    """
    try:
        import duckdb
    except ModuleNotFoundError:
        raise ConfigurationError(
            "The journal has compacted parts, and DuckDB is not installed. Parts in Parquet are read with it. "
            "Run: pip install 'rollout-sdk[analysis]'."
        ) from None
    return duckdb.connect()
