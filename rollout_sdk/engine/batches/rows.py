"""Rows of a batch in any supported container: counting, iterating and selecting them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress
from operator import itemgetter
from typing import Any, overload

__all__ = ["Places", "are_columns", "column_of", "count_rows", "each_row", "has_rows", "one", "package", "places_in", "take"]


class Places(Sequence[int]):
    """Positions of some rows, in order, as a mark for each row of the batch: numbers are built when they are read.

    Attributes:
        marks: For each row of the batch, 1 if it is one of them, else 0.
    """

    __slots__ = ("_numbers", "_size", "marks")

    def __init__(self, marks: bytes) -> None:
        """Take the marks."""
        self.marks = marks
        self._size = marks.count(1)
        self._numbers: list[int] | None = None

    @property
    def numbers(self) -> list[int]:
        """The positions."""
        if self._numbers is None:
            self._numbers = list(compress(range(len(self.marks)), self.marks))
        return self._numbers

    def __len__(self) -> int:
        """Return how many they are."""
        return self._size

    @overload
    def __getitem__(self, index: int) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> list[int]: ...

    def __getitem__(self, index: int | slice) -> int | list[int]:
        """Return one of the positions, or several."""
        return self.numbers[index]

    def __iter__(self) -> Iterator[int]:
        """Iterate over the positions."""
        return iter(self._numbers) if self._numbers is not None else compress(range(len(self.marks)), self.marks)

    def are_all_but(self, others: Places) -> bool:
        """Whether each row of the batch is either one of these or one of `others`."""
        return self.marks == others.marks.translate(_OPPOSITE)


_OPPOSITE = b"\1" + bytes(255)


def count_rows(value: Any) -> int | None:
    """Return the number of results, or None if the value does not consist of rows: text, a mapping, a set, a number."""
    # Some sparse matrices cannot be indexed, and none has a length.
    indexed = hasattr(value, "__getitem__") or hasattr(value, "tocsr")
    if not indexed or isinstance(value, str | bytes | bytearray | Mapping) or hasattr(type(value), "_fields"):
        return None
    shape = getattr(value, "shape", None)
    if hasattr(value, "tocsr"):
        return shape[0] if shape else None
    try:
        return len(value)
    # A zero-dimensional array defines `__len__` but has no length.
    except TypeError:
        return None


def are_columns(value: Any, count: int) -> bool:
    """Whether an answer is a tuple of columns, each with `count` rows, as in `return labels, scores`."""
    # For a single row, a tuple that holds one list is that row.
    if not isinstance(value, tuple) or not value or count < 2:
        return False
    return all(count_rows(column) == count for column in value)


def has_rows(value: Any, count: int) -> bool:
    """Whether an answer has exactly one result for each of `count` rows."""
    return count_rows(value) == count and not are_columns(value, count)


def each_row(rows: Any) -> Iterable[Any]:
    """Iterate over the rows; a frame's own iterator yields its columns."""
    if hasattr(rows, "iloc"):
        return (rows.iloc[index] for index in range(len(rows)))
    if callable(getattr(rows, "iter_rows", None)):
        return rows.iter_rows()  # type: ignore[no-any-return]
    if package(rows) == "pyarrow":
        return rows.to_pylist()  # type: ignore[no-any-return]
    return rows.tocsr() if hasattr(rows, "tocsr") else rows  # type: ignore[no-any-return]


def column_of(rows: Any) -> Sequence[Any]:
    """Return rows that each are a unit or a number, as `each_row` gives them, by the container's own fast way if it has one."""
    if type(rows) in (list, tuple):
        return rows  # type: ignore[no-any-return]
    # Of texts and numbers: of other types, numpy and pandas give their own scalars row by row, and others all at once.
    if getattr(rows, "ndim", None) == 1 and getattr(getattr(rows, "dtype", None), "kind", "") in tuple("iufU"):
        if package(rows) in ("numpy", "pandas"):
            return rows.tolist()  # type: ignore[no-any-return]
    elif package(rows) == "polars" and hasattr(rows, "to_list"):
        return rows.to_list()  # type: ignore[no-any-return]
    return list(each_row(rows))


def package(value: Any) -> str:
    """Return the top-level package of a value's type."""
    return type(value).__module__.partition(".")[0]


def one(rows: Any, index: int) -> Any:
    """Return the row at this position."""
    if hasattr(rows, "iloc"):
        return rows.iloc[index]
    if package(rows) == "pyarrow":
        return rows.slice(index, 1).to_pylist()[0]
    return (rows.tocsr() if hasattr(rows, "tocsr") else rows)[index]


def take(rows: Any, indices: Sequence[int]) -> Any:
    """Select rows by position, keeping the type of `rows`: list, tuple, array, tensor, series, frame or any sequence."""
    if isinstance(rows, list | tuple):
        kind = list if isinstance(rows, list) else tuple
        if isinstance(indices, Places):
            return kind(compress(rows, indices.marks))
        # Of one row, `itemgetter` gives the row itself.
        return kind(itemgetter(*indices)(rows) if len(indices) > 1 else [rows[index] for index in indices])
    if hasattr(rows, "iloc"):
        return rows.iloc[places_in(indices, "numpy")]
    if package(rows) == "pyarrow":
        return rows.take(places_in(indices))
    if hasattr(rows, "tocsr"):
        return rows.tocsr()[places_in(indices, "numpy")].asformat(rows.format)
    if hasattr(rows, "shape"):
        return rows[places_in(indices, package(rows))]
    return [rows[index] for index in indices]


def places_in(indices: Sequence[int], library: str = "") -> Any:
    """Return positions as what arrays and frames are indexed by: an array of numpy for its own types, else a list."""
    # The library of an existing object is already imported; the SDK imports none.
    numpy = sys.modules.get("numpy") if library == "numpy" else None
    if numpy is None:
        return list(indices)
    if isinstance(indices, Places):
        return numpy.flatnonzero(numpy.frombuffer(indices.marks, dtype=bool))
    return numpy.asarray(indices, dtype=numpy.intp)
