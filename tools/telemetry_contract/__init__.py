"""The telemetry contract as one table: every signal, its meaning, and when it is emitted.

docs/telemetry.md is generated from it (`python -m tools.telemetry_contract > docs/telemetry.md`), and so is contrib/weaver, the
same for tools (`--weaver contrib/weaver`). A test compares it with the exports of a real run, in both directions: everything
that is emitted is in the table, and everything in the table is emitted.
Names of `feature_flag.*`, `error.*`, `exception.*` and `code.*` are those of the OpenTelemetry semantic conventions 1.44.0.
"""

from tools.telemetry_contract.document import as_markdown
from tools.telemetry_contract.rows import Attribute, Event, LogEvent, Metric, Span
from tools.telemetry_contract.signals import LOGS, METRICS
from tools.telemetry_contract.spans import EVENTS, SPANS
from tools.telemetry_contract.weaver import as_registry

__all__ = [
    "EVENTS",
    "LOGS",
    "METRICS",
    "SPANS",
    "Attribute",
    "Event",
    "LogEvent",
    "Metric",
    "Span",
    "as_markdown",
    "as_registry",
]
