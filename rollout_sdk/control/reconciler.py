"""The reconciler: the one thread of a process that reads and writes the store, and has rollouts judged.

No call ever waits for it. It looks at the store twice a second, and as soon as the store reports a change where it can, so that
every process stands where the others do; it puts what
was seen here where they see it; and it judges. Every change is a compare-and-set: of many processes that come to the same
verdict, one makes the transition. When the store does not answer, everybody stays where they are, nobody goes on, and an abort
holds here at once and is stored as soon as it can be.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from attrs import evolve

from rollout_sdk.assignment import Phase
from rollout_sdk.concurrency.clocks import monotonic, monotonic_ns
from rollout_sdk.concurrency.forking import notice_fork, renew_after_fork, same_process, was_announced
from rollout_sdk.concurrency.threads import Lock
from rollout_sdk.control.allowing import Allowed, must_be_allowed
from rollout_sdk.control.announcing import made
from rollout_sdk.control.control_file import FOLLOWED, Followed
from rollout_sdk.control.judge_loop import JUDGE, Judging
from rollout_sdk.control.managed import ManagedRollout
from rollout_sdk.control.presence_announcer import PresenceAnnouncer
from rollout_sdk.control.state import RolloutState
from rollout_sdk.control.state_document import replanned
from rollout_sdk.control.state_sync import StateSync
from rollout_sdk.control.stored_state import Change, change_stored, new_change_id, shortened
from rollout_sdk.control.stores import GuardedStore, MemoryStore, StateStore
from rollout_sdk.control.watch_thread import WatchThread
from rollout_sdk.exceptions import StateError, StoreError
from rollout_sdk.judging import Evidence, Verdict
from rollout_sdk.plan import Criteria
from rollout_sdk.plugins.manager import Failed
from rollout_sdk.resilience.faults import STORE
from rollout_sdk.resilience.interruptions import is_fault

__all__ = ["Reconciler"]

_UNREAD = "store not read"
_DECORATING_S = 1.5
"""What whoever decorates or stops a rollout waits for the store: a little more than a store with the default time-out does."""
_SLOW_S = 0.5
_ANNOUNCING_S = 0.2
_ASKED_AGAIN_AFTER_S = 5.0


class Reconciler:
    """Keeps the rollouts of a runtime where their store says they stand."""

    def __init__(
        self,
        store: StateStore,
        *,
        failed: Failed,
        failed_of: Callable[[str], Failed] | None = None,
        time_ns: Callable[[], int],
        monotonic_ns: Callable[[], int] = monotonic_ns,
        stopped: Callable[[], Any],
        announce: Callable[..., None],
        joined: Callable[[str], None] = lambda _key: None,
        judge_every_s: float = 5.0,
        allowed: Allowed | None = None,
        address: str = "",
    ) -> None:
        """Start nothing yet.

        Args:
            store: The shared state.
            failed: Told of every fault.
            failed_of: What is told of the faults of one rollout, by its key; `failed` by default.
            time_ns: Wall clock, in nanoseconds since 1970.
            monotonic_ns: Clock that never jumps, in nanoseconds.
            stopped: Called when a rollout was stopped: waits until no candidate starts any more.
            announce: Called with every transition, whoever made it: the rollout, the event, and the shares before it.
            joined: Called with the key of a rollout once it is known where it stands.
            judge_every_s: Seconds between two looks at the evidence, of all processes together.
            allowed: The actions of the actors that may not do everything.
            address: The store's address, for errors.
        """
        self.allowed = allowed or {}
        self.store = GuardedStore(store, address)
        self.rollouts: dict[str, ManagedRollout] = {}
        self._failed = failed
        self._failed_of = failed_of or (lambda _key: failed)
        self._time_ns = time_ns
        self._announce = announce
        self._is_shared = not isinstance(store, MemoryStore)
        self._closed = False
        self._thread = self._watch_thread(at_once=False)
        self._last_judged_s = monotonic()
        self._unanswered: tuple[float, str] | None = None
        self._sync = StateSync(
            self.store,
            is_shared=self._is_shared,
            now_s=lambda: self.now_s,
            monotonic_s=lambda: monotonic_ns() / 1e9,
            stopped=stopped,
            announce=announce,
            joined=joined,
            failed=failed,
        )
        self._judging = Judging(
            self.store,
            is_shared=self._is_shared,
            every_s=judge_every_s,
            now_s=lambda: self.now_s,
            change=self.change,
            take_time=self._sync.take_time,
            failed=failed,
            failed_of=self._failed_of,
        )
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """In this process: another writer, and nothing seen yet."""
        # Else it is not known how old that is what this process inherits: an abort may be missing.
        is_recent = self._thread.is_running and was_announced()
        self.writer = f"{os.getpid():x}-{os.urandom(6).hex()}"
        self._thread = self._watch_thread(at_once=bool(self.rollouts) and not is_recent)
        self._judging.renew(self.writer)
        self._presence = PresenceAnnouncer(self.store, self.writer, self.allowed)
        for managed in self.rollouts.values():
            managed.adding = Lock()
            managed.announced.renew()
            managed.forget()
        if self.rollouts and self._is_shared and not self._closed:
            if not is_recent:
                self.hold(_UNREAD)
            # What others do must be seen here also before the first call.
            self.start()

    def _watch_thread(self, *, at_once: bool) -> WatchThread:
        return WatchThread(self._watch, "rollout-reconciler", at_once=at_once, wait=self.store.wait_for_change)

    def hold(self, holder: str) -> None:
        """Run no candidate in this process until `holder` lets go. For forked children: takes no lock."""
        for managed in self.rollouts.values():
            managed.local_state.disable(disabled=True, holder=holder)

    def let_go(self, managed: ManagedRollout, holder: str) -> None:
        """Let go of what `hold` has held."""
        if holder in managed.local_state.held_by:
            with managed.local_state.changing:
                managed.local_state.disable(disabled=False, holder=holder)

    @property
    def now_s(self) -> float:
        """The time, in seconds since 1970."""
        return self._time_ns() / 1e9

    def take(self, managed: ManagedRollout) -> None:
        """Keep a rollout: where the store says it stands, or from the beginning when it knows nothing of it."""
        if not same_process[0]:
            # Or its thread would be taken for running.
            notice_fork()
        self.rollouts[managed.key] = managed
        managed.claims = self._is_shared
        managed.local_state.enter(evolve(managed.state, entered_s=managed.state.entered_s or self.now_s))
        managed.forget()
        try:
            self._settle(managed)
        except (StoreError, StateError) as error:
            # Where it stands is not known: it may have been aborted. The control is always right.
            managed.local_state.lose(lost=True)
            (self._failed if isinstance(error, StoreError) else self._failed_of(managed.key))(STORE, error)
        if self._is_shared:
            self.start()

    def _settle(self, managed: ManagedRollout) -> None:
        """Put a rollout where the store says; a service that decorates many functions waits once for a store that is slow.

        Raises:
            StateError: It is of a version that another has replaced, or what is stored cannot be read.
            StoreError: The store did not answer. The thread asks on.
        """
        if self._unanswered is not None and monotonic() - self._unanswered[0] < _ASKED_AGAIN_AFTER_S:
            raise StoreError(self._unanswered[1])
        began = monotonic()
        try:
            self._sync.settle(managed, self.store.within(_DECORATING_S))
        except StoreError as error:
            # A failure that took no time is cheap, and another key may have another answer.
            is_slow = monotonic() - began > _SLOW_S
            self._unanswered = (monotonic(), str(error)) if is_slow else None
            raise

    def replace(self, managed: ManagedRollout, after: RolloutState) -> None:
        """Begin a rollout again that was decorated anew with other settings."""
        self.rollouts[managed.key] = managed
        managed.claims = self._is_shared
        self._sync.restart(managed, after, self.store.within(_DECORATING_S))
        managed.forget()

    def change(
        self,
        key: str,
        action: str,
        change: Change,
        *,
        actor: str,
        reason: str,
        revision: int | None = None,
        evidence: Mapping[str, Any] | None = None,
        mine: RolloutState | None = None,
        store: StateStore | None = None,
        change_id: str | None = None,
    ) -> None:
        """Change where a rollout stands, for every process.

        Raises:
            StateError: The change is not possible.
            ConflictError: `revision` is not the current one.
            StoreError: The store did not answer.
        """
        must_be_allowed(self.allowed, key, actor, action)
        managed, (actor, reason), now_s = self.rollouts[key], shortened(actor, reason), self.now_s
        store, here = self.store if store is None else store, managed.state if mine is None else mine
        before, after = change_stored(
            store,
            key,
            action,
            change,
            now_s=now_s,
            actor=actor,
            reason=reason,
            revision=revision,
            evidence=evidence,
            mine=here,
            change_id=change_id,
            lost=managed.announced.fall_behind,
        )
        self._sync.enter(managed, after)
        if not managed.announced.knows(before):
            # What others have done before comes first.
            self._sync.catch_up(managed, before, here, store)
        if after is not before:
            event = made(managed.strategy, action, before, after, actor=actor, reason=reason, time_s=now_s, evidence=evidence)
            self._announce(managed, event, before.phase.all_shares)

    def abort(self, key: str, *, actor: str, reason: str, revision: int | None = None) -> None:
        """Stop a rollout: here at once, whatever the store does, and everywhere as soon as the store has it.

        Raises:
            ConflictError: `revision` is not the current one: nothing was stopped.
            NotAllowedError: The actor may not do it: nothing was stopped.
        """
        must_be_allowed(self.allowed, key, actor, "abort")
        managed, (actor, reason) = self.rollouts[key], shortened(actor, reason)
        before, change_id = managed.state, new_change_id()
        if revision is None:
            managed.pending_abort = actor, reason, change_id
            self._sync.enter(managed, before.abort())
        try:
            # It holds here already, and what the store does not take now, the thread has it take later.
            store = self.store.within(_DECORATING_S) if revision is None else self.store
            self.change(
                key,
                "abort",
                RolloutState.abort,
                actor=actor,
                reason=reason,
                revision=revision,
                # From where it stood: what is stopped here already is news for the store.
                mine=before,
                store=store,
                change_id=change_id,
            )
            managed.pending_abort = None
        except StoreError as error:
            if revision is not None:
                raise
            self._failed(STORE, error)
            # Nor is it known what others have done before.
            managed.announced.fall_behind()
            if managed.state is not before:
                after = evolve(managed.state, change_id=change_id)
                event = made(managed.strategy, "abort", before, after, actor=actor, reason=reason, time_s=self.now_s)
                self._announce(managed, event, before.phase.all_shares)

    def replan(self, key: str, criteria: Criteria, plan: tuple[Phase, ...], *, actor: str, reason: str) -> None:
        """Have a canary follow another plan from where it stands; what is judged for the first time has no past.

        Raises:
            StateError: It is no canary.
        """
        managed = self.rollouts[key]
        if managed.criteria is None or not managed.criteria.acts:
            said = f"{key!r} has no plan to change: its strategy is {managed.strategy!r}."
            raise StateError(f"{said} A plan belongs to a canary. Use Canary([...]).")
        must_be_allowed(self.allowed, key, actor, "set_plan")
        managed.judge_by(criteria)
        self.change(key, "set_plan", lambda state: replanned(state, plan), actor=actor, reason=reason)

    def has_followed(self, key: str, wish: Followed) -> bool:
        """Whether a process has done already what the control file wants of a rollout.

        Raises:
            StoreError: The store did not answer.
        """
        done = Followed.from_text(self.store.noted(key, FOLLOWED))
        return done is not None and done.covers(wish)

    def note_followed(self, key: str, wish: Followed) -> None:
        """Remember what was done, for processes that start later.

        Raises:
            StoreError: The store did not answer.
        """
        self.store.note(key, FOLLOWED, wish.as_text())

    def start(self) -> None:
        """Have the thread run; whoever comes second changes nothing."""
        if not self._closed and not self._thread.start() and self._is_shared:
            # Nobody reads the store: what is done there stays unknown.
            self.hold(_UNREAD)

    def add_to_evidence(self, key: str, testimonies: Iterable[Callable[[Evidence], None]]) -> None:
        """Take what the facts of a rollout add to the evidence about it. Used by the recorder's thread."""
        managed = self.rollouts.get(key)
        if managed is not None:
            for error in managed.hear(testimonies):
                self._failed_of(key)(JUDGE, error)
        elif self._is_shared:
            self._judging.remote_outcomes.hear(key, testimonies)
        if not self._thread.is_running and (self._is_shared or (managed is not None and managed.evidence is not None)):
            self.start()

    def _watch(self) -> None:
        """Look at every rollout, and judge it if that is due."""
        if (error := self.store.cannot_wait) is not None:
            self._failed(STORE, error)
        is_due = monotonic() - self._last_judged_s >= self._judging.every_s
        if is_due:
            self._last_judged_s = monotonic()
            self._guarded(self._judging.hear_guests, self._failed)
        for managed in list(self.rollouts.values()):
            self._guarded(partial(self._look_and_judge, managed, judging=is_due), self._failed_of(managed.key))

        if self._is_shared and not self._closed:
            self.announce_presence()

    def announce_presence(self) -> None:
        """Say what is served here. What operators have done comes first: of many rollouts, some have to wait."""
        until_s = monotonic() + _ANNOUNCING_S
        for managed in self._presence.due(self.rollouts.values()):
            self._guarded(partial(self._presence.announce, managed, self.now_s), self._failed_of(managed.key))
            if monotonic() > until_s:
                return

    def _look_and_judge(self, managed: ManagedRollout, *, judging: bool) -> None:
        self.look(managed)
        if judging and managed.evidence is not None:
            self._judging.judge_in_turn(managed)

    def _guarded(self, action: Callable[[], None], failed: Failed) -> None:
        # Of any kind: the thread must not end for what a store, a plugin or an approval raised.
        try:
            action()
        except StoreError as error:
            # All rollouts share the store: one that is silent is one fault.
            self._failed(STORE, error)
        except BaseException as error:
            failed(JUDGE, error)

    def look(self, managed: ManagedRollout) -> None:
        """Stand where the store says.

        Raises:
            StoreError: It did not answer; everything stays as it is.
        """
        if self._is_shared:
            self._sync.look(managed)
            self.let_go(managed, _UNREAD)

    def judge(self, key: str) -> Verdict | None:
        """Judge a rollout now, on what every process has seen, and act on the verdict; None when nobody judges it.

        Raises:
            StoreError: The store did not answer: nothing was judged, and nothing changed.
        """
        return self._judging.judge(self.rollouts[key])

    def verdict(self, key: str) -> Verdict | None:
        """The last verdict about a rollout."""
        managed = self.rollouts.get(key)
        return None if managed is None else managed.verdict

    def close(self, deadline: float) -> None:
        """Publish what was seen, until the deadline at most (of `monotonic`), and end the thread."""
        was_closed, self._closed = self._closed, True
        self._thread.end()
        if was_closed or not self._is_shared:
            return
        # The first that fails is the last: a process that ends does not wait for a dead store again and again.
        store = self.store.within(deadline - monotonic())
        try:
            self._judging.hear_guests(store)
            for managed in self.rollouts.values():
                managed.publish(store, self.writer, self.now_s)
                self._presence.leave(managed, store)
        except BaseException as error:
            if not is_fault(error):
                raise
            self._failed(STORE, error)
        finally:
            self.store.rest()
