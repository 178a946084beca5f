"""Spans of calls: `route` for a call, `invoke` for each run on its path, `shadow` for each run in the background.

A shadow has its own trace with a link to the `route` span: as a child, it would make the request look as long as the shadow.
Every OpenTelemetry call is guarded, because span processors and samplers may raise. An exception is on the innermost span only.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from contextvars import Context as ContextVars
from typing import TYPE_CHECKING, Any

from opentelemetry import baggage, trace
from opentelemetry.context import Context, get_current
from opentelemetry.trace import INVALID_SPAN, Link, Status, StatusCode, set_span_in_context

from rollout_sdk.concurrency.context_vars import Surroundings, attach, detach
from rollout_sdk.formatting import class_name
from rollout_sdk.records import FAILED_IF, Comparison, RecordedEvent, TransitionedEvent
from rollout_sdk.resilience.interruptions import is_fault
from rollout_sdk.telemetry import names
from rollout_sdk.telemetry.attributes import (
    Disclosure,
    Versions,
    batch_attributes,
    comparison_result,
    decision_attributes,
    evaluation,
    exception_type,
    fallback_error,
    function_name,
    interleaving_attributes,
    outcome_result,
    without,
)
from rollout_sdk.telemetry.event_records import Events
from rollout_sdk.telemetry.tracer import SpanStarter, guarded
from rollout_sdk.telemetry.transitions import emit_transition

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext

    from rollout_sdk.plugins.manager import Failed
    from rollout_sdk.telemetry.settings import Telemetry

__all__ = ["Spans"]

_MOST_EVALUATIONS = 100
"""Limit for a batch: an SDK keeps 128 events of a span."""


class Spans:
    """Emits the spans of all rollouts of a runtime.

    Attributes:
        version: Returns the version of a rollout in a phase.
        events: Emits events, on spans or as log records.
    """

    def __init__(self, settings: Telemetry, failed: Failed) -> None:
        """Start no span yet."""
        self.failed = failed
        self._surrounds = settings.surrounds
        self._settings = settings
        self._on = settings.spans != "off"
        self._all = settings.spans == "all"
        self._disclosure = Disclosure(settings, failed)
        self.version = Versions()
        self.events = Events(settings)
        self._spans = SpanStarter(settings, failed)

    def start_route(self, call: Any) -> Span | None:
        """Start the span of a call; None if nothing records it, so that it costs the call nothing more."""
        try:
            rollout = call.rollout
            # All attributes are set at the start: samplers see them, and adding them later would cost as much again.
            version = self.version(call.phase)
            attributes = batch_attributes(call, version) if call.rows else decision_attributes(call, version)
            if self._settings.namespace:
                attributes[names.SET_ID] = self._settings.namespace
            span = self._spans.start(rollout.span_name, attributes) if self._on else INVALID_SPAN
            if span is not INVALID_SPAN:
                call.span_context = set_span_in_context(span)
        except BaseException as error:
            if not is_fault(error):
                raise
            self.failed("telemetry.spans", error)
            return None
        # A started span must be ended, even if describing it fails.
        self._describe(span, call, attributes)
        return None if span is INVALID_SPAN else span

    @guarded
    def _describe(self, span: Span, call: Any, attributes: Mapping[str, Any]) -> None:
        """Add what is worth computing only if it is recorded."""
        recorded = span.is_recording()
        # Log records are not sampled: there is one for every decision.
        if not recorded and not self.events.is_logged:
            return
        if recorded and not self._disclosure.is_silent:
            self._set(span, self._disclosure(call))
        if self.events.is_off:
            return
        for row in call.rows[:_MOST_EVALUATIONS] or (call,):
            about = {**attributes, **decision_attributes(row, attributes[names.VERSION]), **self._disclosure.of_unit(row)}
            self.events.emit(span, names.EVALUATION_EVENT, evaluation(row.decision.reason, about), time_ns=row.time_ns)

    @guarded
    def enter(self, context: ContextVars, span_context: Context) -> None:
        """Make a call's span current in a copy of its caller's context."""
        context.run(attach, span_context)

    @guarded
    def start_invoke(self, call: Any, step: Any) -> None:
        """Start the span of a run on the caller's path, a child of the call's; the model's own spans nest under it."""
        context = call.span_context
        if self._all:
            name, attributes = self._run(call.rollout, step.variant)
            attributes = {**attributes, names.DECISION_ID: call.full_decision().id}
            step.span = self._spans.start(name, attributes, context)
            context = set_span_in_context(step.span, context)
        step.span_context = self._surrounded(context, call, step.variant) if self._surrounds else context

    @staticmethod
    def _run(rollout: Any, variant: str) -> tuple[str, Mapping[str, Any]]:
        """Return name and attributes of the spans of a variant's runs on the caller's path."""
        known = rollout.run_spans.get(variant)
        if known is None:
            known = rollout.run_spans[variant] = (
                f"invoke {rollout.key}/{variant}",
                {
                    names.KEY: rollout.key,
                    names.VARIANT: variant,
                    names.STRATEGY: rollout.strategy_name,
                    names.ROLE: "control" if variant == rollout.control else "candidate",
                    names.FUNCTION_NAME: function_name(rollout.functions[variant]),
                },
            )
        return known  # type: ignore[no-any-return]

    @guarded
    def surround(self, call: Any, step: Any) -> None:
        """Set baggage and log fields for a run without a span."""
        step.span_context = self._surrounded(get_current(), call, step.variant)

    def _surrounded(self, context: Context, call: Any, variant: str) -> Context:
        """Return the context with baggage and fields for log lines, as far as the settings ask for them."""
        key = call.rollout.key
        if self._settings.propagate:
            context = baggage.set_baggage(f"rollout.{key}", variant, context)
        if not self._settings.bind_logs:
            return context
        decision_id = call.full_decision().id
        return Surroundings.of(context, {"rollout_key": key, "rollout_variant": variant, "rollout_decision_id": decision_id})

    @guarded
    def end_invoke(self, step: Any, result: Any) -> None:
        """End a run's span: ERROR, with one `exception` event, if the model raised."""
        try:
            if result.error is not None and not result.interrupted:
                self._note_error(step.span, result.error)
            elif result.refused:
                self._note_failure(step.span)
        finally:
            span, step.span = step.span, None
            span.end(step.ended_ns)

    @guarded
    def end_route(self, call: Any, result: Any) -> None:
        """End a call's span: ERROR only if the caller sees the exception, which is on the `invoke` span already."""
        span, decision = call.span, call.decision
        try:
            if call.error is not None:
                self._set(span, {names.ERROR_TYPE: call.error})
                span.set_status(Status(StatusCode.ERROR))
                if not self._all:
                    self._note_error(span, result.error)
            if (failure := fallback_error(call)) is not None:
                control = call.rollout.control
                self._set(span, {names.FALLBACK_VARIANT: control})
                self.events.emit(span, names.FALLBACK_EVENT, {names.FALLBACK_VARIANT: control, names.ERROR_TYPE: failure})
            if call.merged is not None and span.is_recording():
                self._set(span, interleaving_attributes(call.merged, decision.blend))
        finally:
            span.end()

    @guarded
    def start_shadow(self, run: Any) -> Any:
        """Start the span of a shadow, in its own trace, and make it current; returns the token for `leave`."""
        call, rollout = run.call, run.rollout
        origin = None if call.span is None else call.span.get_span_context()
        if origin is None or not origin.is_valid:
            return attach(self._surrounded(get_current(), call, run.variant)) if self._surrounds else None
        attributes: dict[str, Any] = {
            names.KEY: rollout.key,
            names.VARIANT: run.variant,
            names.STRATEGY: rollout.strategy_name,
            names.ROLE: "shadow",
            names.FUNCTION_NAME: function_name(rollout.functions[run.variant]),
            names.SHADOW_MODE: "task" if run.in_task else "thread",
            names.SHADOW_WAIT: run.began - run.submitted,
            names.DECISION_ID: call.full_decision().id,
        }
        is_child = self._settings.shadow_spans == "child"
        if not is_child:
            # As attributes as well, for backends that drop links.
            attributes[names.ORIGIN_TRACE] = trace.format_trace_id(origin.trace_id)
            attributes[names.ORIGIN_SPAN] = trace.format_span_id(origin.span_id)
        name = f"shadow {rollout.key}/{run.variant}"
        if is_child:
            run.span = self._spans.start(name, attributes, call.span_context)
        else:
            run.span = self._spans.start(name, attributes, Context(), [Link(origin, {names.LINK_TYPE: names.SHADOW_OF})])
        context = set_span_in_context(run.span)
        return attach(self._surrounded(context, call, run.variant) if self._surrounds else context)

    @guarded
    def leave(self, token: Any) -> None:
        """Restore the context before the shadow's span."""
        if token is not None:
            detach(token)

    @guarded
    def end_shadow(self, span: Span, end: str, comparison: Comparison | None, result: Any) -> None:
        """End a shadow's span, with the result of the comparison."""
        try:
            attributes: dict[str, Any] = {names.SHADOW_END: end}
            if comparison is not None:
                attributes[names.COMPARISON_NAME] = comparison.name
                attributes[names.COMPARISON_MATCH] = comparison.match
                if comparison.difference is not None:
                    attributes[names.COMPARISON_DIFFERENCE] = float(comparison.difference)
            self._set(span, attributes)
            if result is not None and result.error is not None:
                self._note_error(span, result.error)
            elif result is not None and end == "error":
                self._note_failure(span)
        finally:
            span.end()

    def for_log(self, span: Span | None, error: BaseException | None) -> BaseException | None:
        """Return a shadow's exception for its log event: if messages may be exported, and no event of a span has it."""
        is_exported = span is not None and (span.is_recording() or self.events.is_logged)
        return error if self._settings.exception_messages and not is_exported else None

    @guarded
    def compared(self, run: Any, comparisons: Iterable[Comparison | None]) -> None:
        """Emit the comparisons of a shadow as results of evaluations, in its trace."""
        context = None if run.span is None else set_span_in_context(run.span)
        for call, comparison in zip(run.calls, comparisons, strict=True):
            if comparison is not None:
                self.events.record(
                    names.RESULT_EVENT, comparison_result(comparison, run.variant, call.full_decision()), context
                )

    @guarded
    def recorded(self, event: RecordedEvent) -> None:
        """Emit an outcome as the result of an evaluation; the trace of its call is unknown."""
        self.events.record(names.RESULT_EVENT, outcome_result(event), time_ns=int(event.time_s * 1e9))

    @guarded
    def dropped(self, call: Any, variant: str, end: str) -> None:
        """Add an event to the call's span for a shadow that was not run, if the call has not ended."""
        if call.span is not None and call.span.is_recording():
            about = {names.VARIANT: variant, names.DROP_REASON: names.drop_reason(end)}
            self.events.emit(call.span, names.DROPPED_EVENT, about)

    @guarded
    def current(self) -> SpanContext | None:
        """Return the current span, for a transition that it triggers; None if there is none."""
        context = trace.get_current_span().get_span_context()
        return context if context.is_valid else None

    @guarded
    def transition(self, event: TransitionedEvent, shares_before: Mapping[str, float], trigger: SpanContext | None) -> None:
        """Emit one span for a change of phase or status, linked to the span that triggered it."""
        self.events.look()
        spans = self._spans if self._on and self._spans.is_ready() else None
        if spans is not None or self.events.is_logged:
            version = self.version.of(event.fingerprint, event.to_phase, event.shares)
            emit_transition(spans, self.events, event, shares_before, version, trigger)

    def _set(self, span: Span, attributes: Mapping[str, Any]) -> None:
        span.set_attributes(without(attributes, self._spans.excluded))

    def _note_failure(self, span: Span) -> None:
        """Mark an answer that `failed_if` calls a failure, without an exception."""
        self._set(span, {names.ERROR_TYPE: FAILED_IF})
        span.set_status(Status(StatusCode.ERROR))

    def _note_error(self, span: Span, error: BaseException) -> None:
        self._set(span, {names.ERROR_TYPE: class_name(error)})
        span.set_status(Status(StatusCode.ERROR))
        # Not by the SDK's `record_exception`, which would always export the message.
        about = {names.EXCEPTION_TYPE: exception_type(error)}
        if self._settings.exception_messages:
            about[names.EXCEPTION_MESSAGE] = str(error)
            about[names.EXCEPTION_STACKTRACE] = "".join(traceback.format_exception(error))
        self.events.emit(span, names.EXCEPTION_EVENT, about, severity="ERROR")
