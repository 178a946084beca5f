"""Log events: through the application's structlog when it has configured one, else through the standard library's logger.

A library configures nothing. An unconfigured structlog prints to standard output, which would corrupt a command-line tool or
an MCP server: so until the application configures structlog, events go to the logger `rollout_sdk`, with a NullHandler.
"""

from __future__ import annotations

import logging
from typing import Any, cast

import structlog
from structlog.typing import FilteringBoundLogger

__all__ = ["add_trace_context", "get_logger", "would_log"]

_NAME = "rollout_sdk"
_stdlib = logging.getLogger(_NAME)
_stdlib.addHandler(logging.NullHandler())
_fallback = structlog.wrap_logger(
    _stdlib,
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.render_to_log_kwargs,
    ],
    wrapper_class=structlog.stdlib.BoundLogger,
)


def get_logger() -> FilteringBoundLogger:
    """The logger for this call: the application may configure structlog after importing us."""
    chosen = structlog.get_logger(_NAME) if structlog.is_configured() else _fallback
    return cast("FilteringBoundLogger", chosen)


def would_log(level: int) -> bool:
    """Whether an event of this level could be seen by anybody."""
    return structlog.is_configured() or _stdlib.isEnabledFor(level)


def add_trace_context(_: object, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """A structlog processor for the application's chain: `trace_id`, `span_id` and `trace_flags` of the current span.

    Field names are those of the OpenTelemetry specification for logs in other formats. An unsampled request has them too.
    """
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
        event["trace_flags"] = f"{context.trace_flags:02x}"
    return event
