"""Calls and events of one arm, minute by minute, to detect outages of the control.

An outage affects both arms, and the ratio of two error rates is most precise while everything fails. It says nothing about the
candidate, so the judge excludes it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import define, field

__all__ = ["CALLS", "MINUTE_S", "MULTIPLE", "Minute", "Minutes", "bit_of"]

MINUTE_S = 60
CALLS = ""
"""Label for the number of calls."""

_KEPT_MINUTES = 60
MULTIPLE = 5.0
"""Factor over the usual rate from which a rate counts as an outage."""

_LEAST_CALLS, _LEAST_UNITS, _LEAST_BEFORE, _LEAST_RATE = 10, 8.0, 20, 0.01
_SURE = 5.0
_FEW_EVENTS, _DOUBTFUL_SHARE, _MOST_DOUBTFUL = 3, 0.2, 240
_BITS = 64
_LENIENT = 0.8


@define
class Minute:
    """One minute of one arm.

    Attributes:
        calls: Number of calls.
        units: Approximate set of the units: a bit for each of 64 groups of buckets.
        events: Number of events by label.
        hit: Approximate set of units with an event, by label.
    """

    calls: int = 0
    units: int = 0
    events: Counter[str] = field(factory=Counter)
    hit: dict[str, int] = field(factory=dict)

    def add_event(self, label: str, bucket: int) -> None:
        """Add an event of a call."""
        self.events[label] += 1
        self.hit[label] = self.hit.get(label, 0) | bit_of(bucket)

    def merge(self, other: Minute) -> None:
        """Add another process's counts."""
        self.calls += other.calls
        self.units |= other.units
        self.events.update(other.events)
        for label, bits in other.hit.items():
            self.hit[label] = self.hit.get(label, 0) | bits

    @property
    def counts(self) -> Counter[str]:
        """Calls and events in one counter."""
        return Counter({CALLS: self.calls, **self.events})


def bit_of(bucket: int) -> int:
    """Return the bit for a bucket."""
    return 1 << (bucket & _BITS - 1)


def _units_behind(bits: int) -> float:
    """Estimate the number of units from their bits, up to about 300; larger numbers are not needed."""
    return -_BITS * math.log1p(-min(bits.bit_count(), _BITS - 0.5) / _BITS)


