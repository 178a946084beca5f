"""Remembers the names that were seen last, in a few bytes each."""

from __future__ import annotations

from array import array
from collections.abc import Hashable

__all__ = ["MOST_REMEMBERED", "Remembered"]

MOST_REMEMBERED = 100_000
"""Names that are remembered at least; twice as many are at most."""

_SMALLEST = 64
_WORD = (1 << 64) - 1
_EMPTY = 0


class Remembered:
    """The last names, by their hashes: at least `most` of them, and at most twice as many. Not thread-safe.

    Each takes about 20 bytes; in an ordered dictionary it takes 200 and more, also because the table of a dictionary from which
    the oldest go grows with those that have gone. A process that reads a journal remembers the outcomes of every rollout in
    it. A name is taken for another one with a probability of 1 in 10**13, when their hashes are equal.
    """

    __slots__ = ("_count", "_former", "_latest", "_most")

    def __init__(self, most: int = MOST_REMEMBERED) -> None:
        """Remember nothing yet.

        Args:
            most: How many names are remembered at least, once there are as many.
        """
        self._most = most
        # Tables of hashes, in which a place is looked for from its lowest bits on: half of the places or more are empty.
        self._latest = array("Q", bytes(8 * _SMALLEST))
        self._former = self._latest[:]
        self._count = 0

    def __contains__(self, name: Hashable) -> bool:
        """Whether a name is remembered."""
        word = _word(name)
        latest, former = self._latest, self._former
        return latest[_place(latest, word)] == word or former[_place(former, word)] == word

    def add(self, name: Hashable) -> None:
        """Remember a name, as the latest one."""
        word = _word(name)
        latest = self._latest
        place = _place(latest, word)
        if latest[place] == word:
            return
        latest[place] = word
        self._count += 1
        if self._count >= self._most:
            # What was added before these goes.
            self._former, self._latest, self._count = latest, array("Q", bytes(8 * _SMALLEST)), 0
        elif 2 * self._count > len(latest):
            self._latest = _larger(latest)

    @property
    def bytes(self) -> int:
        """How much memory it takes."""
        return self._latest.itemsize * (len(self._latest) + len(self._former))


def _word(name: Hashable) -> int:
    return hash(name) & _WORD or 1


def _place(table: array[int], word: int) -> int:
    """Where a hash is in a table, or the empty place for it."""
    mask = len(table) - 1
    # Hashes of whole numbers are these numbers: the upper bits must count, too.
    place = (word ^ word >> 32) & mask
    while (found := table[place]) != _EMPTY and found != word:
        place = place + 1 & mask
    return place


def _larger(table: array[int]) -> array[int]:
    larger = array("Q", bytes(8 * 2 * len(table)))
    for word in table:
        if word != _EMPTY:
            larger[_place(larger, word)] = word
    return larger
