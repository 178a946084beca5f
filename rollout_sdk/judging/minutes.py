"""The pace of one arm, minute by minute: what says that the control is failing right now, and when it was.

An outage hits both arms, and the ratio of two error rates is known best while everything fails. Nothing can be learnt from it,
so the judge must know when it was.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from attrs import define, field

__all__ = ["CALLS", "MINUTE_S", "MULTIPLE", "Minute", "Minutes", "bit_of"]

MINUTE_S = 60
CALLS = ""
"""Label under which the calls themselves are counted."""

_KEPT_MINUTES = 60
MULTIPLE = 5.0
"""How many times as often as usual an event must be to be an outage."""

_LEAST_CALLS, _LEAST_UNITS, _LEAST_BEFORE, _LEAST_RATE = 10, 8.0, 20, 0.01
_SURE = 5.0
_FEW_EVENTS, _DOUBTFUL_SHARE, _MOST_DOUBTFUL = 3, 0.2, 240
_BITS = 64


@define
class Minute:
    """One minute of one arm.

    Attributes:
        calls: Number of calls.
        units: About which units they were: a bit for each of 64 groups of buckets.
        events: Events by label.
        hit: About which units had one, by label.
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
        """Add another process's."""
        self.calls += other.calls
        self.units |= other.units
        self.events.update(other.events)
        for label, bits in other.hit.items():
            self.hit[label] = self.hit.get(label, 0) | bits

    @property
    def counts(self) -> Counter[str]:
        """Calls and events together."""
        return Counter({CALLS: self.calls, **self.events})


def bit_of(bucket: int) -> int:
    """The bit of a bucket's units."""
    return 1 << (bucket & _BITS - 1)


def _units_behind(bits: int) -> float:
    """About how many units set these bits; at most some 300, which is as many as matter."""
    return -_BITS * math.log1p(-min(bits.bit_count(), _BITS - 0.5) / _BITS)


@define
class Minutes:
    """Calls and events of one arm in one phase.

    Attributes:
        kept: By minute since 1970. The last hour is here, and of the control every minute that is, or may be, part of an
            outage.
        before: The sum of all other minutes.
    """

    kept: dict[int, Minute] = field(factory=dict)
    before: Counter[str] = field(factory=Counter)

    def merge(self, other: Minutes) -> None:
        """Add another process's."""
        self.before.update(other.before)
        for minute, theirs in other.kept.items():
            self.kept.setdefault(minute, Minute()).merge(theirs)

    def fold(self, minute: int, *, keep: frozenset[int] = frozenset()) -> None:
        """Add up what is older than an hour at this minute, but for those to `keep`, and the newest."""
        newest = max(self.kept, default=minute)
        for each in [each for each in self.kept if each < min(newest, minute - _KEPT_MINUTES) and each not in keep]:
            self.before.update(self.kept.pop(each).counts)

    def since(self, minute: int) -> Counter[str]:
        """Calls and events from this minute on."""
        found: Counter[str] = Counter()
        for each, seen in self.kept.items():
            if each >= minute:
                found.update(seen.counts)
        return found

    def usual(self, label: str) -> float | None:
        """The share of the calls that usually have this event; None where too little was seen.

        Over the half of the calls in whose minutes it was rarest, so that an outage of less than half of the time does not pass
        for what is usual.
        """
        rates = [(seen.events[label] / seen.calls, seen.calls) for seen in self.kept.values() if seen.calls]
        if self.before[CALLS]:
            rates.append((self.before[label] / self.before[CALLS], self.before[CALLS]))
        half = sum(calls for _, calls in rates) / 2
        if half < _LEAST_BEFORE:
            return None
        events = left = 0.0
        for rate, calls in sorted(rates):
            taken = min(calls, half - left)
            events, left = events + rate * taken, left + taken
        return events / half

    def outages(self, label: str, ceiling: float) -> frozenset[int]:
        """The minutes in which more of the calls had this event than is usual, surely and by a multiple, or above `ceiling`.

        By five standard errors, with units for observations, and for about as many units as calls. A minute that is merely
        unlucky, or one user's, stays: leaving out the control's unlucky minutes would make every candidate look worse.
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
        """Calls in these minutes."""
        return sum(seen.calls for minute, seen in self.kept.items() if minute in minutes)

    def doubtful(self, label: str) -> frozenset[int]:
        """The minutes that may be part of an outage, as more processes would know: many of the calls here had this event."""
        suspects = [
            minute
            for minute, seen in self.kept.items()
            if seen.events[label] >= _FEW_EVENTS and seen.events[label] > _DOUBTFUL_SHARE * seen.calls
        ]
        return frozenset(sorted(suspects)[-_MOST_DOUBTFUL:])

    def as_dict(self) -> dict[str, Any]:
        """JSON-plain."""
        kept = [[minute, seen.calls, seen.units, dict(seen.events), seen.hit] for minute, seen in self.kept.items()]
        return {"kept": kept, "before": dict(self.before)}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Minutes:
        """The minutes that `as_dict` wrote."""
        kept = {
            int(minute): Minute(int(calls), int(units), Counter(_whole(events)), _whole(hit))
            for minute, calls, units, events, hit in table["kept"]
        }
        return cls(kept, Counter(_whole(table["before"])))


def _whole(numbers: Mapping[str, Any]) -> dict[str, int]:
    return {label: int(number) for label, number in numbers.items()}
