"""Changing a stored state: read, change, compare and set, until nobody was faster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import urandom
from typing import Any, TypeAlias

from attrs import evolve

from rollout_sdk.control.state import RolloutState
from rollout_sdk.control.state_document import as_document, from_document, is_comparable, joined
from rollout_sdk.control.stores import StateStore
from rollout_sdk.exceptions import ConflictError, StateError
from rollout_sdk.formatting import brief, escaped, nearest

__all__ = ["Change", "change_stored", "has_lost", "new_change_id", "shortened", "swap", "unknown_rollout"]

Change: TypeAlias = Callable[[RolloutState], RolloutState]
"""A transition: one of `RolloutState`'s methods."""

_MOST_TRIES = 20
_MOST_LISTED = 10
_LONGEST_ACTOR, _LONGEST_REASON = 200, 2_000


def shortened(actor: str, reason: str) -> tuple[str, str]:
    """Actor and reason of a change as they are stored: in one line each, printable, and of a bounded length.

    Whatever they hold, they stop an abort no more than an empty text does.
    """
    return _as_line(actor, _LONGEST_ACTOR), _as_line(reason, _LONGEST_REASON)


def _as_line(text: str, most: int) -> str:
    # Escape codes, newlines, and what UTF-8 cannot write are shown, and kept out of the store, the log and every terminal.
    text = escaped(text[: most + 1])
    return text if len(text) <= most else f"{text[: most - 1]}…"


def change_stored(
    store: StateStore,
    key: str,
    action: str,
    change: Change,
    *,
    now_s: float,
    actor: str,
    reason: str,
    revision: int | None = None,
    evidence: Mapping[str, Any] | None = None,
    mine: RolloutState | None = None,
    change_id: str | None = None,
    lost: Callable[[], None] = lambda: None,
) -> tuple[RolloutState, RolloutState]:
    """Change where a rollout stands, for every process that reads the store.

    Args:
        store: The store.
        key: Key of the rollout.
        action: What is done, for the history.
        change: The transition.
        now_s: The time, in seconds since 1970.
        actor: Who does it.
        reason: Why.
        revision: The revision that was looked at; refused when somebody was faster.
        evidence: The verdict that it is made on.
        mine: The state of the process that does it: its plan may be a later one than the store's. None: no process does.
        change_id: Id of the change where it has one already, because it is tried again. None: a new one.
        lost: Called when the store had lost what the process knows, so that the change is made on that.

    Returns:
        The state before and after; the same when there was nothing to change.

    Raises:
        StateError: The change is not possible, the store knows no such rollout, or the process is of a version that was
            replaced (an abort is of any version).
        ConflictError: `revision` is not the current one.
        StoreError: The store did not answer.
    """
    actor, reason = shortened(actor, reason)
    for _ in range(_MOST_TRIES):
        stored = store.load(key)
        found = None if stored is None else from_document(stored.document)
        if found is not None and found.key != key:
            raise StateError(
                f"The stored state of {key!r} is of {brief(found.key)}. A state is stored under its own key: the store is "
                "damaged. Restore it, or move it away and it is made anew."
            )
        is_lost = mine is not None and has_lost(found, mine)
        if found is None and not is_lost:
            raise unknown_rollout(store, key)
        before = _known(found, mine, action, is_lost=is_lost)
        if revision is not None and revision != before.revision:
            raise ConflictError(
                f"{key!r} is at revision {before.revision}, not {revision}. "
                "Somebody else changed it since you looked. Look at status() again, then decide anew."
            )
        after = change(before)
        if after is before and not is_lost:
            return before, before
        # What the store had lost is stored also where nothing is to be changed.
        after = _timed(before, after, now_s) if after is not before else evolve(before, revision=before.revision + 1)
        expected = None if stored is None else stored.revision
        done = swap(
            store,
            expected,
            after,
            action,
            now_s=now_s,
            actor=actor,
            reason=reason,
            evidence=evidence,
            change_id=change_id,
        )
        if done is not None:
            if is_lost:
                lost()
            return before, done
    raise ConflictError(f"{key!r} is being changed by others all the time. A change is made on what you looked at. Try again.")


