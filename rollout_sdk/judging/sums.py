"""Sums by (phase, arm, bucket) of one metric, and all that happened in one phase: they add up across processes.

They hold no unit ids. Seeing facts in another order, in other processes, or reading a copy twice gives the same.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from operator import add
from typing import Any

from attrs import define, field

from rollout_sdk.judging.samples import UnitSample
from rollout_sdk.stats import StratifiedBuckets

__all__ = ["UNTIMED", "PhaseEvidence", "Sums"]

UNTIMED = "latency untimed"
"""Label of the units that had a call of which nobody knows how long it would have taken."""

_BASE = -1


@define
class Sums:
    """One metric in one phase: sums by arm and bucket, in slices of decision time while decisions are not mature.

    Attributes:
        slice_s: Length of a slice; 0 keeps none, for a metric without a window.
        slices: Sums by number of the slice; those that need not be told apart any more are in slice -1.
    """

    slice_s: float = 0.0
    slices: dict[int, StratifiedBuckets] = field(factory=dict)

    def add(self, phase: str, arm: str, bucket: int, value: float, weight: float, time_s: float) -> None:
        """Add a value of a decision that was taken at this time."""
        number = int(time_s // self.slice_s) if self.slice_s else _BASE
        sums = self.slices.get(number)
        if sums is None:
            sums = self.slices[number] = StratifiedBuckets()
        sums.add(phase, arm, bucket, value, weight)

    def merge(self, other: Sums) -> None:
        """Add another process's."""
        for number, sums in other.slices.items():
            mine = self.slices.get(number)
            if mine is None:
                mine = self.slices[number] = StratifiedBuckets()
            mine.merge(sums)

    def until(self, time_s: float | None) -> Iterable[StratifiedBuckets]:
        """The sums of decisions taken before this time, as far as whole slices are; of all of them for None."""
        if time_s is None or not self.slice_s:
            return list(self.slices.values())
        return [sums for number, sums in self.slices.items() if number == _BASE or (number + 1) * self.slice_s <= time_s]

    def fold(self, time_s: float) -> None:
        """Put the slices of decisions before this time together: they are mature, and stay it."""
        for number in [number for number in self.slices if number != _BASE and (number + 1) * self.slice_s <= time_s]:
            sums = self.slices.pop(number)
            base = self.slices.get(_BASE)
            if base is None:
                self.slices[_BASE] = sums
            else:
                base.merge(sums)

    def as_dict(self) -> dict[str, Any]:
        """JSON-plain."""
        return {"slice_s": self.slice_s, "slices": {str(number): sums.as_dict() for number, sums in self.slices.items()}}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Sums:
        """What `as_dict` gave."""
        slices = {int(number): StratifiedBuckets.from_dict(sums) for number, sums in table["slices"].items()}
        return cls(table["slice_s"], slices)


@define
class PhaseEvidence:
    """What happened in one phase.

    Attributes:
        shares: Share of every arm.
        units: The units of every arm.
        calls: Calls of every arm by bucket: what every mean over calls is taken over, kept once.
        untimed: Of these, the calls of which the latency is not known: streams that were closed early.
        events: For error_rate and latency: the units that had one, by (label, arm); for UNTIMED, those of such calls.
        sums: Sums by label of the criterion.
    """

    shares: dict[str, float] = field(factory=dict)
    units: dict[str, UnitSample] = field(factory=dict)
    calls: dict[str, array[int]] = field(factory=dict)
    untimed: dict[str, array[int]] = field(factory=dict)
    events: dict[tuple[str, str], UnitSample] = field(factory=dict)
    sums: dict[str, Sums] = field(factory=dict)

    def merge(self, other: PhaseEvidence) -> None:
        """Add another process's."""
        self.shares.update(other.shares)
        for mine, theirs in ((self.calls, other.calls), (self.untimed, other.untimed)):
            for arm, calls in theirs.items():
                mine[arm] = array("q", map(add, mine[arm], calls)) if arm in mine else calls[:]
        for arm, sample in other.units.items():
            self.units.setdefault(arm, UnitSample()).merge(sample)
        for name, sample in other.events.items():
            self.events.setdefault(name, UnitSample()).merge(sample)
        for label, sums in other.sums.items():
            self.sums.setdefault(label, Sums(sums.slice_s)).merge(sums)

    def as_dict(self) -> dict[str, Any]:
        """JSON-plain."""
        return {
            "shares": self.shares,
            "units": {arm: sample.as_dict() for arm, sample in self.units.items()},
            "calls": {arm: calls.tolist() for arm, calls in self.calls.items()},
            "untimed": {arm: calls.tolist() for arm, calls in self.untimed.items()},
            "events": [[label, arm, sample.as_dict()] for (label, arm), sample in self.events.items()],
            "sums": {label: sums.as_dict() for label, sums in self.sums.items()},
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> PhaseEvidence:
        """What `as_dict` gave."""
        return cls(
            shares=dict(table["shares"]),
            units={arm: UnitSample.from_dict(sample) for arm, sample in table["units"].items()},
            calls={arm: array("q", calls) for arm, calls in table["calls"].items()},
            # Processes of an earlier version of the SDK do not write it.
            untimed={arm: array("q", calls) for arm, calls in table.get("untimed", {}).items()},
            events={(label, arm): UnitSample.from_dict(sample) for label, arm, sample in table["events"]},
            sums={label: Sums.from_dict(sums) for label, sums in table["sums"].items()},
        )
