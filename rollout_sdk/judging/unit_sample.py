"""Distinct units counted without storing who they are: exact for a few thousand, a uniform sample beyond that.

A unit is kept when a second hash of it falls below a limit, and the limit is halved whenever the sample is full (distinct
sampling: Gibbons, VLDB 2001). The sample is an exact count of a random part of all units, independent of how often they come,
so tests that need independent units stay exact. Samples of several processes add up without counting a unit twice.
"""

from __future__ import annotations

import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen

__all__ = ["MOST_KEPT", "UNTIMED_MINUTE", "FirstUnits", "UnitSample", "cell_of", "first_units"]

MOST_KEPT = 8_192
"""Units kept at most: enough to see 48 % where 50 % was wanted."""

UNTIMED_MINUTE = 0
"""The minute of a unit whose time is not known."""

_CELL_BITS = 32
_MIX = 0x9E3779B97F4A7C15
_WORD = (1 << 64) - 1


def cell_of(digest: int) -> int:
    """The 32 bits that tell a unit from others: independent of its point and of its bucket, and not reversible."""
    mixed = (digest ^ digest >> 32) * _MIX & _WORD
    return mixed >> 32


class UnitSample:
    """The units of one arm, each with the minute in which it was first seen.

    Attributes:
        first: The minute (since 1970) by cell; `UNTIMED_MINUTE` where it is not known.
        level: One in 2**level of all units is kept.
    """

    __slots__ = ("first", "level")

    def __init__(self, cells: Iterable[int] = (), level: int = 0) -> None:
        """A sample of these units, without times."""
        self.first: dict[int, int] = dict.fromkeys(cells, UNTIMED_MINUTE)
        self.level = level

    @property
    def cells(self) -> set[int]:
        """The units in the sample."""
        return set(self.first)

    def add(self, cell: int, minute: int = UNTIMED_MINUTE) -> None:
        """See a unit, perhaps again."""
        if cell & (1 << self.level) - 1:
            return
        first = self.first
        known = first.get(cell)
        # Facts come in any order, from any process: the earliest minute is the same whatever the order.
        if known is None or minute < known:
            first[cell] = minute
            if known is None and len(first) > MOST_KEPT:
                self._thin(self.level + 1)

    def merge(self, other: UnitSample) -> None:
        """Add what another process has seen."""
        self._thin(max(self.level, other.level))
        first, theirs = self.first, other.at(self.level)
        # Of the units that both have seen, the earlier minute; without a loop over all of them, which a look cannot afford.
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
        """The units that a sample of this level would have kept, with their minutes."""
        if level <= self.level:
            return self.first.copy()
        mask = (1 << level) - 1
        return {cell: minute for cell, minute in self.first.items() if not cell & mask}

    @property
    def estimate(self) -> int:
        """Number of units: exact up to MOST_KEPT, and within a few parts in a hundred beyond."""
        return len(self.first) << self.level

    def as_dict(self) -> dict[str, Any]:
        """The sample as JSON-plain values."""
        cells = sorted(self.first)
        return {"level": self.level, "cells": _packed(cells), "minutes": _packed([self.first[cell] for cell in cells])}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> UnitSample:
        """The sample that `as_dict` wrote."""
        level = int(table["level"])
        if not 0 <= level <= _CELL_BITS:
            message = f"The level of a sample is {level}. It is at most {_CELL_BITS}, the bits of a unit."
            raise ValueError(message)
        sample = cls(_unpacked(table["cells"]), level)
        # Processes of an earlier version of the SDK do not write minutes.
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
    """The units of one arm in one phase that no earlier phase of the rollout has seen.

    Attributes:
        minutes: The minute by cell.
        level: One in 2**level of all such units is here.
    """

    minutes: Mapping[int, int]
    level: int

    @property
    def estimate(self) -> int:
        """Number of such units."""
        return len(self.minutes) << self.level


def first_units(phases: Iterable[Mapping[str, UnitSample]]) -> list[dict[str, FirstUnits]]:
    """For every phase in turn, the units of each arm that are seen for the first time in the rollout.

    Evidence multiplies over phases only if no unit is counted twice: a user who fails in every step of a fine ramp would
    otherwise be ten independent errors. Each arm is counted at its own sampling level. From the second phase on, that level is
    at least the one of all earlier phases, because a unit that they did not keep may be one that they saw.
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
