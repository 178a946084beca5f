"""A journal in a database: what the statements need of one, and the statements themselves."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from typing import Any

from attrs import frozen

from rollout_sdk.analysis.segment_sums import Asked

__all__ = ["IrreducibleError", "Relations", "Statement", "sql_text", "statements"]

_STATEMENT = re.compile(r"^-- (name|table|view): (\w+)\n(.*?);\n", re.MULTILINE | re.DOTALL)

_ASKED = {
    "rollout": "STRING", "fingerprint": "STRING", "metric": "STRING", "is_label": "INTEGER", "is_windowed": "INTEGER",
    "window_s": "DOUBLE", "until_s": "DOUBLE", "low": "DOUBLE", "high": "DOUBLE",
}  # fmt: skip

_JOINED = {"call": "BIGINT", "metric": "STRING", "value": "DOUBLE", "many": "BIGINT", "t": "DOUBLE"}


@frozen
class Statement:
    """A statement of `reduce.sql`.

    Attributes:
        query: The query, in plain SQL for DuckDB and Spark.
        kind: What it is for: "name" has rows to be read, "view" is used by later ones, and so is "table", which is
            computed once.
    """

    query: str
    kind: str


def sql_text(name: str) -> str:
    """A file of SQL beside this module."""
    return files("rollout_sdk.analysis").joinpath("sql", name).read_text(encoding="utf-8")


def statements(name: str = "reduce.sql") -> Mapping[str, Statement]:
    """The statements of a file, by name: plain SQL that reduces events to sufficient statistics; `reduce.sql` for Spark."""
    return {found[2]: Statement(found[3], found[1]) for found in _STATEMENT.finditer(sql_text(name))}


class IrreducibleError(Exception):
    """A journal that only the Python reader can sum up: calls are there twice, or outcomes are about shadows' answers,
    or segments are asked for and outcomes of one call are written in two ways; or one that only it can judge.
    """


class Relations(ABC):
    """The events of a journal in a database, on which the statements run.

    A database has the view `events`, with the columns and types of `compacted/` (docs/warehouse.md), the view `listed`, with
    the `id` of every row of a batch, and the functions `key_of` and `number_of`: of a text, a number that is the same in every
    database and version, and one that need only be the same in this session.

    Attributes:
        lines: Lines of the journal.
        damaged: How many of them are not JSON.
        cut: How many of these have no end, as far as compacted parts tell.
    """

    lines = damaged = cut = 0

    def __init__(self) -> None:
        """Find the statements."""
        self._statements = dict(statements())
        self._is_repeated: bool | None = None
        self._known: dict[str, Any] = {}

    @abstractmethod
    def rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a query; they are read before the next query is made."""

    @abstractmethod
    def define(self, name: str, query: str, *, is_kept: bool) -> None:
        """Make a view of a query, or, where it is kept, a table."""

    @abstractmethod
    def keep(self, name: str, columns: Mapping[str, str], rows: Iterable[tuple[Any, ...]]) -> None:
        """Make a table of rows, with these columns and their types in SQL, in place of an earlier one."""

    def prepare(self) -> bool:
        """Make the tables and views that other statements use; whether some outcomes are there repeatedly."""
        if self._is_repeated is None:
            for table in ("special", "arms", "calls"):
                self.make(table)
            self._is_repeated = bool(self.value("repeated_outcomes"))
            self.make("numbered" if self._is_repeated else "once", "numbered")
            self.make("outcomes")
            self.make("paired")
        return self._is_repeated

    def count_units(self) -> None:
        """Make the tables of units, with those that the Python reader has read."""
        for table in ("each_unit", "each_value", "each_person", "crossing"):
            self.make(table)

    def make(self, statement: str, name: str = "") -> None:
        """Make the table or view of a statement, by its own name or another."""
        found = self._statements[statement]
        self.define(name or statement, found.query, is_kept=found.kind == "table")

    def ask(self, asked: Mapping[tuple[str, str], Asked], joined: Iterable[tuple[int, str, float, int, float]] = ()) -> None:
        """Make `asked` and `joined`, for the statements of segments.

        Args:
            asked: What is asked, by rollout and fingerprint; a row without a metric asks for calls only.
            joined: Outcomes of units: the number of the call of each, metric, value, how many it stands for, and time.
        """
        rows = [
            (*which, metric, int(each.per == "outcome"), int(each.window > 0), each.window or math.inf, one.until_s(each),
             *(each.clip or (-math.inf, math.inf)))
            for which, one in asked.items()
            for metric, each in one.criteria.items()
        ]  # fmt: skip
        rows += [(*which, "", 0, 0, math.inf, math.inf, -math.inf, math.inf) for which in asked]
        self.keep("asked", _ASKED, rows)
        self.keep("joined", _JOINED, list(joined))

    def reduced(self, name: str) -> Iterator[tuple[Any, ...]]:
        """The rows of one of the statements."""
        return self.rows(self._statements[name].query)

    def value(self, name: str) -> Any:
        """The only value of one of the statements; it is computed once."""
        if name not in self._known:
            ((self._known[name],),) = self.reduced(name)
        return self._known[name]
