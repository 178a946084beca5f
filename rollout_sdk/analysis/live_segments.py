"""Sums by segment of a journal that is read as it is written: as in a report, in memory that has a bound.

In a journal, an outcome names its call, and only the call names its segments. So the latest calls are remembered, until their
outcomes come.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from sys import intern
from typing import Any

from attrs import Factory, define, field

from rollout_sdk.analysis.facts import identity_in, stands_for
from rollout_sdk.analysis.judged import Judged
from rollout_sdk.analysis.segment_differences import asked_of
from rollout_sdk.analysis.segment_sums import Asked, Segment, counts, has_failed
from rollout_sdk.judging.ingest import unit_cell
from rollout_sdk.judging.phase_evidence import Sums, slice_of
from rollout_sdk.judging.remembered import Remembered
from rollout_sdk.judging.unit_sample import UnitSample
from rollout_sdk.plan import ERROR_RATE, Criterion
from rollout_sdk.stats import StratifiedBuckets

__all__ = ["LiveSegments", "RecentCalls"]

_MOST_CALLS = 50_000


@define
class _Call:
    """A call whose outcomes may still come."""

    segments: list[Segment]
    phase: str
    arm: str
    bucket: int
    time_s: float
    stands_for: int
    met: dict[str, int] = Factory(dict)


class _Units:
    """Units that are counted, and not kept."""

    def __init__(self) -> None:
        self.sample = UnitSample()

    def __len__(self) -> int:
        return self.sample.estimate


class RecentCalls(OrderedDict[str, _Call]):
    """The latest calls of all rollouts with segments, by id; one for all rollouts."""

    def came(self, decision: str, call: _Call) -> None:
        """Remember a call."""
        self[decision] = call
        if len(self) > _MOST_CALLS:
            self.popitem(last=False)


@define
class LiveSegments:
    """The sums of one set of arms; what `segment_differences` asks for is the same as in `SegmentSums`.

    Attributes:
        recent: Where calls are remembered.
        calls: Calls by segment; no metric.
        sums: Values by segment and metric, by the time of their calls where that matters.
        units: Units by segment and arm.
        until_s: As of the last look: time before which calls are old enough, by metric.
    """

    recent: RecentCalls
    calls: dict[Segment, StratifiedBuckets] = Factory(lambda: defaultdict(StratifiedBuckets))
    sums: dict[tuple[Segment, str], Sums] = Factory(dict)
    units: dict[tuple[Segment, str], _Units] = Factory(lambda: defaultdict(_Units))
    until_s: dict[str, float] = Factory(dict)
    _seen: Remembered = field(factory=Remembered)
    _known: dict[Segment, Segment] = Factory(dict)

    @property
    def others(self) -> Mapping[tuple[Segment, str], int]:
        """For each segment and metric, values that are not 0 or 1, and further values of a call."""
        return {which: sums.others for which, sums in self.sums.items() if which[1] != ERROR_RATE}

    def take(self, record: Mapping[str, Any], found: Judged) -> None:
        """See a line that the judge has seen."""
        event = record["event"]
        if event not in ("decision", "outcome") or record.get("excluded") or (asked := asked_of(found)) is None:
            return
        if event == "decision":
            self._decided(asked, record)
        elif not record.get("shadow") and isinstance(decision := record.get("id"), str) and decision in self.recent:
            self._recorded(asked, self.recent[decision], record)

    def _decided(self, asked: Asked, record: Mapping[str, Any]) -> None:
        segments = [self._known.setdefault(each, each) for each in asked.known(record.get("segments", {}))]
        if not segments or not counts(record):
            return
        many = stands_for(record)
        phase, arm, bucket, time_s = intern(record["phase"]), intern(record["variant"]), record["bucket"], record.get("t", 0.0)
        call = _Call(segments, phase, arm, bucket, time_s, many)
        cell, failed = unit_cell(record.get("unit"), record["id"]), has_failed(record)
        for segment in segments:
            self.calls[segment].add(phase, arm, bucket, 0.0, 1.0)
            self.units[segment, arm].sample.add(cell)
            if failed:
                self._of(segment, ERROR_RATE, 0.0).add(phase, arm, bucket, 1.0, 0.0, None)
            for metric, criterion in asked.criteria.items():
                if criterion.window and criterion.per == "call":
                    self._of(segment, metric, criterion.window).add(phase, arm, bucket, 0.0, 1.0, time_s)
        self.recent.came(record["id"], call)

    def _recorded(self, asked: Asked, call: _Call, record: Mapping[str, Any]) -> None:
        metric, value = record["metric"], float(record["value"])
        criterion, identity = asked.criteria.get(metric), identity_in(record)
        if criterion is None or identity in self._seen:
            return
        self._seen.add(identity)
        if criterion.window and record.get("t", 0.0) - call.time_s > criterion.window:
            return
        met = call.met.get(metric, 0)
        # A call has one label: the first.
        if met and criterion.per == "outcome":
            return
        call.met[metric] = met + 1
        if criterion.clip is not None:
            value = min(max(value, criterion.clip[0]), criterion.clip[1])
        # Where outcomes were kept at a lower rate than their calls, one stands for several.
        factor = max(call.stands_for, stands_for(record)) / call.stands_for
        weight = factor if criterion.per == "outcome" else 0.0
        for segment in call.segments:
            sums = self._of(segment, metric, criterion.window)
            sums.add(call.phase, call.arm, call.bucket, value * factor, weight, call.time_s)
            sums.others += met > 0

    def _of(self, segment: Segment, metric: str, window: float) -> Sums:
        sums = self.sums.get((segment, metric))
        if sums is None:
            sums = self.sums[segment, metric] = Sums(slice_of(window))
        return sums

    def look(self, found: Judged) -> None:
        """Go on to the time of the last line: what is old enough by then counts from now on."""
        asked = asked_of(found)
        self.until_s = {} if asked is None else {name: asked.until_s(each) for name, each in asked.criteria.items()}
        for (_, metric), sums in self.sums.items():
            if sums.slice_s and (until_s := self.until_s.get(metric)) is not None:
                sums.fold(until_s)

    def of(self, segment: Segment, criterion: Criterion | None) -> StratifiedBuckets:
        """Values and weights of a metric in a segment; None: of the errors."""
        whole = StratifiedBuckets()
        metric = ERROR_RATE if criterion is None else criterion.metric
        if (known := self.sums.get((segment, metric))) is not None:
            for each in known.until(self.until_s.get(metric)):
                whole.merge(each)
        if (criterion is None or (criterion.per == "call" and not criterion.window)) and segment in self.calls:
            whole.merge(self.calls[segment])
        return whole
