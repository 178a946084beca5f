"""One rollout under the reconciler: its state, the evidence from this process and from others, and the last verdict."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from json import dumps, loads
from typing import Any

from attrs import define, evolve, field

from rollout_sdk.concurrency.threads import Lock
from rollout_sdk.control.announcing import Announced
from rollout_sdk.control.local_state import LocalState
from rollout_sdk.control.next_step import situation_of
from rollout_sdk.control.state import RolloutState
from rollout_sdk.control.step_clock import StepClock
from rollout_sdk.control.stored_state import change_stored
from rollout_sdk.control.stores import StateStore
from rollout_sdk.exceptions import StoreError
from rollout_sdk.judging import AddOutcome, Evidence, PhaseEvidence, Situation, Verdict, add_outcome
from rollout_sdk.plan import Criteria, written
from rollout_sdk.plugins.manager import Failed
from rollout_sdk.records import RecordedEvent
from rollout_sdk.resilience.faults import STORE

__all__ = ["ManagedRollout"]

_OUTCOMES = "outcomes"
_MOST_UNCLAIMED = 100_000
_MOST_AT_ONCE = 10_000
_PHASE = "phase:"


@define(eq=False)
class ManagedRollout:
    """A rollout under the reconciler.

    Attributes:
        key: Key of the rollout.
        local_state: Its state in this process.
        strategy: Name of its strategy.
        criteria: The criteria of its plan; None if nothing judges it.
        evidence: The evidence from this process; None if nothing judges it.
        verdict: The last verdict, of this process or another.
        claims: Whether other processes may have the same outcomes, so that each is claimed in the store before it counts.
        pending_abort: Actor, reason and change id of an abort that is not yet written to the store.
        announced: The transitions that this process has announced.
        blended: Names of the candidates that are blended in one answer; empty where each call has one variant.
        adding: Held while evidence is added or read; no call takes it.
        clock: How long the current step has lasted, by this process's clocks.
        is_settled: Whether the background thread may read and write its state: not while its function is being decorated, and
            no more once another rollout replaces it.
    """

    key: str
    local_state: LocalState
    strategy: str
    criteria: Criteria | None = None
    evidence: Evidence | None = None
    verdict: Verdict | None = None
    claims: bool = False
    blended: tuple[str, ...] = ()
    pending_abort: tuple[str, str, str] | None = None
    is_settled: bool = False
    announced: Announced = field(factory=Announced)
    adding: threading.Lock = field(factory=Lock)
    _sent: int = 0
    _arrived: int = 0
    clock: StepClock = field(factory=StepClock)
    _epoch: int = 0
    _cursor: int = 0
    _gathered: dict[tuple[str, str], Any] = field(factory=dict)
    _unclaimed: dict[str, RecordedEvent] = field(factory=dict)
    _claimed: int = 0
    _outcomes: dict[str, int] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        """Give the plan to the local state, for the journal."""
        if self.criteria is not None:
            self.local_state.plan = written(self.criteria)

    @property
    def state(self) -> RolloutState:
        """Its state in this process."""
        return self.local_state.state

    def forget(self) -> None:
        """Start without evidence: in another process, or for another version."""
        if self.criteria is not None and self.criteria.decides:
            with self.adding:
                self.evidence = self._no_evidence(self.criteria)
                self._unclaimed.clear()
                self._outcomes = {}
        self._cursor, self._gathered, self.verdict = 0, {}, None

    def _no_evidence(self, criteria: Criteria) -> Evidence:
        return Evidence(
            criteria.all,
            since=self.state.since,
            fingerprint=self.state.fingerprint,
            max_calls_per_unit=criteria.max_calls_per_unit,
        )

    def judge_by(self, criteria: Criteria) -> None:
        """Judge by these criteria from now on; the approval stays, because a control file cannot have one."""
        if self.criteria == criteria:
            return
        with self.adding:
            self.criteria = evolve(criteria, approve=None if self.criteria is None else self.criteria.approve)
            self.local_state.plan = written(self.criteria)
            if not criteria.decides:
                self.evidence = None
            elif self.evidence is None:
                self.evidence = self._no_evidence(criteria)
            else:
                self.evidence.follow(criteria.all)

    def follow(self) -> None:
        """Drop the evidence of another version."""
        if self.state.epoch != self._epoch:
            self._epoch = self.state.epoch
            self.forget()

    def store_abort(self, store: StateStore, now_s: float) -> tuple[RolloutState, RolloutState]:
        """Write the pending abort to the store; return the stored state before and after.

        Raises:
            StoreError: The store still does not answer.
        """
        assert self.pending_abort is not None
        actor, reason, change_id = self.pending_abort
        # A store that has lost everything meanwhile gets the state of this process.
        mine = self.state if store.load(self.key) is None else None
        done = change_stored(
            store,
            self.key,
            "abort",
            RolloutState.abort,
            now_s=now_s,
            actor=actor,
            reason=reason,
            mine=mine,
            change_id=change_id,
            lost=self.announced.fall_behind,
        )
        self.pending_abort = None
        return done

    def add(self, additions: Iterable[Callable[[Evidence], None]]) -> list[Exception]:
        """Apply facts to the evidence; return the exceptions of facts that were rejected."""
        if self.evidence is None:
            return []
        rejected = []
        with self.adding:
            for each in additions:
                # A rejected fact must not affect those after it.
                try:
                    if not (self.claims and isinstance(each, AddOutcome) and self._waits(each.event, self.evidence)):
                        each(self.evidence)
                except Exception as error:
                    rejected.append(error)
        return rejected

    def _waits(self, event: RecordedEvent, evidence: Evidence) -> bool:
        """Whether an outcome waits for its claim; if too many wait, because the store is gone, it counts at once."""
        name = evidence.name_of(event)
        if name is None or len(self._unclaimed) >= _MOST_UNCLAIMED:
            return False
        if name in self._unclaimed:
            evidence.outcomes["duplicate"] += 1
        self._unclaimed.setdefault(name, event)
        return True

    def _claim(self, store: StateStore, writer: str) -> None:
        """Count the waiting outcomes, except those that another process has claimed.

        Raises:
            StoreError: The store did not answer; they are claimed again by the same name, because the claim may have worked.
        """
        while True:
            with self.adding:
                names = list(islice(self._unclaimed, _MOST_AT_ONCE))
                claimant = f"{writer}-{self._claimed}"
            if not names:
                return
            own = store.claim(self.key, self._epoch, claimant, names)
            with self.adding:
                self._claimed += 1
                for name in names:
                    # Another thread may have counted it meanwhile.
                    event = self._unclaimed.pop(name, None)
                    if event is None or self.evidence is None:
                        continue
                    if name in own:
                        add_outcome(self.evidence, event)
                    else:
                        self.evidence.outcomes["duplicate"] += 1

    def release(self) -> None:
        """Let go of what other processes have seen: in a large fleet, it is large. The next look gathers all of it again."""
        self._cursor, self._gathered = 0, {}

    def publish_again(self) -> None:
        """Have the next publication write all evidence of this process: the store had lost it."""
        if self.evidence is not None:
            with self.adding:
                self.evidence.changed |= set(self.evidence.phases)
                self._outcomes = {}
        self._cursor = 0

    def publish(self, store: StateStore, writer: str, now_s: float) -> bool:
        """Write the evidence of this process to the store, by whole phases; return False if its epoch is over."""
        if self.evidence is None:
            return True
        self._claim(store, writer)
        with self.adding:
            self.evidence.fold(now_s)
            changed = set(self.evidence.changed)
            tables: dict[str, Any] = {f"{_PHASE}{name}": self.evidence.phases[name].as_dict() for name in changed}
            outcomes = dict(self.evidence.outcomes)
            self.evidence.changed.clear()
            self._sent += 1
            number = self._sent
        if not changed and outcomes == self._outcomes:
            return True
        parts = {name: dumps(table, separators=(",", ":")) for name, table in tables.items()}
        try:
            is_current = store.publish(self.key, self._epoch, writer, {**parts, _OUTCOMES: dumps(outcomes)})
        except BaseException:
            # It must be sent again.
            with self.adding:
                self.evidence.changed |= changed
            raise
        with self.adding:
            self._outcomes = outcomes
            if number < self._arrived:
                # A slow publication has overwritten a later one: send the evidence again.
                self.evidence.changed |= changed
            self._arrived = max(self._arrived, number)
        return is_current

    def gather(self, store: StateStore, failed: Failed) -> Evidence:
        """Return the evidence of all processes.

        A part that cannot be read is left out, or stays as its process published it before: the rest is still judged.

        Args:
            store: The shared state.
            failed: Notified of every part that cannot be read.

        Raises:
            StoreError: The store did not answer.
        """
        assert self.criteria is not None
        found = store.gather(self.key, self._epoch, self._cursor)
        self._cursor = found.cursor
        for (writer, part), text in found.parts.items():
            try:
                if part == _OUTCOMES:
                    self._gathered[writer, part] = Counter({name: int(number) for name, number in loads(text).items()})
                elif part.startswith(_PHASE):
                    self._gathered[writer, part] = PhaseEvidence.from_dict(loads(text))
            # Of another SDK version, or damaged.
            except Exception as error:
                failed(STORE, self._unreadable(writer, part, error))
        whole = Evidence(self.criteria.all)
        for (writer, part), piece in list(self._gathered.items()):
            if part == _OUTCOMES:
                whole.outcomes.update(piece)
                continue
            try:
                whole.phase(part.removeprefix(_PHASE)).merge(piece)
            except Exception as error:
                # The sum may contain part of it: start again without it.
                del self._gathered[writer, part]
                failed(STORE, self._unreadable(writer, part, error))
                return self.gather(store, failed)
        return whole

    def _unreadable(self, writer: str, part: str, error: Exception) -> StoreError:
        return StoreError(
            f"What process {writer!r} saw of {self.key!r} cannot be read in the store ({part!r}: {type(error).__name__}). "
            "The others' evidence is judged without it, until that process publishes again."
        )

    def situation(self) -> Situation:
        """Return the state as the judge needs it."""
        assert self.criteria is not None
        found = situation_of(self.state, self.criteria, elapsed_s=self.clock.elapsed_s)
        return evolve(found, candidates=self.blended) if self.blended else found
