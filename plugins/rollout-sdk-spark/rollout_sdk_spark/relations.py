"""A journal in Spark: its lines as typed events, together with its compacted parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import lit
from pyspark.storagelevel import StorageLevel

from rollout_sdk.analysis import JournalFiles, Relations

__all__ = ["InSpark"]

_SETTINGS = {
    # A value that is not a number becomes null, as in DuckDB, and is not an error.
    "spark.sql.ansi.enabled": "false",
    # Times are numbers, which no time zone may change.
    "spark.sql.session.timeZone": "UTC",
}
# The last 8 of the 16 bytes, as a little-endian number without its lowest bit, as DuckDB's md5_number_lower.
_BYTES = ", ".join(f"substr(md5(name), {place}, 2)" for place in range(31, 16, -2))
_KEY_OF = f"""
CREATE OR REPLACE TEMPORARY FUNCTION key_of(name STRING) RETURNS BIGINT
RETURN shiftrightunsigned(CAST(conv(concat({_BYTES}), 16, -10) AS BIGINT), 1)
"""
_NUMBER_OF = """
CREATE OR REPLACE TEMPORARY FUNCTION number_of(name STRING) RETURNS BIGINT RETURN xxhash64(name)
"""
_IS_NUMBER = """
CREATE OR REPLACE TEMPORARY FUNCTION is_number(value DOUBLE) RETURNS BOOLEAN
RETURN NOT isnan(value) AND abs(value) < double('Infinity')
"""
_EVENTS = """
SELECT *, CASE WHEN event = 'outcome' THEN xxhash64(rollout, metric, item, is_position, named,
    CASE WHEN named IS NULL THEN value + 0.0D END, CASE WHEN named IS NULL THEN CAST(t * 1000 AS BIGINT) END,
    CASE WHEN named IS NULL THEN call END, CASE WHEN named IS NULL AND call IS NULL THEN unit END) END AS happening
FROM every
"""
# Bytes of lines up to which all events are kept in memory, so that statements have little to plan. Above, compacted parts are
# read again by each statement, which reads only its columns.
_SMALL = 64 << 20
_LISTED = """
SELECT explode(from_json(get_json_object(line, '$.ids'), 'ARRAY<STRING>')) AS id
FROM events WHERE event = 'rows' AND NOT is_plain
"""


class InSpark(Relations):
    """The events of a journal in their own session, whose views and settings other queries do not see."""

    def __init__(self, spark: SparkSession, journal: JournalFiles, *, root: str) -> None:
        """Read the lines.

        Args:
            spark: A session.
            journal: The journal's files.
            root: The address that their paths are below, as Hadoop writes it.
        """
        super().__init__()
        self._kept: list[DataFrame] = []
        self._session = spark.newSession()
        for name, value in _SETTINGS.items():
            self._session.conf.set(name, value)
        for function in (_KEY_OF, _NUMBER_OF, _IS_NUMBER):
            self._session.sql(function)
        written = self._written([f"{root}/{path}" for path in journal.lines])
        is_small = sum(journal.lines.values()) + sum(part.bytes for part in journal.compacted.values()) < _SMALL
        if not is_small:
            self._kept.append(written.persist(StorageLevel.MEMORY_AND_DISK))
        every = written
        if journal.parquet:
            compacted = self._session.read.option("mergeSchema", "true").parquet(
                *(f"{root}/{path}" for path in journal.parquet)
            )
            every = self._alike(written, compacted)
        every.createOrReplaceTempView("every")
        self.define("events", _EVENTS, is_kept=is_small)
        self.define("listed", _LISTED, is_kept=False)
        left_out = sum(part.damaged for part in journal.compacted.values())
        ((lines, damaged),) = self.reduced("lines")
        self.lines, self.damaged = lines + left_out, int(damaged or 0) + left_out
        self.cut = sum(part.cut for part in journal.compacted.values())

    def _written(self, paths: Sequence[str]) -> DataFrame:
        if paths:
            # Tasks read the parts of a file in order, so numbers increase within it.
            query = "value AS line", "_metadata.file_name AS file", "monotonically_increasing_id() AS number"
            lines = self._session.read.text(list(paths), lineSep="\n").selectExpr(*query).where("trim(line) <> ''")
        else:
            lines = self._session.createDataFrame([], "line STRING, file STRING, number BIGINT")
        lines.createOrReplaceTempView("lines")
        events = files("rollout_sdk_spark").joinpath("events.sql").read_text(encoding="utf-8")
        return _without_plain_lines(self._session.sql(events))

    @staticmethod
    def _alike(written: DataFrame, compacted: DataFrame) -> DataFrame:
        """Combine both, with the columns of today's lines: earlier compactions may have fewer."""
        there = set(compacted.columns)
        # One selection: each of as many new columns would be a query of its own to analyse.
        columns = (
            (compacted[field.name] if field.name in there else lit(None)).cast(field.dataType).alias(field.name)
            for field in written.schema
        )
        return written.unionByName(_without_plain_lines(compacted.select(*columns)))

    def close(self) -> None:
        """Free the persisted frames."""
        for frame in self._kept:
            frame.unpersist()

    def rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query."""
        yield from self._session.sql(query).toLocalIterator(prefetchPartitions=True)

    def define(self, name: str, query: str, *, is_kept: bool) -> None:
        """Create a view of a query; with `is_kept`, it is computed once."""
        frame = self._session.sql(query)
        if is_kept:
            self._kept.append(frame.persist(StorageLevel.MEMORY_AND_DISK))
        frame.createOrReplaceTempView(name)

    def keep(self, name: str, columns: Mapping[str, str], rows: Iterable[tuple[Any, ...]]) -> None:
        """Create a table of rows, which replaces an earlier one."""
        schema = ", ".join(f"{column} {kind}" for column, kind in columns.items())
        self._session.createDataFrame(list(rows), schema).createOrReplaceTempView(name)


def _without_plain_lines(events: DataFrame) -> DataFrame:
    """Drop the text of lines that are not read again."""
    return events.selectExpr(
        *("CASE WHEN NOT is_plain THEN line END AS line" if each == "line" else each for each in events.columns)
    )
