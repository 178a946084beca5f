"""A journal under another plan: what would it have decided, and when?

The shares are the journal's own: a replay cannot know what others would have been served. So it says for every phase when the
plan would first have come to a verdict, and what that would have been.

Lines are counted and judged as the service does it: the same evidence, folded at every look; each look knows the verdict
before; and an alarm about the shares is latched until the journal tells that a person cleared it. Calls of two fingerprints are
judged apart.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

from attrs import asdict, frozen

from rollout_sdk.analysis.course import Courses
from rollout_sdk.analysis.of_units import in_order_by_call
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.formatting import nearest
from rollout_sdk.journal import Journal, read_journal
from rollout_sdk.judging import Verdict
from rollout_sdk.plan import Criteria

__all__ = ["Replay", "ReplayedPhase", "meant", "only_rollout", "replay"]


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
        alarm: The verdict that first found the shares broken: from then on no step is taken until a person clears it. None when
            there was none.
        version: Version of the candidates; empty when none was given.
        fingerprint: What makes its calls comparable; empty where an earlier SDK wrote them.
    """

    phase: str
    began_s: float
    ended_s: float
    calls: int
    decided: Verdict | None
    last: Verdict | None
    alarm: Verdict | None = None
    version: str = ""
    fingerprint: str = ""


@frozen
class Replay:
    """What a plan would have made of a journal.

    Attributes:
        rollout: Key of the rollout.
        looks: How often it was judged.
        phases: The phases, in the order in which they began.
        damaged: Lines of the journal that could not be read, but for the last ones of files, which may be being written.
        missing: Names of files that were there and are not any more, as far as the numbers of the others tell.
    """

    rollout: str
    looks: int
    phases: tuple[ReplayedPhase, ...]
    damaged: int
    missing: tuple[str, ...] = ()

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
                "alarm": None if phase.alarm is None else phase.alarm.as_dict(),
            }
            for phase in self.phases
        ]
        return {
            "rollout": self.rollout,
            "outcome": self.outcome,
            "looks": self.looks,
            "damaged": self.damaged,
            "missing": list(self.missing),
            "phases": phases,
        }


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
        progress: Called with the bytes read so far, and with how many there are.

    Raises:
        ConfigurationError: The journal has no such rollout, or several and none is named; or there is no time between looks.
        RolloutError: The folder cannot be read.
    """
    if not every_s > 0:
        raise ConfigurationError(f"every_s={every_s!r} of a replay is not a time between two looks. It is above 0. Write '1m'.")
    journal = read_journal(folder)
    key = only_rollout(journal) if rollout is None else rollout
    courses = Courses(key, criteria)
    next_s, now_s = None, 0.0
    for record in in_order_by_call(journal, key, progress):
        now_s = max(now_s, record["seen_s"])
        if next_s is None and now_s:
            next_s = now_s + every_s
        while next_s is not None and now_s >= next_s:
            courses.look(next_s)
            # Where nothing happened, one look is as good as a thousand.
            next_s = next_s + every_s if now_s - next_s < every_s else now_s + every_s
            if next_s == now_s:
                # A time so far in the future that adding a minute does not change it.
                next_s = math.inf
        courses.take(record, now_s)
    courses.end(now_s)
    phases = [
        ReplayedPhase(p.name, p.began_s, p.ended_s, p.calls, p.decided, p.last, p.alarm, course.version, fingerprint)
        for fingerprint, course in courses.by_fingerprint.items()
        for p in course.phases.values()
    ]
    if not phases:
        raise ConfigurationError(
            f"The journal has no calls of {key!r}.{meant(journal, key)} A plan is replayed on the calls of a rollout. Look at: "
            "rollout report."
        )
    phases.sort(key=lambda phase: phase.began_s)
    judged = tuple(phase for phase in phases if phase.last is not None)
    return Replay(key, courses.looks, judged, journal.damaged, journal.missing)


def only_rollout(journal: Journal) -> str:
    """Key of the only rollout of a journal.

    Raises:
        ConfigurationError: It has none, or several.
    """
    keys = _keys(journal)
    if len(keys) == 1:
        return keys[0]
    raise ConfigurationError(
        f"The journal has {len(keys)} rollouts. This is about one of them. Name it: {', '.join(keys) or 'none'}."
    )


def meant(journal: Journal, key: str) -> str:
    """The question for a key of which a journal has no calls: whether the nearest that it has was meant; else nothing."""
    near = nearest(key, [each for each in _keys(journal) if each != key])
    return "" if near is None else f" Did you mean {near!r}?"


def _keys(journal: Journal) -> list[str]:
    return list(dict.fromkeys(record["rollout"] for record in journal if record["event"] == "rollout"))
