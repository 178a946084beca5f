"""Events: on the span that they belong to, or as log records of their own.

OpenTelemetry is about to deprecate events on spans in favour of the Logs API, whose Python module is still a private one. So
it is imported where records are asked for, and events stay on spans where the application takes no log records.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, get_current_span, set_span_in_context

from rollout_sdk._version import __version__
from rollout_sdk.telemetry import names
from rollout_sdk.telemetry.disclosure import kept

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from rollout_sdk.telemetry.settings import Telemetry

__all__ = ["Events"]


class Events:
    """Emits the events of a runtime.

    Attributes:
        is_logged: Whether they are log records; as `look` found.
        has_results: Whether outcomes and comparisons are emitted as results of evaluations; likewise.
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
        """Nobody has looked yet whether the application takes log records."""
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
        """Look whether the application takes log records: it may set its provider at any time.

        Raises:
            Exception: The global provider, which a name in the environment may choose, cannot be loaded.
        """
        if not (self._wants_records or self._wants_results):
            return
        from opentelemetry import _logs

        provider = _logs.get_logger_provider() if self._given is None else self._given
        # The class of the placeholder for a provider to come is not public, but its name says what it is.
        is_silent = isinstance(provider, _logs.NoOpLoggerProvider) or "Proxy" in type(provider).__name__
        if not is_silent and provider is not self._provider:
            self._logger = _logs.get_logger(names.SCOPE, __version__, provider, names.SCHEMA_URL)
            self._provider = provider
        self.is_logged = self._wants_records and not is_silent
        self.has_results = self._wants_results and not is_silent

    def tell(
        self,
        span: Span,
        name: str,
        attributes: Mapping[str, Any],
        *,
        severity: Literal["INFO", "ERROR"] = "INFO",
        time_ns: int | None = None,
    ) -> None:
        """Emit an event of a span: on it, or as a record with its trace."""
        if self.is_logged:
            # Where there is no span of ours, the caller's is current.
            context = None if span is INVALID_SPAN else set_span_in_context(span)
            self.record(name, attributes, context, severity=severity, time_ns=time_ns)
        else:
            span.add_event(name, kept(attributes, self._excluded))

    def record(
        self,
        name: str,
        attributes: Mapping[str, Any],
        context: Context | None = None,
        *,
        severity: Literal["INFO", "ERROR"] = "INFO",
        time_ns: int | None = None,
    ) -> None:
        """Emit an event as a log record, in a context; by default in the current one."""
        from opentelemetry import _logs

        said: dict[str, Any] = {
            "timestamp": time_ns,
            "severity_number": _logs.SeverityNumber[severity],
            "severity_text": severity,
            "attributes": kept(attributes, self._excluded),
        }
        record: Any = _logs.LogRecord
        try:
            made = record(event_name=name, context=context, **said)
        except TypeError:
            # Before API 1.35 a record has no field for the event's name, and no context.
            of = get_current_span(context).get_span_context()
            said["attributes"] = {**said["attributes"], "event.name": name}
            made = record(trace_id=of.trace_id, span_id=of.span_id, trace_flags=of.trace_flags, **said)
        if (resource := getattr(self._logger, "resource", None)) is not None:
            # SDKs up to 1.36 export records of their own class only, which know their resource.
            made.resource, made.dropped_attributes = resource, 0
        self._logger.emit(made)
