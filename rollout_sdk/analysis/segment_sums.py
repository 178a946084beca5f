"""Sums of calls and outcomes by segment, which the report's differences of segments are made of.

What counts is what counts for the judge: the same calls, windows, bounds and repeats. Both readers add to these sums: the
Python reader call by call, and the database by the statement `segments`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any, NamedTuple, Protocol

from attrs import Factory, define, frozen

from rollout_sdk.analysis.facts import stands_for
from rollout_sdk.judging.phase_evidence import slice_of
from rollout_sdk.plan import ERROR_RATE, Criterion
from rollout_sdk.plan.checks import OTHER
from rollout_sdk.stats import StratifiedBuckets

__all__ = ["Asked", "Segment", "SegmentSums", "SplitCall", "Summed", "Timed", "counts", "has_failed"]

Segment = tuple[str, str]
"""An attribute, and one of its values."""

Timed = tuple[str, float, int, float]
"""Metric and value of an outcome, how many it stands for, and its time."""


@frozen
class Asked:
    """What is asked about the segments of one set of arms.

    Attributes:
        segments: Values by which each attribute is split; any other value is "other".
        criteria: The recorded metrics, by name.
        now_s: Time of the last record.
    """

    segments: Mapping[str, Sequence[str]]
    criteria: Mapping[str, Criterion]
    now_s: float

    def until_s(self, criterion: Criterion) -> float:
        """Time before which decisions are old enough for a metric's window: in whole slices, as for the judge."""
        if not criterion.window:
            return math.inf
        slice_s = slice_of(criterion.window)
        return math.floor((self.now_s - criterion.window) / slice_s) * slice_s

    def known(self, segments: Mapping[str, str]) -> list[Segment]:
        """Return those of a call's segments that were declared, so that others cannot fill the memory."""
        return [
            (name, value)
            for name, value in segments.items()
            if name in self.segments and (value == OTHER or value in self.segments[name])
        ]


class Summed(Protocol):
    """What differences by segment are made of."""

    @property
    def units(self) -> Mapping[tuple[Segment, str], Sized]:
        """Units by segment and arm."""

    @property
    def others(self) -> Mapping[tuple[Segment, str], int]:
        """For each segment and metric, values that are not 0 or 1, and further values of a call."""

    def of(self, segment: Segment, criterion: Criterion | None) -> StratifiedBuckets:
        """Values and weights of a metric in a segment; None: of the errors."""


class SplitCall(NamedTuple):
    """What of an analysed call counts in its segments."""

    segments: list[Segment]
    phase: str
    arm: str
    bucket: int
    time_s: float
    stands_for: int
    cluster: str
    failed: bool

    @classmethod
    def of(cls, asked: Asked, record: Mapping[str, Any], cluster: str) -> SplitCall | None:
        """The call that a line tells of; None where it is in no segment that was declared, or does not count."""
        segments = asked.known(record.get("segments", {}))
        if not segments or not counts(record):
            return None
        where = record["phase"], record["variant"], record.get("bucket", 0), record.get("t", 0.0)
        return cls(segments, *where, stands_for(record), cluster, has_failed(record))


def counts(record: Mapping[str, Any]) -> bool:
    """Whether the judge counts an analysed call, too."""
    withheld = record.get("withheld")
    if record.get("no_evidence") or withheld in ("aborted", "disabled"):
        return False
    runs = record.get("runs", ())
    return not (record.get("unmeasured") is not None and withheld is None and runs and runs[0][2] is None)


def has_failed(record: Mapping[str, Any]) -> bool:
    """Return whether a call's own variant failed, or was withheld."""
    runs = record.get("runs", ())
    return record.get("withheld") is not None or (bool(runs) and runs[0][2] is not None and not record.get("answered", False))


def _buckets() -> dict[tuple[Segment, str], StratifiedBuckets]:
    return defaultdict(StratifiedBuckets)


@define
class SegmentSums:
    """The sums of one set of arms.

    Attributes:
        calls: Calls by segment; no metric.
        sums: Values and weights by segment and metric; weights of a metric per call without a window are the calls.
        units: Pseudonyms of the units by segment and arm.
        others: For each segment and metric, values that are not 0 or 1, and further values of a call.
    """

    calls: dict[Segment, StratifiedBuckets] = Factory(lambda: defaultdict(StratifiedBuckets))
    sums: dict[tuple[Segment, str], StratifiedBuckets] = Factory(_buckets)
    units: dict[tuple[Segment, str], set[str]] = Factory(lambda: defaultdict(set))
    others: dict[tuple[Segment, str], int] = Factory(lambda: defaultdict(int))

    def add(self, asked: Asked, call: SplitCall, outcomes: Iterable[Timed]) -> None:
        """Add an analysed call with its outcomes."""
        phase, arm, bucket = call.phase, call.arm, call.bucket
        values = list(self._values(asked, call.time_s, call.stands_for, outcomes))
        for segment in call.segments:
            self.calls[segment].add(phase, arm, bucket, 0.0, 1.0)
            self.units[segment, arm].add(call.cluster)
            if call.failed:
                self.sums[segment, ERROR_RATE].add(phase, arm, bucket, 1.0, 0.0)
            for metric, value, weight, others in values:
                self.sums[segment, metric].add(phase, arm, bucket, value, weight)
                self.others[segment, metric] += others

    @staticmethod
    def _values(asked: Asked, time_s: float, many: int, outcomes: Iterable[Timed]) -> Iterable[tuple[str, float, float, int]]:
        """For each metric, what a call adds: value, weight, and whether its value is something else than 0 or 1."""
        by_metric: dict[str, list[tuple[float, float, int]]] = {}
        for metric, value, of_outcome, recorded_s in outcomes:
            by_metric.setdefault(metric, []).append((recorded_s, value, of_outcome))
        for metric, criterion in asked.criteria.items():
            if time_s >= asked.until_s(criterion):
                continue
            window, clip = criterion.window or math.inf, criterion.clip or (-math.inf, math.inf)
            seen = sorted(each for each in by_metric.get(metric, ()) if each[0] - time_s <= window)
            if criterion.per == "outcome":
                # A call has one label: the first.
                seen = seen[:1]
            values = [(min(max(value, clip[0]), clip[1]), max(many, of_outcome) / many) for _, value, of_outcome in seen]
            total = math.fsum(value * factor for value, factor in values)
            if criterion.per == "outcome":
                weight = math.fsum(factor for _, factor in values)
            else:
                weight = 1.0 if criterion.window else 0.0
            others = sum(value * factor not in (0.0, 1.0) for value, factor in values) + max(0, len(values) - 1)
            if values or weight:
                yield metric, total, weight, others

    def reduced(
        self, segment: Segment, metric: str, phase: str, arm: str, bucket: int, value: float, weight: float, others: int
    ) -> None:
        """Add what the database has summed up: calls (metric ""), calls that failed, or a metric's values."""
        if not metric:
            self.calls[segment].add(phase, arm, bucket, 0.0, weight)
        else:
            self.sums[segment, metric].add(phase, arm, bucket, value, weight)
            if metric != ERROR_RATE:
                self.others[segment, metric] += others

    def of(self, segment: Segment, criterion: Criterion | None) -> StratifiedBuckets:
        """Values and weights of a metric in a segment; None: of the errors."""
        whole = StratifiedBuckets()
        known = self.sums.get((segment, ERROR_RATE if criterion is None else criterion.metric))
        if known is not None:
            whole.merge(known)
        if (criterion is None or (criterion.per == "call" and not criterion.window)) and segment in self.calls:
            whole.merge(self.calls[segment])
        return whole
