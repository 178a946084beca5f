"""One call under way, the steps that drivers execute for it, and their results."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from rollout_sdk.assignment import RouteRequest, pseudonym, pseudonyms
from rollout_sdk.identity import encode_id, encode_token
from rollout_sdk.judging import cell_of
from rollout_sdk.records import EXCLUDED_REASONS, Decision, Merged, RoutedEvent, Run, Withheld

if TYPE_CHECKING:
    from opentelemetry.context import Context as SpanContext
    from opentelemetry.trace import Span

    from rollout_sdk.breaker import CircuitBreaker
    from rollout_sdk.control.state import Standing
    from rollout_sdk.engine.rollout import Rollout
    from rollout_sdk.engine.shadow import ShadowRun
    from rollout_sdk.engine.snapshot import Kept
    from rollout_sdk.judging import Evidence
    from rollout_sdk.tally import Tally

__all__ = ["Call", "Flow", "Invoke", "Result", "Together", "error_type"]


_OPERATED = ("aborted", "disabled")


def error_type(error: BaseException) -> str:
    """How an exception is named in records: by its class, never by its message."""
    return type(error).__qualname__


class Result:
    """What one run of a variant gave: a value or an error, and how long it took.

    A stream that was collected has its items as `value` and what it returned as `returned`; one that was passed on has what
    it returned as `value`, and copies of its items in `kept` where they were asked for.
    """

    # Defaults live on the class: what is not set costs nothing.
    started = False
    first_item_s: float | None = None
    kept: Kept | None = None
    returned: Any = None
    withheld: Withheld | None = None

    def __init__(
        self,
        variant: str,
        duration_s: float,
        value: Any = None,
        error: BaseException | None = None,
        interrupted: bool = False,  # noqa: FBT001, FBT002 - positional for speed: it is made for every run
    ) -> None:
        """A value, or an error; `interrupted` when the error is the caller's will (cancelled, closed, Ctrl-C)."""
        self.variant = variant
        self.duration_s = duration_s
        self.value = value
        self.error = error
        self.interrupted = interrupted

    def reraise(self) -> NoReturn:
        """Raise the model's own exception as it was, and leave no cycle behind that would keep its frames alive."""
        error, self.error = self.error, None
        assert error is not None
        context = error.__context__
        try:
            raise error
        finally:
            # Raising it again puts whatever the caller is handling in the place of the model's own context.
            error.__context__ = context
            del error, context


