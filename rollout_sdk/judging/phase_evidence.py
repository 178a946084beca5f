"""What was seen in one phase, as sums by (arm, bucket): they add up across processes and hold no unit ids.

Seeing the facts in another order, in other processes, or reading a copy twice gives the same sums.
"""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from operator import add
from typing import Any

from attrs import define, field

from rollout_sdk.assignment import BUCKETS
from rollout_sdk.judging.minutes import MINUTE_S, Minutes
from rollout_sdk.judging.unit_sample import UnitSample
from rollout_sdk.stats import StratifiedBuckets

__all__ = ["BASE", "PhaseEvidence", "Sums", "number_of"]

BASE = -1
"""The slice of what need not be told apart by time any more."""


@define
class Sums:
    """One metric in one phase: sums by arm and bucket, in slices of decision time for as long as time matters.

    Attributes:
        slice_s: Length of a slice in seconds; 0 keeps none, for a metric without a window.
        slices: Sums by number of the slice; those that need not be told apart any more are in slice `BASE`.
        others: Values other than 0 and 1: without any, the metric is a yes or no.
    """

    slice_s: float = 0.0
    slices: dict[int, StratifiedBuckets] = field(factory=dict)
    others: int = 0

    def add(self, phase: str, arm: str, bucket: int, value: float, weight: float, time_s: float) -> None:
        """Add a value of a decision that was taken at this time."""
        number = int(time_s // self.slice_s) if self.slice_s else BASE
        sums = self.slices.get(number)
        if sums is None:
            sums = self.slices[number] = StratifiedBuckets()
        sums.add(phase, arm, bucket, value, weight)
        if value not in (0.0, 1.0):
            self.others += 1

    def merge(self, other: Sums) -> None:
        """Add another process's."""
        self.others += other.others
        for number, sums in other.slices.items():
            mine = self.slices.get(number)
            if mine is None:
                mine = self.slices[number] = StratifiedBuckets()
            mine.merge(sums)

    def until(self, time_s: float | None) -> Iterable[StratifiedBuckets]:
        """The sums of decisions taken before this time, as far as whole slices are; of all of them for None."""
        if time_s is None or not self.slice_s:
            return list(self.slices.values())
        return [sums for number, sums in self.slices.items() if number == BASE or (number + 1) * self.slice_s <= time_s]

    def without(self, numbers: frozenset[int]) -> Iterable[StratifiedBuckets]:
        """The sums of all slices but these."""
        return [sums for number, sums in self.slices.items() if number not in numbers]

    def fold(self, time_s: float, drop: frozenset[int] = frozenset(), keep: frozenset[int] = frozenset()) -> None:
        """Put the slices that end before this time together, but for those to `keep`; let go of those to `drop`."""
        for number in list(self.slices):
            if number == BASE or number in keep or (number + 1) * self.slice_s > time_s:
                continue
            sums = self.slices.pop(number)
            if number in drop:
                continue
            base = self.slices.get(BASE)
            if base is None:
                self.slices[BASE] = sums
            else:
                base.merge(sums)

    def as_dict(self) -> dict[str, Any]:
        """JSON-plain."""
        slices = {str(number): sums.as_dict() for number, sums in self.slices.items()}
        return {"slice_s": self.slice_s, "slices": slices, "others": self.others}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Sums:
        """The sums that `as_dict` wrote."""
        slices = {int(number): StratifiedBuckets.from_dict(sums) for number, sums in table["slices"].items()}
        return cls(float(table["slice_s"]), slices, int(table.get("others", 0)))


@define
class PhaseEvidence:
    """What was seen in one phase.

    Attributes:
        shares: Share of the calls in which each arm is seen, the control's first; of a shadow phase, they add up to more
            than 1.
        units: The units of each arm.
        calls: Calls of each arm by bucket: what every mean over calls is taken over, stored once.
        untimed: Calls without a known latency, by arm and bucket: streams that were closed early.
        waitless: Calls without a first item, by arm and bucket.
        events: The units that had an event (an error, a slow call), by (label, arm).
        sums: Sums by label of the criterion.
        minutes: The pace of each arm: calls and events of the last minutes, and the minutes in which most calls failed.
        ends: How the shadow runs of each candidate ended, by (candidate, end); and the calls of each variant that were not
            measured, under the end "unmeasured".
    """

    shares: dict[str, float] = field(factory=dict)
    units: dict[str, UnitSample] = field(factory=dict)
    calls: dict[str, array[int]] = field(factory=dict)
    untimed: dict[str, array[int]] = field(factory=dict)
    waitless: dict[str, array[int]] = field(factory=dict)
    events: dict[tuple[str, str], UnitSample] = field(factory=dict)
    sums: dict[str, Sums] = field(factory=dict)
    minutes: dict[str, Minutes] = field(factory=dict)
    ends: Counter[tuple[str, str]] = field(factory=Counter)

    @property
    def control(self) -> str:
        """Name of the control."""
        return next(iter(self.shares), "")

    def outages(self, label: str, ceiling: float) -> frozenset[int]:
        """The minutes in which surely more than a share `ceiling` of the control's calls had this event."""
        minutes = self.minutes.get(self.control)
        return frozenset() if minutes is None else minutes.outages(label, ceiling)

    def doubtful(self, label: str) -> frozenset[int]:
        """The minutes that may be part of an outage of the control."""
        minutes = self.minutes.get(self.control)
        return frozenset() if minutes is None else minutes.doubtful(label)

    @property
    def last_s(self) -> float:
        """End of the last minute with a call, in seconds since 1970; 0 without any."""
        return MINUTE_S * (1 + max((minute for minutes in self.minutes.values() for minute in minutes.kept), default=-1))

    @property
    def is_shadow(self) -> bool:
        """Whether no candidate served in it: arms are compared in pairs, and no user saw a candidate."""
        return sum(self.shares.values()) > 1 + 1e-9

    def merge(self, other: PhaseEvidence) -> None:
        """Add another process's."""
        self.shares.update(other.shares)
        self.ends.update(other.ends)
        for mine, theirs in (
            (self.calls, other.calls),
            (self.untimed, other.untimed),
            (self.waitless, other.waitless),
        ):
            for arm, calls in theirs.items():
                mine[arm] = array("q", map(add, mine[arm], calls)) if arm in mine else calls[:]
        for arm, sample in other.units.items():
            self.units.setdefault(arm, UnitSample()).merge(sample)
        for name, sample in other.events.items():
            self.events.setdefault(name, UnitSample()).merge(sample)
        for label, sums in other.sums.items():
            self.sums.setdefault(label, Sums(sums.slice_s)).merge(sums)
        for arm, minutes in other.minutes.items():
            self.minutes.setdefault(arm, Minutes()).merge(minutes)

    def as_dict(self) -> dict[str, Any]:
        """JSON-plain."""
        return {
            "shares": self.shares,
            "units": {arm: sample.as_dict() for arm, sample in self.units.items()},
            "calls": {arm: calls.tolist() for arm, calls in self.calls.items()},
            "untimed": {arm: calls.tolist() for arm, calls in self.untimed.items()},
            "waitless": {arm: calls.tolist() for arm, calls in self.waitless.items()},
            "events": [[label, arm, sample.as_dict()] for (label, arm), sample in self.events.items()],
            "sums": {label: sums.as_dict() for label, sums in self.sums.items()},
            "minutes": {arm: minutes.as_dict() for arm, minutes in self.minutes.items()},
            "ends": [[candidate, end, number] for (candidate, end), number in self.ends.items()],
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> PhaseEvidence:
        """The evidence that `as_dict` wrote; what an earlier version of the SDK did not write is empty.

        Raises:
            KeyError, TypeError, ValueError, AttributeError, OverflowError: It is not what `as_dict` wrote.
        """
        return cls(
            shares={str(arm): float(share) for arm, share in table["shares"].items()},
            units={arm: UnitSample.from_dict(sample) for arm, sample in table["units"].items()},
            calls={arm: _by_bucket(calls) for arm, calls in table["calls"].items()},
            untimed={arm: _by_bucket(calls) for arm, calls in table.get("untimed", {}).items()},
            waitless={arm: _by_bucket(calls) for arm, calls in table.get("waitless", {}).items()},
            events={(label, arm): UnitSample.from_dict(sample) for label, arm, sample in table["events"]},
            sums={label: Sums.from_dict(sums) for label, sums in table["sums"].items()},
            minutes={arm: Minutes.from_dict(minutes) for arm, minutes in table.get("minutes", {}).items()},
            ends=Counter({(candidate, end): int(number) for candidate, end, number in table.get("ends", ())}),
        )


def _by_bucket(calls: Iterable[int]) -> array[int]:
    counted = array("q", calls)
    if len(counted) != BUCKETS or min(counted) < 0:
        message = f"Calls are counted in {BUCKETS} buckets, from 0 on."
        raise ValueError(message)
    return counted


def number_of(phase_name: str) -> int:
    """The number that the name of a phase begins with ("3:25%"); for a name without one, a number after all others."""
    number = phase_name.partition(":")[0]
    return int(number) if number.isdecimal() else sys.maxsize
