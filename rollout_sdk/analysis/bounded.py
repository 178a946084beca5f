"""Counting by names that come from untrusted lines: bounded in number and in length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

__all__ = ["OTHERS", "Counts", "at", "kept_name", "shortened"]

OTHERS = "(others)"
"""Stands for every name after the last that had room."""

_LONGEST_NAME = 200
_MOST = 20

V = TypeVar("V")


def shortened(name: str) -> str:
    """A name as it is kept: itself, or its beginning and its length."""
    return name if len(name) <= _LONGEST_NAME else f"{name[:150]}..({len(name)} characters)"


def kept_name(names: Mapping[str, Any], name: str, most: int = _MOST) -> str:
    """The name under which to keep something: itself, shortened, or that of all the others."""
    if name in names:
        return name
    kept = shortened(name)
    return kept if kept in names or len(names) < most else OTHERS


class Counts(Counter[str]):
    """Counts by name, of at most 20 names and one for the others."""

    def add(self, name: str, many: int = 1) -> None:
        """Count so many of a name."""
        if name not in self:
            name = kept_name(self, name)
        self[name] += many


def at(values: dict[str, V], name: str, make: Callable[[], V], most: int = _MOST) -> V:
    """The value kept under a name, made where there is none yet."""
    found = values.get(name)
    if found is None:
        name = kept_name(values, name, most)
        found = values.get(name)
        if found is None:
            found = values[name] = make()
    return found
