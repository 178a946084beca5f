"""The evidence of one rollout: adds each fact to the sums of its phase.

Each phase has its own sums, because evidence is never pooled across phases.
"""

from __future__ import annotations

from array import array
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from rollout_sdk.assignment import BUCKETS
from rollout_sdk.judging.lists import LISTS, Lists, Page
from rollout_sdk.judging.look import ceilings_of
from rollout_sdk.judging.metrics import Compared, Metric, metric_of
from rollout_sdk.judging.minutes import MINUTE_S, Minute, Minutes, bit_of
from rollout_sdk.judging.paired_labels import CONTROL, PairedLabels, add_pair, pair_sums_of
from rollout_sdk.judging.pairs import DIFFERING, MATCHING
from rollout_sdk.judging.phase_evidence import PhaseEvidence, Sums, number_of, slice_of
from rollout_sdk.judging.preferences import JUDGE_FAILED, UNJUDGED, add_preference
from rollout_sdk.judging.unit_sample import UNTIMED_MINUTE, UnitSample, cell_of
from rollout_sdk.plan import ERROR_RATE, JUDGE_PREFERENCE, MEASURED, Criterion, is_judged, is_measured
from rollout_sdk.records import Comparison, RecordedEvent
from rollout_sdk.stats import StratifiedBuckets

__all__ = ["COVARIATE", "Evidence"]

COVARIATE = "covariate"
"""Label of the covariate's sums; no metric may have this label."""

_MOST_REMEMBERED = 100_000
_OPEN_MINUTES = 2
_LARGEST = 1e50
_NO_DETAILS: Mapping[str, Any] = {}
_MOST_WITHOUT_CALLS = 100
"""Maximum of arms with outcomes but no calls here. Without a key, decision ids, and so arm names, can be forged."""
_LONGEST_AHEAD_S = 60.0
"""Seconds by which a decision's clock may be ahead of its outcome's; longer for metrics with a longer window."""


