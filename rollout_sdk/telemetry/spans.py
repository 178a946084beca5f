"""Spans: `route` for a call, `invoke` for each run on its path, `shadow` for each run behind it, `transition`.

A shadow is the root of a trace of its own that links to the `route` span: as a child it would make the request look as long
as the shadow. Every OpenTelemetry call is guarded, because span processors and samplers of the application may raise.
Exceptions are recorded by hand, once, on the innermost span.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextvars import Context as ContextVars
from contextvars import Token
from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, Status, StatusCode, set_span_in_context

from rollout_sdk._version import __version__
from rollout_sdk.contexts import attach, detach
from rollout_sdk.records import ShadowedEvent, TransitionedEvent
from rollout_sdk.telemetry import names

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from rollout_sdk.plugins import Failed
    from rollout_sdk.telemetry.settings import Telemetry

__all__ = ["Spans"]

F = TypeVar("F", bound=Callable[..., Any])
_MODES = {"function": "thread", "generator": "thread", "coroutine": "task", "async generator": "task"}


def _guarded(method: F) -> F:
    """A method whose faults are counted and never raised; it then returns None."""

    @functools.wraps(method)
    def guarded(self: Spans, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except (Exception, SystemExit) as error:
            self.failed("telemetry.spans", error)
            return None

    return guarded  # type: ignore[return-value]


class Spans:
    """Makes the spans of all rollouts of a runtime."""

    def __init__(self, settings: Telemetry, failed: Failed) -> None:
        """The tracer is a proxy until the application sets its provider, which may be later."""
        self.failed = failed
        self._on = settings.spans != "off"
        self._all = settings.spans == "all"
        self._messages = settings.exception_messages
        self._tracer = trace.get_tracer(names.SCOPE, __version__, settings.tracer_provider, names.SCHEMA_URL)

    def start_route(self, call: Any) -> Span | None:
        """The span of a call; None when it is recorded nowhere, so that the rest of the call pays nothing."""
        try:
            rollout, decision = call.rollout, call.decision
            span = self._tracer.start_span(
                rollout.span_name,
                attributes={
                    names.KEY: rollout.key,
                    names.VARIANT: decision.variant,
                    names.REASON: names.flag_reason(decision.reason),
                    names.PROVIDER_NAME: names.PROVIDER,
                    names.STRATEGY: rollout.strategy_name,
                    names.PHASE: call.phase.name,
                },
                record_exception=False,
                set_status_on_exception=False,
            )
            if span is INVALID_SPAN:
                return None
            call.span_context = set_span_in_context(span)
        except (Exception, SystemExit) as error:
            self.failed("telemetry.spans", error)
            return None
        # A span that has begun is ended, even when it could not be described.
        self._describe(span, call)
        return span

    @_guarded
    def _describe(self, span: Span, call: Any) -> None:
        """What is worth computing only when somebody will see it."""
        if not span.is_recording():
            return
        decision = call.full_decision()
        span.set_attributes(
            {names.DECISION_ID: decision.id, names.BUCKET: decision.bucket, names.PROPENSITY: decision.propensity}
        )
        evaluation: dict[str, Any] = {
            names.KEY: decision.rollout,
            names.VARIANT: decision.variant,
            names.REASON: names.flag_reason(decision.reason),
            names.PROVIDER_NAME: names.PROVIDER,
        }
        if decision.reason == "error":
            evaluation |= {names.ERROR_TYPE: "general", names.EVALUATION_ERROR: "the strategy gave no valid decision"}
        span.add_event(names.EVALUATION_EVENT, evaluation)

    @_guarded
    def enter(self, context: ContextVars, span_context: Context) -> None:
        """Make a call's span current in a copy of its caller's context."""
        context.run(attach, span_context)

    @_guarded
    def describe_batch(self, call: Any, variants: Mapping[str, int]) -> None:
        """What a batch's `route` span says more: how many rows each variant got."""
        call.span.set_attributes(
            {names.BATCH_SIZE: sum(variants.values()), names.BATCH_VARIANTS: [f"{k}={v}" for k, v in variants.items()]}
        )
        if len(variants) > 1:
            call.span.set_attribute(names.VARIANT, names.MIXED)

    @_guarded
    def start_invoke(self, call: Any, step: Any) -> None:
        """The span of a run on the caller's path, a child of the call's; the model's own spans nest under it."""
        step.span_context = call.span_context
        if not self._all:
            return
        rollout = call.rollout
        step.span = self._tracer.start_span(
            f"invoke {rollout.key}/{step.variant}",
            context=call.span_context,
            attributes={
                names.KEY: rollout.key,
                names.VARIANT: step.variant,
                names.STRATEGY: rollout.strategy_name,
                names.ROLE: "control" if step.variant == rollout.control else "candidate",
                names.FUNCTION_NAME: _function_name(step.function),
            },
            record_exception=False,
            set_status_on_exception=False,
        )
        if step.span.is_recording():
            step.span.set_attribute(names.DECISION_ID, call.full_decision().id)
        step.span_context = set_span_in_context(step.span, call.span_context)

    @_guarded
    def end_invoke(self, step: Any, result: Any) -> None:
        """End a run's span; ERROR and one `exception` event when the model raised."""
        try:
            if result.error is not None and not result.interrupted:
                self._note_error(step.span, result.error)
        finally:
            step.span.end()

    @_guarded
    def end_route(self, call: Any, result: Any) -> None:
        """End a call's span; ERROR only when the caller sees the exception, which is on the `invoke` span already."""
        span, decision = call.span, call.decision
        try:
            if call.error is not None:
                span.set_attribute(names.ERROR_TYPE, call.error)
                span.set_status(Status(StatusCode.ERROR))
                if not self._all:
                    self._note_error(span, result.error)
            if not decision.blend and (failure := _fallen_back_from(call)) is not None:
                control = call.rollout.control
                span.set_attribute(names.FALLBACK_VARIANT, control)
                span.add_event(names.FALLBACK_EVENT, {names.FALLBACK_VARIANT: control, names.ERROR_TYPE: failure})
            if call.merged is not None:
                teams = call.merged.teams
                span.set_attribute(names.INTERLEAVE_VARIANTS, list(decision.blend))
                span.set_attribute(names.INTERLEAVE_CONTRIBUTIONS, [teams.count(name) for name in decision.blend])
                if teams:
                    order = {name: index for index, name in enumerate(decision.blend)}
                    span.set_attribute(names.INTERLEAVE_TEAMS, [order.get(team, -1) for team in teams])
                span.set_attribute(names.INTERLEAVE_SIZE, len(call.merged.items))
        finally:
            span.end()

    @_guarded
    def start_shadow(self, run: Any) -> Token[Context] | None:
        """The span of a shadow, the root of its own trace, made current; returns what `leave` needs."""
        call, rollout = run.call, run.rollout
        origin = None if call.span is None else call.span.get_span_context()
        if origin is None or not origin.is_valid:
            return None
        span = self._tracer.start_span(
            f"shadow {rollout.key}/{run.variant}",
            context=Context(),
            links=[Link(origin, {names.LINK_TYPE: "shadow_of"})],
            attributes={
                names.KEY: rollout.key,
                names.VARIANT: run.variant,
                names.STRATEGY: rollout.strategy_name,
                names.ROLE: "shadow",
                names.FUNCTION_NAME: _function_name(run.function),
                names.SHADOW_MODE: _MODES[rollout.kind],
                names.SHADOW_WAIT: run.began - run.submitted,
                names.ORIGIN_TRACE: trace.format_trace_id(origin.trace_id),
                names.ORIGIN_SPAN: trace.format_span_id(origin.span_id),
                names.DECISION_ID: call.full_decision().id,
            },
            record_exception=False,
            set_status_on_exception=False,
        )
        run.span = span
        return attach(set_span_in_context(span))

    @_guarded
    def leave(self, token: Token[Context] | None) -> None:
        """Make the shadow's span no longer current."""
        if token is not None:
            detach(token)

    @_guarded
    def end_shadow(self, run: Any, event: ShadowedEvent, result: Any) -> None:
        """End a shadow's span, with what the comparison found."""
        span = run.span
        try:
            span.set_attribute(names.SHADOW_END, event.end)
            if event.comparison is not None:
                span.set_attribute(names.COMPARISON_NAME, event.comparison.name)
                span.set_attribute(names.COMPARISON_MATCH, event.comparison.match)
                if event.comparison.difference is not None:
                    span.set_attribute(names.COMPARISON_DIFFERENCE, event.comparison.difference)
            if result is not None and result.error is not None:
                self._note_error(span, result.error)
        finally:
            span.end()

    @_guarded
    def transition(self, event: TransitionedEvent, shares_before: Mapping[str, float]) -> None:
        """One span for a change of phase or status, linked to what triggered it."""
        if not self._on:
            return
        trigger = trace.get_current_span().get_span_context()
        attributes = {
            names.KEY: event.rollout,
            names.STRATEGY: event.strategy,
            names.PHASE: event.to_phase,
            names.TRANSITION_ACTION: event.action,
            names.TRANSITION_REASON: names.transition_reason(event.action),
        }
        if event.from_phase is not None:
            attributes[names.PHASE_PREVIOUS] = event.from_phase
        span = self._tracer.start_span(
            f"transition {event.rollout}",
            context=Context(),
            links=[Link(trigger, {names.LINK_TYPE: "triggered_by"})] if trigger.is_valid else None,
            attributes=attributes,
        )
        try:
            for variant, share in event.shares.items():
                weights: dict[str, str | float] = {names.VARIANT: variant, names.WEIGHT: share}
                if event.from_phase is not None:
                    weights[names.WEIGHT_PREVIOUS] = shares_before.get(variant, 0.0)
                span.add_event(names.WEIGHT_EVENT, weights)
        finally:
            span.end()

    def _note_error(self, span: Span, error: BaseException) -> None:
        kind = type(error).__qualname__
        span.set_attribute(names.ERROR_TYPE, kind)
        span.set_status(Status(StatusCode.ERROR))
        if self._messages:
            span.record_exception(error)
        else:
            span.add_event("exception", {"exception.type": kind})


def _fallen_back_from(call: Any) -> str | None:
    """The error type of the candidate in whose place the control answered, for all rows of a batch or some; None if none."""
    control, runs = call.rollout.control, call.runs
    if call.withheld is not None:
        return str(call.withheld)
    for index, (variant, _, error, _) in enumerate(runs):
        if error is not None and variant != control and any(later[0] == control for later in runs[index + 1 :]):
            return str(error)
    return "_OTHER" if call.served == control != call.decision.variant and not call.runs else None


def _function_name(function: Callable[..., Any]) -> str:
    module = getattr(function, "__module__", None) or type(function).__module__
    return f"{module}.{getattr(function, '__qualname__', type(function).__qualname__)}"
