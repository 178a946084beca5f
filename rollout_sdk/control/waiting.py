"""Waiting until a stored rollout has a status, for as long as the status can still come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.concurrency.threads import caller_sleep
from rollout_sdk.control.state import Status
from rollout_sdk.control.stored_status import StoredStatus
from rollout_sdk.exceptions import ConfigurationError, StoreError, UnreachableError, WaitTimeoutError

__all__ = ["Until", "wait_until"]

Until = Literal["running", "paused", "promoted", "rolled_back", "aborted", "over"]
"""What can be waited for: a status, or "over", which is any of the last three."""

_OVER: tuple[Status, ...] = ("promoted", "rolled_back", "aborted")
_LOOK_EVERY_S = 0.5
_GIVE_UP_AFTER_S = 60.0


def wait_until(
    key: str,
    look: Callable[[], StoredStatus],
    until: Until,
    *,
    timeout_s: float | None,
    changed: Callable[[StoredStatus], Any] | None,
) -> StoredStatus:
    """Look twice a second until a rollout has a status. See `StoredRollout.wait`."""
    if until not in get_args(Until):
        raise ConfigurationError(f"until={until!r:.60} of {key!r} is unknown. It is one of: {', '.join(get_args(Until))}.")
    began_s = answered_s = monotonic()
    epoch: int | None = None
    known: StoredStatus | None = None
    while True:
        try:
            now = look()
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
                f"{key!r} is not {_words(until)} after {timeout_s:g} s: it is {known.status}, phase {known.phase}. "
                "A canary goes on when its verdict is PASS. Look at status(), or wait longer."
            )
        caller_sleep(min(_LOOK_EVERY_S, left_s))


def _is_reached(status: Status, until: Until) -> bool:
    return status in _OVER if until == "over" else status == until or (until == "running" and status == "shadowing")


def _words(status: str) -> str:
    return status.replace("_", " ")


def _must_be_reachable(now: StoredStatus, until: Until, *, is_same: bool) -> None:
    if not is_same:
        what = f"version {now.version!r}" if now.version else "other settings"
        raise UnreachableError(
            f"{now.key!r} has been restarted with {what}: the candidate that was waited for can no longer be {_words(until)}. "
            "Wait for this one."
        )
    # A promoted rollout can still be aborted; nothing follows the other ends.
    if now.status in _OVER and until != "aborted":
        raise UnreachableError(
            f"{now.key!r} is {_words(now.status)}, and can no longer be {_words(until)}. "
            "It begins again with another version; its history has the reason."
        )
