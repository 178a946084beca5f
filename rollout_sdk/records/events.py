"""Frozen events: a call, a shadow, an outcome, a circuit breaker, a transition."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Literal

from attrs import evolve, field, frozen

from rollout_sdk.concurrency.context_vars import CallerContext
from rollout_sdk.records.values import Comparison, Decision, Run
from rollout_sdk.sampling import is_drawn

__all__ = [
    "BreakerEvent",
    "RecordedEvent",
    "RoutedEvent",
    "RoutedRows",
    "ShadowEnd",
    "ShadowedEvent",
    "TransitionAction",
    "TransitionedEvent",
    "Withheld",
]

ShadowEnd = Literal[
    "ok",
    "error",
    "timeout",
    "cancelled",
    "abandoned",
    "unmeasured",
    "dropped_full",
    "dropped_too_large",
    "dropped_stale",
    "dropped_snapshot",
    "dropped_start",
    "dropped_closed",
    "dropped_open",
    "dropped_aborted",
]
"""Ends of a submitted shadow run; each run has exactly one."""

Withheld = Literal["breaker_open", "aborted", "disabled"]
"""Why an assigned variant was not run: its circuit breaker was open, or the operator stopped it first."""

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


@frozen
class RoutedEvent:
    """A call was decided and answered.

    Attributes:
        decision: The decision, with its id.
        served: Name of the variant whose answer the caller got; differs from `decision.variant` after a fallback.
        runs: The runs on the caller's path, in order.
        error: Class name of the exception that the caller got, or None.
        unit: Pseudonym of the unit, 16 hexadecimal digits of a keyed hash; None if the call is its own unit.
        items: Pseudonyms of the shown items of a blended answer, in order.
        teams: Team of each shown item; None is neutral.
        rule: Rule that credits clicks on them, if they are not credited by team.
        closed_early: Whether the caller closed the stream, or was cancelled, before the end.
        control: Name of the control.
        excluded: Whether the call must not be analysed: its reason is not the strategy's own, or a blend failed.
        withheld: Why the assigned variant was not run at all; None if it was.
        answered: Whether an exception of the assigned variant counts as an answer (`passthrough=`), not as a failure.
        no_evidence: Whether the call is evidence about neither candidate nor control, although it is otherwise analysed: the
            control failed while circuit breakers were open, either in place of a withheld candidate, or on a call of its own
            while no candidate ran that could have failed as well.
        unmeasured: Class name of an answer whose work was still to come and cannot be measured (a handle of another library, a
            streaming HTTP response); None for every other answer. Its call is not evidence, and no step passes on it.
        covariate: Value of `covariate=` for the call, or None.
        rate: Share of the calls that was kept when this one was: below 1 under overload (see `rollout_sdk.sampling`).
        context: Runs a function in the caller's context variables, if an active listener reads them.
    """

    decision: Decision
    served: str
    runs: tuple[Run, ...]
    error: str | None = None
    unit: str | None = None
    items: tuple[str, ...] = ()
    teams: tuple[str | None, ...] = ()
    rule: Mapping[str, Any] | None = None
    closed_early: bool = False
    control: str = "control"
    excluded: bool = False
    withheld: Withheld | None = None
    answered: bool = False
    no_evidence: bool = False
    unmeasured: str | None = None
    covariate: float | None = None
    rate: float = 1.0
    context: CallerContext | None = field(default=None, eq=False, repr=False)

    def drawn(self, rate: float) -> RoutedEvent | None:
        """The call, if it is one of those that are kept at this rate or its own."""
        rate = min(rate, self.rate)
        return evolve(self, rate=rate) if is_drawn(self.decision.id, rate) else None


@frozen
class RoutedRows:
    """The rows of an answered batch, for the journal; observers get a `RoutedEvent` for each.

    Attributes:
        like: One row of each kind: rows of a kind differ only in the columns below.
        kind: For each row, the position of its kind in `like`.
        ids: For each row, the id of its decision.
        buckets: For each row, its unit's bucket.
        units: For each row, its unit's pseudonym; None if the row is its own unit.
        covariates: For each row, its covariate; empty if no row has one.
    """

    like: tuple[RoutedEvent, ...]
    kind: tuple[int, ...]
    ids: tuple[str, ...]
    buckets: tuple[int, ...]
    units: tuple[str | None, ...]
    covariates: tuple[float | None, ...] = ()

    @property
    def weight(self) -> int:
        """Number of facts it stands for."""
        return len(self.kind)

    def drawn(self, rate: float) -> RoutedRows | None:
        """Those of the rows that are kept at this rate or their own; None when there is none."""
        like = tuple(evolve(each, rate=min(rate, each.rate)) for each in self.like)
        kept = [
            place for place, (kind, id_) in enumerate(zip(self.kind, self.ids, strict=True)) if is_drawn(id_, like[kind].rate)
        ]
        if not kept:
            return None
        return RoutedRows(
            like=like,
            kind=tuple(self.kind[place] for place in kept),
            ids=tuple(self.ids[place] for place in kept),
            buckets=tuple(self.buckets[place] for place in kept),
            units=tuple(self.units[place] for place in kept),
            covariates=tuple(self.covariates[place] for place in kept) if self.covariates else (),
        )


@frozen
class ShadowedEvent:
    """A shadow run ended.

    Attributes:
        decision: The decision of the shadowed call.
        variant: Name of the variant that ran in the background.
        end: How it ended.
        duration_s: Seconds it ran; None if it never started.
        wait_s: Seconds it waited in the queue.
        error: Class name of the exception, or None.
        comparison: Comparison of its output with the control's; None if there was nothing to compare.
        unit: As in `RoutedEvent`.
        excluded: As in `RoutedEvent`.
        first_item_s: For a stream, seconds until its first item; None if there was none.
        control_error: Error of the control's run on the same call, as in `Run`; None if it succeeded, or is unknown.
        control_duration_s: Seconds of the control's run (for a batch: on all its rows); None if the run's outcome is unknown,
            because it was interrupted or had not ended. The other two are then unknown as well.
        control_first_item_s: For a stream, seconds until the control's first item.
        rate: As in `RoutedEvent`.
        exception: The exception, with `Telemetry(exception_messages=True)` and if no span records it; else None.
    """

    decision: Decision
    variant: str
    end: ShadowEnd
    duration_s: float | None = None
    wait_s: float | None = None
    error: str | None = None
    comparison: Comparison | None = None
    unit: str | None = None
    excluded: bool = False
    first_item_s: float | None = None
    control_error: str | None = None
    control_duration_s: float | None = None
    control_first_item_s: float | None = None
    rate: float = 1.0
    exception: BaseException | None = field(default=None, eq=False, repr=False)

    def drawn(self, rate: float) -> ShadowedEvent | None:
        """The end, if its call is one of those that are kept at this rate or its own."""
        rate = min(rate, self.rate)
        return evolve(self, rate=rate) if is_drawn(self.decision.id, rate) else None


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
        rate: Share of the outcomes that was kept when this one was: below 1 under overload (see `rollout_sdk.sampling`).
        call_rate: The rate of its call, from the id.
        shadow: Whether it is about the answer of a shadow, that of `variant`, which no user has seen.
        measured: Whether `measure=` took it from the answer, so that no other process has it; not in the journal.
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
        """What of the answer it is about: an item, or the whole answer of a shadow."""
        if self.shadow:
            return self.variant
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
        return _named(self.rollout, self.metric, self.decision_id, *([self.variant] if self.shadow else ()))

    @property
    def identity(self) -> int:
        """A 64-bit value that is equal if an outcome is sent, journalled or read again; valid within one process only.

        It identifies the event that the outcome came from, even if the unit has had another decision since. Without an event,
        it identifies the subject of the outcome, its value, and its time to the millisecond.
        """
        what = self._what
        if self.event_id is not None:
            return hash((self.rollout, self.metric, self.event_id, what))
        whom = self.unit if self.decision_id is None else self.decision_id
        # Rounded as in a journal.
        return hash((self.rollout, self.metric, float(self.value), int(round(self.time_s, 6) * 1000), whom, what))


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
