"""A call in progress: the request, its runs and its result."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from rollout_sdk.assignment import RouteRequest, pseudonym, pseudonyms
from rollout_sdk.assignment.ids import encode_id, encode_token
from rollout_sdk.concurrency.context_vars import CallerContext
from rollout_sdk.concurrency.forking import notice_fork, same_process
from rollout_sdk.engine.context import OBSERVING, in_shadow
from rollout_sdk.engine.failing import is_failing
from rollout_sdk.engine.steps import Invoke, Result, error_type
from rollout_sdk.engine.tracebacks import has_come_out
from rollout_sdk.judging import cell_of
from rollout_sdk.judging.ingest import first_item_of
from rollout_sdk.records import EXCLUDED_REASONS, FAILED_IF, UNMEASURED, Decision, Merged, RoutedEvent, Run, Withheld
from rollout_sdk.records.sampling import is_drawn, rate_of

if TYPE_CHECKING:
    from opentelemetry.context import Context as SpanContext
    from opentelemetry.trace import Span

    from rollout_sdk.engine.copies.survey import Survey
    from rollout_sdk.engine.current import Current
    from rollout_sdk.engine.rollout import Rollout, Shadow
    from rollout_sdk.judging import Evidence
    from rollout_sdk.tally import Tally

__all__ = ["Call", "Row", "Runs"]


_OPERATED = ("aborted", "disabled")


Row: TypeAlias = Callable[[tuple[Any, ...], Mapping[str, Any], int], tuple[tuple[Any, ...], Mapping[str, Any]]]
"""Builds the arguments of one row from those of a batch and the row's position."""


Runs: TypeAlias = tuple[tuple[str, float, str | None, float | None], ...]
"""Runs on the caller's path, in order: variant, seconds, error type, seconds until the first item."""


