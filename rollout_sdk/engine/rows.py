"""Rows of a batch: taking some out of a list, array or frame, and putting results back in the input's order."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["assemble", "count_rows", "each_row", "one", "take"]

_JOIN = {"numpy": "concatenate", "torch": "cat", "pandas": "concat", "polars": "concat"}
"""Function that puts arrays or frames end to end, by the top package of their type."""


def count_rows(value: Any) -> int | None:
    """How many results an answer has, or None when it is not a row of results: a text, a mapping, a set, a number."""
    indexed = hasattr(value, "__getitem__") and not isinstance(value, str | bytes | bytearray | Mapping)
    if not indexed:
        return None
    try:
        return len(value)
    # A scalar array has a length only in name.
    except TypeError:
        return None


def each_row(rows: Any) -> Iterable[Any]:
    """The rows one by one: a frame by itself would give its columns."""
    if hasattr(rows, "iloc"):
        return (rows.iloc[index] for index in range(len(rows)))
    if callable(getattr(rows, "iter_rows", None)):
        return rows.iter_rows()  # type: ignore[no-any-return]
    return rows  # type: ignore[no-any-return]


def _package(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def one(rows: Any, index: int) -> Any:
    """The row at this position."""
    return rows.iloc[index] if hasattr(rows, "iloc") else rows[index]


def take(rows: Any, indices: Sequence[int]) -> Any:
    """The rows at these positions, in the type of `rows`: list, tuple, array, tensor, series, frame or any sequence."""
    if isinstance(rows, list):
        return [rows[index] for index in indices]
    if isinstance(rows, tuple):
        return tuple(rows[index] for index in indices)
    if hasattr(rows, "iloc"):
        return rows.iloc[list(indices)]
    if hasattr(rows, "shape"):
        return rows[list(indices)]
    return [rows[index] for index in indices]


def assemble(parts: Sequence[tuple[Sequence[int], Any]], size: int) -> Any:
    """One result of the parts' results, rows in the input's order.

    Lists give a list, tuples a tuple; arrays of one library give an array; any mixture gives a list.

    Args:
        parts: For each, the positions of its rows and the rows' results.
        size: How many rows there are together.

    Raises:
        Exception: They cannot be put together: arrays of different shapes, or of a library that is not known here.
    """
    results = [result for _, result in parts]
    order = [index for indices, _ in parts for index in indices]
    position = {index: number for number, index in enumerate(order)}
    inverse = [position[index] for index in range(size)]
    package = _package(results[0])
    if package in _JOIN and len({type(result) for result in results}) == 1:
        # A library whose objects we hold is imported already; none is imported for our sake.
        return take(getattr(sys.modules[package], _JOIN[package])(results), inverse)
    unknown = [type(result).__qualname__ for result in results if hasattr(result, "shape") and _package(result) not in _JOIN]
    if unknown:
        raise TypeError(f"arrays of type {unknown[0]} cannot be put together")
    rows = [row for result in results for row in each_row(result)]
    ordered = [rows[number] for number in inverse]
    return tuple(ordered) if all(isinstance(result, tuple) for result in results) else ordered
