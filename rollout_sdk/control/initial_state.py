"""Where a rollout stands that a process has just described: where the store says, or from the beginning."""

from __future__ import annotations

from attrs import evolve

from rollout_sdk.control.state import RolloutState
from rollout_sdk.control.state_document import from_document, is_comparable, joined
from rollout_sdk.control.stored_state import swap
from rollout_sdk.control.stores import StateStore, Stored
from rollout_sdk.exceptions import ConflictError, StateError

__all__ = ["ANOTHER", "resolve_initial_state", "restart"]

ANOTHER = "another version, or other settings"
_MOST_TRIES = 20


def resolve_initial_state(
    store: StateStore, mine: RolloutState, *, now_s: float, is_shared: bool
) -> tuple[RolloutState, RolloutState]:
    """Where a rollout stands: where it begins, as `mine` says, when the store knew nothing of it.

    Args:
        store: The store.
        mine: Where it begins, as this process describes it.
        now_s: The time, in seconds since 1970.
        is_shared: Whether other processes see the store. Where none does, nobody can undo another's deployment, and who tries
            settings out in a notebook may go back to earlier ones.

    Returns:
        Where it stood, and where it stands: not the same object when `mine` has taken the place of another fingerprint.

    Raises:
        StateError: It is of a version or fingerprint that another has replaced, or what is stored cannot be read.
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
        begun = restart(store, stored, theirs.begun_again(mine), now_s=now_s)
        if begun is not None:
            return theirs, begun
    raise ConflictError(
        f"{mine.key!r} is being changed by others all the time: where it stands is not known. "
        "Until it is, the control answers. It is tried again twice a second."
    )


def restart(store: StateStore, stored: Stored, after: RolloutState, *, now_s: float) -> RolloutState | None:
    """Begin a stored rollout again; None when it is another's turn."""
    after = evolve(after, revision=max(after.revision, stored.revision + 1), entered_s=now_s)
    return swap(store, stored.revision, after, "start", now_s=now_s, reason=ANOTHER)
