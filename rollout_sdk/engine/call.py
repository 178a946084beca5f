"""One call under way: a request, and all that becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeAlias

from rollout_sdk.assignment import RouteRequest, pseudonym, pseudonyms
from rollout_sdk.assignment.ids import encode_id, encode_token
from rollout_sdk.concurrency.context_vars import CallerContext
from rollout_sdk.concurrency.forking import notice_fork, same_process
from rollout_sdk.engine.context import OBSERVING, in_shadow
from rollout_sdk.engine.failing import is_failing
from rollout_sdk.engine.nesting import has_come_out
from rollout_sdk.engine.steps import Invoke, Result, error_type
from rollout_sdk.judging import cell_of
from rollout_sdk.records import EXCLUDED_REASONS, FAILED_IF, UNMEASURED, Decision, Merged, RoutedEvent, Run, Withheld

if TYPE_CHECKING:
    from opentelemetry.context import Context as SpanContext
    from opentelemetry.trace import Span

    from rollout_sdk.engine.copies.survey import Survey
    from rollout_sdk.engine.rollout import Rollout
    from rollout_sdk.engine.shadows.shadow import ShadowRun
    from rollout_sdk.judging import Evidence
    from rollout_sdk.tally import Tally

__all__ = ["Call", "Row", "Runs"]


_OPERATED = ("aborted", "disabled")


def _first_item_s(runs: Sequence[tuple[str, float, str | None, float | None]]) -> float | None:
    """Seconds until the caller had the first item of a stream; None where there was none."""
    if not runs or (first_item_s := runs[-1][3]) is None:
        return None
    return first_item_s if len(runs) == 1 else sum(run[1] for run in runs[:-1]) + first_item_s


Row: TypeAlias = Callable[[tuple[Any, ...], Mapping[str, Any], int], tuple[tuple[Any, ...], Mapping[str, Any]]]
"""Makes one row's arguments of a batch's, and of its position."""


Runs: TypeAlias = tuple[tuple[str, float, str | None, float | None], ...]
"""Runs on the caller's path, in order: variant, seconds, error type, and seconds until the first item."""


