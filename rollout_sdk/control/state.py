"""The state of a rollout and its transitions: pure functions from one frozen state to the next.

    running --promote--> running (next step) --promote--> promoted (everybody has the candidate)
    running <--pause / resume--> paused
    running or paused --set_share--> the same, with other shares
    any but aborted --abort--> aborted (everybody has the control; latched)

Every change of shares, and an abort, starts a new phase with a new number, also when the shares were used before: what was
measured last week is another week's evidence. A transition that leaves the shares as they are stays in its phase.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from weakref import WeakSet

from attrs import Factory, define, evolve, frozen

from rollout_sdk.assignment import Phase, Share, parse_share, phase_label
from rollout_sdk.breaker import CircuitBreaker
from rollout_sdk.exceptions import StateError

__all__ = ["RolloutState", "Standing", "Status", "start"]

Status = Literal["running", "paused", "promoted", "aborted"]


@frozen
class RolloutState:
    """Where a rollout stands.

    Attributes:
        key: Key of the rollout, for errors.
        plan: The planned phases, in order.
        phase: The current phase, numbered: "0:1%".
        step: Index of the planned phase last entered or passed; -1 before the first.
        status: What may happen next.
        revision: Number of transitions so far.
        number: Number of the current phase.
        ramps: Whether the strategy has steps at all.
    """

    key: str
    plan: tuple[Phase, ...]
    phase: Phase
    step: int = 0
    status: Status = "running"
    revision: int = 0
    number: int = 0
    ramps: bool = True

    def promote(self, candidate: str | None = None) -> RolloutState:
        """The next step, or after the last one everybody.

        Raises:
            StateError: The rollout is not running, has no steps, there is no such candidate, or several could be meant.
        """
        self._must_be("running", action="promote")
        self._must_have_steps("promote")
        if candidate is not None:
            self._one_candidate(candidate)
        if self.step + 1 < len(self.plan):
            return evolve(self._entered(self.plan[self.step + 1]), step=self.step + 1)
        winner = self._one_candidate(candidate)
        everybody = Phase("100%", {name: float(name == winner) for name in self.phase.shares}, self.phase.control)
        return evolve(self._entered(everybody), status="promoted")

    def set_share(self, share: Share, candidate: str | None = None) -> RolloutState:
        """Another share for one candidate, outside the plan; a later promote goes to the next planned step above it.

        The share that it has already changes nothing.

        Raises:
            StateError: The rollout is neither running nor paused, has no steps, or several candidates could be meant.
            ConfigurationError: The share is none, or the shares exceed 100 %.
        """
        self._must_be("running", "paused", action="set the share of")
        self._must_have_steps("set the share of")
        name = self._one_candidate(candidate)
        value = parse_share(share, f"share of {name!r}")
        shares = {**self.phase.shares, name: value}
        if shares == self.phase.shares:
            return self
        below = [index for index, phase in enumerate(self.plan) if phase.shares[name] <= value]
        return evolve(self._entered(Phase(phase_label(shares), shares, self.phase.control)), step=below[-1] if below else -1)

    def pause(self) -> RolloutState:
        """Shares stay as they are, and promote is refused until resume."""
        self._must_be("running", action="pause")
        return evolve(self, status="paused", revision=self.revision + 1)

    def resume(self) -> RolloutState:
        """Running again, after a pause."""
        self._must_be("paused", action="resume")
        return evolve(self, status="running", revision=self.revision + 1)

    def abort(self) -> RolloutState:
        """Everybody gets the control, for good. Aborting twice changes nothing."""
        if self.status == "aborted":
            return self
        nobody = Phase("aborted", dict.fromkeys(self.phase.shares, 0.0), self.phase.control)
        return evolve(self._entered(nobody, anew=True), status="aborted")

    def begun_again(self, other: RolloutState) -> RolloutState:
        """Where a rollout stands that is described anew with other settings, as `other`: by a reloaded module, say.

        It begins again, in a phase with a new number, because the evidence so far is about something else. An abort stays.
        """
        fresh = evolve(other, number=self.number, revision=self.revision)
        return fresh.abort() if self.status == "aborted" else fresh._entered(other.plan[0], anew=True)  # noqa: SLF001

    def _entered(self, phase: Phase, *, anew: bool = False) -> RolloutState:
        """In a phase of these shares; in the current one, unless they are other shares or it shall be `anew`."""
        if phase.shares == self.phase.shares and not anew:
            return evolve(self, revision=self.revision + 1)
        number = self.number + 1
        return evolve(self, phase=evolve(phase, name=f"{number}:{phase.name}"), number=number, revision=self.revision + 1)

    def _must_be(self, *allowed: Status, action: str) -> None:
        if self.status not in allowed:
            cure = {
                "paused": "It is paused already." if action == "pause" else "Resume it first.",
                "running": "It is running already.",
                "promoted": "It is over: the candidate serves everybody. Abort it to go back.",
                "aborted": "An abort is final. Start again under a new key.",
            }[self.status]
            raise StateError(
                f"Cannot {action} {self.key!r}: it is {self.status}. This is possible while {' or '.join(allowed)}. {cure}"
            )

    def _must_have_steps(self, action: str) -> None:
        if not self.ramps:
            raise StateError(
                f"Cannot {action} {self.key!r}: its strategy has no steps. Steps belong to a canary. Use Canary([...])."
            )

    def _one_candidate(self, candidate: str | None) -> str:
        names = tuple(self.phase.shares)
        if candidate is None and len(names) == 1:
            return names[0]
        if candidate not in names:
            raise StateError(
                f"Cannot tell which candidate of {self.key!r} is meant by {candidate!r}. "
                f"With several candidates, one must be named. Pass candidate= one of: {', '.join(names)}."
            )
        return candidate


def start(key: str, plan: Sequence[Phase], *, ramps: bool) -> RolloutState:
    """The state of a rollout that begins."""
    first = plan[0]
    return RolloutState(key, tuple(plan), evolve(first, name=f"0:{first.name}"), ramps=ramps)


@define(eq=False)
class Standing:
    """Where a rollout stands in this process: one for all functions that are decorated with the same key and settings.

    Attributes:
        state: The state, replaced as a whole.
        described: The settings as text, by option.
        breakers: Circuit breakers of the candidates, by name; empty without.
        disabled: Whether the operator has switched candidates off for now.
        closed: Whether no candidate may start: disabled, or aborted. Every start looks at it, at the last moment.
        controllers: Those that stand here, for as long as they live.
        changing: Held while the state changes; no call takes it.
    """

    state: RolloutState
    described: Mapping[str, str]
    breakers: Mapping[str, CircuitBreaker] = Factory(dict)
    disabled: bool = False
    closed: bool = False
    controllers: WeakSet[Any] = Factory(WeakSet)
    changing: threading.Lock = Factory(threading.Lock)

    def enter(self, state: RolloutState) -> None:
        """Stand there from now on."""
        self.closed = self.disabled or state.status == "aborted"
        self.state = state

    def disable(self, *, disabled: bool) -> None:
        """Switch candidates off, or on again."""
        self.disabled = disabled
        self.enter(self.state)
