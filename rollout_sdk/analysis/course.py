"""A rollout as its journal tells it, judged by another plan: the lines in order, and a look whenever it is asked for.

Lines are counted and judged as the service does it, by the same code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, field

from rollout_sdk.analysis.facts import add_line, add_outcome_line, shadowed
from rollout_sdk.analysis.shadow_pairs import ShadowPairs
from rollout_sdk.interleaving.pages import page_of
from rollout_sdk.judging import Evidence, Situation, Verdict, add_shadowed, judge
from rollout_sdk.judging.ingest import is_shadow
from rollout_sdk.judging.phase_evidence import number_of
from rollout_sdk.plan import Criteria, Criterion, Step
from rollout_sdk.records import ShadowedEvent

__all__ = ["Course", "Courses", "PhaseCourse", "nothing"]


@define
class PhaseCourse:
    """One phase, and what would have become of it; see `ReplayedPhase`."""

    name: str
    began_s: float
    ended_s: float = 0.0
    calls: int = 0
    decided: Verdict | None = None
    last: Verdict | None = None
    alarm: Verdict | None = None


@define
class Course:
    """The calls of one fingerprint, as the journal tells them.

    Attributes:
        key: Key of the rollout.
        criteria: What it is judged by.
        evidence: What was seen of the version that serves.
        blended: Candidates whose items are blended with the control's in one list.
        also: Criteria that evidence is kept for, and that it is not judged by.
        version: Version of the candidates.
        control: Name of the control.
        exposures: Share of the calls that every arm is seen in, by phase.
        phases: The phases in which there were calls.
        entered: When each phase began, in seconds since 1970.
        current: Name of the phase that is judged.
        looks: How often it was judged.
        revision: The last revision.
        dropped: Candidates that were rolled back while others went on.
        without: The dropped candidates by phase.
        previous: The last verdict of the version that serves.
        invalid: Why the comparison cannot be trusted; latched. Empty: it can.
        valid_from: Number of the phase that began when a person last cleared that.
        pairs: Shadow runs and the control's.
    """

    key: str
    criteria: Criteria
    evidence: Evidence
    version: str = ""
    control: str = "control"
    exposures: dict[str, Mapping[str, float]] = field(factory=dict)
    phases: dict[str, PhaseCourse] = field(factory=dict)
    entered: dict[str, float] = field(factory=dict)
    current: str = ""
    looks: int = 0
    revision: int = 0
    dropped: frozenset[str] = frozenset()
    without: dict[str, frozenset[str]] = field(factory=dict)
    previous: Verdict | None = None
    invalid: str = ""
    valid_from: int = 0
    pairs: ShadowPairs = field(factory=ShadowPairs)
    also: tuple[Criterion, ...] = ()
    blended: tuple[str, ...] = ()
    _was_invalid: bool = False

    @classmethod
    def begun(cls, key: str, criteria: Criteria) -> Course:
        """The course of a rollout of which nothing was seen."""
        return cls(key, criteria, nothing(criteria))

    def judge_by(self, criteria: Criteria, also: tuple[Criterion, ...]) -> None:
        """Judge by these criteria from now on, and keep evidence for others beside them."""
        self.criteria, self.also = criteria, also
        self.evidence.most_calls = criteria.max_calls_per_unit
        self.evidence.follow((*criteria.all, *also))

    def leave(self, now_s: float) -> None:
        """Be judged no more after now: another fingerprint has taken its place."""
        self.look(now_s)
        self.current = ""

    def begin(self, since: int) -> None:
        """Begin with nothing seen: what was seen of another version says nothing about this one."""
        self.evidence = nothing(self.criteria, since)
        self.evidence.follow((*self.criteria.all, *self.also))
        self.current, self.dropped, self.previous = "", frozenset(), None
        self.invalid, self.valid_from, self._was_invalid = "", 0, False

    def enter(self, phase: str, shares: Mapping[str, float], shadow: float) -> None:
        """Know the shares of a phase."""
        served = {name: share for name, share in shares.items() if name != self.control}
        only_shadows = shadow and not any(served.values())
        exposure = {self.control: 1.0, **dict.fromkeys(served, shadow)} if only_shadows else dict(shares)
        self.exposures[phase] = exposure
        # Where another process made the step, a call or two may be written before what is said of it.
        if (seen := self.evidence.phases.get(phase)) is not None:
            seen.shares.update(exposure)

    def take(self, record: Mapping[str, Any]) -> None:
        """See a line of the journal."""
        event = record["event"]
        if event == "rollout":
            self.control = record["control"]
            self.version = record.get("version", "")
            self.revision = max(self.revision, record.get("revision", 0))
            self.enter(record["phase"], record.get("shares", {}), record.get("shadow", 0.0))
        elif event == "transition":
            self._transition(record)
        elif event == "decision":
            self._decision(record)
        elif event == "shadow":
            self._shadow(record)
        elif event == "outcome":
            add_outcome_line(self.evidence, record)

    def _transition(self, record: Mapping[str, Any]) -> None:
        phase, shares, action = record["to_phase"], record.get("shares", {}), record["action"]
        self.version = record.get("version", self.version)
        if action == "start" and record.get("from_phase") is not None:
            self.look(record["seen_s"])
            self.begin(int(phase.partition(":")[0]))
        if action == "roll_back":
            before = self.exposures.get(record.get("from_phase", ""), {})
            self.dropped |= {name for name, share in shares.items() if before.get(name) and not share}
        self.without.setdefault(phase, self.dropped)
        # A resume leaves the alarm as it is, unless it says that it clears it.
        is_cleared = self._was_invalid and not record.get("invalid")
        self._was_invalid = bool(record.get("invalid"))
        if is_cleared:
            self.invalid, self.valid_from = "", number_of(phase)
        self.revision = max(self.revision, record.get("revision", 0))
        # By the clock of those who were called: the command line may have another.
        self.entered.setdefault(phase, record["seen_s"])
        self.enter(phase, shares, record.get("shadow", 0.0))

    def _shadow(self, record: Mapping[str, Any]) -> None:
        exposure = self.exposures.get(record["phase"], {})
        event = shadowed(record, self.control)
        for each in self.pairs.shadowed(event) if is_shadow(exposure) else ():
            self._add_pair(each)

    def _add_pair(self, event: ShadowedEvent) -> None:
        add_shadowed(self.evidence, event, self.exposures.get(event.decision.phase, {}))

    def end(self) -> None:
        """Add what still waits at the end of the journal."""
        for event in self.pairs.left():
            self._add_pair(event)

    def _decision(self, record: Mapping[str, Any]) -> None:
        name = record["phase"]
        phase = self.phases.get(name)
        if phase is None:
            # The journal has no transition into the first phase: as far as it shows, the phase began with its first call.
            phase = self.phases[name] = PhaseCourse(name, self.entered.setdefault(name, record["t"]))
            self.current = name
        phase.calls += 1
        phase.ended_s = max(phase.ended_s, record["t"])
        exposure = self.exposures.get(name, {})
        if is_shadow(exposure):
            for each in self.pairs.called(record, self.control):
                self._add_pair(each)
        else:
            add_line(self.evidence, record, exposure)
            if record.get("blend") and not record.get("excluded"):
                self._list(record)

    def _list(self, record: Mapping[str, Any]) -> None:
        """Keep an interleaved list until its clicks have come."""
        page = page_of(record)
        if page is None:
            return
        self.control, *others = record["blend"]
        self.blended = tuple(others)
        self.evidence.add_list(
            record["id"], page, record["blend"], phase_name=record["phase"], bucket=record["bucket"], time_s=record["t"]
        )

    def situation(self) -> Situation | None:
        """Where the rollout stands in its current phase; None in a phase in which nothing can be compared."""
        phase, exposure = self.phases.get(self.current), self.exposures.get(self.current, {})
        candidates = tuple(name for name in exposure if name != self.control)
        served = [name for name in candidates if exposure[name] > 0]
        without = self.without.get(self.current, frozenset())
        if phase is not None and self.blended:
            # Each list is of all rankers: nothing is split.
            candidates, served = self.blended, []
        elif phase is None or not served or exposure.get(self.control, 0.0) <= 0:
            return None
        return Situation(
            rollout=self.key,
            phase=phase.name,
            revision=self.revision,
            control=self.control,
            candidates=tuple(name for name in candidates if name not in without),
            step=self._step(exposure, served),
            entered_s=phase.began_s,
            is_last=self._index(exposure, served) == len(self.criteria.steps) - 1,
            shadowing=is_shadow(exposure),
            invalid=self.invalid,
            valid_from=self.valid_from,
        )

    def fold(self, now_s: float) -> None:
        """Fold the evidence as a look would, without judging it."""
        if self.situation() is not None:
            self.evidence.fold(now_s)

    def look(self, now_s: float) -> None:
        """Judge the current phase."""
        situation = self.situation()
        if situation is None:
            return
        phase = self.phases[self.current]
        self.looks += 1
        self.evidence.fold(now_s)
        verdict = judge(self.evidence, self.criteria, situation, now_s, self.previous)
        phase.last = self.previous = verdict
        if not verdict.valid and not self.invalid:
            # By Ville the first crossing is the rejection: later evidence cannot take it back.
            self.invalid, phase.alarm = verdict.reason, verdict
        if phase.decided is None and verdict.outcome in ("PASS", "FAIL"):
            phase.decided = verdict

    def _index(self, exposure: Mapping[str, float], served: list[str]) -> int:
        """Return the last planned step whose shares do not exceed those of the journal's phase."""
        shadowing = is_shadow(exposure)
        below = [
            index
            for index, step in enumerate(self.criteria.steps)
            if all(_share(step, name) <= (0.0 if shadowing else exposure[name]) + 1e-12 for name in served)
        ]
        return below[-1] if below else 0

    def _step(self, exposure: Mapping[str, float], served: list[str]) -> Step | None:
        return self.criteria.step(self._index(exposure, served))


