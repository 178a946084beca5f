"""Evidence: running sums by (phase, arm, bucket), which add up across processes and hold no unit ids.

Everything here is a sum or a set: seeing facts in another order, in other processes, or reading a copy twice gives the same.
Sums are kept for each phase apart, because evidence is never pooled across phases.
"""

from __future__ import annotations

from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from operator import add
from typing import Any

from attrs import define, field

from rollout_sdk.assignment import BUCKETS
from rollout_sdk.judging.samples import UnitSample
from rollout_sdk.plan import ERROR_RATE, LATENCY, Criterion, Guardrail
from rollout_sdk.stats import StratifiedBuckets

__all__ = ["Evidence", "PhaseEvidence", "Sums"]

_SLICES = 8
_MOST_REMEMBERED = 100_000
_BASE = -1
_ZEROS = (0.0,) * BUCKETS


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
        events: For error_rate and latency: the units that had one, by (label, arm).
        sums: Sums by label of the criterion.
    """

    shares: dict[str, float] = field(factory=dict)
    units: dict[str, UnitSample] = field(factory=dict)
    calls: dict[str, array[int]] = field(factory=dict)
    events: dict[tuple[str, str], UnitSample] = field(factory=dict)
    sums: dict[str, Sums] = field(factory=dict)

    def merge(self, other: PhaseEvidence) -> None:
        """Add another process's."""
        self.shares.update(other.shares)
        for arm, calls in other.calls.items():
            mine = self.calls.get(arm)
            self.calls[arm] = calls[:] if mine is None else array("q", map(add, mine, calls))
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
            events={(label, arm): UnitSample.from_dict(sample) for label, arm, sample in table["events"]},
            sums={label: Sums.from_dict(sums) for label, sums in table["sums"].items()},
        )


