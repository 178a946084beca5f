"""What telemetry is emitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attrs import field, frozen, validators

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["Telemetry"]


@frozen(kw_only=True)
class Telemetry:
    """Which signals a runtime emits. Without an OpenTelemetry SDK nothing is emitted, and nothing is printed.

    Unit ids and payloads are in no signal.

    Attributes:
        spans: "all": `route`, `invoke`, `shadow` and `transition` spans. "route": `invoke` is folded into `route`, for very hot
            functions. "off": none.
        metrics: Whether metrics are emitted.
        logs: Whether structlog events are emitted.
        exception_messages: Whether the `exception` event of a span has the message and stack trace; they may hold payload.
        tracer_provider: Where spans go; by default the global provider.
        meter_provider: Where metrics go; by default the global provider.
    """

    spans: Literal["all", "route", "off"] = field(default="all", validator=validators.in_(("all", "route", "off")))
    metrics: bool = True
    logs: bool = True
    exception_messages: bool = False
    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
