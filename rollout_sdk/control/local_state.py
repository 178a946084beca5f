"""The state of a rollout in this process, and the gate that every start of a candidate checks.

Calls read it without a lock: the state is replaced as a whole, and the gate is one attribute. Only changes take a lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

from attrs import Factory, define

from rollout_sdk.concurrency.forking import ForkSafeLock
from rollout_sdk.control.draining import Draining
from rollout_sdk.control.state import RolloutState
from rollout_sdk.resilience.breaker import CircuitBreaker

__all__ = ["LocalState"]


@define(eq=False)
class LocalState:
    """The state of a rollout in this process, shared by all functions decorated with the same key and settings.

    Attributes:
        state: The state, replaced as a whole.
        described: The settings as text, by option.
        breakers: Circuit breakers of the candidates, by name; empty if there are none.
        held_by: Holders that keep candidates from running: the control file, a feature flag. Each lets go separately.
        lost: Whether the state is unknown, or another version has replaced this process's: then no candidate runs.
        replaced: Whether it is known that others have replaced it, and go on: then candidates may run to drain.
        draining: Lets conversations that have begun end on their candidate; None without `on_abort="drain"`.
        closed: Whether no candidate may start: disabled, lost, or stopped. Every start checks it at the last moment.
        controllers: The controllers with this state, while they live.
        plan: The plan as plain values (`rollout_sdk.plan.written`); empty if nothing was declared.
        notes: Notes about its calls, in the order of their first occurrence.
        changing: Held while the state changes; no call takes it.
    """

    state: RolloutState
    described: Mapping[str, str]
    breakers: Mapping[str, CircuitBreaker] = Factory(dict)
    held_by: frozenset[str] = frozenset()
    lost: bool = False
    replaced: bool = False
    draining: Draining | None = None
    closed: bool = False
    controllers: WeakSet[Any] = Factory(WeakSet)
    plan: Mapping[str, Any] = Factory(dict)
    notes: dict[str, None] = Factory(dict)
    changing: ForkSafeLock = Factory(ForkSafeLock)

    def enter(self, state: RolloutState) -> None:
        """Set the state."""
        is_unknown = self.lost and not (self.replaced and self.draining is not None)
        self.closed = bool(self.held_by) or is_unknown or state.stopped
        self.state = state

    def disable(self, *, disabled: bool, holder: str) -> None:
        """Add or remove a holder: candidates run once there is none."""
        self.held_by = self.held_by | {holder} if disabled else self.held_by - {holder}
        self.enter(self.state)

    def lose(self, *, lost: bool, replaced: bool = False) -> None:
        """Set whether the state is unknown, or known to be replaced by one that goes on, so that no candidate runs."""
        self.lost, self.replaced = lost, lost and replaced
        self.enter(self.state)
