"""A journal under another plan: what would it have decided, and when?

The shares are the journal's own: a replay cannot know what others would have been served. So it says for every phase when the
plan would first have come to a verdict, and what that would have been.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from attrs import asdict, define, field, frozen

from rollout_sdk.analysis.facts import in_order, recorded, routed, shadowed
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.journal import Journal, read_journal
from rollout_sdk.judging import Evidence, Situation, Verdict, add_outcome, add_routed, add_shadowed, judge
from rollout_sdk.plan import Criteria, Step

__all__ = ["Replay", "ReplayedPhase", "replay"]


@frozen
class ReplayedPhase:
    """What the plan would have made of one phase.

    Attributes:
        phase: Name of the phase.
        began_s: When it began, in seconds since 1970.
        ended_s: When the journal's next phase began, or the journal ends.
        calls: Calls in it.
        decided: The first verdict that would have ended it; None when there was none.
        last: The last verdict in it.
    """

    phase: str
    began_s: float
    ended_s: float
    calls: int
    decided: Verdict | None
    last: Verdict | None


@frozen
class Replay:
    """What a plan would have made of a journal.

    Attributes:
        rollout: Key of the rollout.
        looks: How often it was judged.
        phases: The phases, in the order in which they began.
        damaged: Lines of the journal that could not be read.
    """

    rollout: str
    looks: int
    phases: tuple[ReplayedPhase, ...]
    damaged: int

    @property
    def outcome(self) -> str:
        """What the plan comes to: "rolled back", "went on in every phase" or "held"."""
        decided = [phase.decided for phase in self.phases]
        if any(verdict is not None and verdict.outcome == "FAIL" for verdict in decided):
            return "rolled back"
        return "went on in every phase" if decided and all(decided) else "held"

    def as_dict(self) -> dict[str, Any]:
        """JSON-plain."""
        phases = [
            {
                **asdict(phase, recurse=False),
                "decided": None if phase.decided is None else phase.decided.as_dict(),
                "last": None if phase.last is None else phase.last.as_dict(),
            }
            for phase in self.phases
        ]
        return {
            "rollout": self.rollout,
            "outcome": self.outcome,
            "looks": self.looks,
            "damaged": self.damaged,
            "phases": phases,
        }


@define
class _Phase:
    name: str
    began_s: float
    ended_s: float = 0.0
    calls: int = 0
    decided: Verdict | None = None
    last: Verdict | None = None


@define
class _Course:
    """The rollout as the journal tells it."""

    key: str
    criteria: Criteria
    evidence: Evidence
    control: str = "control"
    exposures: dict[str, Mapping[str, float]] = field(factory=dict)
    phases: dict[str, _Phase] = field(factory=dict)
    current: str = ""
    looks: int = 0

    def enter(self, phase: str, shares: Mapping[str, float], shadow: float) -> None:
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
            self.enter(record["phase"], record["shares"], record.get("shadow", 0.0))
        elif event == "transition":
            if record["action"] == "start" and record.get("from_phase") is not None:
                # What was seen of another version says nothing about this one.
                self.look(record["seen_s"])
                self.current = ""
                self.evidence = Evidence(self.criteria.all, since=int(record["to_phase"].partition(":")[0]))
            self.enter(record["to_phase"], record["shares"], record.get("shadow", 0.0))
        elif event == "decision":
            self._decision(record)
        elif event == "shadow":
            add_shadowed(self.evidence, shadowed(record), self.exposures.get(record["phase"], {}))
        elif event == "outcome":
            add_outcome(self.evidence, recorded(record))

    def _decision(self, record: Mapping[str, Any]) -> None:
        name = record["phase"]
        phase = self.phases.get(name)
        if phase is None:
            phase = self.phases[name] = _Phase(name, record["t"])
            self.current = name
        phase.calls += 1
        phase.ended_s = max(phase.ended_s, record["t"])
        add_routed(self.evidence, routed(record), self.exposures.get(name, {}))

    def look(self, now_s: float) -> None:
        """Judge the current phase."""
        phase, exposure = self.phases.get(self.current), self.exposures.get(self.current, {})
        candidates = tuple(name for name in exposure if name != self.control)
        served = [name for name in candidates if exposure[name] > 0]
        if phase is None or not served or exposure.get(self.control, 0.0) <= 0:
            return
        self.looks += 1
        verdict = judge(
            self.evidence,
            self.criteria,
            Situation(
                rollout=self.key,
                phase=phase.name,
                revision=0,
                control=self.control,
                candidates=tuple(served),
                step=self._step(exposure, served),
                entered_s=phase.began_s,
                is_last=self._index(exposure, served) == len(self.criteria.steps) - 1,
                shadowing=sum(exposure.values()) > 1 + 1e-9,
            ),
            now_s,
        )
        phase.last = verdict
        if phase.decided is None and verdict.outcome in ("PASS", "FAIL"):
            phase.decided = verdict

    def _index(self, exposure: Mapping[str, float], served: list[str]) -> int:
        """The last planned step that gives nobody more than the journal's phase."""
        shadowing = sum(exposure.values()) > 1 + 1e-9
        below = [
            index
            for index, step in enumerate(self.criteria.steps)
            if all(_share(step, name) <= (0.0 if shadowing else exposure[name]) + 1e-12 for name in served)
        ]
        return below[-1] if below else 0

    def _step(self, exposure: Mapping[str, float], served: list[str]) -> Step | None:
        return self.criteria.step(self._index(exposure, served))


