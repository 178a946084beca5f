"""Evidence of one phase as sums by (arm, bucket), which add up across processes and contain no unit ids.

The sums do not depend on the order of the facts, on the process that saw them, or on how often a copy is read.
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
from rollout_sdk.plan import Criterion
from rollout_sdk.stats import StratifiedBuckets

__all__ = ["BASE", "PhaseEvidence", "Sums", "is_by_minute", "number_of", "slice_of"]

BASE = -1
"""Slice number for sums that no longer need to be separated by time."""
_ASIDE = -2
"""Slice number for sums of outages, which count only where the calls of outages count."""

_SLICES = 8


def slice_of(window: float) -> float:
    """Length of the slices of time in which sums of a metric with this window are kept, in seconds."""
    return window / _SLICES


def is_by_minute(criterion: Criterion) -> bool:
    """Whether a recorded metric's values are kept by the minute of their call, so that those of outages can be left out."""
    return criterion.per == "call" and not criterion.window


@define
class Sums:
    """Sums of one metric in one phase by arm and bucket, in slices of decision time while time matters.

    Attributes:
        slice_s: Length of a slice in seconds; 0 if time does not matter, and there is a single slice.
        slices: Sums by slice number; merged slices are in `BASE`.
        others: Number of values other than 0 and 1; if it is 0, the metric is binary.
    """

    slice_s: float = 0.0
    slices: dict[int, StratifiedBuckets] = field(factory=dict)
    others: int = 0

    def add(self, phase: str, arm: str, bucket: int, value: float, weight: float, time_s: float | None) -> None:
        """Add a value of a decision made at this time; None: at a time that no longer matters."""
        number = int(time_s // self.slice_s) if self.slice_s and time_s is not None else BASE
        sums = self.slices.get(number)
        if sums is None:
            sums = self.slices[number] = StratifiedBuckets()
        sums.add(phase, arm, bucket, value, weight)
        if value not in (0.0, 1.0):
            self.others += 1

    def merge(self, other: Sums) -> None:
        """Add another process's sums."""
        self.others += other.others
        for number, sums in other.slices.items():
            mine = self.slices.get(number)
            if mine is None:
                mine = self.slices[number] = StratifiedBuckets()
            mine.merge(sums)

    def until(self, time_s: float | None) -> Iterable[StratifiedBuckets]:
        """Return the sums of whole slices of decisions before this time; None: of all decisions."""
        if time_s is None or not self.slice_s:
            return list(self.slices.values())
        return [sums for number, sums in self.slices.items() if number == BASE or (number + 1) * self.slice_s <= time_s]

    def without(self, numbers: frozenset[int]) -> Iterable[StratifiedBuckets]:
        """Return the sums of all slices except these, and except those set aside if there are any such."""
        left_out = numbers | {_ASIDE} if numbers else numbers
        return [sums for number, sums in self.slices.items() if number not in left_out]

    def fold(self, time_s: float, aside: frozenset[int] = frozenset(), keep: frozenset[int] = frozenset()) -> None:
        """Merge slices that end before this time, except those in `keep`; those in `aside` apart from the others."""
        for number in list(self.slices):
            if number in (BASE, _ASIDE) or number in keep or (number + 1) * self.slice_s > time_s:
                continue
            sums = self.slices.pop(number)
            merged = _ASIDE if number in aside else BASE
            base = self.slices.get(merged)
            if base is None:
                self.slices[merged] = sums
            else:
                base.merge(sums)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-compatible values."""
        slices = {str(number): sums.as_dict() for number, sums in self.slices.items()}
        return {"slice_s": self.slice_s, "slices": slices, "others": self.others}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Sums:
        """Rebuild the sums from `as_dict`."""
        slices = {int(number): StratifiedBuckets.from_dict(sums) for number, sums in table["slices"].items()}
        return cls(float(table["slice_s"]), slices, int(table.get("others", 0)))


UNCOMPARED = "uncompared "
"""Prefix of counts beside the ends of runs: of pairs that a metric could not use."""


@define
class PhaseEvidence:
    """The evidence of one phase.

    Attributes:
        shares: Share of the calls in which each arm is exposed, the control first; in a shadow phase, they add up to more
            than 1.
        units: Units of each arm.
        calls: Calls of each arm by bucket: the denominator of every mean over calls, stored once.
        untimed: Calls with unknown latency, by arm and bucket: streams that were closed early.
        waitless: Calls without a first item, by arm and bucket.
        events: Units that had an event (an error, a slow call), by (label, arm).
        sums: Sums by the criterion's label.
        minutes: Calls and events of each arm by minute: recent minutes, and those of outages.
        ends: Number of shadow runs by (candidate, end), and of calls that could not be measured by (variant, "unmeasured").
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
        """Return the minutes of an outage of the control, by the rate of this event."""
        minutes = self.minutes.get(self.control)
        return frozenset() if minutes is None else minutes.outages(label, ceiling)

    def doubtful(self, label: str) -> frozenset[int]:
        """Return the minutes that may be part of an outage of the control."""
        minutes = self.minutes.get(self.control)
        return frozenset() if minutes is None else minutes.doubtful(label)

    @property
    def last_s(self) -> float:
        """End of the last minute with a call, in seconds since 1970; 0 if there is none."""
        return MINUTE_S * (1 + max((minute for minutes in self.minutes.values() for minute in minutes.kept), default=-1))

    @property
    def is_shadow(self) -> bool:
        """Whether the phase serves no candidate: arms are compared in pairs, and users see no candidate."""
        return sum(self.shares.values()) > 1 + 1e-9

    def merge(self, other: PhaseEvidence) -> None:
        """Add another process's evidence."""
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
        """Return JSON-compatible values."""
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
        """Rebuild the evidence from `as_dict`; fields that an earlier SDK version did not write are empty.

        Raises:
            KeyError, TypeError, ValueError, AttributeError, OverflowError: The table was not written by `as_dict`.
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
        message = f"Calls are counted in {BUCKETS} buckets, and counts are not negative."
        raise ValueError(message)
    return counted


def number_of(phase_name: str) -> int:
    """Return the number at the start of a phase's name ("3:25%"); a name without one sorts after all others."""
    number = phase_name.partition(":")[0]
    return int(number) if number.isdecimal() else sys.maxsize
