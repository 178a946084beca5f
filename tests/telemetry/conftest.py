"""An application with an OpenTelemetry SDK of its own, and a receiver of what it exports."""

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rollout_sdk import ABTest, Telemetry, rollout


class Open(SpanProcessor):
    """Knows the spans that have begun and not ended: no exporter ever hears of them."""

    def __init__(self):
        self.spans = {}

    def on_start(self, span, parent_context=None):
        self.spans[span.context.span_id] = span.name

    def on_end(self, span):
        del self.spans[span.context.span_id]


class Traced:
    """An application with a tracer of its own, and a runtime that uses it.

    A test that provokes faults says in `faults` which: whatever else is counted at its end is a fault of ours, which every
    guard around telemetry would hide.
    """

    def __init__(self, watch, sampler=None, runtime=None, **telemetry):
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler)
        self.open = Open()
        self.provider.add_span_processor(self.open)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        meters = MeterProvider([self.reader])
        settings = Telemetry(tracer_provider=self.provider, meter_provider=meters, **telemetry)
        self.runtime = watch(telemetry=settings, **(runtime or {}))
        self.tracer = self.provider.get_tracer("app")
        self.faults = set()

    def finished(self):
        """Every span, once the background has done its work."""
        assert self.runtime.flush(10.0)
        return self.exporter.get_finished_spans()

    def spans(self):
        return {span.name: span for span in self.finished()}

    def metrics(self):
        assert self.runtime.flush(10.0)
        data = self.reader.get_metrics_data()
        found = {}
        for resource in data.resource_metrics:
            for scope in resource.scope_metrics:
                assert scope.scope.name == "rollout_sdk"
                for metric in scope.metrics:
                    found[metric.name] = metric
        return found

    def model(self, control, candidate, strategy=ABTest(1.0), **options):
        options = {"unit": "x", "key": "model", "runtime": self.runtime, **options}
        return rollout(candidate=candidate, strategy=strategy, effects="read", **options)(control)


@pytest.fixture
def trace_with(watch):
    """Makes applications with settings of their own; at the end, nothing of theirs has failed but what a test provokes."""
    made = []

    def make(sampler=None, runtime=None, **telemetry):
        made.append(Traced(watch, sampler, runtime, **telemetry))
        return made[-1]

    yield make
    for traced in made:
        assert traced.runtime.flush(10.0)
        assert traced.faults == set(traced.runtime.faults)


@pytest.fixture
def traced(trace_with):
    return trace_with()