@define
class Courses:
    """The rollout as the journal tells it: one course for each fingerprint, because none is ever pooled with another.

    Attributes:
        key: Its key.
        criteria: What it is judged by.
        by_fingerprint: The courses.
    """

    key: str
    criteria: Criteria
    by_fingerprint: dict[str, Course] = field(factory=dict)
    _latest: str = ""

    @property
    def looks(self) -> int:
        """How often it was judged."""
        return sum(course.looks for course in self.by_fingerprint.values())

    def take(self, record: Mapping[str, Any], now_s: float) -> None:
        """See a line of the journal."""
        # An outcome of a unit names none, and is of no decision.
        if "fingerprint" in record or record["event"] not in ("outcome", "breaker"):
            self._latest = record.get("fingerprint", "")
        course = self.by_fingerprint.get(self._latest)
        if course is None:
            course = self.by_fingerprint[self._latest] = Course.begun(self.key, self.criteria)
        if record["event"] == "decision" and record["phase"] not in course.phases and course.current:
            course.look(now_s)
        if "replaced" in record and (replaced := self.by_fingerprint.get(record["replaced"])) is not None:
            replaced.leave(record["seen_s"])
        course.take(record)

    def look(self, now_s: float) -> None:
        """Judge the current phase of each."""
        for course in self.by_fingerprint.values():
            course.look(now_s)

    def end(self, now_s: float) -> None:
        """Add what still waits at the end of the journal, and judge for the last time."""
        for course in self.by_fingerprint.values():
            course.end()
            course.look(now_s)


def nothing(criteria: Criteria, since: int = 0) -> Evidence:
    """Evidence to begin with."""
    return Evidence(criteria.all, since=since, max_calls_per_unit=criteria.max_calls_per_unit)


def _share(step: Step, name: str) -> float:
    return step.share.get(name, 0.0) if isinstance(step.share, Mapping) else step.share