def unknown_rollout(store: StateStore, key: str) -> StateError:
    """The error for a key that a store does not know; it names the one that was probably meant.

    Raises:
        StoreError: The store did not answer.
    """
    keys = store.keys()
    near = nearest(key, keys)
    meant = "" if near is None else f" Did you mean {near!r}?"
    listed = ", ".join(keys[:_MOST_LISTED]) or "none"
    more = f" and {len(keys) - _MOST_LISTED} more" if len(keys) > _MOST_LISTED else ""
    return StateError(
        f"The store knows no rollout {key!r}.{meant} A rollout is stored when a process decorates its function with "
        f"this store. It knows: {listed}{more}."
    )


def has_lost(found: RolloutState | None, mine: RolloutState) -> bool:
    """Whether a store has lost what a process of these settings knows: it was emptied, or restored from a backup.

    An abort is final, whatever others have done since with a store that did not know of it.
    """
    if found is None:
        return True
    if not is_comparable(found, mine):
        return False
    return found.revision < mine.revision or (mine.status == "aborted" and found.status != "aborted")


def _known(found: RolloutState | None, mine: RolloutState | None, action: str, *, is_lost: bool) -> RolloutState:
    """Where a rollout stands: as the store has it, or as the process has it where the store has lost that."""
    if mine is not None and is_lost:
        return mine if found is None else evolve(mine, revision=max(mine.revision, found.revision))
    assert found is not None
    return found if mine is None else _as_mine(found, mine, action)


def _timed(before: RolloutState, after: RolloutState, now_s: float) -> RolloutState:
    """The state after a transition, with the times that begin with it."""
    if after.number != before.number:
        return evolve(after, entered_s=now_s)
    # What held it was no waiting for a verdict: the step has its time once more.
    is_resumed = before.status == "paused" and after.is_open and after.status != "paused"
    return evolve(after, resumed_s=now_s) if is_resumed else after


def _as_mine(stored: RolloutState, mine: RolloutState, action: str) -> RolloutState:
    """What is stored, as a process has it that would change it."""
    if is_comparable(stored, mine):
        after = joined(stored, mine)
        # What changes the plan starts from the stored one.
        return evolve(after, plan=stored.plan, step=stored.step) if action == "set_plan" else after
    if action == "abort":
        return stored
    if stored.version == mine.version:
        raise StateError(
            f"This process has other settings of {mine.key!r} (fingerprint {mine.fingerprint}) than those that have replaced "
            f"them ({stored.fingerprint}). What it does would be done to users that it does not have. "
            "Do it in a process of the new settings, or with the command rollout."
        )
    raise StateError(
        f"This process has version {mine.version!r} of {mine.key!r}, which was replaced by {stored.version!r}. "
        "What it does would be done to a candidate that it does not have. "
        "Do it in a process of the new version, or with the command rollout."
    )


def swap(
    store: StateStore,
    expected: int | None,
    after: RolloutState,
    action: str,
    *,
    now_s: float,
    actor: str = "",
    reason: str = "",
    evidence: Mapping[str, Any] | None = None,
    change_id: str | None = None,
) -> RolloutState | None:
    """Put a state in place of the expected revision, and the change into the history.

    Returns:
        The state with the id of the change; None when another change came first.
    """
    after = evolve(after, change_id=change_id or new_change_id())
    record = {
        "id": after.change_id,
        "time_s": now_s,
        "action": action,
        "status": after.status,
        "revision": after.revision,
        "phase": after.phase.name,
        "shares": after.phase.all_shares,
        "shadow": after.phase.shadow,
        "version": after.version,
        "fingerprint": after.fingerprint,
        "invalid": after.invalid,
        "actor": actor,
        "reason": reason,
        "verdict": evidence,
    }
    return after if store.swap(after.key, expected, as_document(after), record) else None


def new_change_id() -> str:
    """An id for a change, the same wherever it is recorded: a revision is not, because a store that was lost counts anew."""
    return urandom(8).hex()
