"""Events: on their span, or as log records.

OpenTelemetry is about to deprecate events on spans in favour of the Logs API, whose Python module is still private. So it is
imported only if the settings ask for records, and events stay on spans if the application has no logger provider.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, get_current_span, set_span_in_context

from rollout_sdk._version import __version__
from rollout_sdk.telemetry import names
from rollout_sdk.telemetry.attributes import without

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from rollout_sdk.telemetry.settings import Telemetry

__all__ = ["Events"]


class Events:
    """Emits the events of a runtime.

    Attributes:
        is_logged: Whether events are log records, according to `look`.
        has_results: Whether outcomes and comparisons are emitted as results of evaluations, likewise.
        is_off: Whether decisions and transitions have no events.
    """

    __slots__ = (
        "_excluded",
        "_given",
        "_logger",
        "_provider",
        "_wants_records",
        "_wants_results",
        "has_results",
        "is_logged",
        "is_off",
    )

    def __init__(self, settings: Telemetry) -> None:
        """Assume that there is no logger provider until `look` finds one."""
        self._wants_records = settings.flag_events == "log"
        self._wants_results = settings.evaluation_results
        self._given = settings.logger_provider
        self._excluded = frozenset(settings.exclude_attributes)
        self._provider: Any = None
        self._logger: Any = None
        self.is_off = settings.flag_events == "off"
        self.is_logged = False
        self.has_results = False

    def look(self) -> None:
        """Look for the application's logger provider, which it may set at any time.

        Raises:
            Exception: The global provider, which the environment may name, cannot be loaded.
        """
        if not (self._wants_records or self._wants_results):
            return
        from opentelemetry import _logs

        provider = _logs.get_logger_provider() if self._given is None else self._given
        # The class of the placeholder is not public, but has "Proxy" in its name.
        is_silent = isinstance(provider, _logs.NoOpLoggerProvider) or "Proxy" in type(provider).__name__
        if not is_silent and provider is not self._provider:
            self._logger = _logs.get_logger(names.SCOPE, __version__, provider, names.SCHEMA_URL)
            self._provider = provider
        self.is_logged = self._wants_records and not is_silent
        self.has_results = self._wants_results and not is_silent

    def emit(
        self,
        span: Span,
        name: str,
        attributes: Mapping[str, Any],
        *,
        severity: Literal["INFO", "ERROR"] = "INFO",
        time_ns: int | None = None,
    ) -> None:
        """Emit an event on a span, or as a record with its trace."""
        if self.is_logged:
            # Without a span of the SDK, the caller's is current.
            context = None if span is INVALID_SPAN else set_span_in_context(span)
            self.record(name, attributes, context, severity=severity, time_ns=time_ns)
        else:
            span.add_event(name, without(attributes, self._excluded))

    def record(
        self,
        name: str,
        attributes: Mapping[str, Any],
        context: Context | None = None,
        *,
        severity: Literal["INFO", "ERROR"] = "INFO",
        time_ns: int | None = None,
    ) -> None:
        """Emit an event as a log record, by default in the current context."""
        from opentelemetry import _logs

        fields: dict[str, Any] = {
            "timestamp": time_ns,
            "severity_number": _logs.SeverityNumber[severity],
            "severity_text": severity,
            "attributes": without(attributes, self._excluded),
        }
        record: Any = _logs.LogRecord
        try:
            made = record(event_name=name, context=context, **fields)
        except TypeError:
            # Before API 1.35, a record has neither an event name nor a context.
            of = get_current_span(context).get_span_context()
            fields["attributes"] = {**fields["attributes"], "event.name": name}
            made = record(trace_id=of.trace_id, span_id=of.span_id, trace_flags=of.trace_flags, **fields)
        if (resource := getattr(self._logger, "resource", None)) is not None:
            # SDKs up to 1.36 export only records of their own class, which have a resource.
            made.resource, made.dropped_attributes = resource, 0
        self._logger.emit(made)
