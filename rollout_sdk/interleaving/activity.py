"""How much each unit contributes to an interleaved test, so that a single unit with most of the clicks cannot decide it."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Literal

from attrs import Factory, define

__all__ = ["Activity", "Kind"]

Kind = Literal["lists", "wins", "credit"]
"""Lists shown, lists won or lost, or credit, of both rankers."""

_NET, _LISTS, _DECIDED, _CREDIT = range(4)
_COLUMN: dict[Kind, int] = {"lists": _LISTS, "wins": _DECIDED, "credit": _CREDIT}


@define
class Activity:
    """Sums by unit: net preference, lists, lists won or lost, and credit.

    Takes about 250 bytes per unit; lists that are units of their own are kept as sums, sums of squares and maxima.
    """

    _by_unit: dict[int, array[float]] = Factory(dict)
    _alone: array[float] = Factory(lambda: array("d", bytes(8 * 9)))

    def add(self, digest: int | None, preferred: float, credit: float) -> None:
        """Add a list.

        Args:
            digest: The unit; None if every list is one.
            preferred: Certainty that the candidate won it (1), or the control did (-1).
            credit: Total credit of both rankers.
        """
        values = (preferred, 1.0, abs(preferred), credit)
        if digest is None:
            for column in (_LISTS, _DECIDED, _CREDIT):
                at, value = 3 * (column - 1), values[column]
                self._alone[at] += value
                self._alone[at + 1] += value * value
                self._alone[at + 2] = max(self._alone[at + 2], value)
            return
        known = self._by_unit.get(digest)
        if known is None:
            self._by_unit[digest] = array("d", values)
            return
        for column, value in enumerate(values):
            known[column] += value

    def merge(self, other: Activity) -> None:
        """Add another process's sums."""
        for digest, values in other._by_unit.items():
            known = self._by_unit.get(digest)
            self._by_unit[digest] = values[:] if known is None else array("d", map(sum, zip(known, values, strict=True)))
        for at, value in enumerate(other._alone):
            self._alone[at] = max(self._alone[at], value) if at % 3 == 2 else self._alone[at] + value

    def __len__(self) -> int:
        """Number of units, not counting lists that are units of their own."""
        return len(self._by_unit)

    def preferences(self) -> Iterator[float]:
        """Iterate over the net preference of every unit."""
        return (values[_NET] for values in self._by_unit.values())

    def effective(self, kind: Kind) -> tuple[float, float]:
        """Return the effective number of units, and the share of the most active one; (0.0, 0.0) without any."""
        column = _COLUMN[kind]
        total, squares, most = self._alone[3 * (column - 1) : 3 * column]
        for values in self._by_unit.values():
            value = values[column]
            total += value
            squares += value * value
            most = max(most, value)
        return (total * total / squares, most / total) if squares else (0.0, 0.0)
