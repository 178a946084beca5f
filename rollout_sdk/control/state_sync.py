"""Keeps the state of a rollout in this process in step with the store: at its beginning, after each change, and in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve

from rollout_sdk.control.announcing import inferred, made, recorded, weights
from rollout_sdk.control.initial_state import ANOTHER, resolve_initial_state, restart
from rollout_sdk.control.managed import ManagedRollout
from rollout_sdk.control.state import RolloutState
from rollout_sdk.control.state_document import from_document, is_comparable, joined
from rollout_sdk.control.step_clock import STEP_CLOCK
from rollout_sdk.control.stored_state import has_lost, swap
from rollout_sdk.control.stores import StateStore, Stored
from rollout_sdk.exceptions import StateError, StoreError
from rollout_sdk.resilience.faults import STORE

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
        announce: Callable[..., None],
        joined: Callable[[str], None],
        failed: Callable[..., None],
    ) -> None:
        """Read nothing yet.

        Args:
            store: The shared state.
            is_shared: Whether other processes see the store, too.
            now_s: The time, in seconds since 1970.
            monotonic_s: A clock that never jumps, in seconds.
            stopped: Called when a rollout was stopped: waits until no candidate starts any more.
            announce: Called with every transition, whoever made it: the rollout, the event, and the shares before it.
            joined: Called with the key of a rollout once it is known where it stands.
            failed: Called with every fault.
        """
        self._store = store
        self._is_shared = is_shared
        self._now_s = now_s
        self._monotonic_s = monotonic_s
        self._stopped = stopped
        self._announce = announce
        self._joined = joined
        self._failed = failed

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
            event = made(managed.strategy, "start", before, state, actor="", reason=ANOTHER, time_s=state.entered_s)
            self._announce(managed, event, before.phase.all_shares)
        else:
            managed.announced.join(state, self._now_s())
            self._joined(managed.key)

    def restart(self, managed: ManagedRollout, after: RolloutState, store: StateStore) -> None:
        """Begin a rollout again that was decorated anew with other settings, unless another process was faster.

        Raises:
            StoreError: The store did not answer.
        """
        stored = store.load(managed.key)
        if stored is not None and (begun := restart(store, stored, after, now_s=self._now_s())) is not None:
            self.enter(managed, begun)

    def catch_up(
        self, managed: ManagedRollout, until: RolloutState, before: RolloutState, store: StateStore | None = None
    ) -> None:
        """Announce what others have done to a rollout, in order, with actor and reason.

        Args:
            managed: The rollout.
            until: The state that they have brought it to.
            before: Where it stood in this process.
            store: The store, for those in a hurry.

        A history that is not to be had is a fault, and the next look asks for it again: what was done holds all the same.
        """
        announced = managed.announced
        behind = announced.behind
        if announced.knows(until) and behind == announced.caught_up:
            return
        try:
            history = (self._store if store is None else store).history(managed.key)
        except StoreError as error:
            announced.fall_behind()
            self._failed(STORE, error)
            return
        for record, earlier in list(announced.missed(history, until, before)):
            try:
                event = recorded(managed.state, managed.strategy, record, earlier)
            # Damaged, or written by a program in a form of its own: the others are announced.
            except Exception as error:
                self._failed(STORE, _unreadable(managed.key, error), rollout=managed.key)
                event = None
            if event is None:
                announced.pass_over(record)
            else:
                self._announce(managed, event, weights(earlier), followed=True)
        if not announced.knows(until) and is_comparable(until, managed.state):
            self._announce(
                managed, inferred(managed.strategy, before, until, self._now_s()), before.phase.all_shares, followed=True
            )
        if until is managed.state:
            announced.caught_up = behind

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
        here = managed.state
        if _is_pending(managed):
            before, after = managed.say_stop(self._store, self._now_s())
            self.enter(managed, after)
            self.catch_up(managed, before, here)
            self.catch_up(managed, after, before)
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
            self.catch_up(managed, managed.state, here)
            return
        state = None if stored is None else from_document(stored.document)
        if has_lost(state, managed.state):
            if state is not None:
                self.catch_up(managed, state, here)
            self._put_back(managed, stored, here if state is None else state)
        elif state is None or not is_comparable(state, managed.state):
            managed.local_state.lose(lost=True)
        else:
            self.enter(managed, joined(state, managed.state))
            self.catch_up(managed, state, here)

    def _put_back(self, managed: ManagedRollout, stored: Stored | None, before: RolloutState) -> None:
        """Have a store that was emptied, or restored from a backup, know again what was done."""
        known, expected = managed.state, None if stored is None else stored.revision
        state = evolve(known, revision=max(known.revision, -1 if expected is None else expected) + 1)
        # Another process may be faster: then its revision is found at the next look, and is as good.
        now_s = self._now_s()
        if (restored := swap(self._store, expected, state, "restore", now_s=now_s, reason=LOST)) is not None:
            self.enter(managed, restored)
            event = made(managed.strategy, "restore", before, restored, actor="", reason=LOST, time_s=now_s)
            self._announce(managed, event, before.phase.all_shares)


def _is_pending(managed: ManagedRollout) -> bool:
    """Whether the store does not know of a stop yet; asked anew after each wait for the store."""
    return managed.pending_abort is not None


def _is_at(stored: Stored, state: RolloutState) -> bool:
    """Whether a document is this state; two processes can have one revision of different states, where the store was lost."""
    document = stored.document
    at = (stored.revision, *(document.get(name) for name in ("status", "number", "version", "entered_s")))
    same = at == (state.revision, state.status, state.number, state.version, state.entered_s)
    same = same and document.get("change_id", "") == state.change_id
    return same and document.get("fingerprint", "") in ("", state.fingerprint)


def _unreadable(key: str, error: Exception) -> StateError:
    return StateError(
        f"A change in the history of {key!r} cannot be read ({type(error).__name__}), and is not announced. A record has the "
        "fields that the SDK writes. Change rollouts by their controllers or with the command rollout."
    )
