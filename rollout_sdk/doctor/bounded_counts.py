"""Counting by names that anybody may have written: never more than so many, and none longer than so much."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

__all__ = ["OTHERS", "add", "at", "few"]

OTHERS = "(others)"
"""Stands for every name after the last that had room."""

_LONGEST_NAME = 200
_MOST = 20

V = TypeVar("V")


def few(names: Mapping[str, Any], name: str, most: int = _MOST) -> str:
    """The name under which to keep something: itself, itself cut short, or all the others'."""
    if name in names:
        return name
    kept = name if len(name) <= _LONGEST_NAME else f"{name[:150]}..({len(name)} characters)"
    return kept if kept in names or len(names) < most else OTHERS


def add(counts: dict[str, int], name: str) -> None:
    """Count one."""
    if name in counts:
        counts[name] += 1
    else:
        name = few(counts, name)
        counts[name] = counts.get(name, 0) + 1


def at(values: dict[str, V], name: str, make: Callable[[], V], most: int = _MOST) -> V:
    """What is kept under a name, made where there is nothing yet."""
    found = values.get(name)
    if found is None:
        name = few(values, name, most)
        found = values.get(name)
        if found is None:
            found = values[name] = make()
    return found
