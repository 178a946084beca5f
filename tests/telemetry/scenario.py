"""Everything that can be emitted, by one program: all strategies and kinds of functions, what fails, and what is decided.

As a program, it prints the spans of the run as JSON: so it runs on versions of OpenTelemetry that are not the tests' own.
"""

import asyncio
import csv
import json
import sys
import tempfile
import time
import types
from contextlib import suppress
from pathlib import Path

import structlog

import rollout_sdk
from rollout_sdk import (
    ABTest,
    Breaker,
    Canary,
    Comparison,
    Decision,
    Guardrail,
    Interleave,
    Runtime,
    Shadow,
    ShadowLimits,
    Step,
    Telemetry,
    rollout,
)
from rollout_sdk.runtime import registry

UNIT = "marker-unit-4711"
PAYLOAD = "marker-payload-4711"
MESSAGE = "marker-message-4711"


def good(user, text=PAYLOAD):
    return [1, 2, 3]


def other(user, text=PAYLOAD):
    return [1, 3, 2]


def failing(user, text=PAYLOAD):
    raise ValueError(MESSAGE + text)


class Lost:
    """A strategy that sends everybody to a variant that is not there."""

    name = "lost"

    def rollout_route(self, request):
        return Decision("nowhere")


class Deaf:
    """An observer that fails."""

    name = "deaf"

    def rollout_routed(self, event):
        raise RuntimeError(MESSAGE)


class Numbers:
    """A comparator that measures."""

    name = "numbers"

    def rollout_compare(self, request, control, candidate):
        return Comparison(match=False, difference=0.5, reason="value", name="numbers")


def everything(telemetry: Telemetry) -> set[tuple[str, str]]:
    """Call all that there is, with these settings, and end it properly; gives what failed."""
    folder = Path(tempfile.mkdtemp())
    control = folder / "control.toml"
    control.write_text("version = 1")
    runtime = Runtime(
        telemetry=telemetry,
        key="secret",
        journal=folder / "journal",
        control=control,
        shadows=ShadowLimits(cpu_share=1.0, max_age_s=60.0),
    )
    made = {"effects": "read", "unit": "user", "runtime": runtime}

    def decorated(key, strategy, candidate=other, control=good, **options):
        return rollout(candidate=candidate, strategy=strategy, key=key, **{**made, **options})(control)

    measured = decorated("ab", ABTest(1.0), version="2026-11-28")
    measured.rollout.record("rating", 4.5, decision_id=measured.rollout.route(UNIT).decision.id)
    measured.rollout.record("rating", 2, unit=UNIT)
    elsewhere(runtime)
    decorated("broken", ABTest(1.0), failing)(UNIT)
    with suppress(ValueError):
        decorated("both-fail", ABTest(1.0), failing, failing)(UNIT)
    decorated("shadow", Shadow(1.0), plugins=[Numbers()])(UNIT)
    decorated("shadow-fails", Shadow(1.0), failing)(UNIT)
    decorated("wrong-override", ABTest(0.5), override=lambda user, text=PAYLOAD: 1 / 0)(UNIT, [PAYLOAD])
    decorated("shadow-dropped", Shadow(1.0), isolate=lambda value: 1 / 0)(UNIT, [PAYLOAD])
    decorated("interleave", Interleave())(UNIT)
    decorated("unmergeable", Interleave(), lambda user, text=PAYLOAD: iter([1]))(UNIT)
    decorated("unmeasured", ABTest(1.0), lambda user, text=PAYLOAD: csv.reader([]))(UNIT)
    decorated("read-once", ABTest(1.0))(UNIT, iter([PAYLOAD]))
    decorated("lost", Lost(), plugins=[Deaf()])(UNIT)
    rows = rollout(candidate=as_rows, strategy=ABTest(0.5), batch="rows", unit="rows", key="batch", runtime=runtime)(as_rows)
    rows([f"{UNIT}-{number}" for number in range(20)])
    wrong = rollout(candidate=len, strategy=ABTest(0.5), batch="rows", unit="rows", key="no rows", runtime=runtime)
    wrong(lambda rows, /: rows)([f"{UNIT}-{number}" for number in range(20)])
    judged(decorated)
    healing(decorated)
    asyncio.run(asynchronous(made))
    control.write_text("version = 'wrong'")
    deadline = time.monotonic() + 10
    while ("control file", "ConfigurationError") not in runtime.faults and time.monotonic() < deadline:
        time.sleep(0.05)
    runtime.flush(10.0)
    runtime.close(1.0)
    return {*runtime.faults, *unwritable(telemetry, folder), *threadless(telemetry)}


