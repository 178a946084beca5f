"""The cost of each signal per call, and a fully observed call compared with the bare OpenTelemetry calls that emit the same.

    make bench, or: python benchmarks/telemetry.py [--json] [--rounds 40]

The OpenTelemetry SDK is on: a batch processor whose exporter drops everything, and a metric reader. `bare SDK` is the same
routing without rollout_sdk: two functions, a coin, and hand-written spans, attributes, event and instruments of a routed call.
The limit is that a routed call costs at most 1.25 times as much, both on the caller's path and saturated (defined in
subjects.py). Read the ratios, which come from one run, rather than the figures, which depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import statistics
from time import perf_counter
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

try:
    from opentelemetry.sdk._logs.export import LogRecordExporter
except ImportError:
    from opentelemetry.sdk._logs.export import LogExporter as LogRecordExporter
from subjects import SATURATED_S, Subject, bare, candidate, ours

from rollout_sdk import ABTest, Telemetry
from rollout_sdk.telemetry import names

MOST_CALLS = 200
"""Of a burst: the processor exports at 512 spans, and a call has two."""
BARE_SDK = "bare SDK: spans, event, instruments"
BARE_SPANS = "bare SDK: spans and event"
FULL = "routed: spans, event, metrics"
SPANS = "routed: spans and event"
BAR = 1.25
QUIET: dict[str, Any] = {"spans": "off", "metrics": False, "logs": False}


class Nowhere(SpanExporter):
    """Drops every span."""

    def export(self, spans: Any) -> SpanExportResult:
        """Drop them."""
        return SpanExportResult.SUCCESS


class NoRecords(LogRecordExporter):  # type: ignore[misc]  # the name before version 1.39 of the SDK is known to no stub
    """Drops every log record."""

    def export(self, batch: Any) -> Any:
        """Drop them."""

    def shutdown(self) -> None:
        """Nothing is open."""

    def force_flush(self, timeout_millis: float = 0) -> bool:
        """Nothing waits."""
        return True


def tracers(sampler: Any = None) -> TracerProvider:
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    return provider


def routed(name: str, *, sampler: Any = None, **settings: Any) -> Subject:
    """Return a decorated function whose runtime emits the signals of these settings."""
    provider, meters = tracers(sampler), MeterProvider([InMemoryMetricReader()])
    telemetry = Telemetry(**{**QUIET, **settings}, tracer_provider=provider, meter_provider=meters)
    return ours(name, ABTest(0.1), telemetry=telemetry, settle=provider.force_flush, most=MOST_CALLS)


def as_records(name: str) -> Subject:
    """The same with events as log records, which another batch processor takes."""
    records = LoggerProvider()
    records.add_log_record_processor(BatchLogRecordProcessor(NoRecords()))
    return routed(name, spans="all", flag_events="log", logger_provider=records)


def bare_sdk(name: str, *, metrics: bool) -> Subject:
    """Emit the signals of a routed call, hand-written with the cheapest calls of OpenTelemetry."""
    provider = tracers()
    tracer = provider.get_tracer(names.SCOPE, "1", names.SCHEMA_URL)
    meter = MeterProvider([InMemoryMetricReader()]).get_meter(names.SCOPE, "1", names.SCHEMA_URL)
    duration = meter.create_histogram(names.CALL_DURATION, "s", explicit_bucket_boundaries_advisory=names.DURATION_BUCKETS)
    decisions = meter.create_counter(names.DECISIONS, "{decision}")

    def call(user_id: str, query: str) -> None:
        variant, function = ("candidate", candidate) if hash(user_id) % 10 == 0 else ("control", bare)
        common = {names.KEY: name, names.VARIANT: variant, names.STRATEGY: "ab"}
        route = {
            **common,
            names.REASON: "split",
            names.PROVIDER_NAME: names.PROVIDER,
            names.PHASE: "0:10%",
            names.DECISION_ID: "an id of some length, as ours are: about 60 characters",
            names.BUCKET: 17,
            names.PROPENSITY: 0.9,
            names.VERSION: "0123abcd",
        }
        span = tracer.start_span(f"route {name}", attributes=route)
        evaluation = {names.KEY: name, names.VARIANT: variant, names.REASON: "split", names.PROVIDER_NAME: names.PROVIDER}
        span.add_event(names.EVALUATION_EVENT, {**evaluation, names.VERSION: "0123abcd"})
        about = {**common, names.ROLE: variant, names.FUNCTION_NAME: "bench.bare", names.DECISION_ID: route[names.DECISION_ID]}
        context = trace.set_span_in_context(span)
        inner = tracer.start_span(f"invoke {name}/{variant}", context=context, attributes=about)
        token = attach(trace.set_span_in_context(inner, context))
        began = perf_counter()
        value = function(user_id, query)
        took = perf_counter() - began
        detach(token)
        inner.end()
        span.end()
        if metrics:
            duration.record(took, {**common, names.ROLE: variant})
            decisions.add(1, {**common, names.REASON: "split"})
        return value

    return Subject(name, call, settle=provider.force_flush, most=MOST_CALLS)


def debugging() -> Subject:
    """Log events about every call, which structlog filters to nowhere."""
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()],
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    return routed("routed: log events at DEBUG", logs=True)


def subjects() -> list[Subject]:
    return [
        Subject("bare function", bare),
        ours("routed: nothing on, no SDK", ABTest(0.1), telemetry=Telemetry(**QUIET)),
        routed("routed: metrics", metrics=True),
        routed("routed: decision_duration, too", metrics=True, decision_duration=True),
        routed("routed: spans='route'", spans="route"),
        routed(SPANS, spans="all"),
        routed("routed: spans, no flag event", spans="all", flag_events="off"),
        as_records("routed: spans, flag_events='log'"),
        routed("routed: spans, event, bind_logs", spans="all", bind_logs=True),
        routed("routed: spans, event, baggage", spans="all", propagate=True),
        routed("routed: spans, 1 % sampled", spans="all", sampler=ParentBased(TraceIdRatioBased(0.01))),
        routed(FULL, spans="all", metrics=True),
        bare_sdk(BARE_SPANS, metrics=False),
        bare_sdk(BARE_SDK, metrics=True),
    ]


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Microseconds a call over the bare function, of every subject."""
    everybody = [*subjects(), debugging()]
    order = list(everybody)
    for _ in range(rounds):
        random.shuffle(order)
        for subject in order:
            subject.round()
    for _ in range(3):
        random.shuffle(order)
        for subject in order:
            subject.saturate(SATURATED_S)
    zero = everybody[0]
    return {
        subject.name: {
            "least_us": (min(subject.costs) - min(zero.costs)) / 1000,
            "median_us": (statistics.median(subject.costs) - statistics.median(zero.costs)) / 1000,
            "saturated_us": (min(subject.saturated) - min(zero.saturated)) / 1000,
        }
        for subject in everybody[1:]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--rounds", type=int, default=40, help="bursts of every subject (40)")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    trace.get_tracer_provider()
    figures = measure(options.rounds)
    ratios = {
        column: {
            "spans": figures[SPANS][column] / figures[BARE_SPANS][column],
            "full": figures[FULL][column] / figures[BARE_SDK][column],
        }
        for column in ("least_us", "median_us", "saturated_us")
    }
    if options.json:
        print(json.dumps({"calls": figures, "ratios": ratios}, indent=2))
        return
    print(f"{'Microseconds a call over the bare call:':42}{'least':>9}{'median':>9}{'saturated':>11}")
    for name, found in figures.items():
        print(
            f"{name:42}" + "".join(f"{found[c]:>{w}.1f}" for c, w in (("least_us", 9), ("median_us", 9), ("saturated_us", 11)))
        )
    print(f"\nA routed call over the bare SDK (at most {BAR}):")
    for column, found in ratios.items():
        print(f"  {column.removesuffix('_us'):12}spans {found['spans']:.2f}x   spans and instruments {found['full']:.2f}x")


if __name__ == "__main__":
    main()
