"""The evidence about one rollout: which fact goes into which phase's sums.

Each phase has sums of its own, because evidence is never pooled across phases.
"""

from __future__ import annotations

from array import array
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from rollout_sdk.assignment import BUCKETS
from rollout_sdk.judging.look import ceilings_of
from rollout_sdk.judging.metrics import Metric, metric_of
from rollout_sdk.judging.minutes import MINUTE_S, Minute, Minutes, bit_of
from rollout_sdk.judging.phase_evidence import PhaseEvidence, Sums, number_of
from rollout_sdk.judging.unit_sample import UNTIMED_MINUTE, UnitSample
from rollout_sdk.plan import ERROR_RATE, MEASURED, Criterion
from rollout_sdk.records import RecordedEvent
from rollout_sdk.stats import StratifiedBuckets

__all__ = ["COVARIATE", "Evidence"]

COVARIATE = "covariate"
"""Label of the sums of the covariate, which no metric can have beside it."""

_SLICES = 8
_MOST_REMEMBERED = 100_000
_OPEN_MINUTES = 2
_LARGEST = 1e50
_MOST_WITHOUT_CALLS = 100
"""Arms of phases that have outcomes here, and no calls. Without a key, anybody can make ids of decisions, and so of arms."""
_LONGEST_AHEAD_S = 60.0
"""By which a decision's clock may be ahead of its outcome's, where windows are shorter."""


