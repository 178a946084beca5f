"""Log events: through structlog if the application has configured it, otherwise through the standard library's logger.

The SDK configures nothing. An unconfigured structlog prints to standard output, which would corrupt a command-line tool or an
MCP server: so until the application configures structlog, events go to the logger `rollout_sdk`, with a NullHandler.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, MutableMapping
from json import dumps
from typing import Any, cast

import structlog
from structlog.typing import FilteringBoundLogger

__all__ = ["RolloutFilter", "add_trace_context", "get_logger", "log_fields", "would_log"]

_NAME = "rollout_sdk"
_SHORT = {"from_variant": "from", "to_variant": "to", "error_type": "error"}
_IDS = ("decision_id", "transition_id")
_KEYWORDS = ("exc_info", "stack_info", "stacklevel")
"""Not in messages: ids are in the record's fields, and the others are arguments of the standard library."""

_PLAIN = re.compile(r"[\w.:%/+@,-]+")


def _text(value: object) -> str:
    """Format a value as one word, or in quotes."""
    if isinstance(value, Mapping):
        text = ",".join(f"{name}:{each:g}" if isinstance(each, float) else f"{name}:{each}" for name, each in value.items())
    else:
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if _PLAIN.fullmatch(text) else dumps(text, ensure_ascii=False)


def _as_record(_: object, __: str, event: MutableMapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments for the standard library's logger: a message, and the fields as `extra`.

    Values are arguments of the message, so that tools that group by message see one for each event.
    """
    name = event.pop("event")
    kwargs = {each: event.pop(each) for each in _KEYWORDS if each in event}
    shown = {each: value for each, value in event.items() if value is not None and each not in _IDS}
    words = [name, *(f"{_SHORT.get(each, each)}=%s" for each in shown)]
    return (" ".join(words), *map(_text, shown.values())), {**kwargs, "extra": {"event": name, **event}}


_stdlib = logging.getLogger(_NAME)
_stdlib.addHandler(logging.NullHandler())
_fallback = structlog.wrap_logger(
    _stdlib,
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.contextvars.merge_contextvars,
        _as_record,
    ],
    wrapper_class=structlog.stdlib.BoundLogger,
)


def get_logger() -> FilteringBoundLogger:
    """Return the current logger: the application may configure structlog at any time."""
    chosen = structlog.get_logger(_NAME) if structlog.is_configured() else _fallback
    return cast("FilteringBoundLogger", chosen)


def would_log(level: int) -> bool:
    """Whether events of this level are enabled."""
    return structlog.is_configured() or _stdlib.isEnabledFor(level)


def add_trace_context(_: object, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """Add `trace_id`, `span_id` and `trace_flags` of the current span: a structlog processor for the application's chain.

    The field names are those of the OpenTelemetry specification for logs in other formats. Unsampled requests have them, too.
    """
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
        event["trace_flags"] = f"{context.trace_flags:02x}"
    return event


_FIELDS = ("rollout_key", "rollout_variant", "rollout_decision_id")


def log_fields() -> dict[str, str]:
    """Return `rollout_key`, `rollout_variant` and `rollout_decision_id` of the current run; empty outside a run.

    Needs `Telemetry(bind_logs=True)`. With loguru:
    `logger.configure(patcher=lambda record: record["extra"].update(log_fields()))`.
    """
    bound = structlog.contextvars.get_contextvars()
    return {name: bound.get(name, "") for name in _FIELDS}


class RolloutFilter(logging.Filter):
    """Adds `log_fields` to every record of the standard library's logging, for a formatter; lets all records pass.

    Add it to a handler: the filters of a logger do not see the records of its children.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields."""
        for name, value in log_fields().items():
            # The application's own values stay.
            if not hasattr(record, name):
                setattr(record, name, value)
        return True
