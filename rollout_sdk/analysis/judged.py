"""Every rollout of a journal as its judge would have seen it, in one pass: evidence, verdict, and the looks on the way.

Each set of arms is judged by what was declared for it: the plan in the journal. Metrics that were not declared are kept beside
it, for display. Memory is bounded by rollouts, metrics and phases, not by calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil, inf
from typing import Any

from attrs import define, evolve, field, frozen

from rollout_sdk.analysis.bounded import shortened
from rollout_sdk.analysis.course import Course
from rollout_sdk.analysis.of_units import in_order_by_call
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.journal import Journal
from rollout_sdk.judging import Finding, Verdict, judge
from rollout_sdk.plan import ERROR_RATE, LATENCY_MEAN, Criteria, Criterion, Gate, Guardrail, from_written
from rollout_sdk.plan.criteria import Per
from rollout_sdk.stats import StratifiedBuckets

__all__ = [
    "FIRST_LOOK",
    "LOOK_AGAIN",
    "MOST_PHASES",
    "MOST_PROCESSES",
    "MOST_ROLLOUTS",
    "Judged",
    "Judges",
    "Looked",
    "judged",
    "undeclared_findings",
]

MOST_ROLLOUTS = 1_000
"""Sets of arms that are judged; a journal with more of them is hostile, or has a key per user."""

_MOST_METRICS = 20
_MOST_NAMED = 100
MOST_PROCESSES = 1_000
MOST_PHASES = 1_000
"""Phases of one rollout that are judged: sums of each are kept."""
FIRST_LOOK, LOOK_AGAIN = 200, 1.3
"""Calls before the first look, and the factor until the next: about 30 looks at a million calls."""
_FOLD_EVERY_S = 60.0
_SCALE = 0.05
"""Relative difference at which the display of an undeclared metric is the most precise."""

_PREFERENCE = 0.02
"""The same of a preference for one of two rankers."""

_UNPLANNED = Criteria.of_test([Guardrail(ERROR_RATE)])
_OWN = (Guardrail(ERROR_RATE, dry_run=True), Guardrail(LATENCY_MEAN, dry_run=True))


@frozen
class Looked:
    """One look on the way.

    Attributes:
        time_s: When it was.
        calls: Calls before it.
        findings: What was found of declared criteria.
        others: What was found of other metrics.
        sums: The sums of every recorded metric by then; only of the last few looks.
    """

    time_s: float
    calls: int
    findings: tuple[Finding, ...]
    others: tuple[Finding, ...]
    sums: Mapping[str, StratifiedBuckets]


@define
class Judged:
    """One rollout with one fingerprint.

    Attributes:
        course: What was seen of it.
        is_declared: Whether its journal has a plan.
        looks: The looks on the way, in order of time.
        unnamed: Names of metrics that are not kept: beyond the most, or not usable as names.
        now_s: Time of the last record.
        calls: Its calls.
        plan: The plan as the journal has it.
        segments: Values by which its attributes are split.
        refused: Lines that could not be counted.
        fault: Why the plan cannot be read; empty where it can.
        processes: Time of the first call and of the last one in each process; of the latest thousand.
    """

    course: Course
    is_declared: bool = False
    looks: list[Looked] = field(factory=list)
    unnamed: list[str] = field(factory=list)
    now_s: float = 0.0
    calls: int = 0
    plan: Mapping[str, Any] = field(factory=dict)
    fault: str = ""
    segments: Mapping[str, Sequence[str]] = field(factory=dict)
    refused: int = 0
    processes: dict[str, list[float]] = field(factory=dict)
    _next_look: int = FIRST_LOOK
    _fold_s: float | None = None
    _is_passing: bool = False

    @classmethod
    def begun(cls, key: str) -> Judged:
        """A rollout of which nothing was seen, and nothing is known to be declared."""
        made = cls(Course.begun(key, _UNPLANNED))
        made._follow(_UNPLANNED, ())
        return made

    @property
    def undeclared(self) -> tuple[Criterion, ...]:
        """The criteria that evidence is kept for, and that it is not judged by."""
        return self.course.also

    def take(self, record: Mapping[str, Any]) -> None:
        """See a line of the journal."""
        event = record["event"]
        if event == "rollout":
            self._declared(record.get("plan", {}))
        elif event == "outcome":
            self.keep_sums_of(record["metric"])
        self._fold(max(self.now_s, record["seen_s"]))
        if event == "decision":
            self._served(record.get("seen_by", ""), record["t"])
            if record["phase"] not in self.course.phases and self.course.current:
                self.look()
            self.calls += 1
        if self._is_beyond(record.get("phase", record.get("to_phase"))):
            self.refused += 1
            return
        try:
            self.course.take(record)
        # A value that would spoil all sums, or a line of another program: it hides none of the others.
        except (ArithmeticError, LookupError, TypeError, ValueError):
            self.refused += 1
        if event == "decision" and self.calls >= self._next_look:
            self._next_look = ceil(self.calls * LOOK_AGAIN)
            self.look()

    def _fold(self, now_s: float) -> None:
        """Go on to a time, and fold the evidence at the times at which a replay does: what an outage is, depends on when it is
        looked at.
        """
        self.now_s = now_s
        if self._fold_s is None:
            self._fold_s = now_s + _FOLD_EVERY_S if now_s else None
            return
        while now_s >= self._fold_s:
            self.course.fold(self._fold_s)
            self._fold_s = self._fold_s + _FOLD_EVERY_S if now_s - self._fold_s < _FOLD_EVERY_S else now_s + _FOLD_EVERY_S
            if self._fold_s == now_s:
                # A time so far in the future that adding a minute does not change it.
                self._fold_s = inf

    def fold_never(self) -> None:
        """Leave evidence as it is between looks: for a reader that knows of no outage, in which it would make a difference."""
        self._fold_s = inf

    def _served(self, process: str, time_s: float) -> None:
        """Take note that a process serves it."""
        span = self.processes.get(process)
        if span is not None:
            span[0], span[1] = min(span[0], time_s), max(span[1], time_s)
            return
        self.processes[process] = [time_s, time_s]
        if len(self.processes) > MOST_PROCESSES:
            del self.processes[min(self.processes, key=lambda each: self.processes[each][1])]

    def _is_beyond(self, phase: str | None) -> bool:
        """Whether a phase is one more than are kept."""
        begun, described = self.course.phases, self.course.exposures
        if phase is None or len(begun) + len(described) < 2 * MOST_PHASES:
            return False
        return phase not in begun and phase not in described

    def _declared(self, plan: Mapping[str, Any]) -> None:
        """Judge by what the journal says was declared."""
        if plan == self.plan:
            return
        self.plan = plan
        try:
            criteria = from_written(plan)
        except ConfigurationError as error:
            self.fault = str(error)
            return
        self.is_declared = criteria is not None and (criteria.acts or bool(criteria.all))
        self.segments = {} if criteria is None else criteria.segments
        self._follow(criteria if criteria is not None and self.is_declared else _UNPLANNED, self.undeclared)

    def _follow(self, criteria: Criteria, undeclared: tuple[Criterion, ...]) -> None:
        declared = {each.metric for each in criteria.all}
        also: tuple[Criterion, ...] = (*_OWN, *(each for each in undeclared if isinstance(each, Gate)))
        self.course.judge_by(criteria, tuple(each for each in also if each.metric not in declared))

    def keep_sums_of(self, metric: str) -> None:
        """Keep sums of a metric that was not declared, from its first outcome on."""
        if (
            metric in {each.metric for each in (*self.course.criteria.all, *self.undeclared)}
            or shortened(metric) in self.unnamed
        ):
            return
        per: Per = "list" if self.course.blended else "call"
        try:
            gate = Gate(metric, per=per, dry_run=True)
        # Another program wrote it: no such metric can be declared.
        except ConfigurationError:
            gate = None
        if gate is None or sum(isinstance(each, Gate) for each in self.undeclared) >= _MOST_METRICS:
            if len(self.unnamed) < _MOST_NAMED:
                self.unnamed.append(shortened(metric))
            return
        self._follow(self.course.criteria, (*self.undeclared, gate))

    def look(self) -> None:
        """Judge it as it stands, and keep what was found."""
        course = self.course
        course.look(self.now_s)
        declared = () if course.previous is None else course.previous.findings
        found = tuple(each for each in declared if each.kind != "assignment")
        recorded = [each for each in (*course.criteria.all, *self.undeclared) if isinstance(each, Gate)]
        sums = {each.label: course.evidence.sums(each) for each in recorded}
        if self._is_passing and self.looks:
            self.looks.pop()
        self._is_passing = False
        self.looks.append(Looked(self.now_s, self.calls, found, undeclared_findings(self), sums))
        # Sums are needed for what is about half of the calls in the end.
        for index, each in enumerate(self.looks):
            if each.sums and each.calls * 4 < self.calls:
                self.looks[index] = evolve(each, sums={})

    def glance(self) -> None:
        """Judge it as it stands, in a look that the next one takes the place of: a page may ask every second."""
        self.look()
        self._is_passing = True

    def end(self) -> None:
        """Add what still waits at the end of the journal, and judge for the last time."""
        self.course.end()
        self.look()

    @property
    def verdict(self) -> Verdict | None:
        """The last verdict; None where nothing could be compared."""
        return self.course.previous


def undeclared_findings(found: Judged) -> tuple[Finding, ...]:
    """What the metrics say that were not declared; each at its own scale, for a test that is valid at every look."""
    course, situation = found.course, found.course.situation()
    if situation is None or not found.undeclared:
        return ()
    guardrails = [each for each in found.undeclared if isinstance(each, Guardrail)]
    gates = [each for each in found.undeclared if isinstance(each, Gate)]
    scaled = [evolve(each, mde=_scale(course, each)) for each in gates]
    verdict = judge(course.evidence, Criteria.of_test(guardrails, scaled), situation, found.now_s)
    return tuple(each for each in verdict.findings if each.kind != "assignment")


def _scale(course: Course, gate: Gate) -> float:
    """The difference that the test of an undeclared metric is tuned to: a twentieth of the largest mean of an arm."""
    if gate.per == "list":
        return _PREFERENCE
    sums = course.evidence.sums(gate)
    means = []
    for phase in sums.phases():
        for arm in sums.arms():
            total, weight = sums.totals(phase, arm)
            means.append(abs(total / weight) if weight else 0.0)
    return max(_SCALE * max(means, default=0.0), 1e-9)


class Judges:
    """The judges of all rollouts in a journal.

    Attributes:
        found: What each found, by rollout and fingerprint.
        left_out: Sets of arms beyond the most that are judged; no more than that many are counted.
    """

    def __init__(self) -> None:
        """Nothing was seen."""
        self.found: dict[tuple[str, str], Judged] = {}
        self.left_out: set[tuple[str, str]] = set()
        self._latest: dict[str, str] = {}

    def take(self, record: Mapping[str, Any]) -> tuple[str, str] | None:
        """See a line of the journal; returns whose it is, or None where there are too many."""
        key = shortened(record["rollout"])
        # An outcome of a unit names none, and is of no decision.
        if "fingerprint" in record or record["event"] not in ("outcome", "breaker"):
            self._latest[key] = shortened(record.get("fingerprint", ""))
        which = key, self._latest.get(key, "")
        one = self.found.get(which)
        if one is None:
            if len(self.found) >= MOST_ROLLOUTS:
                self._latest.pop(key, None)
                if len(self.left_out) < MOST_ROLLOUTS:
                    self.left_out.add(which)
                return None
            one = self.found[which] = Judged.begun(key)
        if "replaced" in record and (replaced := self.found.get((key, record["replaced"]))) is not None:
            replaced.look()
            replaced.course.current = ""
        one.take(record)
        return which


def judged(
    journal: Journal, *, progress: Callable[[int, int], None] | None = None
) -> tuple[dict[tuple[str, str], Judged], int]:
    """The rollouts of a journal by key and fingerprint; and how many sets of arms were left out, beyond the most.

    Args:
        journal: The journal.
        progress: Called with the bytes read so far, and with how many there are.
    """
    judges = Judges()
    for record in in_order_by_call(journal, None, progress):
        judges.take(record)
    for one in judges.found.values():
        one.end()
    return judges.found, len(judges.left_out)