class Evidence:
    """The evidence about one rollout, by phase. Used by one thread at a time.

    Attributes:
        phases: What was seen, by phase.
        outcomes: What became of recorded outcomes of judged metrics: "counted", "late" (after the metric's window),
            "duplicate" (the same outcome again, or a second one of a decision where the metric is per outcome) or "unknown"
            (without a decision, or one of an older version or another fingerprint); and "capped": calls, and outcomes of calls,
            that do not count, because their unit had made `max_calls_per_unit` before.
        most_calls: `max_calls_per_unit`.
        changed: Phases that were added to since they were last published.
        metrics: What is judged.
    """

    def __init__(
        self,
        criteria: Iterable[Criterion],
        *,
        since: int = 0,
        fingerprint: str = "",
        max_calls_per_unit: int | None = None,
    ) -> None:
        """Nothing seen yet.

        Args:
            criteria: Sums are kept for these.
            since: Number of the first phase that counts; what was decided in earlier ones is about another candidate.
            fingerprint: Of the calls that it is about: outcomes of decisions that say another one do not count. Empty: all do.
            max_calls_per_unit: Calls of one unit that count in a phase; None: all of them.
        """
        self.phases: dict[str, PhaseEvidence] = {}
        self.outcomes: Counter[str] = Counter()
        self.changed: set[str] = set()
        self._since = since
        self._fingerprint = fingerprint
        self.most_calls = max_calls_per_unit
        self._capped: OrderedDict[str, None] = OrderedDict()
        self._calls_of: OrderedDict[tuple[str, str, int], int] = OrderedDict()
        self._seen: OrderedDict[int, None] = OrderedDict()
        self._met: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._without_calls: set[tuple[str, str]] = set()
        self.follow(criteria)

    def follow(self, criteria: Iterable[Criterion]) -> None:
        """Keep sums for these criteria from now on."""
        self.metrics: tuple[Metric, ...] = tuple(metric_of(each) for each in criteria)
        measured = [each for each in self.metrics if each.criterion.metric in MEASURED]
        self._failures = [each.observe for each in measured if each.only_failures]
        self._observers = [each.observe for each in measured if not each.only_failures]
        self._recorded = {
            each.criterion.metric: each.criterion for each in self.metrics if each.criterion.metric not in MEASURED
        }
        # The others' means over calls are taken over `PhaseEvidence.calls`.
        self._windowed = [each for each in self._recorded.values() if each.per == "call" and each.window]

    def phase(self, name: str) -> PhaseEvidence:
        """What was seen in a phase, to be added to."""
        self.changed.add(name)
        phase = self.phases.get(name)
        if phase is None:
            phase = self.phases[name] = PhaseEvidence()
        return phase

    def in_order(self) -> list[tuple[str, PhaseEvidence]]:
        """The phases in the order of their numbers."""
        return sorted(self.phases.items(), key=lambda item: (number_of(item[0]), item[0]))

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
        first_item_s: float | None = None,
        covariate: float | None = None,
        decision: str | None = None,
    ) -> None:
        """Add a call that is analysed.

        Args:
            phase_name: Name of the phase.
            arm: The variant that it was assigned to, even if another one answered.
            shares: Configured share of every variant in the phase.
            cell: `cell_of` the unit.
            bucket: The unit's bucket.
            failed: Whether that variant failed, or could not be run.
            duration_s: How long the caller waited; None when that is not known (a stream that was closed early).
            time_s: Time of the decision.
            first_item_s: Seconds to the first item of a stream; None where there is none.
            covariate: What was known of the unit before; None where nothing was.
            decision: What tells the decision from others, so that its outcomes are not counted either when the call is capped.
        """
        phase = self.phases.get(phase_name)
        if phase is None:
            if self._is_past(phase_name):
                return
            phase = self.phase(phase_name)
        if self.most_calls is not None and self._is_capped((phase_name, arm, cell), self.most_calls, decision):
            return
        self.changed.add(phase_name)
        calls = phase.calls.get(arm)
        if calls is None:
            calls = phase.calls[arm] = array("q", bytes(8 * BUCKETS))
            phase.units[arm] = UnitSample()
            phase.shares = dict(shares)
        calls[bucket] += 1
        # Before 1970, minutes are not known.
        minute = int(time_s // MINUTE_S) if time_s > 0 else UNTIMED_MINUTE
        phase.units[arm].add(cell, minute)
        minutes = phase.minutes.get(arm)
        if minutes is None:
            minutes = phase.minutes[arm] = Minutes()
        here = minutes.kept.get(minute)
        if here is None:
            here = minutes.kept[minute] = Minute()
        here.calls += 1
        here.units |= bit_of(bucket)
        if failed:
            here.add_event(ERROR_RATE, bucket)
            for observe in self._failures:
                observe(phase, phase_name, arm, cell, bucket, time_s, duration_s, first_item_s)
        for observe in self._observers:
            event = observe(phase, phase_name, arm, cell, bucket, time_s, duration_s, first_item_s)
            if event is not None:
                here.add_event(event, bucket)
        if covariate is not None and -_LARGEST <= covariate <= _LARGEST:
            self._sums(phase, COVARIATE).add(phase_name, arm, bucket, covariate, 1.0, time_s)
        for criterion in self._windowed:
            self._sums(phase, criterion.label, criterion.window).add(phase_name, arm, bucket, 0.0, 1.0, time_s)

    def add_pair(self, phase_name: str, candidate: str, end: str) -> None:
        """Add the end of a planned shadow run, or a call of a variant that was not measured."""
        if phase_name in self.phases or not self._is_past(phase_name):
            self.phase(phase_name).ends[candidate, end] += 1

    def _is_past(self, phase_name: str) -> bool:
        """Whether a phase is one of an older version: its candidate was another."""
        return number_of(phase_name) < self._since

    def _is_capped(self, unit: tuple[str, str, int], most: int, decision: str | None) -> bool:
        """Whether a unit has made as many calls as count; of the units seen last."""
        calls = self._calls_of.pop(unit, 0) + 1
        _remember(self._calls_of, unit, calls)
        if calls <= most:
            return False
        self.outcomes["capped"] += 1
        if decision is not None:
            _remember(self._capped, decision)
        return True

    @staticmethod
    def _sums(phase: PhaseEvidence, label: str, window: float = 0.0) -> Sums:
        sums = phase.sums.get(label)
        if sums is None:
            sums = phase.sums[label] = Sums(window / _SLICES)
        return sums

    def name_of(self, event: RecordedEvent) -> str | None:
        """What is the same for the same outcome in every process; None for one that does not count in any case."""
        criterion, decision, phase, decided_s = (
            self._recorded.get(event.metric),
            event.decision_id,
            event.phase,
            event.decided_s,
        )
        if criterion is None or event.excluded or decision is None or phase is None or decided_s is None:
            return None
        if self._refusal(criterion, decision, phase, decided_s, event.time_s, event.fingerprint):
            return None
        return event.label if criterion.per == "outcome" else event.name

    def _refusal(
        self, criterion: Criterion, decision: str, phase_name: str, decided_s: float, time_s: float, fingerprint: str
    ) -> str | None:
        """What an outcome is called that does not count whether it is the first of its kind or not; None for one that may."""
        if self._is_past(phase_name) or (fingerprint and self._fingerprint not in ("", fingerprint)):
            return "unknown"
        if criterion.window and time_s - decided_s > criterion.window:
            return "late"
        return "capped" if decision in self._capped else None

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
        fingerprint: str = "",
        identity: int | None = None,
        factor: float = 1.0,
    ) -> None:
        """Add a recorded outcome; one of a metric that is not judged is passed over.

        Args:
            metric: The metric.
            value: The value.
            decision: What tells the decision from others; None when the outcome names none.
            phase_name: Phase of the decision.
            arm: Variant of the decision.
            bucket: Bucket of the decision.
            decided_s: Time of the decision.
            time_s: Time of the outcome.
            fingerprint: What the decision's id says of it; empty in ids of earlier SDKs.
            identity: The same for the same outcome: `RecordedEvent.identity`; None where a decision has one of this metric.
            factor: How many outcomes it stands for, where outcomes were kept at a lower rate than their calls.
        """
        criterion = self._recorded.get(metric)
        if criterion is None:
            return
        if decision is None or phase_name is None or arm is None or bucket is None or decided_s is None:
            self.outcomes["unknown"] += 1
            return
        if why := self._refusal(criterion, decision, phase_name, decided_s, time_s, fingerprint):
            self.outcomes[why] += 1
            return
        is_second = (metric, decision) in self._met
        if identity is None:
            identity = hash((metric, decision))
        # A decision has one label, and any number of purchases.
        if identity in self._seen or (is_second and criterion.per == "outcome"):
            self.outcomes["duplicate"] += 1
            return
        if not self._is_possible(phase_name, arm, decided_s - time_s, criterion.window):
            self.outcomes["unknown"] += 1
            return
        if criterion.clip is not None:
            value = min(max(value, criterion.clip[0]), criterion.clip[1])
        weight = 1.0 if criterion.per == "outcome" else 0.0
        phase = self.phase(phase_name)
        # First, because it refuses a value that would spoil all sums.
        sums = self._sums(phase, criterion.label, criterion.window)
        sums.add(phase_name, arm, bucket, value * factor, weight * factor, decided_s)
        # The call's value is a sum now, and no yes or no.
        sums.others += is_second
        self.outcomes["counted"] += 1
        _remember(self._seen, identity)
        _remember(self._met, (metric, decision))

    def _is_possible(self, phase_name: str, arm: str, ahead_s: float, window: float) -> bool:
        """Whether there may have been such a decision: not far ahead of its outcome, and of an arm that is known here.

        A process that records outcomes may not have seen the calls: so many arms, of all phases, count without any.
        """
        if window and ahead_s > max(window, _LONGEST_AHEAD_S):
            return False
        phase = self.phases.get(phase_name)
        if (phase is not None and arm in phase.calls) or (phase_name, arm) in self._without_calls:
            return True
        if len(self._without_calls) >= _MOST_WITHOUT_CALLS:
            return False
        self._without_calls.add((phase_name, arm))
        return True

    def sums(self, criterion: Criterion, until_s: float | None = None) -> StratifiedBuckets:
        """The sums of a criterion over all phases, of decisions before `until_s`; of all of them for None.

        No user saw a candidate in a shadow phase, so a recorded metric has no sums there.
        """
        whole = StratifiedBuckets()
        metric = metric_of(criterion)
        for name, phase in self.phases.items():
            if phase.is_shadow and criterion.metric not in MEASURED:
                continue
            metric.add_sums(whole, name, phase, until_s)
        return whole

    def covariates(self) -> StratifiedBuckets | None:
        """The sums of the covariate over all phases; None without one."""
        whole = StratifiedBuckets()
        for phase in self.phases.values():
            sums = phase.sums.get(COVARIATE)
            if sums is not None:
                for each in sums.slices.values():
                    whole.merge(each)
        return whole if whole.arms() else None

    def merge(self, other: Evidence) -> None:
        """Add another process's."""
        self.outcomes.update(other.outcomes)
        for name, phase in other.phases.items():
            self.phase(name).merge(phase)

    def fold(self, now_s: float) -> None:
        """Add up what need not be told apart by time any more.

        The sums of a minute that surely is part of an outage are let go of. Where this process has seen too little to know,
        they stay apart: with what others have seen, the judge may know.
        """
        minute = int(now_s // MINUTE_S)
        watched = ceilings_of(metric.criterion for metric in self.metrics)
        for phase in self.phases.values():
            outages = frozenset().union(*(phase.outages(label, ceiling) for label, ceiling in watched.items()))
            doubtful = frozenset().union(*(phase.doubtful(label) for label in watched)) - outages
            for minutes in phase.minutes.values():
                minutes.fold(minute, keep=outages | doubtful)
            for metric in self.metrics:
                sums = phase.sums.get(metric.criterion.label)
                if sums is None or not sums.slice_s:
                    continue
                if metric.criterion.metric in MEASURED:
                    sums.fold(now_s - _OPEN_MINUTES * MINUTE_S, drop=outages, keep=doubtful)
                else:
                    # As much again: a clock may be off, and a folded slice must be mature for every reader.
                    sums.fold(now_s - 2 * metric.criterion.window)


def _remember(known: OrderedDict[Any, Any], name: Hashable, value: Any = None) -> None:
    """Keep what was seen last, so that memory stays bounded."""
    known[name] = value
    if len(known) > _MOST_REMEMBERED:
        known.popitem(last=False)
