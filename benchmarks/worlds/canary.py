"""A canary whose calls come in arrays: the SDK's own evidence, judge, states and transitions, without the calls themselves."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from attrs import evolve

from rollout_sdk import Canary
from rollout_sdk.assignment import BUCKETS
from rollout_sdk.control.next_step import latch, next_step, situation_of
from rollout_sdk.control.state import RolloutState, start
from rollout_sdk.judging import Evidence, UnitSample, Verdict, judge
from rollout_sdk.judging.evidence import COVARIATE
from rollout_sdk.judging.minutes import MINUTE_S, Minute, Minutes
from rollout_sdk.judging.phase_evidence import BASE, PhaseEvidence, Sums, is_by_minute, slice_of
from rollout_sdk.judging.unit_sample import MOST_KEPT
from rollout_sdk.plan import ERROR_RATE, LATENCY, LATENCY_MEAN
from rollout_sdk.stats import StratifiedBuckets

__all__ = ["FastCanary", "Units"]

Array = np.ndarray[Any, Any]

_MIX = np.uint64(0x9E3779B97F4A7C15)


class Units:
    """A population: what the digest of a unit says, for all of them.

    Attributes:
        point: Where a unit lies in the unit interval.
        bucket: Its bucket.
        cell: Its cell.
    """

    def __init__(self, digests: Array) -> None:
        """The units of these 64-bit digests."""
        words = digests.astype(np.uint64)
        self.point = (words >> np.uint64(32)).astype(np.float64) / 2.0**32
        self.bucket = (words & np.uint64(BUCKETS - 1)).astype(np.int64)
        with np.errstate(over="ignore"):
            self.cell = ((words ^ words >> np.uint64(32)) * _MIX >> np.uint64(32)).astype(np.int64)

    @classmethod
    def random(cls, rng: np.random.Generator, number: int) -> Units:
        """So many units."""
        return cls(rng.integers(0, 2**64, number, dtype=np.uint64))


class FastCanary:
    """One canary. Give it calls and outcomes, and have it look; transitions are made as by the SDK.

    Attributes:
        state: The state of the rollout.
        evidence: What was seen.
        verdict: The last verdict; None before the first look.
        arms: The control's name, and the candidates'.
    """

    def __init__(
        self,
        strategy: Canary,
        units: Units,
        *,
        candidates: Sequence[str] = ("v2",),
        control: str = "control",
        now_s: float,
        max_calls: int | None = None,
    ) -> None:
        """Begin."""
        self.criteria = evolve(strategy.criteria, max_calls_per_unit=max_calls)
        self.arms = (control, *candidates)
        plan = strategy.rollout_phases(control, tuple(candidates))
        self.state: RolloutState = start("simulated", plan, ramps=True, now_s=now_s)
        self.evidence = Evidence(self.criteria.all)
        self.verdict: Verdict | None = None
        self._units = units
        self._counts: dict[str, Array] = {}
        self._of = {each.label: each for each in self.criteria.all}

    def route(self, who: Array) -> Array:
        """The index of every unit's arm; 0 is the control."""
        split = self.state.phase.split
        owners = np.array([self.arms.index(each.variant) for each in split._decisions])
        return owners[np.searchsorted(split._bounds, self._units.point[who], side="right")]

    def add_calls(
        self,
        who: Array,
        arm: Array,
        times_s: Array,
        *,
        failed: Array,
        duration_s: Array,
        covariate: Array | None = None,
    ) -> Array:
        """Add calls; which of them count.

        Args:
            who: Index of the unit.
            arm: Index of the arm.
            times_s: Time of the decision, growing.
            failed: Whether the arm failed.
            duration_s: How long the caller waited; NaN where that is not known.
            covariate: What was known before.
        """
        name = self.state.phase.name
        counts = self._uncapped(name, who)
        phase = self.evidence.phase(name)
        for index, label in enumerate(self.arms):
            mask = (arm == index) & counts
            if mask.any():
                known = None if covariate is None else covariate[mask]
                self._add(phase, label, who[mask], times_s[mask], failed[mask], duration_s[mask], known)
        return counts

    def _uncapped(self, phase: str, who: Array) -> Array:
        most = self.criteria.max_calls_per_unit
        if most is None:
            return np.ones(len(who), bool)
        made = self._counts.setdefault(phase, np.zeros(len(self._units.cell), np.int64))
        order = np.argsort(who, kind="stable")
        ordered = who[order]
        begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        rank = np.arange(len(who)) - np.repeat(begins, np.diff(np.r_[begins, len(who)]))
        counts = np.empty(len(who), bool)
        counts[order] = made[ordered] + rank < most
        np.add.at(made, who, 1)
        if left := int((~counts).sum()):
            self.evidence.outcomes["capped"] += left
        return counts

    def _add(
        self,
        phase: PhaseEvidence,
        arm: str,
        who: Array,
        times_s: Array,
        failed: Array,
        duration_s: Array,
        covariate: Array | None,
    ) -> None:
        name, bucket, cell = self.state.phase.name, self._units.bucket[who], self._units.cell[who]
        if arm not in phase.calls:
            phase.calls[arm] = array("q", bytes(8 * BUCKETS))
            phase.units[arm] = UnitSample()
            phase.minutes[arm] = Minutes()
            phase.shares = dict(self.state.phase.exposure)
        calls = np.frombuffer(phase.calls[arm], dtype=np.int64)
        calls += np.bincount(bucket, minlength=BUCKETS)
        minute = np.maximum(times_s // MINUTE_S, 0).astype(np.int64)
        _see(phase.units[arm], cell, minute)
        events = {ERROR_RATE: failed}
        for label, criterion in self._of.items():
            if criterion.metric == ERROR_RATE:
                self._add_events(phase, label, arm, bucket, cell, minute, failed)
            elif criterion.metric == LATENCY:
                unknown = np.isnan(duration_s)
                if unknown.any():
                    untimed = phase.untimed.setdefault(arm, array("q", bytes(8 * BUCKETS)))
                    left_out = np.frombuffer(untimed, dtype=np.int64)
                    left_out += np.bincount(bucket[unknown], minlength=BUCKETS)
                    _see(phase.events.setdefault((f"untimed {label}", arm), UnitSample()), cell[unknown], None)
                events[label] = np.nan_to_num(duration_s) > criterion.threshold_s
                self._add_events(phase, label, arm, bucket, cell, minute, events[label])
            elif criterion.metric == LATENCY_MEAN:
                known = ~np.isnan(duration_s)
                logs = np.log(np.maximum(duration_s[known], 1e-9))
                self._put(phase, label, MINUTE_S, name, arm, bucket[known], logs, 1.0, times_s[known])
        for each in np.unique(minute).tolist():
            now = minute == each
            here = phase.minutes[arm].kept.setdefault(each, Minute())
            here.calls += int(now.sum())
            here.units |= _bits(bucket[now])
            for label, had in events.items():
                hit = bucket[now & had]
                if len(hit):
                    here.events[label] += len(hit)
                    here.hit[label] = here.hit.get(label, 0) | _bits(hit)
        if covariate is not None:
            self._put(phase, COVARIATE, 0.0, name, arm, bucket, covariate, 1.0, times_s)
        for criterion in self.evidence._windowed:
            self._put(phase, criterion.label, slice_of(criterion.window), name, arm, bucket, np.zeros(len(who)), 1.0, times_s)

    def _add_events(
        self, phase: PhaseEvidence, label: str, arm: str, bucket: Array, cell: Array, minute: Array, had: Array
    ) -> None:
        if not had.any():
            return
        sums = phase.sums.setdefault(label, Sums(MINUTE_S))
        for each in np.unique(minute[had]).tolist():
            _fill(sums, each, self.state.phase.name, arm, bucket[had & (minute == each)], None, 0.0)
        _see(phase.events.setdefault((label, arm), UnitSample()), cell[had], minute[had])

    def _put(
        self,
        phase: PhaseEvidence,
        label: str,
        slice_s: float,
        name: str,
        arm: str,
        bucket: Array,
        values: Array,
        weight: float,
        times_s: Array,
    ) -> None:
        sums = Evidence._sums(phase, label, slice_s)
        sums.others += int(((values != 0) & (values != 1)).sum())
        if not sums.slice_s:
            _fill(sums, BASE, name, arm, bucket, values, weight)
            return
        number = (times_s // sums.slice_s).astype(np.int64)
        for each in np.unique(number).tolist():
            now = number == each
            _fill(sums, each, name, arm, bucket[now], values[now], weight)

    def add_outcomes(
        self, metric: str, who: Array, arm: Array, values: Array, *, phase_name: str, decided_s: Array, times_s: Array
    ) -> None:
        """Add outcomes of decisions of one phase."""
        criterion = self.evidence._recorded[metric]
        if criterion.window:
            early = times_s - decided_s <= criterion.window
            if late := int((~early).sum()):
                self.evidence.outcomes["late"] += late
            who, arm, values, decided_s = who[early], arm[early], values[early], decided_s[early]
        if criterion.clip is not None:
            values = np.clip(values, *criterion.clip)
        weight = 1.0 if criterion.per == "outcome" else 0.0
        phase = self.evidence.phase(phase_name)
        for index, label in enumerate(self.arms):
            mask = arm == index
            if mask.any():
                bucket, at_s, slice_s = self._units.bucket[who[mask]], decided_s[mask], slice_of(criterion.window)
                if is_by_minute(criterion):
                    # Minutes that are no longer kept cannot be part of an outage.
                    kept = [] if label not in phase.minutes else list(phase.minutes[label].kept)
                    at_s, slice_s = np.where(np.isin(at_s // MINUTE_S, kept), at_s, BASE * MINUTE_S), MINUTE_S
                self._put(phase, metric, slice_s, phase_name, label, bucket, values[mask], weight, at_s)
        if len(values):
            self.evidence.outcomes["counted"] += len(values)

    def add_pairs(
        self,
        who: Array,
        times_s: Array,
        *,
        candidate: str,
        end: Array,
        failed: Mapping[str, Array],
        duration_s: Mapping[str, Array],
    ) -> None:
        """Add shadow runs and how they ended, beside the same calls of the control."""
        phase = self.evidence.phase(self.state.phase.name)
        for name, number in zip(*np.unique(end, return_counts=True), strict=True):
            phase.ends[candidate, str(name)] += int(number)
        ran = np.isin(end, ("ok", "error", "timeout"))
        for arm in (self.arms[0], candidate):
            index = np.full(int(ran.sum()), self.arms.index(arm))
            self.add_calls(who[ran], index, times_s[ran], failed=failed[arm][ran], duration_s=duration_s[arm][ran])

    def look(self, now_s: float, *, act: bool = True) -> Verdict:
        """Judge, and do what the verdict asks for."""
        self.evidence.fold(now_s)
        state = self.state
        situation = situation_of(state, self.criteria, elapsed_s=now_s - state.entered_s)
        self.verdict = verdict = judge(self.evidence, self.criteria, situation, now_s, self.verdict)
        if act:
            alarm = latch(self.state, verdict)
            if alarm is not None and alarm.change is not None:
                self.change(alarm.change, now_s)
            step = next_step(self.state, self.criteria, verdict, lambda *_: True, 0.0)
            if step.change is not None:
                self.change(step.change, now_s)
        return verdict

    def by_hand(self, action: Literal["promote", "resume"], now_s: float) -> None:
        """What a person does."""
        self.change(getattr(RolloutState, action), now_s)

    def change(self, change: Any, now_s: float) -> None:
        """Make a transition."""
        before = self.state
        after = change(before)
        self.state = evolve(after, entered_s=now_s) if after.number != before.number else after


def _bits(buckets: Array) -> int:
    """What `bit_of` gives for each, together."""
    return sum(1 << each for each in np.unique(buckets & 63).tolist())


def _see(sample: UnitSample, cells: Array, minutes: Array | None) -> None:
    """What `UnitSample.add` does, for many calls."""
    kept = np.flatnonzero((cells & ((1 << sample.level) - 1)) == 0)
    first = sample.first
    times = [0] * len(kept) if minutes is None else minutes[kept].tolist()
    for cell, minute in zip(cells[kept].tolist(), times, strict=True):
        known = first.get(cell)
        if known is None or minute < known:
            first[cell] = minute
    while len(sample.first) > MOST_KEPT:
        sample._thin(sample.level + 1)


def _fill(sums: Sums, number: int, phase: str, arm: str, bucket: Array, values: Array | None, weight: float) -> None:
    """What `Sums.add` does, for many values of one slice; without values, each is 1."""
    kept = sums.slices.get(number)
    if kept is None:
        kept = sums.slices[number] = StratifiedBuckets()
    cell = kept._cell(phase, arm)
    mine = np.frombuffer(cell.values, dtype=np.float64)
    mine += np.bincount(bucket, weights=values, minlength=BUCKETS)
    if weight:
        weights = np.frombuffer(cell.weights, dtype=np.float64)
        weights += weight * np.bincount(bucket, minlength=BUCKETS)
