"""Reading a journal once for outcomes and once for everything else, into the arms of every rollout."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from attrs import Factory, define

from rollout_sdk.analysis.arms import Arm, Gathered, credit
from rollout_sdk.analysis.bounded import at, shortened
from rollout_sdk.analysis.facts import stands_for
from rollout_sdk.analysis.operations import Operations
from rollout_sdk.analysis.outcomes import MOST_SETS, OVER_THE_LIMIT, Outcomes, Set
from rollout_sdk.analysis.segment_sums import Asked, SplitCall, Timed
from rollout_sdk.analysis.sets import began_s
from rollout_sdk.analysis.shadow_arms import ShadowArm
from rollout_sdk.assignment import BUCKETS
from rollout_sdk.journal import Journal
from rollout_sdk.journal.parts import writer_of
from rollout_sdk.judging.preferences import JUDGE_FAILED
from rollout_sdk.plan import JUDGE_PREFERENCE

__all__ = ["OVER_THE_LIMIT", "Aggregate", "Gatherer", "gather"]

_MOST_ARMS = 10_000
_LAST_BUCKET = BUCKETS - 1
_MOST_TRANSITIONS = 10_000
_TELL_EVERY = 4_096

A = TypeVar("A", Arm, ShadowArm)


@define
class Aggregate:
    """The sums of a journal, which the report and the doctor are made of.

    Attributes:
        rollouts: Sets of arms, by rollout and fingerprint.
        operations: Each rollout in operation, by its key.
        lost: Facts that writers had to drop, as they say.
        sampled: How many of these were of calls that were not drawn under overload.
    """

    rollouts: dict[str, dict[str, Gathered]] = Factory(dict)
    operations: dict[str, Operations] = Factory(dict)
    lost: int = 0
    sampled: int = 0


class Gatherer:
    """One reading of a journal: first its outcomes, then everything else, file by file.

    Memory grows with units and outcomes, never with names: lines of more than 1,000 rollouts and fingerprints, 10,000 arms,
    1,000 metrics or 10,000 transitions are skipped and counted as "over the limit".
    """

    def __init__(self, journal: Journal, outcomes: Outcomes | None = None, asked: Mapping[Set, Asked] | None = None) -> None:
        """Read the outcomes: a call that is read later may then be forgotten at once.

        Args:
            journal: The journal.
            outcomes: Outcomes that are read already; None: read those of the journal.
            asked: What is asked about segments, by rollout and fingerprint.
        """
        self.sets: dict[Set, Gathered] = {}
        self.operations: dict[str, Operations] = {}
        self.lost = self.sampled = 0
        # Outcomes of units whose calls a database has: number of the call, metric, value, how many it stands for, and time.
        self.unsplit: list[tuple[int, str, float, int, float]] = []
        self._journal = journal
        self._left_out = self._arms = 0
        self._process = ""
        self._asked = {} if asked is None else asked
        self._outcomes = Outcomes() if outcomes is None else outcomes
        self._replaced: set[Set] = set()
        self._unsplit: dict[str, tuple[Gathered, Asked, SplitCall, list[Timed]]] = {}
        self._changes: dict[tuple[Set, object], dict[str, Any]] = {}
        self._handlers = {
            "lost": self._lost, "rollout": self._rollout, "transition": self._transition, "decision": self._decision,
            "shadow": self._shadow, "breaker": self._breaker,
        }  # fmt: skip
        if outcomes is None:
            for record in journal.only("outcome"):
                self.recorded(record)

    def recorded(self, record: dict[str, Any]) -> None:
        """Add an outcome."""
        repeated = self._outcomes.add(record)
        if repeated is not None:
            self.repeated(*repeated, 1)

    def repeated(self, rollout: str, fingerprint: str, copies: int) -> None:
        """Count outcomes that were added before."""
        if (gathered := self.set_at(rollout, fingerprint)) is not None:
            gathered.problems["duplicate"] += copies

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Look up sets and arms without counting what is left out: it was counted."""
        left_out = self._left_out
        yield
        self._left_out = left_out

    def leave_out(self, lines: int) -> None:
        """Count lines that are beyond the limit."""
        self._left_out += lines

    def begin(self, path: Path) -> None:
        """Go on with another file; those of one process follow each other."""
        self._process = writer_of(path)

    def take(self, record: dict[str, Any]) -> None:
        """Add a record of that file; outcomes were read before."""
        handler = self._handlers.get(record["event"])
        if handler is not None:
            handler(record)

    def end(self) -> Aggregate:
        """The sums, after the last file."""
        self.join_units()
        for which, count in self._outcomes.unknown():
            if (gathered := self.set_at(*which)) is not None:
                gathered.problems["unknown decision"] += count
        self._place_problems()
        for (which, _), record in self._changes.items():
            self.sets[which].transitions.append(record)
        aggregate = Aggregate(operations=self.operations, lost=self.lost, sampled=self.sampled)
        for which, gathered in sorted(self.sets.items()):
            gathered.transitions.sort(key=lambda record: (record.get("t", 0.0), record.get("revision", 0)))
            gathered.status = "replaced" if which in self._replaced else _status(gathered)
            aggregate.rollouts.setdefault(which[0], {})[which[1]] = gathered
        for key, count in self._outcomes.recorded.items():
            at(self.operations, key, Operations, MOST_SETS).outcomes += count
        if self._left_out:
            self._journal.skipped[OVER_THE_LIMIT] += self._left_out
        return aggregate

    def set_at(self, rollout: str, fingerprint: str) -> Gathered | None:
        """The sums of a set; None where there are too many, which is counted."""
        found = self.sets.get((rollout, fingerprint))
        if found is None:
            which = shortened(rollout), shortened(fingerprint)
            found = self.sets.get(which)
            if found is None:
                if len(self.sets) >= MOST_SETS:
                    self._left_out += 1
                    return None
                found = self.sets[which] = Gathered()
        return found

    def _of(self, record: dict[str, Any]) -> Gathered | None:
        return self.set_at(record["rollout"], record.get("fingerprint", ""))

    def arm_at(self, arms: dict[tuple[str, str], A], phase: str, variant: str) -> A | None:
        """The sums of an arm; None where there are too many, which is counted."""
        found = arms.get((phase, variant))
        if found is None:
            where = shortened(phase), shortened(variant)
            if where not in arms:
                if self._arms >= _MOST_ARMS:
                    self._left_out += 1
                    return None
                self._arms += 1
            # It is made by the mapping itself.
            found = arms[where]
        return found

    def _operated(self, rollout: str) -> Operations:
        return self.operations.get(rollout) or at(self.operations, rollout, Operations, MOST_SETS)

    def _place_problems(self) -> None:
        """Add the problems of no known set to the set of the rollout that began last."""
        for rollout, problems in self._outcomes.problems.items():
            known = [which for which in self.sets if which[0] == rollout]
            last = max(
                known, key=lambda which: began_s(self.sets[which]) if self.sets[which].spans else -math.inf, default=None
            )
            gathered = self.set_at(rollout, "") if last is None else self.sets[last]
            if gathered is not None:
                gathered.problems.update(problems)

    def _lost(self, record: dict[str, Any]) -> None:
        lost = max(0, record["count"])
        self.lost += lost
        self.sampled += min(max(0, record.get("sampled", 0)), lost)

    def _rollout(self, record: dict[str, Any]) -> None:
        self._operated(record["rollout"]).stands(self._process, record, record["phase"])
        gathered = self._of(record)
        if gathered is None:
            return
        gathered.version = record.get("version", "")
        gathered.made_of = record.get("made_of", {})
        if isinstance(code := gathered.made_of.get("code"), str):
            gathered.codes.add(code)
        gathered.strategy = record["strategy"]
        gathered.control = record["control"]
        _configured(gathered, record["phase"], record)
        said = record.get("revision", 0), record.get("t", 0.0), record.get("status", "running")
        gathered.described = max(gathered.described, said)

    def _transition(self, record: dict[str, Any]) -> None:
        self._operated(record["rollout"]).stands(self._process, record, record["to_phase"])
        gathered = self._of(record)
        if gathered is None:
            return
        self._change(record)
        gathered.version = record.get("version", gathered.version)
        if "replaced" in record:
            self._replaced.add((record["rollout"], record["replaced"]))
        _configured(gathered, record["to_phase"], record)

    def _change(self, record: dict[str, Any]) -> None:
        """Take a transition once: every process that follows it has written of it."""
        where = (shortened(record["rollout"]), shortened(record.get("fingerprint", ""))), record.get("id", len(self._changes))
        known = self._changes.get(where)
        if known is None and len(self._changes) >= _MOST_TRANSITIONS:
            self._left_out += 1
        # A process that stopped while its store was down did not know how many others had come first.
        elif known is None or record.get("revision", 0) > known.get("revision", 0):
            self._changes[where] = record

    def _breaker(self, record: dict[str, Any]) -> None:
        self._operated(record["rollout"]).tripped(self._process, record)

    def _decision(self, record: dict[str, Any]) -> None:
        rollout, fingerprint = record["rollout"], record.get("fingerprint", "")
        outcomes, of_shadows = self._outcomes.of_call(record), self._outcomes.of_shadows(record)
        many = stands_for(record)
        self._operated(rollout).decided(record, many)
        gathered = self.set_at(rollout, fingerprint)
        if gathered is None:
            return
        gathered.strategy = record["strategy"]
        phase, variant, unit = record["phase"], record["variant"], record.get("unit")
        for shadowed in record.get("shadows", ()):
            if not record.get("excluded") and (shadow := self.arm_at(gathered.shadows, phase, shadowed)) is not None:
                shadow.planned += many
        if record.get("excluded"):
            gathered.excluded.add(record["reason"] if not record.get("blend") else "not interleaved", many)
            gathered.problems["of excluded calls"] += len(outcomes) + len(of_shadows)
            return
        cluster = unit or record["id"]
        arm = self.arm_at(gathered.arms, phase, variant)
        if arm is None:
            return
        arm.share = record.get("share", arm.share)
        arm.kept += 1
        arm.units[cluster] += many
        arm.decided(record, many)
        time_s = record.get("t", 0.0)
        gathered.arrivals.add(cluster, time_s, (phase, variant), record["bucket"] & _LAST_BUCKET)
        span = gathered.spans.setdefault(phase, [time_s, time_s])
        span[0], span[1] = min(span[0], time_s), max(span[1], time_s)
        if record.get("teams") or record.get("rule"):
            gathered.problems["unknown item"] += credit(arm, record, cluster, outcomes, gathered.control)
        for shadow_variant, metric, value in of_shadows:
            if metric in (JUDGE_PREFERENCE, JUDGE_FAILED):
                # About both answers already.
                continue
            ours = next((each for name, each, *_ in outcomes if name == metric), None)
            labelled = None if ours is None else self.arm_at(gathered.shadows, phase, shadow_variant)
            if ours is None or labelled is None:
                gathered.problems["of a shadow's answer alone"] += 1
            else:
                labelled.labelled(metric, cluster, ours, value, many)
        if (asked := self._asked.get((rollout, fingerprint))) is not None:
            timed = [(metric, value, of_outcome, recorded_s) for metric, value, _, of_outcome, recorded_s in outcomes]
            self._split(gathered, asked, SplitCall.of(asked, record, cluster), record, timed)
        for metric, value, _, of_outcome, _ in outcomes:
            # Both are there: where outcomes were kept at a lower rate than their calls, at that.
            arm.add_outcome(metric, cluster, record["bucket"], value, max(many, of_outcome))

    def _split(
        self, gathered: Gathered, asked: Asked, call: SplitCall | None, record: dict[str, Any], timed: list[Timed]
    ) -> None:
        """Add a call to its segments; in the end, if outcomes of its unit may come to it."""
        if call is None:
            return
        if self._outcomes.awaits(record["rollout"], record.get("unit")) and record["id"] not in self._unsplit:
            self._unsplit[record["id"]] = gathered, asked, call, timed
        else:
            gathered.segments.add(asked, call, timed)

    def _shadow(self, record: dict[str, Any]) -> None:
        many = stands_for(record)
        self._operated(record["rollout"]).shadowed(record, many)
        gathered = self._of(record)
        if record.get("excluded") or gathered is None:
            return
        arm = self.arm_at(gathered.shadows, record["phase"], record["variant"])
        if arm is None:
            return
        arm.ended(record, many)

    def join_units(self) -> None:
        """Add the outcomes of units, when all calls were seen."""
        for joined in self._outcomes.joined():
            gathered = self.set_at(joined.rollout, joined.fingerprint)
            if gathered is None:
                continue
            if joined.excluded:
                gathered.problems["of excluded calls"] += 1
            elif (arm := self.arm_at(gathered.arms, joined.phase, joined.variant)) is not None:
                arm.add_outcome(joined.metric, joined.unit, joined.bucket, joined.value, joined.stands_for)
                gathered.joined += 1
                if (unsplit := self._unsplit.get(joined.decision)) is not None:
                    unsplit[-1].append((joined.metric, joined.value, joined.stands_for, joined.time_s))
                elif joined.call and (joined.rollout, joined.fingerprint) in self._asked:
                    self.unsplit.append((joined.call, joined.metric, joined.value, joined.stands_for, joined.time_s))
        for gathered, asked, call, timed in self._unsplit.values():
            gathered.segments.add(asked, call, timed)
        self._unsplit.clear()