class Evidence:
    """The evidence of one rollout, by phase. Not thread-safe.

    Attributes:
        phases: Evidence by phase.
        outcomes: Number of recorded outcomes of judged metrics by treatment: "counted", "late" (after the metric's window),
            "duplicate" (the same outcome again, or a second one of a decision if the metric is per outcome) or "unknown"
            (without a decision, or for an older version or another fingerprint); and "capped": calls, and outcomes of calls,
            beyond the unit's `max_calls_per_unit`.
        most_calls: `max_calls_per_unit`.
        changed: Phases that changed since the evidence was last published.
        metrics: The judged metrics.
        lists: Interleaved lists whose clicks may still come.
        judges_lists: Whether a metric is about interleaved lists.
    """

    def __init__(
        self,
        criteria: Iterable[Criterion],
        *,
        since: int = 0,
        fingerprint: str = "",
        max_calls_per_unit: int | None = None,
    ) -> None:
        """Start without evidence.

        Args:
            criteria: Criteria to keep sums for.
            since: Number of the first phase that counts; decisions of earlier phases concern another candidate.
            fingerprint: Fingerprint of the calls; outcomes of decisions with another one do not count. Empty: all count.
            max_calls_per_unit: Maximum of calls that count per unit and phase; None: no limit.
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
        self._labels = PairedLabels()
        self.lists = Lists()
        self.follow(criteria)

    def follow(self, criteria: Iterable[Criterion]) -> None:
        """Keep sums for these criteria from now on."""
        self.metrics: tuple[Metric, ...] = tuple(metric_of(each) for each in criteria)
        measured = [each for each in self.metrics if each.criterion.metric in MEASURED]
        self._failures = [each.observe for each in measured if each.only_failures]
        self._observers = [each.observe for each in measured if not each.only_failures]
        self._compared = [each for each in self.metrics if isinstance(each, Compared)]
        self._recorded = {
            each.criterion.metric: each.criterion for each in self.metrics if not is_measured(each.criterion.metric)
        }
        self.judges_lists = any(each.per == "list" for each in self._recorded.values())
        # Other means over calls use `PhaseEvidence.calls` as their weights.
        self._windowed = [each for each in self._recorded.values() if each.per == "call" and each.window]

    def phase(self, name: str) -> PhaseEvidence:
        """Return a phase's evidence for changing."""
        self.changed.add(name)
        phase = self.phases.get(name)
        if phase is None:
            phase = self.phases[name] = PhaseEvidence()
        return phase

    def in_order(self) -> list[tuple[str, PhaseEvidence]]:
        """Return the phases, sorted by number."""
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
        """Add an analysed call.

        Args:
            phase_name: Name of the phase.
            arm: The assigned variant, even if another one answered.
            shares: Configured share of every variant in the phase.
            cell: `cell_of` the unit.
            bucket: The unit's bucket.
            failed: Whether the assigned variant failed or could not run.
            duration_s: Seconds the caller waited; None if unknown (a stream that was closed early).
            time_s: Time of the decision.
            first_item_s: Seconds to the first item of a stream; None if there was none.
            covariate: The unit's covariate, or None.
            decision: Identifies the decision, so that a capped call's outcomes are not counted either.
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
        # Times before 1970 have no minute.
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

    def add_answered(
        self, phase_name: str, arm: str, shares: Mapping[str, float], answered: Iterable[tuple[int, int, float]]
    ) -> None:
        """Add analysed calls that succeeded; the same as `add_call` for each, in half the time. There must be no `most_calls`.

        Args:
            phase_name: Name of the phase.
            arm: The assigned variant.
            shares: Configured share of every variant in the phase.
            answered: Digest of the unit, nanoseconds since 1970 and seconds that the caller waited, for each call.
        """
        if phase_name not in self.phases and self._is_past(phase_name):
            return
        phase = self.phase(phase_name)
        calls, units, minutes = phase.calls.get(arm), phase.units.get(arm), phase.minutes.get(arm)
        if calls is None or units is None:
            calls = phase.calls[arm] = array("q", bytes(8 * BUCKETS))
            units = phase.units[arm] = UnitSample()
            phase.shares = dict(shares)
        if minutes is None:
            minutes = phase.minutes[arm] = Minutes()
        observers, windowed, last, here = self._observers, self._windowed, -1, None
        for digest, time_ns, duration_s in answered:
            time_s = time_ns / 1e9
            minute = int(time_s // MINUTE_S) if time_s > 0 else UNTIMED_MINUTE
            if here is None or minute != last:
                last, here = minute, minutes.kept.get(minute)
                if here is None:
                    here = minutes.kept[minute] = Minute()
            cell, bucket = cell_of(digest), digest & BUCKETS - 1
            calls[bucket] += 1
            units.add(cell, minute)
            here.calls += 1
            here.units |= bit_of(bucket)
            for observe in observers:
                event = observe(phase, phase_name, arm, cell, bucket, time_s, duration_s, None)
                if event is not None:
                    here.add_event(event, bucket)
            for criterion in windowed:
                self._sums(phase, criterion.label, criterion.window).add(phase_name, arm, bucket, 0.0, 1.0, time_s)

    def add_list(self, decision: str, page: Page, blend: Sequence[str], *, phase_name: str, bucket: int, time_s: float) -> None:
        """Add an interleaved list, which prefers no ranker until it is clicked.

        Args:
            decision: Id of the decision.
            page: The list, with pseudonyms for keys.
            blend: The rankers, the control first.
            phase_name: Phase of the decision.
            bucket: Bucket of the unit.
            time_s: Time of the decision.
        """
        if self._is_past(phase_name):
            return
        self.lists.add(decision, page, blend, phase_name, bucket, time_s)
        sums = self._sums(self.phase(phase_name), LISTS)
        for candidate in self.lists.candidates:
            sums.add(phase_name, candidate, bucket, 0.0, 1.0, time_s)

    def add_pair(self, phase_name: str, candidate: str, end: str) -> None:
        """Add the end of a planned shadow run, or a served call that could not be measured."""
        if phase_name in self.phases or not self._is_past(phase_name):
            self.phase(phase_name).ends[candidate, end] += 1

    def add_comparison(
        self, phase_name: str, arm: str, comparison: Comparison | None, *, cell: int, bucket: int, time_s: float
    ) -> None:
        """Add the comparison of a shadow's answer with the control's.

        Args:
            phase_name: Name of the phase.
            arm: The shadow's variant; the control's own name for a second run of the control, which measures its noise.
            comparison: The comparison; None if both answered, but could not be compared.
            cell: `cell_of` the unit.
            bucket: The unit's bucket.
            time_s: Time of the decision.
        """
        phase = self.phases.get(phase_name)
        if phase is None or (self.most_calls and self._calls_of.get((phase_name, arm, cell), 0) > self.most_calls):
            return
        if comparison is not None:
            phase.ends[arm, MATCHING if comparison.match else DIFFERING] += 1
        for metric in self._compared:
            metric.compare(phase, phase_name, arm, comparison, cell=cell, bucket=bucket, time_s=time_s)

    def _is_past(self, phase_name: str) -> bool:
        """Whether a phase belongs to an older version, with another candidate."""
        return number_of(phase_name) < self._since

    def _is_capped(self, unit: tuple[str, str, int], most: int, decision: str | None) -> bool:
        """Whether a unit has used up its calls; only the units seen last are remembered."""
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
            sums = phase.sums[label] = Sums(slice_of(window))
        return sums

    def name_of(self, event: RecordedEvent) -> str | None:
        """What is the same for the same outcome in every process; None for one that does not count in any case."""
        criterion, decision, phase, decided_s = (
            self._recorded.get(event.metric),
            event.decision_id,
            event.phase,
            event.decided_s,
        )
        if criterion is None or event.measured or event.excluded or decision is None or phase is None or decided_s is None:
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
        shadow: bool = False,
        item: str | int | None = None,
        source: str = "",
        details: Mapping[str, Any] = _NO_DETAILS,
    ) -> None:
        """Add a recorded outcome; outcomes of metrics that are not judged are ignored.

        Args:
            metric: The metric.
            value: The value.
            decision: Identifies the decision; None if the outcome names none.
            phase_name: Phase of the decision.
            arm: Variant of the decision.
            bucket: Bucket of the decision.
            decided_s: Time of the decision.
            time_s: Time of the outcome.
            fingerprint: Fingerprint in the decision's id; empty in ids of earlier SDKs.
            identity: Equal for repeats of one outcome, `RecordedEvent.identity`; None if a decision has one outcome per metric.
            factor: Number of outcomes it stands for, if outcomes were kept at a lower rate than their calls.
            shadow: Whether it is about the answer of a shadow, that of `arm`.
            item: Item of an interleaved list: its pseudonym, or its position.
            source: "judge", "human", or empty.
            details: What the source says besides.
        """
        criterion = self._recorded.get(JUDGE_PREFERENCE if metric == JUDGE_FAILED else metric)
        if criterion is None:
            return
        if decision is None or phase_name is None or arm is None or bucket is None or decided_s is None:
            self.outcomes["unknown"] += 1
            return
        if why := self._refusal(criterion, decision, phase_name, decided_s, time_s, fingerprint):
            self.outcomes[why] += 1
            return
        about = (metric, f"{decision} {arm} {source}" if shadow else decision)
        is_second = about in self._met
        if identity is None:
            identity = hash(about)
        # A decision has one label, but any number of purchases.
        if identity in self._seen or (is_second and criterion.per == "outcome"):
            self.outcomes["duplicate"] += 1
            return
        if not self._is_possible(phase_name, arm, decided_s - time_s, criterion.window):
            self.outcomes["unknown"] += 1
            return
        if is_judged(criterion.metric):
            self._prefer(
                criterion, metric, value, decision, arm if shadow else None, phase_name, bucket, decided_s, source, details
            )
            _remember(self._met, about)
            return
        if criterion.per == "list":
            self._click(criterion, decision, item, value, identity)
            return
        value = _clipped(criterion, value)
        weight = 1.0 if criterion.per == "outcome" else 0.0
        phase = self.phase(phase_name)
        if phase.is_shadow or not phase.shares:
            # A process that only records outcomes does not know whether the phase shadows.
            for pair in self._labels.pairs(metric, decision, arm if shadow else CONTROL, value):
                add_pair(
                    phase,
                    phase_name,
                    criterion.label,
                    pair,
                    bucket=bucket,
                    decided_s=decided_s,
                    slice_s=slice_of(criterion.window),
                )
        elif shadow:
            self.outcomes["unknown"] += 1
            return
        if shadow:
            self.outcomes["counted"] += 1
            _remember(self._seen, identity)
            return
        # Added first, because it refuses values that would spoil all sums.
        sums = self._sums(phase, criterion.label, criterion.window)
        sums.add(phase_name, arm, bucket, value * factor, weight * factor, decided_s)
        # The call's value is now a sum, no longer 0 or 1.
        sums.others += is_second
        self.outcomes["counted"] += 1
        _remember(self._seen, identity)
        _remember(self._met, about)

    def _prefer(
        self,
        criterion: Criterion,
        metric: str,
        value: float,
        decision: str,
        candidate: str | None,
        phase_name: str,
        bucket: int,
        decided_s: float,
        source: str,
        details: Mapping[str, Any],
    ) -> None:
        """Add what a judge or a person says about both answers to a call."""
        phase = self.phase(phase_name)
        counts = candidate is not None
        if candidate is not None and metric == JUDGE_FAILED:
            phase.ends[candidate, UNJUDGED + str(details.get("end", "error"))] += 1
        elif candidate is not None:
            counts = add_preference(
                phase,
                phase_name,
                candidate,
                min(max(value, -1.0), 1.0),
                decision=decision,
                audit=criterion.audit,
                source=source,
                details=details,
                bucket=bucket,
                time_s=decided_s,
            )
        self.outcomes["counted" if counts else "unknown"] += 1

    def _click(self, criterion: Criterion, decision: str, item: str | int | None, value: float, identity: int) -> None:
        """Credit a click on an item of a list."""
        changes = self.lists.clicked(decision, criterion.metric, item, value)
        if changes is None:
            self.outcomes["unknown"] += 1
            return
        for phase_name, candidate, bucket, change, time_s in changes:
            self._sums(self.phase(phase_name), criterion.label).add(phase_name, candidate, bucket, change, 0.0, time_s)
        self.outcomes["counted"] += 1
        _remember(self._seen, identity)

    def _is_possible(self, phase_name: str, arm: str, ahead_s: float, window: float) -> bool:
        """Whether the decision may exist: not far ahead of its outcome, and in a known arm.

        A process that only records outcomes has not seen the calls, so a limited number of arms is accepted without calls.
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
        """Return a criterion's sums over all phases, for decisions before `until_s`; None: for all decisions.

        Users see no candidate in a shadow phase, so recorded metrics have no sums there.
        """
        whole = StratifiedBuckets()
        metric = metric_of(criterion)
        for name, phase in self.phases.items():
            if phase.is_shadow and not is_measured(criterion.metric):
                continue
            metric.add_sums(whole, name, phase, until_s)
        return whole

    def covariates(self) -> StratifiedBuckets | None:
        """Return the covariate's sums over all phases; None if there is no covariate."""
        whole = StratifiedBuckets()
        for phase in self.phases.values():
            sums = phase.sums.get(COVARIATE)
            if sums is not None:
                for each in sums.slices.values():
                    whole.merge(each)
        return whole if whole.arms() else None

    def merge(self, other: Evidence) -> None:
        """Add another process's evidence."""
        self.outcomes.update(other.outcomes)
        for name, phase in other.phases.items():
            self.phase(name).merge(phase)

    def fold(self, now_s: float) -> None:
        """Merge time slices that no longer need to be separate.

        Sums of minutes that are clearly part of an outage are dropped. Minutes for which this process alone has too little data
        stay separate, since the judge may decide with the data of other processes.
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
                    # Twice the window: clocks may be off, and a merged slice must be mature for every reader.
                    sums.fold(now_s - 2 * metric.criterion.window)
                    for pairs in pair_sums_of(phase, metric.criterion.label):
                        pairs.fold(now_s - 2 * metric.criterion.window)


def _clipped(criterion: Criterion, value: float) -> float:
    return value if criterion.clip is None else min(max(value, criterion.clip[0]), criterion.clip[1])


def _remember(known: OrderedDict[Any, Any], name: Hashable, value: Any = None) -> None:
    """Store a value, and drop the oldest beyond the limit."""
    known[name] = value
    if len(known) > _MOST_REMEMBERED:
        known.popitem(last=False)
