"""Rows of a batch: taking some out of a list, array or frame, and putting results back in the input's order."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["assemble", "take"]


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
    """
    results = [result for _, result in parts]
    order = [index for indices, _ in parts for index in indices]
    position = {index: number for number, index in enumerate(order)}
    inverse = [position[index] for index in range(size)]
    joined = _joined(results)
    if joined is not None:
        return take(joined, inverse)
    rows = [row for result in results for row in result]
    ordered = [rows[number] for number in inverse]
    return tuple(ordered) if all(isinstance(result, tuple) for result in results) else ordered


def _joined(results: Sequence[Any]) -> Any:
    """The results end to end, when they are arrays, tensors, series or frames of one library; else None."""
    package = type(results[0]).__module__.partition(".")[0]
    if any(type(result) is not type(results[0]) for result in results):
        return None
    # A library whose objects we hold is imported already; none is imported for our sake.
    library = sys.modules.get(package)
    if package == "numpy":
        return library.concatenate(results)  # type: ignore[union-attr]
    if package == "torch":
        return library.cat(results)  # type: ignore[union-attr]
    if package == "pandas":
        return library.concat(results)  # type: ignore[union-attr]
    return None
