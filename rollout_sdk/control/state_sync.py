"""Keeps the state of this process's rollouts equal to the store: when they are decorated, after changes, and in between."""

from __future__ import annotations

from attrs import evolve

from rollout_sdk.control.announcing import inferred, made, recorded, weights
from rollout_sdk.control.managed import ManagedRollout
from rollout_sdk.control.plane import ControlPlane
from rollout_sdk.control.state import RolloutState
from rollout_sdk.control.state_document import from_document, is_comparable, joined
from rollout_sdk.control.step_clock import STEP_CLOCK
from rollout_sdk.control.stored_state import has_lost, swap
from rollout_sdk.control.stores import StateStore, Stored
from rollout_sdk.exceptions import ConflictError, StateError, StoreError
from rollout_sdk.resilience.faults import STORE

__all__ = ["StateSync", "resolve_initial_state"]

_ANOTHER = "another version, or other settings"
_RESTORE = "restore"
_LOST = "the store had lost it"
_MOST_TRIES = 20
_OTHER_CODE = (
    "This process has other code of the candidates than the process that began the rollout in the store. Without a version=, "
    "they are one candidate: its evidence is pooled, and an abort or a rollback holds for both. Give each model that you try a "
    "version=, which begins anew; if this is the same model, there is nothing to do."
)


class StateSync:
    """Reads the states of rollouts from the store, announces what other processes did, and restores what the store lost."""

    def __init__(self, plane: ControlPlane) -> None:
        """Read nothing yet."""
        self._plane = plane
        self._store = plane.store

    def take_time(self, managed: ManagedRollout, state: RolloutState | None = None, note: str | None = None) -> None:
        """Update a rollout's clock, for its state or the one that it enters; `note` is another process's count."""
        state = managed.state if state is None else state
        managed.clock.look(state, self._plane.now_s, self._plane.monotonic_s, note)

    def settle(self, managed: ManagedRollout, store: StateStore | None = None) -> None:
        """Set the initial state of a rollout from the store, or store its first one.

        Args:
            managed: The rollout.
            store: The same store with a shorter timeout.

        Raises:
            StateError: Another version has replaced this one, or the stored state cannot be read.
            StoreError: The store did not answer.
        """
        store = self._store if store is None else store
        note = store.noted(managed.key, STEP_CLOCK)
        plane = self._plane
        before, state = resolve_initial_state(store, managed.state, now_s=plane.now_s, is_shared=plane.is_shared)
        self.take_time(managed, state, note)
        if state.code and managed.state.code and state.code != managed.state.code:
            plane.note(managed.key, _OTHER_CODE)
        if state is not managed.state:
            self.enter(managed, state)
        managed.local_state.lose(lost=False)
        if before is not state:
            event = made(managed.strategy, "start", before, state, actor="", reason=_ANOTHER, time_s=state.entered_s)
            plane.announce(managed, event, before.phase.all_shares)
        else:
            managed.announced.join(state, plane.now_s)
            plane.joined(managed.key)

    def restart(self, managed: ManagedRollout, after: RolloutState, store: StateStore) -> None:
        """Restart a rollout that was decorated again with other settings, unless another process was faster.

        Raises:
            StoreError: The store did not answer.
        """
        stored = store.load(managed.key)
        if stored is not None and (begun := _restarted(store, stored, after, now_s=self._plane.now_s)) is not None:
            self.enter(managed, begun)

    def catch_up(
        self, managed: ManagedRollout, until: RolloutState, before: RolloutState, store: StateStore | None = None
    ) -> None:
        """Announce what other processes did to a rollout, in order, with actor and reason.

        If the history cannot be read, this is a fault; the changes still apply, and the next look reads it again.

        Args:
            managed: The rollout.
            until: The state after their changes.
            before: The state in this process before them.
            store: The same store with a shorter timeout.
        """
        announced = managed.announced
        behind = announced.behind
        if announced.knows(until) and behind == announced.caught_up:
            return
        try:
            history = (self._store if store is None else store).history(managed.key)
        except StoreError as error:
            announced.fall_behind()
            self._plane.failed(STORE, error)
            return
        for record, earlier in list(announced.missed(history, until, before)):
            if record.get("action") == _RESTORE:
                managed.publish_again()
            try:
                event = recorded(managed.state, managed.strategy, record, earlier)
            # Damaged, or written by another program in its own format: the others are still announced.
            except Exception as error:
                self._plane.failed(STORE, _unreadable(managed.key, error), rollout=managed.key)
                event = None
            if event is None:
                announced.pass_over(record)
            else:
                self._plane.announce(managed, event, weights(earlier), followed=True)
        # If the store did not answer this process's start, it never took that state, and replacing it is not a change.
        if until != before and not announced.knows(until) and is_comparable(until, managed.state):
            event = inferred(managed.strategy, before, until, self._plane.now_s)
            self._plane.announce(managed, event, before.phase.all_shares, followed=True)
        if until is managed.state:
            announced.caught_up = behind

    def enter(self, managed: ManagedRollout, state: RolloutState) -> None:
        """Set the state of a rollout; if it stops the rollout, wait until no candidate starts any more."""
        before = managed.state
        if not is_comparable(state, before):
            # The state of another version, or of other settings, says nothing about this process's candidate.
            managed.local_state.lose(lost=True, replaced=not state.stopped)
            return
        with managed.local_state.changing:
            # The plan is this process's own, which may be newer.
            managed.local_state.enter(state)
        managed.follow()
        self.take_time(managed)
        if state.stopped and not before.stopped:
            self._plane.stopped()

    def look(self, managed: ManagedRollout) -> None:
        """Read the state of a rollout from the store.

        Raises:
            StoreError: The store did not answer; everything stays as it is.
        """
        here = managed.state
        if _is_pending(managed):
            before, after = managed.store_abort(self._store, self._plane.now_s)
            self.enter(managed, after)
            self.catch_up(managed, before, here)
            self.catch_up(managed, after, before)
            return
        if managed.local_state.lost:
            if managed.local_state.replaced:
                self._look_at_successor(managed)
            self.settle(managed)
            return
        stored = self._store.load(managed.key)
        if _is_pending(managed):
            # It was stopped meanwhile; the next look writes the abort to the store.
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
            managed.local_state.lose(lost=True, replaced=state is not None and not state.stopped)
        else:
            self.enter(managed, joined(state, managed.state))
            self.catch_up(managed, state, here)

    def _look_at_successor(self, managed: ManagedRollout) -> None:
        """Stop what drains here as soon as the rollout that has replaced this one is stopped.

        Raises:
            StoreError: The store did not answer.
        """
        stored = self._store.load(managed.key)
        if stored is None or from_document(stored.document).stopped:
            managed.local_state.lose(lost=True)
            self._plane.stopped()

    def _put_back(self, managed: ManagedRollout, stored: Stored | None, before: RolloutState) -> None:
        """Write the known state to a store that was emptied, or restored from a backup."""
        known, expected = managed.state, None if stored is None else stored.revision
        if not managed.is_settled:
            # It was decorated again meanwhile: the known state may be the end of this one, in this process.
            return
        state = evolve(known, revision=max(known.revision, -1 if expected is None else expected) + 1)
        # Another process may be faster: the next look finds its revision, which is as good.
        now_s = self._plane.now_s
        if (restored := swap(self._store, expected, state, _RESTORE, now_s=now_s, reason=_LOST)) is not None:
            self.enter(managed, restored)
            managed.publish_again()
            event = made(managed.strategy, _RESTORE, before, restored, actor="", reason=_LOST, time_s=now_s)
            self._plane.announce(managed, event, before.phase.all_shares)


