"""The evidence of one rollout: adds each fact to the sums of its phase.

Each phase has its own sums, because evidence is never pooled across phases.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

from rollout_sdk.assignment import BUCKETS
from rollout_sdk.judging.lists import LISTS, Page
from rollout_sdk.judging.look import ceilings_of
from rollout_sdk.judging.metrics import Compared, Metric, SlowCalls, metric_of
from rollout_sdk.judging.minutes import MINUTE_S, Minute, Minutes, bit_of
from rollout_sdk.judging.outcome_evidence import OutcomeEvidence
from rollout_sdk.judging.paired_labels import pair_sums_of
from rollout_sdk.judging.pairs import DIFFERING, MATCHING
from rollout_sdk.judging.phase_evidence import PhaseEvidence, is_by_minute, number_of, slice_of
from rollout_sdk.judging.remembered import MOST_REMEMBERED
from rollout_sdk.judging.unit_sample import UNTIMED_MINUTE, UnitSample, cell_of
from rollout_sdk.plan import ERROR_RATE, MEASURED, Criterion, is_measured
from rollout_sdk.records import Comparison
from rollout_sdk.stats import StratifiedBuckets

__all__ = ["COVARIATE", "Evidence"]

COVARIATE = "covariate"
"""Label of the covariate's sums; no metric may have this label."""

_OPEN_MINUTES = 2
_LARGEST = 1e50


class Evidence(OutcomeEvidence):
    """The evidence of one rollout, by phase: of calls and comparisons here, of outcomes in `OutcomeEvidence`. Not thread-safe.

    Attributes:
        most_calls: `max_calls_per_unit`.
        metrics: The judged metrics.
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
        super().__init__(since=since, fingerprint=fingerprint)
        self.most_calls = max_calls_per_unit
        self._calls_of: OrderedDict[tuple[str, str, int], int] = OrderedDict()
        self.follow(criteria)

    def follow(self, criteria: Iterable[Criterion]) -> None:
        """Keep sums for these criteria from now on."""
        self.metrics: tuple[Metric, ...] = tuple(metric_of(each) for each in criteria)
        known: set[str] = set()
        for each in self.metrics:
            if isinstance(each, SlowCalls):
                each.counts_untimed = each.criterion.metric not in known
                known.add(each.criterion.metric)
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
            self._sums(phase, criterion.label, slice_of(criterion.window)).add(phase_name, arm, bucket, 0.0, 1.0, time_s)

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
                self._sums(phase, criterion.label, slice_of(criterion.window)).add(phase_name, arm, bucket, 0.0, 1.0, time_s)

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

    def _is_capped(self, unit: tuple[str, str, int], most: int, decision: str | None) -> bool:
        """Whether a unit has used up its calls; only the units seen last are remembered."""
        calls = self._calls_of.pop(unit, 0) + 1
        self._calls_of[unit] = calls
        if len(self._calls_of) > MOST_REMEMBERED:
            self._calls_of.popitem(last=False)
        if calls <= most:
            return False
        self.outcomes["capped"] += 1
        if decision is not None:
            self._capped.add(decision)
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

        Sums of minutes that are clearly part of an outage are set aside. Minutes for which this process alone has too little
        data stay separate, since the judge may decide with the data of other processes.
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
                if metric.criterion.metric in MEASURED or is_by_minute(metric.criterion):
                    sums.fold(now_s - _OPEN_MINUTES * MINUTE_S, aside=outages, keep=doubtful)
                else:
                    # Twice the window: clocks may be off, and a merged slice must be mature for every reader.
                    sums.fold(now_s - 2 * metric.criterion.window)
                    for pairs in pair_sums_of(phase, metric.criterion.label):
                        pairs.fold(now_s - 2 * metric.criterion.window)
