"""Events of calls and their shadows: what observers, the journal and telemetry get once a call or shadow has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import evolve, field, frozen

from rollout_sdk.concurrency.context_vars import CallerContext
from rollout_sdk.records.sampling import is_drawn
from rollout_sdk.records.values import Comparison, Decision, Run

__all__ = ["RoutedEvent", "RoutedRows", "ShadowEnd", "ShadowedEvent", "Withheld"]

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
        segments: For each attribute that `segments=` names, which of its segments the call is in.
        rate: Share of the calls that was kept when this one was: below 1 under overload (see `rollout_sdk.records.sampling`).
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
    segments: tuple[tuple[str, str], ...] = ()
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
