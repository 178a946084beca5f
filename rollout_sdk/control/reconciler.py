"""Background thread that syncs rollout state with the store and runs the judge; one for each process.

No call waits for it. Twice a second, and as soon as a store reports a change, it reads the store, so that all processes serve
the same state, publishes the evidence of this process, and judges. Every change is a compare-and-set: if several processes
reach the same verdict, one makes the transition. While the store does not answer, every rollout keeps its state; an abort takes
effect here at once, and is stored as soon as possible.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial

from attrs import evolve

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.concurrency.forking import notice_fork, renew_after_fork, same_process, was_announced
from rollout_sdk.concurrency.threads import Lock, WatchThread
from rollout_sdk.control.judge_loop import JUDGE, Judging
from rollout_sdk.control.managed import ManagedRollout
from rollout_sdk.control.plane import ControlPlane
from rollout_sdk.control.presence import Presence
from rollout_sdk.control.state import RolloutState
from rollout_sdk.control.state_sync import StateSync
from rollout_sdk.control.transitions import OPERATOR_WAIT_S, Transitions
from rollout_sdk.exceptions import StateError, StoreError
from rollout_sdk.judging import Evidence, Verdict
from rollout_sdk.plugins.manager import Failed
from rollout_sdk.resilience.faults import STORE
from rollout_sdk.resilience.interruptions import is_fault

__all__ = ["Reconciler"]

_UNREAD = "store not read"
_SLOW_S = 0.5
_ANNOUNCING_S = 0.2
_ASKED_AGAIN_AFTER_S = 5.0


class Reconciler:
    """Keeps the rollouts of a runtime in the state that their store has.

    Attributes:
        store: The shared state.
        rollouts: The rollouts of this process, by key.
        transitions: Makes transitions on behalf of operators.
    """

    def __init__(self, plane: ControlPlane, *, judge_every_s: float = 5.0) -> None:
        """Start nothing yet.

        Args:
            plane: The store, the clocks and the callbacks.
            judge_every_s: Seconds between two looks at the evidence, over all processes.
        """
        self._plane = plane
        self.store = plane.store
        self.rollouts: dict[str, ManagedRollout] = {}
        self._closed = False
        self._thread = self._watch_thread(at_once=False)
        self._last_judged_s = monotonic()
        self._unanswered: tuple[float, str] | None = None
        self._sync = StateSync(plane)
        self.transitions = Transitions(plane, self._sync, self.rollouts)
        self._judging = Judging(plane, self._sync, self.transitions, every_s=judge_every_s)
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Start as another writer that has read nothing, in a forked child."""
        # Otherwise the age of the inherited state is unknown: an abort may be missing.
        is_recent = self._thread.is_running and was_announced()
        self.writer = f"{os.getpid():x}-{os.urandom(6).hex()}"
        self._thread = self._watch_thread(at_once=bool(self.rollouts) and not is_recent)
        self._judging.renew(self.writer)
        self._presence = Presence(self.store, self.writer, self._plane.allowed)
        for managed in self.rollouts.values():
            managed.adding = Lock()
            managed.announced.renew()
            managed.forget()
            if not managed.is_settled:
                # The thread that decorates it is not in this process.
                managed.local_state.lose(lost=True)
                managed.is_settled = True
        if self.rollouts and self._plane.is_shared and not self._closed:
            if not is_recent:
                self.hold(_UNREAD)
            # Changes by other processes must be seen even before the first call.
            self.start()

    def _watch_thread(self, *, at_once: bool) -> WatchThread:
        return WatchThread(self._watch, "rollout-reconciler", at_once=at_once, wait=self.store.wait_for_change)

    def hold(self, holder: str) -> None:
        """Run no candidate in this process until `holder` lets go. For forked children: takes no lock."""
        for managed in self.rollouts.values():
            managed.local_state.disable(disabled=True, holder=holder)

    def let_go(self, managed: ManagedRollout, holder: str) -> None:
        """End a rollout's `hold`."""
        if holder in managed.local_state.held_by:
            with managed.local_state.changing:
                managed.local_state.disable(disabled=False, holder=holder)

    @property
    def now_s(self) -> float:
        """The time, in seconds since 1970."""
        return self._plane.now_s

    def take(self, managed: ManagedRollout) -> None:
        """Manage a rollout from now on, in the state that the store has, or from its beginning."""
        if not same_process[0]:
            # The inherited thread would seem to be running.
            notice_fork()
        self.rollouts[managed.key] = managed
        managed.claims = self._plane.is_shared
        managed.local_state.enter(evolve(managed.state, entered_s=managed.state.entered_s or self.now_s))
        managed.forget()
        try:
            self._settle(managed)
        except (StoreError, StateError) as error:
            # The state is unknown, and may be aborted: the control is always safe.
            managed.local_state.lose(lost=True)
            (self._plane.failed if isinstance(error, StoreError) else self._plane.failed_of(managed.key))(STORE, error)
        finally:
            managed.is_settled = True
        if self._plane.is_shared:
            self.start()

    def _settle(self, managed: ManagedRollout) -> None:
        """Set the initial state; a service that decorates many functions waits only once for a slow store.

        Raises:
            StateError: Another version has replaced this one, or the stored state cannot be read.
            StoreError: The store did not answer; the thread asks again.
        """
        if self._unanswered is not None and monotonic() - self._unanswered[0] < _ASKED_AGAIN_AFTER_S:
            raise StoreError(self._unanswered[1])
        began = monotonic()
        try:
            self._sync.settle(managed, self.store.within(OPERATOR_WAIT_S))
        except StoreError as error:
            # A quick failure is cheap, and may be specific to the key.
            is_slow = monotonic() - began > _SLOW_S
            self._unanswered = (monotonic(), str(error)) if is_slow else None
            raise

    def leave_alone(self, key: str) -> None:
        """Leave a rollout's state to its replacement: what is not current in this process must not go to the store."""
        self.rollouts[key].is_settled = False

    def replace(self, managed: ManagedRollout, after: RolloutState) -> None:
        """Restart a rollout that was decorated again with other settings."""
        self.rollouts[managed.key] = managed
        managed.claims = self._plane.is_shared
        try:
            self._sync.restart(managed, after, self.store.within(OPERATOR_WAIT_S))
            managed.forget()
        finally:
            managed.is_settled = True

    def start(self) -> None:
        """Start the thread unless it runs already."""
        if not self._closed and not self._thread.start() and self._plane.is_shared:
            # Without the thread, changes in the store stay unknown.
            self.hold(_UNREAD)

    def add_to_evidence(self, key: str, additions: Iterable[Callable[[Evidence], None]]) -> None:
        """Apply the facts of a rollout to its evidence. Called by the recorder's thread."""
        managed = self.rollouts.get(key)
        if managed is not None:
            for error in managed.add(additions):
                self._plane.failed_of(key)(JUDGE, error)
        elif self._plane.is_shared:
            self._judging.remote_outcomes.add(key, additions)
        is_wanted = self._plane.is_shared or (managed is not None and managed.evidence is not None)
        if is_wanted and not self._thread.is_running:
            self.start()

    def _watch(self) -> None:
        """Sync every rollout, and judge it if that is due."""
        if (error := self.store.cannot_wait) is not None:
            self._plane.failed(STORE, error)
        is_due = monotonic() - self._last_judged_s >= self._judging.every_s
        if is_due:
            self._last_judged_s = monotonic()
            self._guarded(self._judging.publish_remote_outcomes, self._plane.failed)
        for managed in self._settled():
            self._guarded(partial(self._look_and_judge, managed, judging=is_due), self._plane.failed_of(managed.key))
        if self._plane.is_shared and not self._closed:
            self.announce_presence()

    def _settled(self) -> list[ManagedRollout]:
        return [managed for managed in list(self.rollouts.values()) if managed.is_settled]

    def announce_presence(self) -> None:
        """Announce which rollouts this process serves, for a bounded time, so that operators' changes come first."""
        until_s = monotonic() + _ANNOUNCING_S
        for managed in self._presence.due(self._settled()):
            self._guarded(partial(self._presence.announce, managed, self.now_s), self._plane.failed_of(managed.key))
            if monotonic() > until_s:
                return

    def _look_and_judge(self, managed: ManagedRollout, *, judging: bool) -> None:
        self.look(managed)
        if judging and managed.evidence is not None:
            self._judging.judge_in_turn(managed)

    def _guarded(self, action: Callable[[], None], failed: Failed) -> None:
        # Exceptions of any kind, from a store, a plugin or an approval, must not end the thread.
        try:
            action()
        except StoreError as error:
            # All rollouts share the store: if it does not answer, this is one fault.
            self._plane.failed(STORE, error)
        except BaseException as error:
            failed(JUDGE, error)

    def look(self, managed: ManagedRollout) -> None:
        """Read the state of a rollout from the store.

        Raises:
            StoreError: The store did not answer; everything stays as it is.
        """
        if self._plane.is_shared:
            self._sync.look(managed)
            self.let_go(managed, _UNREAD)

    def judge(self, key: str) -> Verdict | None:
        """Judge a rollout now, on the evidence of all processes, and act on the verdict; None if nothing judges it.

        Raises:
            StoreError: The store did not answer: nothing was judged, and nothing changed.
        """
        return self._judging.judge(self.rollouts[key])

    def verdict(self, key: str) -> Verdict | None:
        """Return the last verdict about a rollout."""
        managed = self.rollouts.get(key)
        return None if managed is None else managed.verdict

    def close(self, deadline: float) -> None:
        """Publish the evidence, until the deadline at most (of `monotonic`), and end the thread."""
        was_closed, self._closed = self._closed, True
        self._thread.end()
        if was_closed or not self._plane.is_shared:
            return
        # It stops at the first failure: a process that ends does not wait repeatedly for a dead store.
        store = self.store.within(deadline - monotonic())
        try:
            self._judging.publish_remote_outcomes(store)
            for managed in self.rollouts.values():
                managed.publish(store, self.writer, self.now_s)
                self._presence.leave(managed, store)
        except BaseException as error:
            if not is_fault(error):
                raise
            self._plane.failed(STORE, error)
        finally:
            self.store.rest()
