"""Operating a rollout in a store, from a process that does not serve it: the Python form of the command `rollout`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from rollout_sdk.assignment import Share
from rollout_sdk.concurrency.clocks import time
from rollout_sdk.control.preconditions import must_be_explained, must_pass
from rollout_sdk.control.roles import (
    ALLOW,
    JUDGE,
    UnreadableRolesError,
    allowed_from_note,
    as_allowed,
    must_be_allowed,
)
from rollout_sdk.control.state import RolloutState
from rollout_sdk.control.state_document import from_document
from rollout_sdk.control.stored_state import Change, change_stored, unknown_rollout
from rollout_sdk.control.stored_status import (
    PLAN,
    VERDICT,
    StoredChange,
    StoredStatus,
    is_about,
    is_current,
    plan_from_note,
    processes_in,
    verdict_from_note,
)
from rollout_sdk.control.stores import GuardedStore, MemoryStore, StateStore
from rollout_sdk.control.stores.opening import store_at
from rollout_sdk.control.waiting import Until, wait_until
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.judging import Verdict

__all__ = ["StoredChange", "StoredRollout", "StoredStatus", "Until", "opened", "operate"]


def operate(
    store: StateStore | str, key: str, *, actor: str = "", allow: Mapping[str, Iterable[str]] | None = None
) -> StoredRollout:
    """Return the rollout `key` of a store, to look at and change from any process, with the rules of the command `rollout`.

        with operate("sqlite:////var/lib/app/rollouts.db", "shop.rank", actor="release-bot") as rank:
            print(rank.status())
            rank.abort(reason="complaints from France")

    Every process that reads the store follows within a second.

    Args:
        store: A store, or the address of an existing one: a typo is an error and creates no file.
        key: Key of the rollout.
        actor: Name of the operator, for the history; by default the user of the operating system.
        allow: Allowed actions of actors with restrictions, in this program: `{"robot": {"abort", "pause"}}`. They apply in
            addition to the rollout's own roles, `Runtime(allow=...)`.

    Raises:
        ConfigurationError: Processes cannot share this store, `actor` is the judge, or `allow` has an unknown action.
    """
    return StoredRollout(store, key, actor=actor, allow=allow)


def opened(address: str) -> StateStore:
    """Return the store at this address, for operators; the first use of a missing store is an error.

    Raises:
        ConfigurationError: This is not the address of a store that processes can share.
    """
    return store_at(address, must_exist=True)


class StoredRollout:
    """A rollout in a store, as returned by `operate`. Use it in one thread at a time, and close it, or use it in `with`.

    Every change has an actor and a reason for the history; a pause and an abort are urgent, and need no reason. A `revision` is
    the one that you looked at: the change is refused if another came first.

    All methods raise `StoreError` if the store does not answer, and `StateError` if it has no such rollout.
    """

    def __init__(
        self, store: StateStore | str, key: str, *, actor: str = "", allow: Mapping[str, Iterable[str]] | None = None
    ) -> None:
        """See `operate`."""
        if actor == JUDGE:
            raise ConfigurationError(
                f"The actor {actor!r} of {key!r} is the SDK's own. The history must say which changes the judge made. "
                "Give another name."
            )
        if isinstance(store, MemoryStore):
            raise ConfigurationError(
                f"The store of {key!r} is in memory, and a process does not read its own memory again to see what was changed. "
                "Use the controller, function.rollout, or a store that processes share: sqlite:///rollouts.db."
            )
        self.key = key
        self.actor = actor or _user()
        self._allowed = as_allowed(allow)
        self._is_ours = isinstance(store, str)
        found = opened(store) if isinstance(store, str) else store
        # Every call then returns or raises in time.
        self._store = found if isinstance(found, GuardedStore) else GuardedStore(found)

    def __enter__(self) -> Self:
        """Return the rollout itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close the store."""
        self.close()

    def __repr__(self) -> str:
        """Show the key and the operator."""
        return f"<StoredRollout {self.key!r}, operated by {self.actor!r}>"

    def close(self) -> None:
        """Close the store, if it was opened here."""
        if self._is_ours:
            self._store.close()
        self._store.rest()

    def status(self) -> StoredStatus:
        """Return the status of the rollout in all processes."""
        state, verdict, note = self._found()
        now_s = time()
        live, last_seen_s = processes_in(self._store.gather(self.key, state.epoch).parts, now_s)
        return StoredStatus.of(
            state,
            now_s=now_s,
            plan=plan_from_note(self._store.noted(self.key, PLAN)),
            processes=live,
            last_seen_s=last_seen_s,
            verdict=None if verdict is None or not is_about(verdict, state) else verdict,
            notes=() if note is None else (note,),
        )

    def history(self) -> list[Mapping[str, Any]]:
        """Return all changes, oldest first: time, action, actor and reason.

        Records have the field names of the journal's transitions: `time_s`, `action`, `status`, `revision`, `phase`, `shares`,
        `version`, `actor`, `reason`, and `verdict` where the judge made it.
        """
        if self._store.load(self.key) is None:
            raise unknown_rollout(self._store, self.key)
        return self._store.history(self.key)

    def promote(
        self, candidate: str | None = None, *, reason: str, force: bool = False, revision: int | None = None
    ) -> StoredChange:
        """Go to the next step; after the last, the candidate serves everybody.

        Args:
            candidate: Which candidate serves everybody, where there are several.
            reason: Why.
            force: Take the step even if the last verdict about this step is not PASS, or there is none yet.
            revision: The revision that you looked at.

        Raises:
            StateError: It is not running, is invalid, has no steps; or the verdict is not PASS, without `force`.
            NotAllowedError: The actor's role does not allow it.
            ConfigurationError: The reason is empty.
            ConflictError: The revision is not the current one.
        """
        return self._forward("promote", lambda state: state.promote(candidate), reason, force, revision)

    def promote_full(
        self, candidate: str | None = None, *, reason: str, force: bool = False, revision: int | None = None
    ) -> StoredChange:
        """Have the candidate serve everybody now, skipping all further steps. See `promote`."""
        return self._forward("promote_full", lambda state: state.promote_full(candidate), reason, force, revision)

    def skip_step(self, *, reason: str, force: bool = False, revision: int | None = None) -> StoredChange:
        """Skip the next step. See `promote`."""
        return self._forward("skip_step", RolloutState.skip_step, reason, force, revision)

    def set_share(
        self, share: Share, candidate: str | None = None, *, reason: str, force: bool = False, revision: int | None = None
    ) -> StoredChange:
        """Change a candidate's share, outside the plan. A greater one has the conditions of a step; see `promote`."""
        return self._forward("set_share", lambda state: state.set_share(share, candidate), reason, force, revision)

    def pause(self, *, reason: str = "", revision: int | None = None) -> StoredChange:
        """Keep the shares, and take no step, until `resume`; the judge may still roll back."""
        return self._change("pause", RolloutState.pause, reason, revision)

    def resume(self, *, reason: str, clear_invalid: bool = False, revision: int | None = None) -> StoredChange:
        """End a pause; with `clear_invalid`, also clear the judge's alarm that the rollout is invalid.

        See `RolloutController.resume`.
        """
        if clear_invalid:
            must_be_explained(self.key, self.actor, reason)
        _must_say_why("resume", self.key, reason)
        return self._change("resume", lambda state: state.resume(clear_invalid=clear_invalid), reason, revision)

    def abort(self, *, reason: str = "", revision: int | None = None) -> StoredChange:
        """Have the control serve everybody; final."""
        return self._change("abort", RolloutState.abort, reason, revision)

    def wait(
        self, until: Until, *, timeout_s: float | None = None, changed: Callable[[StoredStatus], Any] | None = None
    ) -> StoredStatus:
        """Wait until the rollout has a status, or is "over" (promoted, rolled back or aborted), and return its status then.

        The store is read twice a second. Once it has answered, it may fail to answer for a minute.

        Args:
            until: The status to wait for.
            timeout_s: Longest wait, in seconds; None for no limit.
            changed: Called with each new status, including the first.

        Raises:
            WaitTimeoutError: It took longer.
            UnreachableError: The status can no longer come: the rollout has ended otherwise, or has been restarted.
            StoreError: The store did not answer at first, or for a minute.
            ConfigurationError: `until` is unknown.
        """
        return wait_until(self.key, self.status, until, timeout_s=timeout_s, changed=changed)

    def _found(self) -> tuple[RolloutState, Verdict | None, str | None]:
        """Return the state, the last verdict, and a note if the verdict cannot be read."""
        stored = self._store.load(self.key)
        if stored is None:
            raise unknown_rollout(self._store, self.key)
        state, text = from_document(stored.document), self._store.noted(self.key, VERDICT)
        try:
            return state, None if text is None else verdict_from_note(text), None
        except ValueError as error:
            note = f"The last verdict about {self.key!r} cannot be read ({error}). It is damaged; the next one replaces it."
            return state, None, note

    def _forward(self, action: str, change: Change, reason: str, force: bool, revision: int | None) -> StoredChange:  # noqa: FBT001
        _must_say_why(action, self.key, reason)
        if force:
            return self._change(action, change, reason, revision)
        plan = plan_from_note(self._store.noted(self.key, PLAN))
        _, verdict, _ = self._found()

        def guarded(state: RolloutState) -> RolloutState:
            after = change(state)
            gives_more = any(share > state.phase.shares[name] for name, share in after.phase.shares.items())
            if gives_more or (action != "set_share" and after is not state):
                judged = verdict is not None or bool(plan.get("guardrails") or plan.get("gates"))
                must_pass(state, action, verdict if verdict is not None and is_current(verdict, state) else None, judged=judged)
            return after

        return self._change(action, guarded, reason, revision)

    def _change(self, action: str, change: Change, reason: str, revision: int | None) -> StoredChange:
        must_be_allowed(self._allowed, self.key, self.actor, action)
        try:
            must_be_allowed(allowed_from_note(self._store.noted(self.key, ALLOW)), self.key, self.actor, action)
        except UnreadableRolesError:
            # Damaged roles must not prevent stopping a candidate.
            if action not in ("abort", "pause"):
                raise
        now_s = time()
        before, after = change_stored(
            self._store, self.key, action, change, now_s=now_s, actor=self.actor, reason=reason, revision=revision
        )
        return StoredChange(StoredStatus.of(before, now_s=now_s), StoredStatus.of(after, now_s=now_s))


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    # In a container, the user may have a number but no name.
    except (KeyError, OSError):
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else ""


def _must_say_why(action: str, key: str, reason: object) -> None:
    if not isinstance(reason, str) or not reason.strip():
        raise ConfigurationError(
            f"{action} of {key!r} has no reason. The history records why a candidate was given more users. Pass reason='...'."
        )
