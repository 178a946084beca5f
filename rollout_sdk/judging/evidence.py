"""The evidence of one rollout: which fact goes into which phase's sums.

Sums are kept for each phase apart, because evidence is never pooled across phases.
"""

from __future__ import annotations

from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from operator import sub

from rollout_sdk.assignment import BUCKETS
from rollout_sdk.judging.samples import UnitSample
from rollout_sdk.judging.sums import UNTIMED, PhaseEvidence, Sums
from rollout_sdk.plan import ERROR_RATE, LATENCY, Criterion, Guardrail
from rollout_sdk.stats import StratifiedBuckets

__all__ = ["Evidence"]

_SLICES = 8
_MOST_REMEMBERED = 100_000
_ZEROS = (0.0,) * BUCKETS


class Evidence:
    """The evidence of one rollout, by phase. Used by one thread at a time.

    Attributes:
        phases: What happened, by phase.
        outcomes: What became of recorded outcomes of judged metrics: "counted", "late" (after the metric's window),
            "duplicate" (the same metric twice for one decision) or "unknown" (without a decision, or one of an older version).
        changed: Phases that were added to since they were last published.
    """

    def __init__(self, criteria: Iterable[Criterion], *, since: int = 0) -> None:
        """Nothing seen yet.

        Args:
            criteria: Sums are kept for these.
            since: Number of the first phase that counts; what was decided in earlier ones is about another candidate.
        """
        self.phases: dict[str, PhaseEvidence] = {}
        self.outcomes: Counter[str] = Counter()
        self.changed: set[str] = set()
        self._since = since
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
        phase = self.phases.get(phase_name)
        if phase is None:
            if self._is_past(phase_name):
                return
            phase = self.phase(phase_name)
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
        if duration_s is None and self._thresholds:
            phase.untimed.setdefault(arm, array("q", bytes(8 * BUCKETS)))[bucket] += 1
            phase.events.setdefault((UNTIMED, arm), UnitSample()).add(cell)
        for label, threshold_s in self._thresholds:
            if duration_s is not None and duration_s > threshold_s:
                self._event(phase, label, phase_name, arm, cell, bucket)
        for criterion in self._windowed:
            self._sums(phase, criterion.label, criterion.window).add(phase_name, arm, bucket, 0.0, 1.0, time_s)

    def _is_past(self, phase_name: str) -> bool:
        """Whether a phase is one of an older version: its candidate was another."""
        number = phase_name.partition(":")[0]
        return number.isdecimal() and int(number) < self._since

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
        if self._is_past(phase_name):
            self.outcomes["unknown"] += 1
            return
        if criterion.window and time_s - decided_s > criterion.window:
            self.outcomes["late"] += 1
            return
        if (metric, decision) in self._seen:
            self.outcomes["duplicate"] += 1
            return
        if criterion.clip is not None:
            value = min(max(value, criterion.clip[0]), criterion.clip[1])
        weight = 1.0 if criterion.per == "outcome" else 0.0
        phase = self.phase(phase_name)
        # First, because it refuses a value that would spoil all sums.
        self._sums(phase, criterion.label, criterion.window).add(phase_name, arm, bucket, value, weight, decided_s)
        self.outcomes["counted"] += 1
        self._seen[metric, decision] = None
        if len(self._seen) > _MOST_REMEMBERED:
            self._seen.popitem(last=False)

    def sums(self, criterion: Criterion, until_s: float | None = None) -> StratifiedBuckets:
        """The sums of a criterion over all phases, of decisions before `until_s`; of all of them for None."""
        whole = StratifiedBuckets()
        for name, phase in self.phases.items():
            kept = phase.sums.get(criterion.label)
            if kept is not None:
                for sums in kept.until(until_s):
                    whole.merge(sums)
            if criterion.per == "call" and not criterion.window:
                untimed = phase.untimed if criterion.metric == LATENCY else {}
                for arm, calls in phase.calls.items():
                    known = map(sub, calls, untimed[arm]) if arm in untimed else calls
                    whole.add_sums(name, arm, _ZEROS, array("d", known))
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
