"""Counts distinct units without storing their ids: exact up to a few thousand, a uniform sample beyond that.

A unit is kept if a second hash of it falls below a limit, which is halved whenever the sample is full (distinct sampling:
Gibbons, VLDB 2001). The sample is an exact count of a random subset of all units, independent of how often they call, so tests
that need independent units stay exact. Samples of several processes can be merged without counting a unit twice.
"""

from __future__ import annotations

import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

__all__ = ["MOST_KEPT", "UNTIMED_MINUTE", "FirstPairs", "FirstUnits", "UnitSample", "cell_of", "first_pairs", "first_units"]

MOST_KEPT = 8_192
"""Maximum number of units kept: enough to detect 48 % instead of 50 %."""

UNTIMED_MINUTE = 0
"""Minute of a unit whose time is unknown."""

_CELL_BITS = 32
_MIX = 0x9E3779B97F4A7C15
_WORD = (1 << 64) - 1


def cell_of(digest: int) -> int:
    """Return 32 bits that identify a unit: independent of its point and its bucket, and not reversible."""
    mixed = (digest ^ digest >> 32) * _MIX & _WORD
    return mixed >> 32


class UnitSample:
    """The units of one arm, each with the minute in which it was first seen.

    Attributes:
        first: First minute (since 1970) by cell; `UNTIMED_MINUTE` if unknown.
        level: One in 2**level of all units is kept.
    """

    __slots__ = ("first", "level")

    def __init__(self, cells: Iterable[int] = (), level: int = 0) -> None:
        """Create a sample of these units, without times."""
        self.first: dict[int, int] = dict.fromkeys(cells, UNTIMED_MINUTE)
        self.level = level

    @property
    def cells(self) -> set[int]:
        """The units in the sample."""
        return set(self.first)

    def add(self, cell: int, minute: int = UNTIMED_MINUTE) -> None:
        """Add a unit, which may already be known."""
        if cell & (1 << self.level) - 1:
            return
        first = self.first
        known = first.get(cell)
        # Facts arrive in any order, from any process; the minimum does not depend on it.
        if known is None or minute < known:
            first[cell] = minute
            if known is None and len(first) > MOST_KEPT:
                self._thin(self.level + 1)

    def merge(self, other: UnitSample) -> None:
        """Add another process's units."""
        self._thin(max(self.level, other.level))
        first, theirs = self.first, other.at(self.level)
        # Only the units known to both need a comparison; looping over all of them would make a look too slow.
        earlier = {cell: min(first[cell], theirs[cell]) for cell in first.keys() & theirs.keys()}
        first.update(theirs)
        first.update(earlier)
        while len(first) > MOST_KEPT:
            self._thin(self.level + 1)
            first = self.first

    def _thin(self, level: int) -> None:
        if level > self.level:
            self.first = self.at(level)
            self.level = level

    def at(self, level: int) -> dict[int, int]:
        """Return the units that a sample of this level would have kept, with their minutes."""
        if level <= self.level:
            return self.first.copy()
        mask = (1 << level) - 1
        return {cell: minute for cell, minute in self.first.items() if not cell & mask}

    @property
    def estimate(self) -> int:
        """Number of units: exact up to MOST_KEPT, within a few percent beyond."""
        return len(self.first) << self.level

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-compatible values."""
        cells = sorted(self.first)
        return {"level": self.level, "cells": _packed(cells), "minutes": _packed([self.first[cell] for cell in cells])}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> UnitSample:
        """Rebuild the sample from `as_dict`."""
        level = int(table["level"])
        if not 0 <= level <= _CELL_BITS:
            message = f"The level of a sample is {level}. It is at most {_CELL_BITS}, the bits of a unit."
            raise ValueError(message)
        sample = cls(_unpacked(table["cells"]), level)
        # Earlier versions of the SDK do not write minutes.
        if "minutes" in table:
            sample.first = dict(zip(sample.first, _unpacked(table["minutes"]), strict=True))
        return sample


def _packed(numbers: Sequence[int]) -> str:
    words = array("I", numbers)
    if sys.byteorder == "big":
        words.byteswap()
    return b64encode(words.tobytes()).decode("ascii")


def _unpacked(text: str) -> array[int]:
    words = array("I")
    words.frombytes(b64decode(text))
    if sys.byteorder == "big":
        words.byteswap()
    return words


@frozen
class FirstUnits:
    """The units of one arm in one phase that did not occur in an earlier phase.

    Attributes:
        minutes: First minute by cell.
        level: One in 2**level of all such units is included.
    """

    minutes: Mapping[int, int]
    level: int

    @property
    def estimate(self) -> int:
        """Number of such units."""
        return len(self.minutes) << self.level


def first_units(phases: Iterable[Mapping[str, UnitSample]]) -> list[dict[str, FirstUnits]]:
    """Return for each phase in turn the units of each arm that first occur in it.

    Evidence can be multiplied over phases only if no unit counts twice: a user who fails in every step of a fine ramp would
    otherwise count as ten independent errors. Each arm has its own sampling level. From the second phase on, that level is at
    least the highest of all earlier phases, because a unit that they did not keep may still have occurred in them.
    """
    seen: dict[int, None] = {}
    seen_level = 0
    counted = []
    for samples in phases:
        here = {}
        for arm, sample in samples.items():
            level = max(sample.level, seen_level)
            minutes = sample.at(level)
            if seen:
                minutes = {cell: minute for cell, minute in minutes.items() if cell not in seen}
            here[arm] = FirstUnits(minutes, level)
        for sample in samples.values():
            seen.update(dict.fromkeys(sample.first))
            seen_level = max(seen_level, sample.level)
        counted.append(here)
    return counted


@define
class FirstPairs:
    """The first pair of every unit.

    Attributes:
        seen: Units with a compared pair, with the minute of the first.
        differing: Those of them whose first pair differs, with its minute.
    """

    seen: UnitSample = field(factory=UnitSample)
    differing: UnitSample = field(factory=UnitSample)

    def add(self, cell: int, minute: int, *, differs: bool) -> None:
        """Add a pair; later pairs of a unit change nothing."""
        if cell in self.seen.first:
            return
        self.seen.add(cell, minute)
        if differs and cell in self.seen.first:
            self.differing.add(cell, minute)


def first_pairs(phases: Iterable[FirstPairs]) -> tuple[int, int]:
    """Return the number of units whose first pair differs, and of all units, each counted once in the rollout.

    Args:
        phases: The first pairs by phase, in order.
    """
    listed = list(phases)
    level = max((sample.level for each in listed for sample in (each.seen, each.differing)), default=0)
    known: set[int] = set()
    events = 0
    for each in listed:
        seen, differing = each.seen.at(level), each.differing.at(level)
        new = seen.keys() - known
        events += sum(differing.get(cell) == seen[cell] for cell in new)
        known |= new
    return events, len(known)