@define
class Minutes:
    """Calls and events of one arm in one phase.

    Attributes:
        kept: Counts by minute since 1970: the last hour, and for the control also every minute that is, or may be, part of an
            outage.
        before: Sum of all other minutes.
    """

    kept: dict[int, Minute] = field(factory=dict)
    before: Counter[str] = field(factory=Counter)

    def merge(self, other: Minutes) -> None:
        """Add another process's counts."""
        self.before.update(other.before)
        for minute, theirs in other.kept.items():
            self.kept.setdefault(minute, Minute()).merge(theirs)

    def fold(self, minute: int, *, keep: frozenset[int] = frozenset()) -> None:
        """Merge minutes older than an hour before `minute`, except those in `keep` and the newest."""
        newest = max(self.kept, default=minute)
        for each in [each for each in self.kept if each < min(newest, minute - _KEPT_MINUTES) and each not in keep]:
            self.before.update(self.kept.pop(each).counts)

    def since(self, minute: int) -> Counter[str]:
        """Return calls and events from this minute on."""
        found: Counter[str] = Counter()
        for each, seen in self.kept.items():
            if each >= minute:
                found.update(seen.counts)
        return found

    def usual(self, label: str) -> float | None:
        """Return the usual share of calls with this event; None if there is too little data.

        It is computed over the half of the calls in the minutes with the lowest rates, so that an outage of less than half of
        the time does not count as usual.
        """
        kept = [(seen.calls, seen.events[label]) for seen in self.kept.values()]
        return _usual([*kept, (self.before[CALLS], self.before[label])])

    def outages(self, label: str, ceiling: float) -> frozenset[int]:
        """Return the minutes in which the event's rate was above `ceiling`, or significantly above a multiple of the usual.

        Significant means five standard errors, counting units as observations, with about as many units affected. A minute that
        is merely unlucky, or due to one user, is not excluded: excluding the control's unlucky minutes would bias against
        every candidate.
        """
        known = self.usual(label)
        usual = ceiling if known is None else max(known, _LEAST_RATE)
        least = min(ceiling, MULTIPLE * usual)
        found = []
        for minute, seen in self.kept.items():
            had, units = seen.events[label], _units_behind(seen.units)
            if seen.calls < _LEAST_CALLS or units < _LEAST_UNITS or had <= least * seen.calls:
                continue
            sure = usual + _SURE * math.sqrt(usual * max(0.0, 1 - usual) / min(units, seen.calls))
            if had > seen.calls * sure and _units_behind(seen.hit.get(label, 0)) >= least * units / 2:
                found.append(minute)
        return frozenset(found)

    def calls_in(self, minutes: frozenset[int]) -> int:
        """Return the number of calls in these minutes."""
        return sum(seen.calls for minute, seen in self.kept.items() if minute in minutes)

    def doubtful(self, label: str) -> frozenset[int]:
        """Return minutes that may be part of an outage, as data of other processes may show: many calls had this event."""
        suspects = [
            minute
            for minute, seen in self.kept.items()
            if seen.events[label] >= _FEW_EVENTS and seen.events[label] > _DOUBTFUL_SHARE * seen.calls
        ]
        return frozenset(sorted(suspects)[-_MOST_DOUBTFUL:])

    def may_have_been_out(self, label: str, ceiling: float) -> bool:
        """Whether `outages` may have had a minute when it was asked for every minute; if none of them was folded.

        Errs on the side of an outage: what was usual is taken at its lowest while the minute was kept.
        """
        numbers = sorted(self.kept)
        counts = [(self.kept[each].calls, self.kept[each].events[label]) for each in numbers]
        # Most have no such minute, whatever was usual.
        if not any(_is_out(had, calls, min(ceiling, _LEAST_RATE), ceiling) for calls, had in counts):
            return False
        usual, first, before = [], 0, Counter({CALLS: 0, label: 0})
        for index, number in enumerate(numbers):
            while numbers[first] < number - _KEPT_MINUTES:
                before[CALLS] += counts[first][0]
                before[label] += counts[first][1]
                first += 1
            known = _usual([*counts[first : index + 1], (before[CALLS], before[label])])
            usual.append(ceiling if known is None else max(known, _LEAST_RATE))
        last = 0
        for index, (calls, had) in enumerate(counts):
            while last < len(numbers) and numbers[last] <= numbers[index] + _KEPT_MINUTES:
                last += 1
            if _is_out(had, calls, _LENIENT * min(usual[index:last]), ceiling):
                return True
        return False

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-compatible values."""
        kept = [[minute, seen.calls, seen.units, dict(seen.events), seen.hit] for minute, seen in self.kept.items()]
        return {"kept": kept, "before": dict(self.before)}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Minutes:
        """Rebuild the counts from `as_dict`."""
        kept = {
            int(minute): Minute(int(calls), int(units), Counter(_whole(events)), _whole(hit))
            for minute, calls, units, events, hit in table["kept"]
        }
        return cls(kept, Counter(_whole(table["before"])))


def _usual(counts: Iterable[tuple[int, int]]) -> float | None:
    """Return the usual share of calls with an event, by calls and events of several times; None if there is too little data."""
    rates = [(events / calls, calls) for calls, events in counts if calls]
    half = sum(calls for _, calls in rates) / 2
    if half < _LEAST_BEFORE:
        return None
    had = left = 0.0
    for rate, calls in sorted(rates):
        taken = min(calls, half - left)
        had, left = had + rate * taken, left + taken
    return had / half


def _is_out(had: int, calls: int, usual: float, ceiling: float) -> bool:
    """Whether a minute with so many events may be part of an outage, however many units they are of."""
    if calls < _LEAST_CALLS or had <= min(ceiling, MULTIPLE * usual) * calls:
        return False
    return had > calls * (usual + _SURE * math.sqrt(usual * max(0.0, 1 - usual) / calls))


def _whole(numbers: Mapping[str, Any]) -> dict[str, int]:
    return {label: int(number) for label, number in numbers.items()}
