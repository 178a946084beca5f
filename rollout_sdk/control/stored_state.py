"""Changes a stored state: read, change, compare and set; repeated if another change came first."""

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
    """Return actor and reason as they are stored: printable, in one line each, of bounded length.

    So no text, whatever it holds, can prevent an abort.
    """
    return _as_line(actor, _LONGEST_ACTOR), _as_line(reason, _LONGEST_REASON)


def _as_line(text: str, most: int) -> str:
    # Escape codes, newlines and surrogates are escaped before they reach the store, the log or a terminal.
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
    """Change the state of a rollout, for every process that reads the store.

    Args:
        store: The store.
        key: Key of the rollout.
        action: Name of the transition, for the history.
        change: The transition.
        now_s: The time, in seconds since 1970.
        actor: Name of the actor.
        reason: The reason.
        revision: The revision that was looked at; the change is refused if another came first.
        evidence: The verdict that caused it.
        mine: The state of the serving process that makes the change; its plan may be newer than the stored one. None if the
            change is made elsewhere.
        change_id: Id of the change if this is another attempt; by default a new one.
        lost: Called if the store had lost the state that the process knows, so that the change is made to that.

    Returns:
        The state before and after; the same object if there was nothing to change.

    Raises:
        StateError: The change is not possible, the store has no such rollout, or the process has a replaced version (any
            version can be aborted).
        ConflictError: `revision` is not the current one, or other changes kept coming first.
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
                "Another change was made since you looked. Look at status() again, then decide."
            )
        after = change(before)
        if after is before and not is_lost:
            return before, before
        # A lost state is stored even if there is nothing to change.
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
    raise ConflictError(f"Other processes keep changing {key!r}. A change is made to the state that you looked at. Try again.")


def unknown_rollout(store: StateStore, key: str) -> StateError:
    """Return the error for an unknown key; it names the key that was probably meant.

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
    """Whether a store has lost the state that a process knows: it was emptied, or restored from a backup.

    An abort is final, whatever other processes did with a store that had lost it.
    """
    if found is None:
        return True
    if not is_comparable(found, mine):
        return False
    return found.revision < mine.revision or (mine.status == "aborted" and found.status != "aborted")


def _known(found: RolloutState | None, mine: RolloutState | None, action: str, *, is_lost: bool) -> RolloutState:
    """Return the stored state, or the process's if the store has lost it."""
    if mine is not None and is_lost:
        return mine if found is None else evolve(mine, revision=max(mine.revision, found.revision))
    assert found is not None
    return found if mine is None else _as_mine(found, mine, action)


def _timed(before: RolloutState, after: RolloutState, now_s: float) -> RolloutState:
    """Return the state after a transition, with its new times."""
    if after.number != before.number:
        return evolve(after, entered_s=now_s)
    # The pause does not count as waiting for a verdict: the step's time starts again.
    is_resumed = before.status == "paused" and after.is_open and after.status != "paused"
    return evolve(after, resumed_s=now_s) if is_resumed else after


def _as_mine(stored: RolloutState, mine: RolloutState, action: str) -> RolloutState:
    """Return the stored state with the plan of the process that changes it."""
    if is_comparable(stored, mine):
        after = joined(stored, mine)
        # A change of plan starts from the stored plan.
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
    """Replace the expected revision by a state, and add the change to the history.

    Returns:
        The state with the id of the change; None if another change came first.
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
    """Return an id for a change. Revisions are not unique: a store that was lost counts again."""
    return urandom(8).hex()
