"""Common calls that ended one after the other, as one fact: what they share is looked up once for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

from rollout_sdk.assignment import BUCKETS
from rollout_sdk.assignment.ids import IdTemplate
from rollout_sdk.engine.common import Arm, CommonCall
from rollout_sdk.journal.lines import DecisionTemplate
from rollout_sdk.journal.sink import Lines

if TYPE_CHECKING:
    from rollout_sdk.engine.call import Call
    from rollout_sdk.engine.rollout import Rollout
    from rollout_sdk.judging import Evidence
    from rollout_sdk.records import RoutedEvent
    from rollout_sdk.tally import Tally

__all__ = ["AnsweredCalls", "grouped"]


class AnsweredCalls(Lines):
    """Common calls of one rollout, in order. Iteration gives each as a `Call`.

    Attributes:
        calls: The calls, of which there is at least one.
        rollout: Their rollout.
    """

    __slots__ = ("calls", "rollout")

    def __init__(self, calls: list[CommonCall]) -> None:
        """Take calls of one rollout."""
        self.calls = calls
        self.rollout: Rollout = calls[0].rollout

    def __iter__(self) -> Iterator[Call]:
        """Return the calls, with everything that is known of them."""
        return (call.full for call in self.calls)

    @property
    def weight(self) -> int:
        """Number of facts it stands for."""
        return len(self.calls)

    @property
    def time_ns(self) -> int:
        """Time of the first decision."""
        return self.calls[0].time_ns

    @property
    def journal_key(self) -> str:
        """Key of the rollout, for the journal."""
        return self.rollout.key

    @property
    def journal_fingerprint(self) -> str:
        """Fingerprint of the rollout, for the journal."""
        return self.rollout.state.fingerprint

    def events(self) -> list[RoutedEvent]:
        """Return the calls as events."""
        return [call.as_event() for call in self]

    def by_arm(self) -> dict[Arm, list[CommonCall]]:
        """Return the calls of each arm."""
        arms: dict[Arm, list[CommonCall]] = {}
        for call in self.calls:
            calls = arms.get(call.arm)
            if calls is None:
                arms[call.arm] = [call]
            else:
                calls.append(call)
        return arms

    def count_in(self, tally: Tally) -> None:
        """Add the calls to the process's counts; as `Call.count_in` for each of them."""
        for arm, number in Counter([call.arm for call in self.calls]).items():
            tally.add_answered(arm.plan.state.phase.name, arm.decision, number)

    def add_to_evidence(self, evidence: Evidence) -> None:
        """Add the calls to the evidence; as `Call.add_to_evidence` for each of them."""
        for arm, calls in self.by_arm().items():
            phase = arm.plan.state.phase
            if phase.is_shadow:
                # Shadow evidence is added in pairs, when the shadow ends.
                continue
            if evidence.most_calls is not None:
                for call in calls:
                    call.full.add_to_evidence(evidence)
                continue
            number_of = int.from_bytes
            answered = [(number_of(call.raw, "big"), call.time_ns, call.duration_s) for call in calls]
            evidence.add_answered(phase.name, arm.decision.variant, phase.exposure, answered)

    def lines(self) -> list[bytes]:
        """Return the calls' lines for the journal: those of their events."""
        written = {}
        for arm, calls in self.by_arm().items():
            write = _writers.get(arm)
            if write is None:
                write = _writers[arm] = _writer_of(calls[0])
            written[arm] = write(calls)
        if len(written) == 1:
            (lines,) = written.values()
            return lines
        next_of = {arm: iter(lines) for arm, lines in written.items()}
        return [next(next_of[call.arm]) for call in self.calls]


_Writer: TypeAlias = Callable[[list[CommonCall]], list[bytes]]
_writers: WeakKeyDictionary[Arm, _Writer] = WeakKeyDictionary()
"""Of the arms in use: making a writer takes as long as ten lines, and calls of many rollouts come by turns."""


def _writer_of(like: CommonCall) -> _Writer:
    """Return what writes the lines of an arm: those of its calls differ in six places only."""
    event, rollout, phase = like.full.as_event(), like.rollout, like.arm.plan.state.phase
    origin, has_unit = like.arm.plan.origin, like.arm.plan.has_unit
    lines_of = DecisionTemplate(event).each
    ids_of = IdTemplate(rollout.key, phase.name, like.variant, rollout.secret, fingerprint=phase.fingerprint).each

    def write(calls: list[CommonCall]) -> list[bytes]:
        number_of, mask = int.from_bytes, BUCKETS - 1
        raws = [call.raw for call in calls]
        buckets = [number_of(raw, "big") & mask for raw in raws]
        times_ns = [call.time_ns for call in calls]
        ids = ids_of(buckets, times_ns, [call.sequence for call in calls], origin=origin)
        units = map(bytes.hex, raws) if has_unit else repeat("")
        return lines_of(times_ns, ids, buckets, units, [call.duration_s for call in calls])

    return write


def grouped(facts: Iterable[Any]) -> list[Any]:
    """Return the facts, with successive common calls of one rollout as one fact."""
    found: list[Any] = []
    calls: list[CommonCall] = []
    rollout: object = None
    for fact in facts:
        if fact.__class__ is not CommonCall:
            calls, rollout = [], None
            found.append(fact)
        elif fact.arm.plan.rollout is rollout:
            calls.append(fact)
        else:
            calls, rollout = [fact], fact.arm.plan.rollout
            found.append(AnsweredCalls(calls))
    return found