class Call(RouteRequest):
    """One call of a decorated function (or one row of a batch): the request and everything recorded about it."""

    # Class-level defaults: most calls never set these, and an attribute that is not set costs nothing.
    decision: Decision
    runs: Runs = ()
    excluded = False
    closed_early = False
    no_evidence = False
    unmeasured: str | None = None
    observed = True
    """Whether observers and log handlers receive this call; False for a call made by one of them."""
    cut = False
    """Whether the last run was interrupted, so its outcome is unknown."""
    covariate: float | None = None
    segments: tuple[tuple[str, str], ...] = ()
    error: str | None = None
    merged: Merged | None = None
    withheld: Withheld | None = None
    answered = False
    span: Span | None = None
    span_context: SpanContext | None = None
    context: Context | None = None
    rows: Sequence[Call] = ()
    shadows: Sequence[Shadow] = ()
    rescued = False
    outer: Current | None = None
    """The enclosing call; see engine/current.py."""
    came_out: tuple[int, ...] = ()
    """Identities of the last exceptions that controls raised inside this call."""
    survey: Survey | None = None
    """Findings about the arguments from the survey before copying."""
    row: Row | None = None
    index = 0
    """Position of a row in its batch."""
    weight = 1
    """Number of facts this call stands for."""
    level = 0
    """Level of the recorder's queue when the call began (see `sampling`); its id contains it, for its outcomes."""
    rate = 1.0
    """Share of such calls that is kept."""
    measured: Runs = ()
    """Of a row: the runs whose durations it reports; a run over many rows is measured once."""
    said_unit: Any = None
    decided_s: float | None = None
    _full: tuple[Decision, Decision] | None = None

    def __init__(self, rollout: Rollout, args: tuple[Any, ...], kwargs: Mapping[str, Any], time_ns: int | None = None) -> None:
        """Start a call, now or at a time shared with others; the router then sets its unit and `decision`."""
        # Check for a fork before reading process-wide state, such as the source of unique ids.
        if not same_process[0]:
            notice_fork()
        self.rollout = rollout
        self.outline = rollout.outline
        self.args = args
        self.kwargs = kwargs
        nonces = rollout.nonces
        self.origin = nonces.origin
        self.sequence = next(nonces.sequence)
        if nonces.load.level:
            self.level = nonces.load.level
            self.rate = rate_of(self.level)
        self.time_ns = rollout.time_ns() if time_ns is None else time_ns
        self.served = rollout.control
        # Read by every call: Python 3.11 reads an object's own attribute in a fifth of the time of its class's.
        self.span = self.survey = self.error = self.withheld = self.merged = self.outer = None
        self.shadows = self.runs = self.rows = ()

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The call's arguments by parameter name; for a row, with the row itself in place of each list of rows."""
        if self.row is None:
            return super().arguments
        return self.outline.bind(*self.row(self.args, self.kwargs, self.index))

    def invoke(self, variant: str, *, in_turn: bool = False) -> Invoke:
        """Return the step that runs a variant on the call's arguments; `in_turn`: its span starts when the step does."""
        rollout = self.rollout
        step = Invoke(variant, rollout.functions[variant], self.args, self.kwargs)
        if variant != rollout.control:
            step.gate, step.deadline_s = rollout.local_state, rollout.deadline_s
        if self.span is not None:
            if in_turn:
                step.on_begin = partial(rollout.spans.start_invoke, self)
            else:
                rollout.spans.start_invoke(self, step)
        elif rollout.surrounds:
            rollout.spans.surround(self, step)
        return step

    def attempt(self, variant: str, *, in_turn: bool = False) -> Invoke | None:
        """Return the step that runs a variant, or None if its circuit breaker is open."""
        breaker = self.rollout.local_state.breakers.get(variant)
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
        """Record a run, without keeping its value or exception."""
        if result.withheld is not None:
            self.withheld = result.withheld
            if step.span is not None:
                # Not run, so the span ends without an error.
                self.rollout.spans.end_invoke(step, Result(step.variant, 0.0))
            return result
        rollout = self.rollout
        error = None
        # Ordered for speed: most runs succeed, as did the control's recent ones, and then nothing else is checked.
        if result.error is not None or rollout.failed_if is not None or result.interrupted:
            error = self._judge(result)
        if step.breaker is not None:
            if result.failed:
                step.failed = True
            elif not result.interrupted:
                step.breaker.note(step.ticket, failed=False)
        elif (health := rollout.health) is not None and (health.share or result.failed) and not result.interrupted:
            health.note(failed=result.failed)
            self.doubt(failed=result.failed)
        self.runs += ((step.variant, result.duration_s, error, result.first_item_s),)
        if step.span is not None:
            rollout.spans.end_invoke(step, result)
        return result

    def _judge(self, result: Result) -> str | None:
        """Decide whether a run failed; return the error type to record."""
        rollout, error = self.rollout, result.error
        if error is not None and isinstance(error, rollout.passthrough):
            self.answered = True
        elif error is not None:
            result.failed = not result.interrupted
            if self.came_out and result.failed:
                result.passes = has_come_out(self.came_out, error)
        if result.interrupted:
            self.cut = True
            return None
        if error is not None:
            return error_type(error)
        # Rows of a batch have been judged one by one; a stream's items are not a single answer to judge.
        if rollout.failed_if is not None and not rollout.by_row and not result.streamed:
            result.refused = result.failed = is_failing(rollout, result.value)
        return FAILED_IF if result.refused else None

    def charge(self, step: Invoke, control: Result | None = None) -> None:
        """Report a failed run to the candidate's breaker, with the control's result from the same call if there is one.

        Withheld and interrupted control results are ignored.
        """
        if step.failed and step.breaker is not None:
            known = control is not None and not control.interrupted and control.withheld is None
            step.breaker.note(step.ticket, failed=True, control_failed=control.failed if known and control else None)

    def doubt(self, *, failed: bool) -> None:
        """Discard a call as evidence if the control failed on it while open breakers keep candidates from failing too."""
        if not failed or self.decision.blend:
            return
        if self.decision.variant != self.rollout.control:
            self.no_evidence = self.withheld == "breaker_open"
        else:
            # A candidate that still runs is compared with the control, and its failures count in both arms.
            self.no_evidence = all(breaker.is_open for breaker in self.rollout.local_state.breakers.values())

    def control_run(self) -> tuple[str, float | None, str | None, float | None]:
        """The control's run on the call's arguments, as in `runs`; all None if its outcome is unknown."""
        if self.unmeasured is not None:
            return self.rollout.control, None, None, None
        control, runs = self.rollout.control, self.runs[:-1] if self.cut else self.runs
        found = None if self.decision.blend else next((run for run in reversed(runs) if run[0] == control), None)
        return (control, None, None, None) if found is None else found

    def leave(self, steps: Sequence[Invoke]) -> None:
        """End the spans of steps whose results are no longer needed."""
        for step in steps:
            if step.span is not None:
                self.rollout.spans.end_invoke(step, Result(step.variant, 0.0))

    @property
    def is_blended(self) -> bool:
        """Whether its answer is made of several variants'."""
        return bool(self.decision.blend)

    @property
    def full(self) -> Call:
        """The call itself; of a common call, that with everything that is known of it."""
        return self

    @property
    def decision_id(self) -> str:
        """The decision's id, encoded on every access."""
        rollout, variant, phase = self.rollout, self.decision.variant, self.phase
        return encode_id(
            rollout.key,
            phase.name,
            variant,
            self.bucket,
            self.time_ns,
            self.nonce,
            rollout.secret,
            fingerprint=phase.fingerprint,
        )

    def full_decision(self) -> Decision:
        """The decision with its id and everything the controller knows."""
        decision, rollout = self.decision, self.rollout
        if self._full is not None and self._full[0] is decision:
            return self._full[1]
        phase = self.phase
        # Positional arguments, in the order of the class, take half the time of keywords.
        full = Decision(
            decision.variant,
            decision.reason,
            decision.propensity,
            decision.shadows,
            decision.blend,
            self.decision_id,
            rollout.key,
            rollout.strategy_name,
            phase.name,
            decision.share,
            self.bucket,
            self.time_ns / 1e9,
            phase.fingerprint,
        )
        # Cached: spans, the caller and the recorder each ask for it.
        self._full = decision, full
        return full

    def tokens(self, items: Sequence[Hashable], credits_: Sequence[Mapping[str, float] | None]) -> Sequence[str]:
        """Return tokens for the shown items; each encodes the credit of a click."""
        decision_id, secret = self.full_decision().id, self.rollout.secret
        shown = enumerate(zip(pseudonyms(self.rollout.item_hash, items), credits_, strict=True))
        return [encode_token(decision_id, position, item, credit, secret) for position, (item, credit) in shown]

    def note(self, text: str, *, is_error: bool = False) -> None:
        """Note it with the rollout."""
        self.rollout.note(text, is_error=is_error)

    @property
    def nonce(self) -> str:
        """The part that makes this call's id unique."""
        return f"{self.origin}{self.sequence:x}{self.nonce_end}"

    @property
    def nonce_end(self) -> str:
        """The end of the nonce: the level if the call began under overload, and a dash if the strategy did not decide it."""
        level = f"~{self.level}" if self.level else ""
        return f"{level}{'-' if self.decision.reason in EXCLUDED_REASONS else ''}"

    def drawn(self, rate: float) -> Call | None:
        """The call, if it is kept at this rate, or at the rate at which it began if that is lower; else None."""
        self.rate = min(rate, self.rate)
        return self if is_drawn(self.decision_id, self.rate) else None

    @property
    def unit(self) -> str | None:
        """The unit's pseudonym; None when the call is its own unit."""
        return pseudonym(self.digest) if self.has_unit else None

    @property
    def is_excluded(self) -> bool:
        """Whether the call must not be analysed."""
        return self.excluded or self.decision.reason in EXCLUDED_REASONS

    def count_in(self, tally: Tally, number: int = 1) -> None:
        """Add the call, or so many rows like it, to the process's counts; no event is created."""
        tally.add_call(
            self.decision, self.phase.name, self.served, self.runs, self.withheld, excluded=self.is_excluded, number=number
        )
        if self.unmeasured is not None:
            tally.add_unmeasured(self.decision.variant, self.unmeasured)

    def add_to_evidence(self, evidence: Evidence) -> None:
        """Add this call to the evidence. Same result as `judging.add_routed(event)`, ten times faster."""
        withheld, runs, decision, phase = self.withheld, self.runs, self.decision, self.phase
        if self.excluded or self.no_evidence or decision.reason in EXCLUDED_REASONS or withheld in _OPERATED:
            return
        if phase.is_shadow:
            # Shadow evidence is added in pairs, when the shadow ends.
            return
        if self.unmeasured is not None and (withheld is None and runs and runs[0][2] is None):
            # Its outcome is unknown, and a step that depends on it does not pass.
            evidence.add_pair(phase.name, decision.variant, UNMEASURED)
            return
        # Fast path: almost every call is one run.
        duration_s = runs[0][1] if len(runs) == 1 else sum(run[1] for run in runs)
        evidence.add_call(
            phase.name,
            decision.variant,
            phase.exposure,
            cell_of(self.digest),
            self.bucket,
            failed=withheld is not None or (bool(runs) and runs[0][2] is not None and not self.answered),
            duration_s=None if self.closed_early or self.unmeasured is not None else duration_s,
            time_s=self.time_ns / 1e9,
            first_item_s=first_item_of(runs),
            covariate=self.covariate,
            decision=None if evidence.most_calls is None else self.decision_id,
        )
        merged = self.merged
        if merged is not None and evidence.judges_lists:
            # Only interleaved rollouts need the designs, which their strategy has imported.
            from rollout_sdk.interleaving.pages import read_page

            items = pseudonyms(self.rollout.item_hash, merged.items)
            if (page := read_page(items, decision.blend, merged.teams, merged.rule)) is not None:
                evidence.add_list(
                    self.decision_id,
                    page,
                    decision.blend,
                    phase_name=phase.name,
                    bucket=self.bucket,
                    time_s=self.time_ns / 1e9,
                )

    def as_event(self) -> RoutedEvent:
        """Build the call's event. Runs in the background because it costs more than all other bookkeeping of a call."""
        merged = self.merged
        if self.context is not None:
            # Only log handlers run in this context from now on, and a call made by one must not be logged in turn.
            self.context.run(in_shadow.set, OBSERVING)
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
            no_evidence=self.no_evidence,
            unmeasured=self.unmeasured,
            covariate=self.covariate,
            segments=self.segments,
            rate=self.rate,
            context=None if self.context is None else CallerContext(self.context),
        )
