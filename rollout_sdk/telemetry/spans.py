"""Spans of calls: `route` for a call, `invoke` for each run on its path, `shadow` for each run behind it.

A shadow is the root of a trace of its own that links to the `route` span: as a child it would make the request look as long
as the shadow. Every OpenTelemetry call is guarded, because span processors and samplers of the application may raise.
Exceptions are recorded by hand, once, on the innermost span.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from contextvars import Context as ContextVars
from typing import TYPE_CHECKING, Any

from opentelemetry import baggage, trace
from opentelemetry.context import Context, get_current
from opentelemetry.trace import INVALID_SPAN, Link, Status, StatusCode, set_span_in_context

from rollout_sdk._version import __version__
from rollout_sdk.concurrency.context_vars import Surroundings, attach, detach
from rollout_sdk.formatting import class_name
from rollout_sdk.records import FAILED_IF, Comparison, RecordedEvent, TransitionedEvent
from rollout_sdk.resilience.interruptions import is_fault
from rollout_sdk.telemetry import names
from rollout_sdk.telemetry.answers import decided, decided_batch, exception_type, fallen_back_from, function_name, interleaved
from rollout_sdk.telemetry.disclosure import Disclosure, kept
from rollout_sdk.telemetry.evaluations import of_comparison, of_decision, of_outcome
from rollout_sdk.telemetry.event_records import Events
from rollout_sdk.telemetry.guard import guarded
from rollout_sdk.telemetry.transitions import tell_transition
from rollout_sdk.telemetry.versions import Versions

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext, Tracer

    from rollout_sdk.plugins.manager import Failed
    from rollout_sdk.telemetry.settings import Telemetry
from rollout_sdk.telemetry.span_ids import draw_ids_apart, real_tracer

__all__ = ["Spans"]

_MOST_EVALUATIONS = 100
"""Of a batch: an SDK keeps 128 events of a span."""


class Spans:
    """Makes the spans of all rollouts of a runtime.

    Attributes:
        version: Gives the version of a rollout in a phase.
        events: Emits what happens, on spans or beside them.
    """

    def __init__(self, settings: Telemetry, failed: Failed) -> None:
        """The tracer is a proxy until the application sets its provider, which may be later."""
        self.failed = failed
        self._surrounds = settings.surrounds
        self._settings = settings
        self._on = settings.spans != "off"
        self._all = settings.spans == "all"
        self._excluded = frozenset(settings.exclude_attributes)
        self._disclosure = Disclosure(settings, failed)
        self.version = Versions()
        self.events = Events(settings)
        self._given: Tracer = trace.NoOpTracer()
        self._is_final = True
        try:
            self._given = trace.get_tracer(names.SCOPE, __version__, settings.tracer_provider, names.SCHEMA_URL)
            self._is_final = False
            self._get_tracer()
        # The global provider is loaded by a name in the environment, which may be wrong.
        except BaseException as error:
            if not is_fault(error):
                raise
            failed("telemetry.spans", error)

    def _get_tracer(self) -> bool:
        """Take the tracer behind the proxy; whether the application has set its provider.

        The provider is not asked again: an application's tests put others in its place for a while, and one would be kept.
        """
        tracer = real_tracer(self._given)
        if tracer is not None:
            self._given, self._is_final = tracer, True
            draw_ids_apart(tracer)
        return self._is_final

    def start_route(self, call: Any) -> Span | None:
        """The span of a call; None when it is recorded nowhere, so that the rest of the call pays nothing."""
        try:
            rollout = call.rollout
            # All that is known goes in at the start: samplers see it, and adding it later costs as much again.
            version = self.version(call.phase)
            attributes = decided_batch(call, version) if call.rows else decided(call, version)
            if self._settings.namespace:
                attributes[names.SET_ID] = self._settings.namespace
            span = self._start(rollout.span_name, attributes) if self._on else INVALID_SPAN
            if span is not INVALID_SPAN:
                call.span_context = set_span_in_context(span)
        except BaseException as error:
            if not is_fault(error):
                raise
            self.failed("telemetry.spans", error)
            return None
        # A span that has begun is ended, even when it could not be described.
        self._describe(span, call, attributes)
        return None if span is INVALID_SPAN else span

    @guarded
    def _describe(self, span: Span, call: Any, attributes: Mapping[str, Any]) -> None:
        """What is worth computing only when somebody will see it."""
        recorded = span.is_recording()
        # A log record is of no trace: there is one for every decision, whatever the sampler says.
        if not recorded and not self.events.is_logged:
            return
        if recorded and not self._disclosure.is_silent:
            self._say(span, self._disclosure(call))
        if self.events.is_off:
            return
        for row in call.rows[:_MOST_EVALUATIONS] or (call,):
            said = {**attributes, **decided(row, attributes[names.VERSION]), **self._disclosure.of_unit(row)}
            told = of_decision(row.decision.reason, said)
            self.events.tell(span, names.EVALUATION_EVENT, told, time_ns=row.time_ns)

    @guarded
    def enter(self, context: ContextVars, span_context: Context) -> None:
        """Make a call's span current in a copy of its caller's context."""
        context.run(attach, span_context)

    @guarded
    def start_invoke(self, call: Any, step: Any) -> None:
        """The span of a run on the caller's path, a child of the call's; the model's own spans nest under it."""
        context = call.span_context
        if self._all:
            name, attributes = self._run(call.rollout, step.variant)
            attributes = {**attributes, names.DECISION_ID: call.full_decision().id}
            step.span = self._start(name, attributes, context)
            context = set_span_in_context(step.span, context)
        step.span_context = self._surrounded(context, call, step.variant) if self._surrounds else context

    @staticmethod
    def _run(rollout: Any, variant: str) -> tuple[str, Mapping[str, Any]]:
        """Name and attributes of the span of every run of a variant on the caller's path."""
        told = rollout.runs_told.get(variant)
        if told is None:
            told = rollout.runs_told[variant] = (
                f"invoke {rollout.key}/{variant}",
                {
                    names.KEY: rollout.key,
                    names.VARIANT: variant,
                    names.STRATEGY: rollout.strategy_name,
                    names.ROLE: "control" if variant == rollout.control else "candidate",
                    names.FUNCTION_NAME: function_name(rollout.functions[variant]),
                },
            )
        return told  # type: ignore[no-any-return]

    @guarded
    def surround(self, call: Any, step: Any) -> None:
        """The surroundings of a run where there are no spans."""
        step.span_context = self._surrounded(get_current(), call, step.variant)

    def _surrounded(self, context: Context, call: Any, variant: str) -> Context:
        """The context with baggage for whom the variant calls, and fields for its log lines, as far as they are wanted."""
        key = call.rollout.key
        if self._settings.propagate:
            context = baggage.set_baggage(f"rollout.{key}", variant, context)
        if not self._settings.bind_logs:
            return context
        decision_id = call.full_decision().id
        return Surroundings.of(context, {"rollout_key": key, "rollout_variant": variant, "rollout_decision_id": decision_id})

    @guarded
    def end_invoke(self, step: Any, result: Any) -> None:
        """End a run's span; ERROR and one `exception` event when the model raised."""
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
        """End a call's span; ERROR only when the caller sees the exception, which is on the `invoke` span already."""
        span, decision = call.span, call.decision
        try:
            if call.error is not None:
                self._say(span, {names.ERROR_TYPE: call.error})
                span.set_status(Status(StatusCode.ERROR))
                if not self._all:
                    self._note_error(span, result.error)
            if (failure := fallen_back_from(call)) is not None:
                control = call.rollout.control
                self._say(span, {names.FALLBACK_VARIANT: control})
                self.events.tell(span, names.FALLBACK_EVENT, {names.FALLBACK_VARIANT: control, names.ERROR_TYPE: failure})
            if call.merged is not None and span.is_recording():
                self._say(span, interleaved(call.merged, decision.blend))
        finally:
            span.end()

    @guarded
    def start_shadow(self, run: Any) -> Any:
        """The span of a shadow, the root of its own trace, made current; returns what `leave` needs."""
        call, rollout = run.call, run.rollout
        origin = None if call.span is None else call.span.get_span_context()
        if origin is None or not origin.is_valid:
            return attach(self._surrounded(get_current(), call, run.variant)) if self._surrounds else None
        attributes: dict[str, Any] = {
            names.KEY: rollout.key,
            names.VARIANT: run.variant,
            names.STRATEGY: rollout.strategy_name,
            names.ROLE: "shadow",
            names.FUNCTION_NAME: function_name(run.function),
            names.SHADOW_MODE: "task" if run.in_task else "thread",
            names.SHADOW_WAIT: run.began - run.submitted,
            names.DECISION_ID: call.full_decision().id,
        }
        is_child = self._settings.shadow_spans == "child"
        if not is_child:
            # The link again, for backends that drop links.
            attributes[names.ORIGIN_TRACE] = trace.format_trace_id(origin.trace_id)
            attributes[names.ORIGIN_SPAN] = trace.format_span_id(origin.span_id)
        name = f"shadow {rollout.key}/{run.variant}"
        if is_child:
            run.span = self._start(name, attributes, call.span_context)
        else:
            run.span = self._start(name, attributes, Context(), [Link(origin, {names.LINK_TYPE: names.SHADOW_OF})])
        context = set_span_in_context(run.span)
        return attach(self._surrounded(context, call, run.variant) if self._surrounds else context)

    @guarded
    def leave(self, token: Any) -> None:
        """Make the shadow's span no longer current."""
        if token is not None:
            detach(token)

    @guarded
    def end_shadow(self, span: Span, end: str, comparison: Comparison | None, result: Any) -> None:
        """End a shadow's span, with what the comparison found."""
        try:
            attributes: dict[str, Any] = {names.SHADOW_END: end}
            if comparison is not None:
                attributes[names.COMPARISON_NAME] = comparison.name
                attributes[names.COMPARISON_MATCH] = comparison.match
                if comparison.difference is not None:
                    attributes[names.COMPARISON_DIFFERENCE] = float(comparison.difference)
            self._say(span, attributes)
            if result is not None and result.error is not None:
                self._note_error(span, result.error)
            elif result is not None and end == "error":
                self._note_failure(span)
        finally:
            span.end()

    def untold(self, span: Span | None, error: BaseException | None) -> BaseException | None:
        """The exception of a shadow whose message may be told and is in no event of a span, so that a log event has it."""
        is_told = span is not None and (span.is_recording() or self.events.is_logged)
        return error if self._settings.exception_messages and not is_told else None

    @guarded
    def compared(self, run: Any, comparisons: Iterable[Comparison | None]) -> None:
        """Emit the comparisons of a shadow as results of evaluations, in its trace."""
        context = None if run.span is None else set_span_in_context(run.span)
        for call, comparison in zip(run.calls, comparisons, strict=True):
            if comparison is not None:
                self.events.record(names.RESULT_EVENT, of_comparison(comparison, run.variant, call.full_decision()), context)

    @guarded
    def recorded(self, event: RecordedEvent) -> None:
        """Emit an outcome as the result of an evaluation; which trace its call had is not known."""
        self.events.record(names.RESULT_EVENT, of_outcome(event), time_ns=int(event.time_s * 1e9))

    @guarded
    def dropped(self, call: Any, variant: str, end: str) -> None:
        """Say on the call's span that a shadow of it was not run, if the call is still under way."""
        if call.span is not None and call.span.is_recording():
            said = {names.VARIANT: variant, names.DROP_REASON: names.drop_reason(end)}
            self.events.tell(call.span, names.DROPPED_EVENT, said)

    @guarded
    def current(self) -> SpanContext | None:
        """The span in which this code runs, for a transition that it triggers; None without one."""
        context = trace.get_current_span().get_span_context()
        return context if context.is_valid else None

    @guarded
    def transition(self, event: TransitionedEvent, shares_before: Mapping[str, float], trigger: SpanContext | None) -> None:
        """One span for a change of phase or status, linked to what triggered it."""
        self.events.look()
        tracer = self._given if self._on and (self._is_final or self._get_tracer()) else None
        if tracer is not None or self.events.is_logged:
            version = self.version.of(event.fingerprint, event.to_phase, event.shares)
            tell_transition(tracer, self.events, event, shares_before, version, self._excluded, trigger)

    def _start(
        self, name: str, attributes: Mapping[str, Any], context: Context | None = None, links: list[Link] | None = None
    ) -> Span:
        # The span of a proxy would hide the application's own from its models.
        if not self._is_final and not self._get_tracer():
            return INVALID_SPAN
        return self._given.start_span(
            name,
            context=context,
            attributes=kept(attributes, self._excluded),
            links=links,
            record_exception=False,
            set_status_on_exception=False,
        )

    def _say(self, span: Span, attributes: Mapping[str, Any]) -> None:
        span.set_attributes(kept(attributes, self._excluded))

    def _note_failure(self, span: Span) -> None:
        """An answer that `failed_if` calls a failure: there is no exception to record."""
        self._say(span, {names.ERROR_TYPE: FAILED_IF})
        span.set_status(Status(StatusCode.ERROR))

    def _note_error(self, span: Span, error: BaseException) -> None:
        kind = class_name(error)
        self._say(span, {names.ERROR_TYPE: kind})
        span.set_status(Status(StatusCode.ERROR))
        # Not by the SDK's `record_exception`, which says all of it.
        said = {names.EXCEPTION_TYPE: exception_type(error)}
        if self._settings.exception_messages:
            said[names.EXCEPTION_MESSAGE] = str(error)
            said[names.EXCEPTION_STACKTRACE] = "".join(traceback.format_exception(error))
        self.events.tell(span, names.EXCEPTION_EVENT, said, severity="ERROR")
