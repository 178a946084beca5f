"""The state of a rollout in this process, and the gate that every start of a candidate looks at.

Calls take no lock to read it: the state is replaced as a whole, and the gate is one attribute. Only changes are made one
after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

from attrs import Factory, define

from rollout_sdk.concurrency.forking import ForkSafeLock
from rollout_sdk.control.state import RolloutState
from rollout_sdk.resilience.breaker import CircuitBreaker

__all__ = ["LocalState"]


@define(eq=False)
class LocalState:
    """Where a rollout stands in this process: one for all functions that are decorated with the same key and settings.

    Attributes:
        state: The state, replaced as a whole.
        described: The settings as text, by option.
        breakers: Circuit breakers of the candidates, by name; empty without.
        held_by: Who has switched candidates off for now: the control file, a flag; each lets go for itself.
        lost: Whether this process cannot know where the rollout stands, or is of a version that another has replaced: then
            no candidate runs.
        closed: Whether no candidate may start: disabled, lost, or stopped. Every start looks at it, at the last moment.
        controllers: Those that stand here, for as long as they live.
        plan: What the rollout is judged by, as plain values (`rollout_sdk.plan.written`); empty if nothing was declared.
        changing: Held while the state changes; no call takes it.
    """

    state: RolloutState
    described: Mapping[str, str]
    breakers: Mapping[str, CircuitBreaker] = Factory(dict)
    held_by: frozenset[str] = frozenset()
    lost: bool = False
    closed: bool = False
    controllers: WeakSet[Any] = Factory(WeakSet)
    plan: Mapping[str, Any] = Factory(dict)
    changing: ForkSafeLock = Factory(ForkSafeLock)

    def enter(self, state: RolloutState) -> None:
        """Stand there from now on."""
        self.closed = bool(self.held_by) or self.lost or state.stopped
        self.state = state

    def disable(self, *, disabled: bool, holder: str) -> None:
        """Switch candidates off, or let go of them: they run again when nobody holds them any more."""
        self.held_by = self.held_by | {holder} if disabled else self.held_by - {holder}
        self.enter(self.state)

    def lose(self, *, lost: bool) -> None:
        """Run no candidate for as long as it is not known where the rollout stands."""
        self.lost = lost
        self.enter(self.state)
