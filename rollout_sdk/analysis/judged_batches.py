"""One set of arms of a journal as its judge sees it, batch by batch: sums of lines, and between them what depends on order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

from rollout_sdk.analysis.course import PhaseCourse
from rollout_sdk.analysis.judged import MOST_PHASES, Judged
from rollout_sdk.analysis.relations import IrreducibleError
from rollout_sdk.analysis.sums_of_batches import Batch
from rollout_sdk.judging.ingest import is_shadow
from rollout_sdk.judging.look import ceilings_of
from rollout_sdk.judging.minutes import MINUTE_S, Minutes
from rollout_sdk.judging.phase_evidence import is_by_minute
from rollout_sdk.plan import Criterion, is_measured

__all__ = ["ROLLOUT", "BatchEnd", "Between", "JudgedSet"]

_CALL, _TRANSITION, ROLLOUT, _FIRST_OF_PHASE = 0, 2, 3, 4


@frozen
class Between:
    """What is between batches, and what numbers stand for.

    Attributes:
        arms: Phase and variant of each arm, by its number.
        processes: Names of the processes.
        lines: Lines of rollouts and transitions, by process and place.
    """

    arms: Mapping[int, tuple[str, str]]
    processes: Sequence[str]
    lines: Mapping[tuple[int, int], Mapping[str, Any]]


@frozen
class BatchEnd:
    """Where a batch ends: by a look after a call, the first call of a phase, or a line of a rollout or a transition.

    Attributes:
        kind: Which of these.
        calls: Calls of the set before it.
        seen_s: Time at which it is seen.
        process: Number of the process that wrote it.
        place: Its place in what the process wrote.
        arm: Number of its arm, of a call.
        time_s: Its own time.
        excluded: Whether a call is left out of the analysis.
    """

    kind: int
    calls: int
    seen_s: float
    process: int
    place: int
    arm: int | None
    time_s: float | None
    excluded: bool | None


@define
class JudgedSet:
    """One set of arms while it is read.

    Attributes:
        one: What the judge sees of it.
        last_s: Time of its last line, but for transitions.
        calls: Its calls.
        labels: Labels of slow calls, by number.
        ends: Ends of batches, by the number of the next batch.
        batches: Sums by batch.
        metrics: Metrics that have their first outcome in a batch.
        control: Name of the control.
        outcomes: Outcomes by batch: number of the arm, metric, bucket, how many, their sum, how many are the first of their
            call, and how many are neither 0 nor 1.
        declared: What it is judged by, and what is kept beside it from the first call on.
    """

    one: Judged
    calls: int
    last_s: float
    labels: dict[int, str] = field(factory=dict)
    ends: dict[int, BatchEnd] = field(factory=dict)
    batches: dict[int, Batch] = field(factory=lambda: defaultdict(Batch))
    metrics: dict[int, list[str]] = field(factory=lambda: defaultdict(list))
    control: str = "control"
    declared: tuple[Criterion, ...] = ()
    outcomes: dict[int, list[Sequence[Any]]] = field(factory=lambda: defaultdict(list))
    _followed: set[str] = field(factory=set)

    def check_minutes(self) -> None:
        """Refuse what may be an outage of the control: what of it is set aside depends on when it was looked at."""
        minutes: dict[str, Minutes] = defaultdict(Minutes)
        for batch in self.batches.values():
            for name, phase in batch.phases.items():
                if (of_control := phase.minutes.get(self.control)) is not None:
                    minutes[name].merge(of_control)
        watched = ceilings_of(self.declared)
        for of_phase in minutes.values():
            if any(of_phase.may_have_been_out(label, ceiling) for label, ceiling in watched.items()):
                raise IrreducibleError("there may be an outage")

    def replay(self, between: Between) -> None:
        """Let the judge see the batches, one after the other.

        Raises:
            IrreducibleError: The order of lines within a batch would make a difference.
        """
        found, course = self.one, self.one.course
        if 0 in self.batches:
            raise IrreducibleError("outcomes come before what is declared")
        for index in range(max((*self.ends, *self.batches), default=0) + 1):
            if (end := self.ends.get(index)) is not None and not self._is_known(end, between):
                found.calls, found.now_s = end.calls, max(found.now_s, end.seen_s)
                self._end(end, between)
            for metric in self.metrics.get(index, ()):
                found.keep_sums_of(metric)
            batch = self.batches.get(index)
            if batch is None:
                continue
            for name, (calls, last_s) in batch.calls.items():
                phase = course.phases[name]
                phase.calls, phase.ended_s = phase.calls + int(calls), max(phase.ended_s, last_s)
            self._add_outcomes(batch, self.outcomes.get(index, ()), between)
            try:
                batch.add_to(course.evidence, course.exposures)
            except ValueError:
                raise IrreducibleError("sums are out of range") from None
        found.calls, found.now_s = self.calls, max(found.now_s, self.last_s)
        self._check_outages()
        found.end()

    def _is_known(self, end: BatchEnd, between: Between) -> bool:
        """Whether a batch ends with a transition of which another process wrote before: each that follows it does."""
        change = between.lines[end.process, end.place].get("id") if end.kind == _TRANSITION else None
        is_known = change in self._followed
        if change is not None:
            self._followed.add(change)
        return is_known

    def _end(self, end: BatchEnd, between: Between) -> None:
        """Do what the line-by-line reader does where a batch ends."""
        found, course = self.one, self.one.course
        self._check_outages()
        if end.kind == _CALL:
            found.look()
        elif end.kind == _FIRST_OF_PHASE:
            name, _ = between.arms[end.arm or 0]
            exposure = course.exposures.get(name, {})
            if end.excluded or self._is_other(exposure):
                raise IrreducibleError("a phase begins with a call that is not analysed, or with shadows")
            if course.current:
                found.look()
            course.phases[name] = PhaseCourse(name, course.entered.setdefault(name, end.time_s or 0.0))
            course.current = name
        else:
            record = between.lines[end.process, end.place]
            if record["event"] == "transition" and record["action"] == "start":
                raise IrreducibleError("a version begins with nothing seen")
            named = record.get("phase", record.get("to_phase", ""))
            before = course.exposures.get(named, {})
            found.take({"t": end.seen_s, **record, "seen_s": end.seen_s, "seen_by": between.processes[end.process]})
            exposure = course.exposures.get(named, {})
            if named in course.phases and (self._is_other(exposure) or (before and list(before) != list(exposure))):
                raise IrreducibleError("a phase that has begun gets other arms")
        if len(course.phases) + len(course.exposures) >= 2 * MOST_PHASES:
            raise IrreducibleError("there are too many phases")

    def _is_other(self, exposure: Mapping[str, float]) -> bool:
        """Whether a phase has shadows only, or no control that is known."""
        return is_shadow(exposure) or next(iter(exposure), self.control) != self.control

    def _check_outages(self) -> None:
        course = self.one.course
        watched = ceilings_of((*course.criteria.all, *self.one.undeclared))
        for phase in course.evidence.phases.values():
            if any(phase.outages(label, ceiling) for label, ceiling in watched.items()):
                raise IrreducibleError("there may be an outage")

    def _add_outcomes(self, batch: Batch, rows: Iterable[Sequence[Any]], between: Between) -> None:
        """Add the outcomes of recorded metrics to a batch."""
        course = self.one.course
        recorded = {each.metric: each for each in (*course.criteria.all, *self.one.undeclared)}
        for arm, metric, bucket, outcomes, value, decisions, others in rows:
            criterion = recorded.get(metric)
            if criterion is None or is_measured(metric):
                continue
            phase, variant = between.arms[arm]
            if is_shadow(course.exposures.get(phase, {})):
                raise IrreducibleError("outcomes are about pairs of answers")
            is_label, slice_s = criterion.per == "outcome", MINUTE_S if is_by_minute(criterion) else 0.0
            seconds = outcomes - decisions
            batch.outcomes["counted"] += decisions if is_label else outcomes
            if is_label and seconds:
                batch.outcomes["duplicate"] += seconds
            if is_label and not decisions:
                continue
            # A call's value is then a sum, no longer 0 or 1.
            sums = int(others) + (0 if is_label else seconds)
            weight = float(decisions) if is_label else 0.0
            batch.add_outcomes(phase, variant, criterion.label, slice_s, bucket, value, weight, sums)
