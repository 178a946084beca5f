"""Operating a rollout in a store, from a process that does not serve it: what the command `rollout` does, for programs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, Self, get_args

from rollout_sdk.assignment import Share
from rollout_sdk.concurrency.clocks import monotonic, time
from rollout_sdk.concurrency.threads import caller_sleep
from rollout_sdk.control.allowing import (
    ALLOW,
    JUDGE,
    UnreadableRolesError,
    allowed_from_note,
    as_allowed,
    must_be_allowed,
)
from rollout_sdk.control.last_verdict import VERDICT, is_about, is_current, verdict_from_note
from rollout_sdk.control.preconditions import must_be_explained, must_pass
from rollout_sdk.control.presence import processes_in
from rollout_sdk.control.state import RolloutState, Status
from rollout_sdk.control.state_document import from_document
from rollout_sdk.control.stored_state import Change, change_stored, unknown_rollout
from rollout_sdk.control.stored_status import PLAN, StoredChange, StoredStatus, plan_from_note
from rollout_sdk.control.stores import GuardedStore, MemoryStore, StateStore
from rollout_sdk.control.stores.opening import store_at
from rollout_sdk.exceptions import ConfigurationError, StoreError, UnreachableError, WaitTimeoutError
from rollout_sdk.judging import Verdict

__all__ = ["StoredChange", "StoredRollout", "StoredStatus", "Until", "opened", "operate"]

Until = Literal["running", "paused", "promoted", "rolled_back", "aborted", "over"]
"""What can be waited for: a status, or "over", which is any of the last three."""

_OVER: tuple[Status, ...] = ("promoted", "rolled_back", "aborted")
_LOOK_EVERY_S = 0.5
_GIVE_UP_AFTER_S = 60.0


def operate(
    store: StateStore | str, key: str, *, actor: str = "", allow: Mapping[str, Iterable[str]] | None = None
) -> StoredRollout:
    """The rollout `key` of a store, to be looked at and changed from any process: the same as the command `rollout`, with the
    same rules.

        with operate("sqlite:////var/lib/app/rollouts.db", "shop.rank", actor="release-bot") as rank:
            print(rank.status())
            rank.abort(reason="complaints from France")

    Every process that reads the store follows within a second.

    Args:
        store: A store, or the address of one that is there: a typo is an error, and makes no file.
        key: Key of the rollout.
        actor: Who operates it, for the history; by default the user of the operating system.
        allow: What some actors may do, in this program: `{"robot": {"abort", "pause"}}`. It is asked besides the roles of the
            rollout itself, `Runtime(allow=...)`.

    Raises:
        ConfigurationError: This is no store that processes share, `actor` is the judge, or `allow` has an unknown action.
    """
    return StoredRollout(store, key, actor=actor, allow=allow)


def opened(address: str) -> StateStore:
    """The store at this address, for operators: one that is not there is an error of the first use.

    Raises:
        ConfigurationError: This is no address of a store that another process can have.
    """
    return store_at(address, must_exist=True)


class StoredRollout:
    """A rollout in a store, as `operate` gives it. Use it in one thread at a time, and close it, or use it in `with`.

    Every change has an actor and a reason for the history; a pause and an abort are urgent, and need no reason. A `revision` is
    the one that you looked at: the change is refused when another came first.

    All methods raise `StoreError` when the store does not answer, and `StateError` when it knows no such rollout.
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
        # Whatever it does, there is an answer or an error in time.
        self._store = found if isinstance(found, GuardedStore) else GuardedStore(found)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Its key, and who operates it."""
        return f"<StoredRollout {self.key!r}, operated by {self.actor!r}>"

    def close(self) -> None:
        """Close the store, if it was opened here."""
        if self._is_ours:
            self._store.close()
        self._store.rest()

    def status(self) -> StoredStatus:
        """How the rollout stands in all processes."""
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
        """Every change, oldest first: when, what, who, why.

        Records have the names of the journal's transitions: `time_s`, `action`, `status`, `revision`, `phase`, `shares`,
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
            force: Also when the last verdict about this step is not PASS, or there is none yet.
            revision: The revision that you looked at.

        Raises:
            StateError: It is not running, is invalid, has no steps; or the verdict is not PASS, without `force`.
            NotAllowedError: The actor may not do it.
            ConfigurationError: There is no reason.
            ConflictError: The revision is not the current one.
        """
        return self._forward("promote", lambda state: state.promote(candidate), reason, force, revision)

    def promote_full(
        self, candidate: str | None = None, *, reason: str, force: bool = False, revision: int | None = None
    ) -> StoredChange:
        """Give everybody the candidate now, whatever steps are left. See `promote`."""
        return self._forward("promote_full", lambda state: state.promote_full(candidate), reason, force, revision)

    def skip_step(self, *, reason: str, force: bool = False, revision: int | None = None) -> StoredChange:
        """Leave the next step out. See `promote`."""
        return self._forward("skip_step", RolloutState.skip_step, reason, force, revision)

    def set_share(
        self, share: Share, candidate: str | None = None, *, reason: str, force: bool = False, revision: int | None = None
    ) -> StoredChange:
        """Give a candidate another share, outside the plan. A greater one is refused as a step is; see `promote`."""
        return self._forward("set_share", lambda state: state.set_share(share, candidate), reason, force, revision)

    def pause(self, *, reason: str = "", revision: int | None = None) -> StoredChange:
        """Keep the shares as they are, and take no step, until `resume`; the judge may still roll back."""
        return self._change("pause", RolloutState.pause, reason, revision)

    def resume(self, *, reason: str, clear_invalid: bool = False, revision: int | None = None) -> StoredChange:
        """Go on after a pause; with `clear_invalid`, also after the judge has called the rollout invalid.

        See `RolloutController.resume`.
        """
        if clear_invalid:
            must_be_explained(self.key, self.actor, reason)
        _must_say_why("resume", self.key, reason)
        return self._change("resume", lambda state: state.resume(clear_invalid=clear_invalid), reason, revision)

    def abort(self, *, reason: str = "", revision: int | None = None) -> StoredChange:
        """Give everybody the control, for good."""
        return self._change("abort", RolloutState.abort, reason, revision)

    def wait(
        self, until: Until, *, timeout_s: float | None = None, changed: Callable[[StoredStatus], Any] | None = None
    ) -> StoredStatus:
        """Wait until the rollout has a status, or is "over" (promoted, rolled back or aborted); how it stands then.

        The store is asked twice a second. Once it has answered, it may be silent for a minute.

        Args:
            until: What to wait for.
            timeout_s: How long; None for as long as it takes.
            changed: Called with each new status, the first one included.

        Raises:
            WaitTimeoutError: It took longer.
            UnreachableError: It can no longer come: the rollout is over in another way, or another version has taken its place.
            StoreError: The store did not answer the first question, or for a minute.
            ConfigurationError: `until` is unknown.
        """
        if until not in get_args(Until):
            raise ConfigurationError(
                f"until={until!r:.60} of {self.key!r} is unknown. It is one of: {', '.join(get_args(Until))}."
            )
        began_s = answered_s = monotonic()
        epoch: int | None = None
        known: StoredStatus | None = None
        while True:
            try:
                now = self.status()
                answered_s = monotonic()
            except StoreError:
                if known is None or monotonic() - answered_s > _GIVE_UP_AFTER_S:
                    raise
            else:
                epoch = now.epoch if epoch is None else epoch
                if changed is not None and (known is None or known.revision != now.revision):
                    changed(now)
                known = now
                if epoch == now.epoch and _is_reached(now.status, until):
                    return now
                _must_be_reachable(now, until, is_same=epoch == now.epoch)
            left_s = _LOOK_EVERY_S if timeout_s is None else began_s + timeout_s - monotonic()
            if left_s <= 0:
                raise WaitTimeoutError(
                    f"{self.key!r} is not {_said(until)} after {timeout_s:g} s: it is {known.status}, phase {known.phase}. "
                    "A canary goes on when its verdict is PASS. Look at status(), or wait longer."
                )
            caller_sleep(min(_LOOK_EVERY_S, left_s))

    def _found(self) -> tuple[RolloutState, Verdict | None, str | None]:
        """Where it stands, the last verdict, and what cannot be read of it."""
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
            # What is damaged keeps nobody from stopping a candidate.
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
    # In a container, the user may have a number and no name.
    except (KeyError, OSError):
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else ""


def _must_say_why(action: str, key: str, reason: object) -> None:
    if not isinstance(reason, str) or not reason.strip():
        raise ConfigurationError(
            f"{action} of {key!r} has no reason. The history says why a candidate was given more users. Give reason='...'."
        )


def _is_reached(status: Status, until: Until) -> bool:
    return status in _OVER if until == "over" else status == until or (until == "running" and status == "shadowing")


def _said(until: Until) -> str:
    return until.replace("_", " ")


def _must_be_reachable(now: StoredStatus, until: Until, *, is_same: bool) -> None:
    if not is_same:
        raise UnreachableError(
            f"{now.key!r} has begun anew with {f'version {now.version!r}' if now.version else 'other settings'}: the candidate "
            f"that was waited for can no longer be {_said(until)}. Wait anew for this one."
        )
    # A promoted rollout can still be aborted; one that is over in any way does nothing else.
    if now.status in _OVER and until != "aborted":
        raise UnreachableError(
            f"{now.key!r} is {_said(now.status)}, and can no longer be {_said(until)}. "  # type: ignore[arg-type]
            "It begins again with another version; its history says why."
        )
