"""Keeps the state of a rollout in this process in step with the store: at its beginning, after each change, and in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve

from rollout_sdk.control.initial_state import ANOTHER, resolve_initial_state, restart
from rollout_sdk.control.managed import ManagedRollout
from rollout_sdk.control.state import RolloutState
from rollout_sdk.control.state_document import from_document, is_comparable, joined
from rollout_sdk.control.step_clock import STEP_CLOCK
from rollout_sdk.control.stored_state import has_lost, swap
from rollout_sdk.control.stores import StateStore, Stored

__all__ = ["StateSync"]

LOST = "the store had lost it"


class StateSync:
    """Has rollouts stand in this process where the store says."""

    def __init__(
        self,
        store: StateStore,
        *,
        is_shared: bool,
        now_s: Callable[[], float],
        monotonic_s: Callable[[], float],
        stopped: Callable[[], Any],
        tell: Callable[..., None],
        followed: Callable[[str], None],
    ) -> None:
        """Read nothing yet.

        Args:
            store: The shared state.
            is_shared: Whether other processes see the store, too.
            now_s: The time, in seconds since 1970.
            monotonic_s: A clock that never jumps, in seconds.
            stopped: Called when a rollout was stopped: waits until no candidate starts any more.
            tell: Notified of every transition that this process made.
            followed: Notified of the rollouts that stand in a phase now which another process has made.
        """
        self._store = store
        self._is_shared = is_shared
        self._now_s = now_s
        self._monotonic_s = monotonic_s
        self._stopped = stopped
        self._tell = tell
        self._followed = followed

    def take_time(self, managed: ManagedRollout, state: RolloutState | None = None, note: str | None = None) -> None:
        """Have a rollout's clock look at the time, in its state or in the one that it enters; with a note, as that says."""
        managed.clock.look(managed.state if state is None else state, self._now_s(), self._monotonic_s(), note)

    def settle(self, managed: ManagedRollout, store: StateStore | None = None) -> None:
        """Put a rollout where the store says, or have the store know of it; `store` is the same for those in a hurry.

        Raises:
            StateError: It is of a version that another has replaced, or what is stored cannot be read.
            StoreError: The store did not answer.
        """
        store = self._store if store is None else store
        note = store.noted(managed.key, STEP_CLOCK)
        before, state = resolve_initial_state(store, managed.state, now_s=self._now_s(), is_shared=self._is_shared)
        self.take_time(managed, state, note)
        if state is not managed.state:
            self.enter(managed, state)
        managed.local_state.lose(lost=False)
        if before is not state:
            self._tell(managed, "start", before, state, "", ANOTHER)
        else:
            self._followed(managed.key)

    def restart(self, managed: ManagedRollout, after: RolloutState, store: StateStore) -> None:
        """Begin a rollout again that was decorated anew with other settings, unless another process was faster.

        Raises:
            StoreError: The store did not answer.
        """
        stored = store.load(managed.key)
        if stored is not None and (begun := restart(store, stored, after, now_s=self._now_s())) is not None:
            self.enter(managed, begun)

    def enter(self, managed: ManagedRollout, state: RolloutState) -> None:
        """Put a rollout in a state; one that stops it waits until no candidate starts any more."""
        before = managed.state
        if not is_comparable(state, before):
            # Where another version stands, or one with other settings, says nothing about the candidate of this one.
            managed.local_state.lose(lost=True)
            return
        with managed.local_state.changing:
            # The plan is this process's own: it may be a later one.
            managed.local_state.enter(state)
        managed.follow()
        self.take_time(managed)
        if state.stopped and not before.stopped:
            self._stopped()

    def look(self, managed: ManagedRollout) -> None:
        """Stand where the store says.

        Raises:
            StoreError: It did not answer; everything stays as it is.
        """
        if _is_pending(managed):
            self.enter(managed, managed.say_stop(self._store, self._now_s()))
            return
        if managed.local_state.lost:
            self.settle(managed)
            return
        stored = self._store.load(managed.key)
        if _is_pending(managed):
            # It was stopped meanwhile, and the store is to hear of that, and by whom, at the next look.
            return
        if stored is not None and _is_at(stored, managed.state):
            self.take_time(managed)
            return
        state = None if stored is None else from_document(stored.document)
        if has_lost(state, managed.state):
            self._put_back(managed, stored)
        elif state is None or not is_comparable(state, managed.state):
            managed.local_state.lose(lost=True)
        else:
            self.enter(managed, joined(state, managed.state))
            self._followed(managed.key)

    def _put_back(self, managed: ManagedRollout, stored: Stored | None) -> None:
        """Have a store that was emptied, or restored from a backup, know again what was done."""
        known, expected = managed.state, None if stored is None else stored.revision
        state = evolve(known, revision=max(known.revision, -1 if expected is None else expected) + 1)
        # Another process may be faster: then its revision is found at the next look, and is as good.
        if swap(self._store, expected, state, "restore", now_s=self._now_s(), reason=LOST):
            self.enter(managed, state)


def _is_pending(managed: ManagedRollout) -> bool:
    """Whether the store does not know of a stop yet; asked anew after each wait for the store."""
    return managed.pending_abort is not None


def _is_at(stored: Stored, state: RolloutState) -> bool:
    """Whether a document is this state; two processes can have one revision of different states, where the store was lost."""
    document = stored.document
    at = (stored.revision, *(document.get(name) for name in ("status", "number", "version", "entered_s")))
    same = at == (state.revision, state.status, state.number, state.version, state.entered_s)
    return same and document.get("fingerprint", "") in ("", state.fingerprint)
