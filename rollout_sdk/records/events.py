"""What happened, as frozen events: a call, a shadow, an outcome, a circuit breaker, a transition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

from rollout_sdk.concurrency.context_vars import CallerContext
from rollout_sdk.records.values import Comparison, Decision, Run

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
"""How a submitted shadow run ended: every one ends in exactly one of these."""

Withheld = Literal["breaker_open", "aborted", "disabled"]
"""Why an assigned variant was not run: its circuit breaker was open, or the operator was faster than the call."""

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
    """A call was decided and answered: what was decided, and how it went.

    Attributes:
        decision: The decision, with its id.
        served: Name of the variant whose answer the caller got; differs from `decision.variant` after a fallback.
        runs: The runs on the caller's path, in order.
        error: Class name of the exception that the caller got, or None.
        unit: Pseudonym of the unit, 16 hexadecimal digits of a keyed hash; None when the call is its own unit.
        items: Pseudonyms of the shown items of a blended answer, in order.
        teams: Team of each shown item; None is neutral.
        rule: How clicks on them are credited where it is not by team.
        closed_early: The caller closed the stream, or was cancelled, before the end.
        control: Name of the control.
        excluded: Whether the call must not be analysed: its reason is not the strategy's own, or a blend failed.
        withheld: Why the assigned variant was not run at all; None when it was.
        answered: Whether an exception of the assigned variant was an answer (`passthrough=`), and no failure.
        no_evidence: Whether the call says nothing about candidate or control, although it is analysed otherwise: the control
            failed while circuit breakers were open, either in the place of a withheld candidate, or on a call of its own
            while no candidate ran that could have failed as well.
        unmeasured: Class name of an answer whose work was still to come and cannot be measured (a handle of another library, a
            streaming HTTP response); None for every other answer. Its call is not evidence, and no step passes on it.
        covariate: What `covariate=` gave for the call; None where there is none.
        context: Runs a function in the context variables of the caller, when something that reads them listens.
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
    context: CallerContext | None = field(default=None, eq=False, repr=False)


@frozen
class RoutedRows:
    """The rows of a batch that was answered, for the journal; observers get a `RoutedEvent` for each.

    Attributes:
        like: One row of each kind: rows of a kind differ in nothing but the columns below.
        kind: For each row, the position of its kind in `like`.
        ids: For each row, the id of its decision.
        buckets: For each row, its unit's bucket.
        units: For each row, its unit's pseudonym; None where the row is its own unit.
        covariates: For each row, its covariate; empty where no row has one.
    """

    like: tuple[RoutedEvent, ...]
    kind: tuple[int, ...]
    ids: tuple[str, ...]
    buckets: tuple[int, ...]
    units: tuple[str | None, ...]
    covariates: tuple[float | None, ...] = ()

    @property
    def weight(self) -> int:
        """How many facts it stands for."""
        return len(self.kind)


@frozen
class ShadowedEvent:
    """A shadow run ended.

    Attributes:
        decision: The decision of the call that it shadowed.
        variant: Name of the variant that ran in the background.
        end: How it ended.
        duration_s: Seconds it ran; None when it never started.
        wait_s: Seconds it waited in the queue.
        error: Class name of the exception, or None.
        comparison: How its output compares with the control's; None when there was nothing to compare.
        unit: As in `RoutedEvent`.
        excluded: As in `RoutedEvent`.
        first_item_s: For a stream, seconds until its first item; None where none came.
        control_error: How the control's run of the same call failed, as in `Run`; None when it did well, or it is unknown.
        control_duration_s: Seconds that the control's run took (of a batch: for all its rows); None when it is unknown how
            that run went, because it was interrupted or had not ended yet. Then nothing is known of the other two.
        control_first_item_s: Of a stream, seconds until the control's first item.
        exception: The exception, with `Telemetry(exception_messages=True)` and where no span has it; else None.
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
    exception: BaseException | None = field(default=None, eq=False, repr=False)


@frozen
class RecordedEvent:
    """An outcome was recorded.

    Attributes:
        rollout: Key of the rollout.
        metric: Name of the metric.
        value: The measured value.
        time_s: When it was measured, in seconds since 1970.
        decision_id: The decision it belongs to, or None when it was recorded for a unit.
        phase: Phase at decision time, read from the id.
        variant: Variant at decision time, read from the id.
        bucket: Bucket of the unit, read from the id or hashed from the unit.
        unit: Pseudonym of the unit, when it was recorded for one.
        item: Pseudonym of the item, for credit in a blended answer; or
        position: its position in it, from 0.
        decided_s: Time of the decision, read from the id.
        excluded: Whether the decision was not the strategy's own, read from the id.
        fingerprint: That of the decision, read from the id; empty in ids of earlier SDKs, and for a unit.
        event_id: Pseudonym of the event that the outcome came from, where the application named one.
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

    @property
    def identity(self) -> int:
        """The same for an outcome that is sent, journalled or read again; 64 bits, the same in one process only.

        It is the event that the outcome came from, also where the unit has had another decision since. Without one it is whom
        the outcome is about, its value, and its time to the millisecond.
        """
        what = self.position if self.item is None else self.item
        if self.event_id is not None:
            return hash((self.rollout, self.metric, self.event_id, what))
        whom = self.unit if self.decision_id is None else self.decision_id
        # The time as a journal rounds it.
        return hash((self.rollout, self.metric, float(self.value), int(round(self.time_s, 6) * 1000), whom, what))


@frozen
class BreakerEvent:
    """A candidate's circuit breaker opened or closed in this process.

    Attributes:
        rollout: Key of the rollout.
        variant: Name of the candidate.
        action: "open" (it is not run for a while), or "close" (its probe succeeded: it runs again).
        failures: Failed runs among the last ones.
        runs: How many runs those were.
        cooldown_s: Seconds until one run may probe whether it works again; 0 when it closed.
        time_s: When, in seconds since 1970.
    """

    rollout: str
    variant: str
    action: Literal["open", "close"]
    failures: int
    runs: int
    cooldown_s: float
    time_s: float


@frozen
class TransitionedEvent:
    """A rollout changed its phase or status.

    Every process that follows the rollout's store has one for every transition, whoever made it.

    Attributes:
        rollout: Key of the rollout.
        strategy: Name of the strategy.
        action: What was done.
        status: Status after it.
        revision: Number of transitions so far; 0 is the start.
        from_phase: Name of the phase before, or None at the start.
        to_phase: Name of the phase after.
        shares: Configured share of every variant after it, the control included.
        actor: Who did it.
        reason: Why.
        time_s: When it was made, in seconds since 1970.
        shadow: Share of the control's calls on which candidates are shadowed by plan after it.
        evidence: The verdict that it was made on, with every number behind it; None when a person made it.
        invalid: Why the comparison cannot be trusted after it; empty when it can.
        version: Version of the candidates after it; empty when none was given.
        fingerprint: What makes calls comparable after it.
        replaced: The fingerprint in whose place it has begun; empty where it is the same, or unknown.
        id: The same in every process that follows it, and in the store's history; empty for the start in a process.
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