class Invoke:
    """A step: run one variant, with its span current while it runs.

    `keep` takes copies of a stream's items as they pass. A candidate has a `gate`, at which it is stopped when the operator was
    faster, a ticket of its circuit breaker, and perhaps a deadline (of a stream: for its first item).
    """

    keep: Kept | None = None
    gate: Standing | None = None
    breaker: CircuitBreaker | None = None
    ticket: int = 0
    deadline_s: float | None = None
    span: Span | None = None
    span_context: SpanContext | None = None
    call: Call | None = None
    """The call whose span waits for the turn of this step: where several run, each span is as long as its own run."""
    ended_ns: int | None = None

    def __init__(self, variant: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Say what to run."""
        self.variant = variant
        self.function = function
        self.args = args
        self.kwargs = kwargs

    def begin(self) -> None:
        """Start the span that waits for its turn, if any."""
        call, self.call = self.call, None
        if call is not None:
            call.rollout.spans.start_invoke(call, self)


class Together:
    """A step: run several variants, at the same time where the kind of function allows it; streams are collected.

    The first runs in the caller's own task and context. The step ends early, with fewer results than variants, when one is
    interrupted or when `vital` fails: nobody needs the others then.
    """

    __slots__ = ("invokes", "vital")

    def __init__(self, invokes: list[Invoke], vital: str) -> None:
        """Say what to run, and which variant there is no answer without."""
        self.invokes = invokes
        self.vital = vital

    def is_over(self, result: Result) -> bool:
        """Whether no other result matters after this one."""
        return result.interrupted or (result.error is not None and result.variant == self.vital)


Flow: TypeAlias = Generator[Invoke | Together, Any, Result]
"""Yields steps, is sent a Result for an Invoke and a list of them for a Together, returns what the caller gets."""


Row: TypeAlias = Callable[[tuple[Any, ...], Mapping[str, Any]], tuple[tuple[Any, ...], Mapping[str, Any]]]
"""Makes one row's arguments of a batch's."""


class Call(RouteRequest):
    """One call of a decorated function (or one row of a batch): a request, and all that becomes of it."""

    # Defaults live on the class: most calls never set them, and what is not set costs nothing.
    decision: Decision
    runs: tuple[tuple[str, float, str | None, float | None], ...] = ()
    excluded = False
    closed_early = False
    error: str | None = None
    merged: Merged | None = None
    withheld: Withheld | None = None
    answered = False
    span: Span | None = None
    span_context: SpanContext | None = None
    context: Context | None = None
    rows: Sequence[Call] = ()
    shadows: Sequence[ShadowRun] = ()
    rescued = False
    row: Row | None = None
    measured: tuple[tuple[str, float, str | None, float | None], ...] = ()
    """Of a row: the runs whose durations it tells; a run of many rows is measured once."""
    said_unit: Any = None
    decided_s: float | None = None
    _full: tuple[Decision, Decision] | None = None

    def __init__(self, rollout: Rollout, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Begin a call; its description and `decision` follow."""
        self.rollout = rollout
        self.outline = rollout.outline
        self.args = args
        self.kwargs = kwargs
        self.origin = rollout.nonces.origin
        self.sequence = next(rollout.nonces.sequence)
        self.time_ns = rollout.time_ns()
        self.served = rollout.control

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments of the call by parameter name; of a row, with the row itself in the place of each list of rows."""
        if self.row is None:
            return super().arguments
        return self.outline.bind(*self.row(self.args, self.kwargs))

    def invoke(self, variant: str, *, in_turn: bool = False) -> Invoke:
        """The step that runs a variant on the call's own arguments; `in_turn`: beside others, so that its span begins later."""
        rollout = self.rollout
        step = Invoke(variant, rollout.functions[variant], self.args, self.kwargs)
        if variant != rollout.control:
            step.gate, step.deadline_s = rollout.standing, rollout.deadline_s
        if self.span is not None:
            if in_turn:
                step.call = self
            else:
                rollout.spans.start_invoke(self, step)
        elif rollout.surrounds:
            rollout.spans.surround(self, step)
        return step

    def attempt(self, variant: str, *, in_turn: bool = False) -> Invoke | None:
        """The step that runs a variant, unless its circuit breaker is open."""
        breaker = self.rollout.standing.breakers.get(variant)
        if breaker is None:
            return self.invoke(variant, in_turn=in_turn)
        ticket = breaker.admit()
        if ticket is None:
            self.withheld = "breaker_open"
            return None
        step = self.invoke(variant, in_turn=in_turn)
        step.breaker, step.ticket = breaker, ticket
        return step

    def ran(self, step: Invoke, result: Result) -> Result:
        """Note a run; the value and the exception are not kept."""
        if result.withheld is not None:
            self.withheld = result.withheld
            if step.span is not None:
                # It did not fail: it was not run.
                self.rollout.spans.end_invoke(step, Result(step.variant, 0.0))
            return result
        if step.breaker is not None and not result.interrupted:
            failed = result.error is not None and not isinstance(result.error, self.rollout.passthrough)
            step.breaker.note(step.ticket, failed=failed)
        if result.error is not None and isinstance(result.error, self.rollout.passthrough):
            self.answered = True
        error = None if result.error is None or result.interrupted else error_type(result.error)
        self.runs += ((step.variant, result.duration_s, error, result.first_item_s),)
        if step.span is not None:
            self.rollout.spans.end_invoke(step, result)
        return result

    def leave(self, steps: Sequence[Invoke]) -> None:
        """End the spans of steps whose results nobody waits for any more."""
        for step in steps:
            if step.span is not None:
                self.rollout.spans.end_invoke(step, Result(step.variant, 0.0))

    def full_decision(self) -> Decision:
        """The decision with its id and all that the controller knows."""
        decision, rollout = self.decision, self.rollout
        if self._full is not None and self._full[0] is decision:
            return self._full[1]
        phase = self.phase.name
        variant, bucket = decision.variant, self.bucket
        # By position, in the order of the class: this is half the price of keywords.
        full = Decision(
            variant,
            decision.reason,
            decision.propensity,
            decision.shadows,
            decision.blend,
            encode_id(rollout.key, phase, variant, bucket, self.time_ns, self.nonce, rollout.secret),
            rollout.key,
            rollout.strategy_name,
            phase,
            decision.share,
            bucket,
            self.time_ns / 1e9,
        )
        # Spans, the caller and the recorder ask for it by turns.
        self._full = decision, full
        return full

    def tokens(self, items: Sequence[Hashable], credits_: Sequence[Mapping[str, float] | None]) -> Sequence[str]:
        """Tokens of the items that are shown, with what a click credits."""
        decision_id, secret = self.full_decision().id, self.rollout.secret
        shown = enumerate(zip(pseudonyms(self.rollout.item_hash, items), credits_, strict=True))
        return [encode_token(decision_id, position, item, credit, secret) for position, (item, credit) in shown]

    @property
    def nonce(self) -> str:
        """What makes this call's id unique; of a call that the strategy did not decide, it ends with a dash."""
        return f"{self.origin}{self.sequence:x}{'-' if self.decision.reason in EXCLUDED_REASONS else ''}"

    @property
    def unit(self) -> str | None:
        """The unit's pseudonym; None when the call is its own unit."""
        return pseudonym(self.digest) if self.has_unit else None

    @property
    def is_excluded(self) -> bool:
        """Whether the call must not be analysed."""
        return self.excluded or self.decision.reason in EXCLUDED_REASONS

    def count_in(self, tally: Tally) -> None:
        """Count the call; no event is made for it."""
        tally.add_call(self.decision, self.phase.name, self.served, self.runs, self.withheld, excluded=self.is_excluded)

    def testify(self, evidence: Evidence) -> None:
        """Be seen by the judge; the same as `judging.add_routed` does with the event, for a tenth of the time."""
        withheld, runs, decision, phase = self.withheld, self.runs, self.decision, self.phase
        if self.excluded or decision.reason in EXCLUDED_REASONS or withheld in _OPERATED:
            return
        # Nearly every call is one run.
        duration_s = runs[0][1] if len(runs) == 1 else sum(run[1] for run in runs)
        evidence.add_call(
            phase.name,
            decision.variant,
            phase.exposure,
            cell_of(self.digest),
            self.bucket,
            failed=withheld is not None or (bool(runs) and runs[0][2] is not None and not self.answered),
            duration_s=None if self.closed_early else duration_s,
            time_s=self.time_ns / 1e9,
        )

    def as_event(self) -> RoutedEvent:
        """The call as a fact. Made in the background: it costs more than the call's own bookkeeping."""
        merged = self.merged
        return RoutedEvent(
            decision=self.full_decision(),
            served=self.served,
            runs=tuple(Run(*run) for run in self.runs),
            error=self.error,
            unit=self.unit,
            items=() if merged is None else pseudonyms(self.rollout.item_hash, merged.items),
            teams=() if merged is None else merged.teams,
            rule=None if merged is None else merged.rule,
            closed_early=self.closed_early,
            control=self.rollout.control,
            excluded=self.is_excluded,
            withheld=self.withheld,
            answered=self.answered,
            context=self.context,
        )