def resolve_initial_state(
    store: StateStore, mine: RolloutState, *, now_s: float, is_shared: bool
) -> tuple[RolloutState, RolloutState]:
    """Resolve the initial state of a newly decorated rollout: from the store, or a fresh start.

    Args:
        store: The store.
        mine: The first state according to this process.
        now_s: The time, in seconds since 1970.
        is_shared: Whether other processes see the store. If not, no other deployment can be undone, and a notebook may return
            to earlier settings.

    Returns:
        The state before and now; different objects if `mine` has replaced another fingerprint.

    Raises:
        StateError: Another version or fingerprint has replaced this one, or the stored state cannot be read.
        StoreError: The store did not answer.
    """
    for _ in range(_MOST_TRIES):
        stored = store.load(mine.key)
        if stored is None:
            if (begun := swap(store, None, mine, "start", now_s=now_s)) is not None:
                return begun, begun
            continue
        theirs = from_document(stored.document)
        if is_comparable(theirs, mine):
            state = joined(theirs, mine)
            return state, state
        if mine.version in theirs.superseded:
            raise StateError(
                f"Version {mine.version!r} of {mine.key!r} was replaced by {theirs.version!r}. A version that was replaced "
                "does not come back, so that old processes cannot undo a deployment. Give the candidate a new version=."
            )
        if is_shared and mine.fingerprint in theirs.replaced:
            raise StateError(
                f"The settings of {mine.key!r} in this process (fingerprint {mine.fingerprint}) were replaced by others "
                f"({theirs.fingerprint}). Settings that were replaced do not come back, so that old processes cannot undo a "
                "deployment. Give all processes the same settings and the same ROLLOUT_KEY, and the candidate a new version=."
            )
        if (begun := _restarted(store, stored, theirs.begun_again(mine), now_s=now_s)) is not None:
            return theirs, begun
    raise ConflictError(
        f"Other processes keep changing {mine.key!r}, so that its state is not known yet. "
        "Until it is, the control answers. It is read again twice a second."
    )


def _restarted(store: StateStore, stored: Stored, after: RolloutState, *, now_s: float) -> RolloutState | None:
    """Replace a stored rollout by its restart; None if another change came first."""
    after = evolve(after, revision=max(after.revision, stored.revision + 1), entered_s=now_s)
    return swap(store, stored.revision, after, "start", now_s=now_s, reason=_ANOTHER)


def _is_pending(managed: ManagedRollout) -> bool:
    """Whether an abort is not yet in the store; checked again after each wait for the store."""
    return managed.pending_abort is not None


def _is_at(stored: Stored, state: RolloutState) -> bool:
    """Whether a document is this state; after a loss, two processes can have the same revision of different states."""
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
