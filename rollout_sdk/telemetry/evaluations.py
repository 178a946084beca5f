"""The event `feature_flag.evaluation`, as the convention asks: one for every decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rollout_sdk._version import __version__
from rollout_sdk.telemetry import names
from rollout_sdk.telemetry.disclosure import kept

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from rollout_sdk.telemetry.settings import Telemetry

__all__ = ["Evaluations"]

_SAID = (
    names.KEY,
    names.VARIANT,
    names.REASON,
    names.PROVIDER_NAME,
    names.VERSION,
    names.SET_ID,
    names.CONTEXT_ID,
    names.DECISION_ID,
)


class Evaluations:
    """Emits the event on the call's span, or through the Logs API: the convention is going there, but its Python module is
    still a private one.
    """

    __slots__ = ("_where", "is_logged")

    def __init__(self, settings: Telemetry) -> None:
        """Take where the events go."""
        self._where = settings.flag_events
        self.is_logged = self._where == "log"

    def tell(self, span: Span, reason: str, attributes: Mapping[str, Any], excluded: frozenset[str]) -> None:
        """Emit the event of a decision.

        Args:
            span: The span of its call.
            reason: Its reason, in our words.
            attributes: What the span says of it.
            excluded: What is not to be said.
        """
        if self._where == "off":
            return
        evaluation = {name: attributes[name] for name in _SAID if name in attributes}
        if reason == "error":
            evaluation |= {names.ERROR_TYPE: "general", names.EVALUATION_ERROR: "the strategy gave no valid decision"}
        said = kept(evaluation, excluded)
        if self._where == "span":
            span.add_event(names.EVALUATION_EVENT, said)
        else:
            _log(span, said)


def _log(span: Span, attributes: Any) -> None:
    """Emit the event as a log record of its own; before API 1.35 a record has no field for the event's name."""
    from opentelemetry import _logs
    from opentelemetry.trace import set_span_in_context

    logger = _logs.get_logger(names.SCOPE, __version__, schema_url=names.SCHEMA_URL)
    record: Any = _logs.LogRecord
    context = span.get_span_context()
    severity = {"severity_number": _logs.SeverityNumber.INFO}
    try:
        made = record(context=set_span_in_context(span), event_name=names.EVALUATION_EVENT, attributes=attributes, **severity)
    except TypeError:
        ids = {"trace_id": context.trace_id, "span_id": context.span_id, "trace_flags": context.trace_flags}
        made = record(attributes={**attributes, "event.name": names.EVALUATION_EVENT}, **ids, **severity)
    logger.emit(made)