class Call(RouteRequest):
    """One call of a decorated function (or one row of a batch): a request, and all that becomes of it."""

    # Defaults live on the class: most calls never set them, and what is not set costs nothing.
    decision: Decision
    runs: Runs = ()
    excluded = False
    closed_early = False
    no_evidence = False
    unmeasured: str | None = None
    observed = True
    """Whether observers and log handlers hear of it; not of a call that one of them has made."""
    cut = False
    """Whether the last run was interrupted, so that nothing is known of how it would have ended."""
    covariate: float | None = None
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
    outer: Call | None = None
    """The call that this one is inside of; see engine/nesting.py."""
    came_out: tuple[int, ...] = ()
    """Identities of the exceptions that came out of controls inside this call, the last ones."""
    survey: Survey | None = None
    """What was seen of the arguments when they were looked at."""
    row: Row | None = None
    index = 0
    """Position of a row in its batch."""
    weight = 1
    """How many facts it stands for."""
    measured: Runs = ()
    """Of a row: the runs whose durations it tells; a run of many rows is measured once."""
    said_unit: Any = None
    decided_s: float | None = None
    _full: tuple[Decision, Decision] | None = None

    def __init__(self, rollout: Rollout, args: tuple[Any, ...], kwargs: Mapping[str, Any], time_ns: int | None = None) -> None:
        """Begin a call, now or at a time that it shares with others; its description and `decision` follow."""
        # Before anything of the process is read: its state, what makes ids unique.
        if not same_process[0]:
            notice_fork()
        self.rollout = rollout
        self.outline = rollout.outline
        self.args = args
        self.kwargs = kwargs
        nonces = rollout.nonces
        self.origin = nonces.origin
        self.sequence = next(nonces.sequence)
        self.time_ns = rollout.time_ns() if time_ns is None else time_ns
        self.served = rollout.control

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments of the call by parameter name; of a row, with the row itself in the place of each list of rows."""
        if self.row is None:
            return super().arguments
        return self.outline.bind(*self.row(self.args, self.kwargs, self.index))

    def invoke(self, variant: str, *, in_turn: bool = False) -> Invoke:
        """The step that runs a variant on the call's own arguments; `in_turn`: beside others, so that its span begins later."""
        rollout = self.rollout
        step = Invoke(variant, rollout.functions[variant], self.args, self.kwargs)
        if variant != rollout.control:
            step.gate, step.deadline_s = rollout.local_state, rollout.deadline_s
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
        """Note a run; the value and the exception are not kept."""
        if result.withheld is not None:
            self.withheld = result.withheld
            if step.span is not None:
                # It did not fail: it was not run.
                self.rollout.spans.end_invoke(step, Result(step.variant, 0.0))
            return result
        rollout = self.rollout
        error = None
        # In this order, because nearly every run succeeds, and so did the control's recent ones: then nothing else is asked.
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
        """Find out whether a run failed; how its error is recorded."""
        rollout, error = self.rollout, result.error
        if error is not None and isinstance(error, rollout.passthrough):
            self.answered = True
        elif error is not None:
            result.failed = not result.interrupted
            if self.came_out and result.failed:
                result.passes = has_come_out(self, error)
        if result.interrupted:
            self.cut = True
            return None
        if error is not None:
            return error_type(error)
        # The rows of a batch have been judged one by one; what a stream gave is not an answer.
        if rollout.failed_if is not None and not rollout.by_row and not result.streamed:
            result.refused = result.failed = is_failing(rollout, result.value)
        return FAILED_IF if result.refused else None

    def charge(self, step: Invoke, control: Result | None = None) -> None:
        """Notify a candidate's breaker of a run that failed, with the control's result in the same call if there is one.

        A result that was withheld or interrupted says nothing.
        """
        if step.failed and step.breaker is not None:
            known = control is not None and not control.interrupted and control.withheld is None
            step.breaker.note(step.ticket, failed=True, control_failed=control.failed if known and control else None)

    def doubt(self, *, failed: bool) -> None:
        """Take a call on which the control failed as no evidence, while open breakers keep candidates from failing as well."""
        if not failed or self.decision.blend:
            return
        if self.decision.variant != self.rollout.control:
            self.no_evidence = self.withheld == "breaker_open"
        else:
            # With another candidate that runs, and is compared with the control, its failures count in both arms.
            self.no_evidence = all(breaker.is_open for breaker in self.rollout.local_state.breakers.values())

    def control_run(self) -> tuple[str, float | None, str | None, float | None]:
        """The control's own run on the call's arguments, as in `runs`; all None where it is not known how that went."""
        if self.unmeasured is not None:
            return self.rollout.control, None, None, None
        control, runs = self.rollout.control, self.runs[:-1] if self.cut else self.runs
        found = None if self.decision.blend else next((run for run in reversed(runs) if run[0] == control), None)
        return (control, None, None, None) if found is None else found

    def leave(self, steps: Sequence[Invoke]) -> None:
        """End the spans of steps whose results nobody waits for any more."""
        for step in steps:
            if step.span is not None:
                self.rollout.spans.end_invoke(step, Result(step.variant, 0.0))

    @property
    def decision_id(self) -> str:
        """The id of the decision, made anew each time."""
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
        """The decision with its id and all that the controller knows."""
        decision, rollout = self.decision, self.rollout
        if self._full is not None and self._full[0] is decision:
            return self._full[1]
        phase = self.phase
        # By position, in the order of the class: this is half the price of keywords.
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
        # Spans, the caller and the recorder ask for it by turns.
        self._full = decision, full
        return full

    def tokens(self, items: Sequence[Hashable], credits_: Sequence[Mapping[str, float] | None]) -> Sequence[str]:
        """Tokens of the items that are shown, with what a click credits."""
        decision_id, secret = self.full_decision().id, self.rollout.secret
        shown = enumerate(zip(pseudonyms(self.rollout.item_hash, items), credits_, strict=True))
        return [encode_token(decision_id, position, item, credit, secret) for position, (item, credit) in shown]

    def note(self, text: str, *, is_error: bool = False) -> None:
        """Note it with the rollout."""
        self.rollout.note(text, is_error=is_error)

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
        if self.unmeasured is not None:
            tally.add_unmeasured(self.decision.variant, self.unmeasured)

    def add_to_evidence(self, evidence: Evidence) -> None:
        """Add this call to the evidence. Same result as `judging.add_routed(event)`, ten times faster."""
        withheld, runs, decision, phase = self.withheld, self.runs, self.decision, self.phase
        if self.excluded or self.no_evidence or decision.reason in EXCLUDED_REASONS or withheld in _OPERATED:
            return
        if phase.is_shadow:
            # Evidence comes in pairs there, with the shadow.
            return
        if self.unmeasured is not None and (withheld is None and runs and runs[0][2] is None):
            # How it went is not known, and a step that rests on it does not pass.
            evidence.add_pair(phase.name, decision.variant, UNMEASURED)
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
            duration_s=None if self.closed_early or self.unmeasured is not None else duration_s,
            time_s=self.time_ns / 1e9,
            first_item_s=_first_item_s(runs),
            covariate=self.covariate,
            decision=None if evidence.most_calls is None else self.decision_id,
        )

    def as_event(self) -> RoutedEvent:
        """The call as a fact. Made in the background: it costs more than the call's own bookkeeping."""
        merged = self.merged
        if self.context is not None:
            # What runs in it from now on are log handlers; a call that one makes must not come back to it.
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
            context=None if self.context is None else CallerContext(self.context),
        )
