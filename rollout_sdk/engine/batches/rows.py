"""Rows of a batch, in whatever they come: how many there are, each alone, and some of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["are_columns", "count_rows", "each_row", "has_rows", "one", "package", "take"]


def count_rows(value: Any) -> int | None:
    """How many results an answer has, or None when it is not a row of results: a text, a mapping, a set, a number."""
    # Some sparse matrices cannot be indexed, and none has a length.
    indexed = hasattr(value, "__getitem__") or hasattr(value, "tocsr")
    if not indexed or isinstance(value, str | bytes | bytearray | Mapping) or hasattr(type(value), "_fields"):
        return None
    shape = getattr(value, "shape", None)
    if hasattr(value, "tocsr"):
        return shape[0] if shape else None
    try:
        return len(value)
    # A scalar array has a length only in name.
    except TypeError:
        return None


def are_columns(value: Any, count: int) -> bool:
    """Whether an answer for so many rows is a tuple of columns, as in `return labels, scores`: each has all rows."""
    # For one row, a tuple of a list is that row.
    if not isinstance(value, tuple) or not value or count < 2:
        return False
    return all(count_rows(column) == count for column in value)


def has_rows(value: Any, count: int) -> bool:
    """Whether an answer has one result for each of so many rows."""
    return count_rows(value) == count and not are_columns(value, count)


def each_row(rows: Any) -> Iterable[Any]:
    """The rows one by one: a frame by itself would give its columns."""
    if hasattr(rows, "iloc"):
        return (rows.iloc[index] for index in range(len(rows)))
    if callable(getattr(rows, "iter_rows", None)):
        return rows.iter_rows()  # type: ignore[no-any-return]
    if package(rows) == "pyarrow":
        return rows.to_pylist()  # type: ignore[no-any-return]
    return rows.tocsr() if hasattr(rows, "tocsr") else rows  # type: ignore[no-any-return]


def package(value: Any) -> str:
    """The top package of a value's type."""
    return type(value).__module__.partition(".")[0]


def one(rows: Any, index: int) -> Any:
    """The row at this position."""
    if hasattr(rows, "iloc"):
        return rows.iloc[index]
    if package(rows) == "pyarrow":
        return rows.slice(index, 1).to_pylist()[0]
    return (rows.tocsr() if hasattr(rows, "tocsr") else rows)[index]


def take(rows: Any, indices: Sequence[int]) -> Any:
    """The rows at these positions, in the type of `rows`: list, tuple, array, tensor, series, frame or any sequence."""
    if isinstance(rows, list):
        return [rows[index] for index in indices]
    if isinstance(rows, tuple):
        return tuple(rows[index] for index in indices)
    if hasattr(rows, "iloc"):
        return rows.iloc[list(indices)]
    if package(rows) == "pyarrow":
        return rows.take(list(indices))
    if hasattr(rows, "tocsr"):
        return rows.tocsr()[list(indices)].asformat(rows.format)
    if hasattr(rows, "shape"):
        return rows[list(indices)]
    return [rows[index] for index in indices]