def elsewhere(runtime):
    """An outcome of a process that decorates nothing, and has a strange clock."""
    before, registry._default = registry._default, runtime
    try:
        rollout_sdk.record("rating", 2, unit=UNIT, rollout="ab", time_s=time.time() + 3600)
    finally:
        registry._default = before


def threadless(telemetry):
    """A server whose threads do not run, as uWSGI says it."""
    sys.modules["uwsgi"] = types.SimpleNamespace(has_threads=0)
    try:
        runtime = Runtime(telemetry=telemetry, key="secret")
    finally:
        del sys.modules["uwsgi"]
    runtime.flush(10.0)
    runtime.close(1.0)
    return runtime.faults


def unwritable(telemetry, folder):
    """A journal whose folder is a file by now, and a store whose folder is missing."""
    path = folder / "gone"
    runtime = Runtime(telemetry=telemetry, key="secret", journal=path, store=f"sqlite:///{folder}/missing/x.db")
    path.rmdir()
    path.touch()
    rollout(candidate=other, strategy=ABTest(1.0), unit="user", key="unwritable", runtime=runtime)(good)(UNIT)
    runtime.flush(10.0)
    runtime.close(1.0)
    return runtime.faults


class Flaky:
    """Fails twice, and is well from then on."""

    def __init__(self):
        self.calls = 0

    def __call__(self, user, text=PAYLOAD):
        self.calls += 1
        if self.calls <= 2:
            raise ValueError(MESSAGE)
        return [1]


def as_rows(rows):
    return list(rows)


def healing(decorated):
    """A breaker opens, and closes again."""
    model = decorated("healing", ABTest(1.0), Flaky(), breaker=Breaker(min_runs=2, window=2, cooldown_s=0.05))
    deadline = time.monotonic() + 10
    while model(UNIT) != [1] and time.monotonic() < deadline:
        time.sleep(0.02)
    for number in range(20):
        model(f"{UNIT}-{number}")


def judged(decorated):
    """A canary that a person takes a step on, and its judge back."""
    step = Step("20%", min_units=10, min_time="0s")
    canary = decorated("canary", Canary([step, "50%"], guardrails=[Guardrail("error_rate")]), failing, breaker=None)
    canary(UNIT)
    canary.rollout.pause(actor="ann")
    canary.rollout.resume(actor="ann")
    canary.rollout.promote(actor="ann", reason="a quiet day")
    for number in range(400):
        canary(f"{UNIT}-{number}")
    canary.rollout.judge()


async def asynchronous(made):
    """A shadow in a task, beside a coroutine function."""

    async def slow(user, text=PAYLOAD):
        await asyncio.sleep(0)
        return [1]

    await rollout(candidate=slow, strategy=Shadow(1.0), key="async-shadow", **made)(slow)(UNIT)
    await asyncio.sleep(0.1)


def captured(request):
    """What an application may want to see of a call."""
    return {"length": 3, "lang": "en", "broken": object()}


def redact(name, value):
    if name == "broken":
        raise RuntimeError(MESSAGE)
    return value


SHOWN = {"unit_id": "hash", "namespace": "prod", "capture": captured, "redact": redact, "decision_duration": True}
"""All that is asked for and identifies nobody."""


def main():
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.version import __version__

    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider, meters = TracerProvider(), MeterProvider([reader])
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    everything(Telemetry(tracer_provider=provider, meter_provider=meters, **SHOWN))
    spans = [
        {
            "name": span.name,
            "attributes": dict(span.attributes),
            "events": [{"name": event.name, "attributes": dict(event.attributes)} for event in span.events],
        }
        for span in exporter.get_finished_spans()
    ]
    data = reader.get_metrics_data()
    metrics = {
        metric.name: sorted({name for point in metric.data.data_points for name in point.attributes})
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    print(json.dumps({"version": __version__, "spans": spans, "metrics": metrics}))


if __name__ == "__main__":
    structlog.configure(
        processors=[structlog.processors.KeyValueRenderer()], logger_factory=structlog.PrintLoggerFactory(sys.stderr)
    )
    main()
