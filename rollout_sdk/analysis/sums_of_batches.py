"""What a batch of a journal's lines adds to the evidence, as sums by arm and bucket, and as samples of units."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping

from attrs import define, field

from rollout_sdk.assignment import BUCKETS
from rollout_sdk.judging import Evidence
from rollout_sdk.judging.minutes import MINUTE_S, Minute, Minutes
from rollout_sdk.judging.phase_evidence import BASE, PhaseEvidence, Sums
from rollout_sdk.judging.unit_sample import UnitSample
from rollout_sdk.plan import ERROR_RATE, LATENCY_MEAN
from rollout_sdk.stats import StratifiedBuckets

__all__ = ["ALL", "FAILED", "Batch"]

ALL, FAILED = 0, 1
"""What units are sampled of: all calls, and failed ones; above these, the slow calls of one threshold, and below 0 those of
unknown duration.
"""


class _Cells:
    """Sums of one metric, while they are added bucket by bucket."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], array[float]] = {}
        self._weights: dict[tuple[str, str], array[float]] = {}

    def add(self, phase: str, arm: str, bucket: int, value: float, weight: float) -> None:
        which = phase, arm
        values = self._values.get(which)
        if values is None:
            values = self._values[which] = array("d", bytes(8 * BUCKETS))
            self._weights[which] = array("d", bytes(8 * BUCKETS))
        values[bucket] += value
        self._weights[which][bucket] += weight

    def added(self) -> StratifiedBuckets:
        sums = StratifiedBuckets()
        for (phase, arm), values in self._values.items():
            sums.add_sums(phase, arm, values, self._weights[phase, arm])
        return sums


@define
class Batch:
    """The sums of one batch of one set of arms.

    Attributes:
        calls: Calls of each phase, also of those that are left out of the analysis, and the time of the last.
        outcomes: Outcomes by what became of them.
        phases: What is added to the evidence of each phase.
    """

    calls: dict[str, list[float]] = field(factory=dict)
    outcomes: Counter[str] = field(factory=Counter)
    phases: dict[str, PhaseEvidence] = field(factory=dict)
    _sums: dict[tuple[str, str, float], _Cells] = field(factory=lambda: defaultdict(_Cells))
    _others: Counter[tuple[str, str]] = field(factory=Counter)

    def phase(self, name: str) -> PhaseEvidence:
        """The evidence of a phase in this batch."""
        phase = self.phases.get(name)
        if phase is None:
            phase = self.phases[name] = PhaseEvidence()
        return phase

    def add_calls(self, name: str, arm: str, bucket: int, calls: int, failed: int, timed: int, log_s: float | None) -> None:
        """Add the analysed calls of a bucket: how many, how many failed, how many have a duration, and its logarithms."""
        kept = self.phase(name).calls
        if arm not in kept:
            kept[arm] = array("q", bytes(8 * BUCKETS))
        kept[arm][bucket] += calls
        if failed:
            self.add_events(name, ERROR_RATE, arm, bucket, failed)
        if log_s is not None:
            self._sums[name, LATENCY_MEAN, MINUTE_S].add(name, arm, bucket, log_s, float(timed))
            self._others[name, LATENCY_MEAN] += timed

    def add_events(self, name: str, label: str, arm: str, bucket: int, events: int) -> None:
        """Add calls that had an event."""
        self._sums[name, label, MINUTE_S].add(name, arm, bucket, float(events), 0.0)

    def add_untimed(self, name: str, arm: str, bucket: int, calls: int) -> None:
        """Add calls of unknown duration."""
        untimed = self.phase(name).untimed
        if arm not in untimed:
            untimed[arm] = array("q", bytes(8 * BUCKETS))
        untimed[arm][bucket] += calls

    def add_minute(self, name: str, arm: str, label: str, minute: int, calls: int, bits: int) -> None:
        """Add calls of a minute, or (with a label) those that had an event."""
        minutes = self.phase(name).minutes
        here = minutes.setdefault(arm, Minutes()).kept.setdefault(minute, Minute())
        if not label:
            here.calls += calls
            here.units |= bits
        else:
            here.events[label] += calls
            here.hit[label] = here.hit.get(label, 0) | bits

    def sample(self, name: str, arm: str, label: str, level: int) -> UnitSample:
        """The sample of units that had an event; without a label, of all."""
        phase = self.phase(name)
        if label:
            return phase.events.setdefault((label, arm), UnitSample(level=level))
        return phase.units.setdefault(arm, UnitSample(level=level))

    def add_outcomes(
        self, name: str, arm: str, label: str, slice_s: float, bucket: int, value: float, weight: float, others: int
    ) -> None:
        """Add the outcomes of a bucket."""
        self._sums[name, label, slice_s].add(name, arm, bucket, value, weight)
        self._others[name, label] += others

    def add_to(self, evidence: Evidence, exposures: Mapping[str, Mapping[str, float]]) -> None:
        """Add it to the evidence."""
        for (name, label, slice_s), cells in self._sums.items():
            sums = Sums(slice_s, {BASE: cells.added()}, self._others[name, label])
            self.phase(name).sums[label] = sums
        for name, phase in self.phases.items():
            if phase.calls:
                phase.shares = dict(exposures.get(name, {}))
            evidence.phase(name).merge(phase)
        evidence.outcomes.update(self.outcomes)