def _status(gathered: Gathered) -> str:
    """Where a rollout stands: by its last transition, or by its own line, where that tells of a later one."""
    revision, _, described = gathered.described
    if not gathered.transitions:
        return described
    last = gathered.transitions[-1]
    return described if revision > last.get("revision", revision) else last.get("status", described)


def _configured(gathered: Gathered, phase: str, record: dict[str, Any]) -> None:
    """The shares that a phase began with; lines of later files repeat them."""
    if phase not in gathered.shares and len(gathered.shares) < _MOST_ARMS:
        gathered.shares[shortened(phase)] = record.get("shares", {})


def gather(
    journal: Journal,
    progress: Callable[[int, int], None] | None = None,
    asked: Mapping[Set, Asked] | None = None,
) -> Aggregate:
    """The sums of every rollout in a journal.

    Args:
        journal: The journal; its counts are those of this reading.
        progress: Called with the bytes read so far, and with how many there are.
        asked: What is asked about segments, by rollout and fingerprint.
    """
    total = sum(map(journal.size, journal.files))
    gatherer = Gatherer(journal, asked=asked)
    journal.begin()
    number = 0
    for path in journal.files:
        gatherer.begin(path)
        for record in journal.records_of(path):
            gatherer.take(record)
            number += 1
            if progress is not None and not number % _TELL_EVERY:
                progress(min(journal.bytes, total), total)
    if progress is not None:
        progress(total, total)
    return gatherer.end()