class Evidence:
    """The evidence of one rollout, by phase. Used by one thread at a time.

    Attributes:
        phases: What happened, by phase.
        outcomes: What became of recorded outcomes of judged metrics: "counted", "late" (after the metric's window),
            "duplicate" (the same metric twice for one decision) or "unknown" (without a decision, or another rollout's phase).
        changed: Phases that were added to since they were last published.
    """

    def __init__(self, criteria: Iterable[Criterion]) -> None:
        """Nothing seen yet; sums are kept for these criteria."""
        self.phases: dict[str, PhaseEvidence] = {}
        self.outcomes: Counter[str] = Counter()
        self.changed: set[str] = set()
        self.follow(criteria)
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    def follow(self, criteria: Iterable[Criterion]) -> None:
        """Keep sums for these criteria from now on."""
        criteria = list(criteria)
        slow = [each for each in criteria if isinstance(each, Guardrail) and each.threshold_s is not None]
        self._thresholds = [(each.label, each.threshold_s or 0.0) for each in slow]
        self._counts_errors = any(each.metric == ERROR_RATE for each in criteria)
        self._recorded = {each.metric: each for each in criteria if each.metric not in (ERROR_RATE, LATENCY)}
        # The others' means over calls are taken over `PhaseEvidence.calls`.
        self._windowed = [each for each in self._recorded.values() if each.per == "call" and each.window]

    def phase(self, name: str) -> PhaseEvidence:
        """What happened in a phase, to be added to."""
        self.changed.add(name)
        phase = self.phases.get(name)
        if phase is None:
            phase = self.phases[name] = PhaseEvidence()
        return phase

    def add_call(
        self,
        phase_name: str,
        arm: str,
        shares: Mapping[str, float],
        cell: int,
        bucket: int,
        *,
        failed: bool,
        duration_s: float | None,
        time_s: float,
    ) -> None:
        """See a call that is analysed.

        Args:
            phase_name: Name of the phase.
            arm: The variant that it was assigned to, whoever answered.
            shares: Configured share of every variant in the phase.
            cell: `cell_of` the unit.
            bucket: The unit's bucket.
            failed: Whether that variant raised, or could not be run.
            duration_s: How long the caller waited; None when that says nothing (a stream that was closed early).
            time_s: Time of the decision.
        """
        phase = self.phases.get(phase_name) or self.phase(phase_name)
        self.changed.add(phase_name)
        calls = phase.calls.get(arm)
        if calls is None:
            calls = phase.calls[arm] = array("q", bytes(8 * BUCKETS))
            phase.units[arm] = UnitSample()
            phase.shares = dict(shares)
        calls[bucket] += 1
        phase.units[arm].add(cell)
        if failed and self._counts_errors:
            self._event(phase, ERROR_RATE, phase_name, arm, cell, bucket)
        for label, threshold_s in self._thresholds:
            if duration_s is None:
                # It was a call, and is none of which this can be told.
                self._sums(phase, label).add(phase_name, arm, bucket, 0.0, -1.0, time_s)
            elif duration_s > threshold_s:
                self._event(phase, label, phase_name, arm, cell, bucket)
        for criterion in self._windowed:
            self._sums(phase, criterion.label, criterion.window).add(phase_name, arm, bucket, 0.0, 1.0, time_s)

    def _event(self, phase: PhaseEvidence, label: str, name: str, arm: str, cell: int, bucket: int) -> None:
        self._sums(phase, label).add(name, arm, bucket, 1.0, 0.0, 0.0)
        units = phase.events.get((label, arm))
        if units is None:
            units = phase.events[label, arm] = UnitSample()
        units.add(cell)

    @staticmethod
    def _sums(phase: PhaseEvidence, label: str, window: float = 0.0) -> Sums:
        sums = phase.sums.get(label)
        if sums is None:
            sums = phase.sums[label] = Sums(window / _SLICES)
        return sums

    def add_outcome(
        self,
        metric: str,
        value: float,
        *,
        decision: str | None,
        phase_name: str | None,
        arm: str | None,
        bucket: int | None,
        decided_s: float | None,
        time_s: float,
    ) -> None:
        """See a recorded outcome; what is not judged is passed over.

        Args:
            metric: The metric.
            value: The value.
            decision: What tells the decision from others; None when the outcome names none.
            phase_name: Phase of the decision.
            arm: Variant of the decision.
            bucket: Bucket of the decision.
            decided_s: Time of the decision.
            time_s: Time of the outcome.
        """
        criterion = self._recorded.get(metric)
        if criterion is None:
            return
        if decision is None or phase_name is None or arm is None or bucket is None or decided_s is None:
            self.outcomes["unknown"] += 1
            return
        if criterion.window and time_s - decided_s > criterion.window:
            self.outcomes["late"] += 1
            return
        if (metric, decision) in self._seen:
            self.outcomes["duplicate"] += 1
            return
        self._seen[metric, decision] = None
        if len(self._seen) > _MOST_REMEMBERED:
            self._seen.popitem(last=False)
        self.outcomes["counted"] += 1
        if criterion.clip is not None:
            value = min(max(value, criterion.clip[0]), criterion.clip[1])
        weight = 1.0 if criterion.per == "outcome" else 0.0
        phase = self.phase(phase_name)
        self._sums(phase, criterion.label, criterion.window).add(phase_name, arm, bucket, value, weight, decided_s)

    def sums(self, criterion: Criterion, until_s: float | None = None) -> StratifiedBuckets:
        """The sums of a criterion over all phases, of decisions before `until_s`; of all of them for None."""
        whole = StratifiedBuckets()
        for name, phase in self.phases.items():
            kept = phase.sums.get(criterion.label)
            if kept is not None:
                for sums in kept.until(until_s):
                    whole.merge(sums)
            if criterion.per == "call" and not criterion.window:
                for arm, calls in phase.calls.items():
                    whole.add_sums(name, arm, _ZEROS, calls)
        return whole

    def merge(self, other: Evidence) -> None:
        """Add another process's."""
        self.outcomes.update(other.outcomes)
        for name, phase in other.phases.items():
            self.phase(name).merge(phase)

    def fold(self, now_s: float) -> None:
        """Let go of what need not be told apart any more."""
        for phase in self.phases.values():
            for criterion in self._recorded.values():
                sums = phase.sums.get(criterion.label)
                if sums is not None and sums.slice_s:
                    # As much again: a clock may be off, and a folded slice must be mature for every reader.
                    sums.fold(now_s - 2 * criterion.window)
