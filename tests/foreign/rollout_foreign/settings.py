"""The ways in which foreign functions are decorated: always with the function itself as the candidate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rollout_sdk import ABTest, Canary, Runtime, Shadow

BARE = "bare"


def _raise(_once: bool) -> dict[str, Any]:
    return {"strategy": ABTest(1.0), "on_error": "raise"}


def _default(once: bool) -> dict[str, Any]:
    return {"strategy": ABTest(1.0), **({"on_error": "raise"} if once else {})}


def _canary(once: bool) -> dict[str, Any]:
    return {"strategy": Canary(["50%"]), **({"on_error": "raise"} if once else {})}


def _shadow(once: bool) -> dict[str, Any] | None:
    # What must not run twice cannot be shadowed.
    return None if once else {"strategy": Shadow(rate=1.0), "effects": "read"}


SETTINGS: dict[str, Callable[[bool], dict[str, Any] | None]] = {
    "default": _default,
    "raise": _raise,
    "canary": _canary,
    "shadow": _shadow,
    # An A/B test with the journal and an OpenTelemetry SDK that takes every span and metric.
    "signals": _default,
}
"""By name: the options of `rollout` for a function, given whether it must not run twice; None leaves it bare."""


def make_runtime(setting: str, journal: str) -> Runtime:
    """The runtime of a run; under "signals" with a journal in that folder and every signal on."""
    if setting != "signals":
        return Runtime()
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

    class Discarding(SpanExporter):
        """Takes every span, of which there can be a million."""

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            del spans
            return SpanExportResult.SUCCESS

    traces = TracerProvider(shutdown_on_exit=False)
    traces.add_span_processor(SimpleSpanProcessor(Discarding()))
    trace.set_tracer_provider(traces)
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False))
    return Runtime(journal=journal)
