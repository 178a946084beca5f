"""What the parts of the control plane share: the store, the clocks, the roles, and the callbacks of their runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import Factory, frozen

from rollout_sdk.concurrency.clocks import monotonic_ns
from rollout_sdk.control.roles import Allowed
from rollout_sdk.control.stores import GuardedStore
from rollout_sdk.plugins.manager import Failed

__all__ = ["ControlPlane"]


@frozen(eq=False, kw_only=True)
class ControlPlane:
    """The connections of a process's control plane; immutable.

    Attributes:
        store: The shared state.
        time_ns: Wall clock, in nanoseconds since 1970.
        monotonic_ns: Clock that never jumps, in nanoseconds.
        stopped: Called after a rollout was stopped: waits until no candidate starts any more.
        announce: Called with every transition, whichever process made it: the rollout, the event, and the shares before it.
        joined: Called with the key of a rollout once its state is known.
        note: Called with the key of a rollout and what a person should know about it.
        failed: Notified of every fault that belongs to no single rollout.
        failed_of: Returns the callback for the faults of one rollout, by its key.
        allowed: Allowed actions of the actors with restrictions.
    """

    store: GuardedStore
    time_ns: Callable[[], int]
    monotonic_ns: Callable[[], int] = monotonic_ns
    stopped: Callable[[], Any]
    announce: Callable[..., None]
    joined: Callable[[str], None]
    note: Callable[[str, str], None]
    failed: Callable[..., None]
    failed_of: Callable[[str], Failed]
    allowed: Allowed = Factory(dict)

    @property
    def is_shared(self) -> bool:
        """Whether other processes see the store."""
        return self.store.is_shared

    @property
    def now_s(self) -> float:
        """The time, in seconds since 1970."""
        return self.time_ns() / 1e9

    @property
    def monotonic_s(self) -> float:
        """The clock that never jumps, in seconds."""
        return self.monotonic_ns() / 1e9