def replay(
    folder: str | os.PathLike[str],
    criteria: Criteria,
    *,
    rollout: str | None = None,
    every_s: float = 60.0,
    progress: Callable[[int, int], None] | None = None,
) -> Replay:
    """What a plan would have decided on a journal.

    Args:
        folder: Folder of the journal.
        criteria: The plan.
        rollout: Key of the rollout; needed when the journal has several.
        every_s: Seconds of the journal's time between two looks.
        progress: Told of the bytes read so far, and of how many.

    Raises:
        ConfigurationError: The journal has no such rollout, or several and none is named; or there is no time between looks.
        RolloutError: The folder cannot be read.
    """
    if not every_s > 0:
        raise ConfigurationError(f"every_s={every_s!r} of a replay is no time between two looks. It is above 0. Write '1m'.")
    journal = read_journal(folder)
    key = _only(journal) if rollout is None else rollout
    course = _Course(key, criteria, Evidence(criteria.all))
    next_s, now_s = None, 0.0
    for record in in_order(journal, key, progress):
        now_s = max(now_s, record["seen_s"])
        if next_s is None and now_s:
            next_s = now_s + every_s
        while next_s is not None and now_s >= next_s:
            course.look(next_s)
            # Where nothing happened, one look is as good as a thousand.
            next_s = next_s + every_s if now_s - next_s < every_s else now_s + every_s
        before = course.current
        if record["event"] == "decision" and record["phase"] not in course.phases and before:
            course.look(now_s)
        course.take(record)
    course.look(now_s)
    phases = [ReplayedPhase(p.name, p.began_s, p.ended_s, p.calls, p.decided, p.last) for p in course.phases.values()]
    if not phases:
        raise ConfigurationError(
            f"The journal has no calls of {key!r}. A plan is replayed on the calls of a rollout. Look at: rollout report."
        )
    return Replay(key, course.looks, tuple(phase for phase in phases if phase.last is not None), sum(journal.skipped.values()))


def _only(journal: Journal) -> str:
    keys: list[str] = list(dict.fromkeys(record["rollout"] for record in journal if record["event"] == "rollout"))
    if len(keys) == 1:
        return keys[0]
    raise ConfigurationError(
        f"The journal has {len(keys)} rollouts. A plan is replayed on one. Name one of: {', '.join(keys) or 'none'}."
    )


def _share(step: Step, name: str) -> float:
    return step.share.get(name, 0.0) if isinstance(step.share, Mapping) else step.share
