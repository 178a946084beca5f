"""Events of outcomes, circuit breakers and transitions."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Literal

from attrs import evolve, field, frozen

from rollout_sdk.records.sampling import is_drawn

__all__ = ["BreakerEvent", "RecordedEvent", "TransitionAction", "TransitionedEvent"]

TransitionAction = Literal[
    "start",
    "promote",
    "promote_full",
    "skip_step",
    "set_share",
    "set_plan",
    "pause",
    "resume",
    "invalidate",
    "roll_back",
    "abort",
    "restore",
]
"""What was done; "restore" is what a process does to a store that has lost the rollout's state."""


_NO_DETAILS: Mapping[str, Any] = {}
"""One for all: thousands of outcomes wait for a store that does not answer."""


@frozen
class RecordedEvent:
    """An outcome was recorded.

    Attributes:
        rollout: Key of the rollout.
        metric: Name of the metric.
        value: The measured value.
        time_s: Time of the measurement, in seconds since 1970.
        decision_id: The decision it belongs to, or None if it was recorded for a unit.
        phase: Phase at decision time, from the id.
        variant: Variant at decision time, from the id.
        bucket: Bucket of the unit, from the id or hashed from the unit.
        unit: Pseudonym of the unit, if it was recorded for one.
        item: Pseudonym of the item, for credit in a blended answer; or
        position: its position in it, from 0.
        decided_s: Time of the decision, from the id.
        excluded: Whether the decision was not the strategy's own, from the id.
        fingerprint: Fingerprint of the decision, from the id; empty in ids of earlier SDKs, and for a unit.
        event_id: Pseudonym of the event that the outcome came from, if the application named one.
        rate: Share of the outcomes that was kept when this one was: below 1 under overload (see `sampling`).
        call_rate: The rate of its call, from the id.
        shadow: Whether it is about the answer of a shadow, that of `variant`, which no user has seen.
        source: Who said so: "judge", "human", or empty for the application itself.
        details: What the source says besides, as plain values: for a judge, its name, whose answer came first, seconds, cost.
        measured: Whether this process took it from the answer itself (`measure=`, a judge), so that no other process has it;
            not in the journal.
    """

    rollout: str
    metric: str
    value: float
    time_s: float
    decision_id: str | None = None
    phase: str | None = None
    variant: str | None = None
    bucket: int | None = None
    unit: str | None = None
    item: str | None = None
    position: int | None = None
    decided_s: float | None = None
    excluded: bool = False
    fingerprint: str = ""
    event_id: str | None = None
    rate: float = 1.0
    call_rate: float = 1.0
    shadow: bool = False
    source: str = ""
    details: Mapping[str, Any] = field(default=_NO_DETAILS, hash=False)
    measured: bool = field(default=False, eq=False)

    @property
    def factor(self) -> float:
        """How many outcomes of kept calls it stands for: 1, but where outcomes were kept at a lower rate than their calls."""
        return self.call_rate / self.rate

    def drawn(self, rate: float) -> RecordedEvent | None:
        """The outcome, if it is one of those that are kept at this rate or its own: by its call, or else by its unit."""
        rate = min(rate, self.rate)
        if not is_drawn(self.decision_id or self.unit or "", rate):
            return None
        return self if rate == self.rate else evolve(self, rate=rate)

    @property
    def _what(self) -> str | int | None:
        """What of the answer it is about: an item, or the whole answer of a shadow, as its source sees it."""
        if self.shadow:
            return f"{self.variant} {self.source}" if self.source else self.variant
        return self.position if self.item is None else self.item

    @property
    def name(self) -> str:
        """The identity, as text that is the same in every process."""
        what = self._what
        if self.event_id is not None:
            return _named(self.rollout, self.metric, self.event_id, what)
        whom = self.unit if self.decision_id is None else self.decision_id
        return _named(self.rollout, self.metric, float(self.value), int(round(self.time_s, 6) * 1000), whom, what)

    @property
    def label(self) -> str:
        """The identity of an outcome of which a decision has one, whatever its value and time are."""
        return _named(self.rollout, self.metric, self.decision_id, *([self._what] if self.shadow else ()))

    @property
    def identity(self) -> int:
        """A 64-bit value that is equal if an outcome is sent, journalled or read again; valid within one process only.

        It identifies the event that the outcome came from, even if the unit has had another decision since. Without an event,
        it identifies the subject of the outcome, its value, and its time to the millisecond.
        """
        whom = self.unit if self.decision_id is None else self.decision_id
        return identity_of(self.rollout, self.metric, self.value, self.time_s, whom, self._what, self.event_id)


def identity_of(
    rollout: str, metric: str, value: float, time_s: float, whom: str | None, what: str | int | None, event_id: str | None
) -> int:
    """`RecordedEvent.identity` by its fields: `whom` is the decision, else the unit; `what`, that of the answer it is about."""
    if event_id is not None:
        return hash((rollout, metric, event_id, what))
    # Rounded as in a journal.
    return hash((rollout, metric, float(value), int(round(time_s, 6) * 1000), whom, what))


def _named(*parts: str | float | None) -> str:
    return blake2b(repr(parts).encode(errors="surrogatepass"), digest_size=8).hexdigest()


@frozen
class BreakerEvent:
    """A candidate's circuit breaker opened or closed in this process.

    Attributes:
        rollout: Key of the rollout.
        variant: Name of the candidate.
        action: "open" (it is not run for a while), or "close" (its probe succeeded: it runs again).
        failures: Number of failed runs among the recent ones.
        runs: Number of recent runs.
        cooldown_s: Seconds until one run may probe whether it works again; 0 if it closed.
        time_s: Time of the change, in seconds since 1970.
    """

    rollout: str
    variant: str
    action: Literal["open", "close"]
    failures: int
    runs: int
    cooldown_s: float
    time_s: float

    def drawn(self, rate: float) -> BreakerEvent:  # noqa: ARG002 - as the others
        """It is rare, and always kept while there is room."""
        return self


@frozen
class TransitionedEvent:
    """A rollout changed its phase or status.

    Every process that follows the rollout's store emits one for every transition, whichever process made it.

    Attributes:
        rollout: Key of the rollout.
        strategy: Name of the strategy.
        action: The action.
        status: Status after the transition.
        revision: Number of transitions so far; 0 is the start.
        from_phase: Name of the previous phase, or None at the start.
        to_phase: Name of the new phase.
        shares: Configured share of every variant after the transition, the control included.
        actor: Who did it.
        reason: Why.
        time_s: Time of the transition, in seconds since 1970.
        shadow: Planned share of the control's calls on which candidates are shadowed after the transition.
        evidence: The verdict that caused it, with all its numbers; None if a person made the transition.
        invalid: Why the comparison cannot be trusted after the transition; empty if it can.
        version: Version of the candidates after the transition; empty if none was given.
        fingerprint: Fingerprint of comparable calls after the transition.
        replaced: The fingerprint that it replaces; empty if it is unchanged, or unknown.
        id: The same in every process that follows the transition, and in the store's history; empty for the start in a process.
    """

    rollout: str
    strategy: str
    action: TransitionAction
    status: str
    revision: int
    from_phase: str | None
    to_phase: str
    shares: Mapping[str, float]
    actor: str
    reason: str
    time_s: float
    shadow: float = 0.0
    evidence: Mapping[str, Any] | None = None
    invalid: str = ""
    version: str = ""
    fingerprint: str = ""
    replaced: str = ""
    id: str = ""

    def drawn(self, rate: float) -> TransitionedEvent:  # noqa: ARG002 - as the others
        """It is rare, and always kept while there is room."""
        return self
