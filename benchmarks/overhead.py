"""What a decorated call costs over the bare call, beside the peers, in one run.

Run it: make bench, or python benchmarks/overhead.py [--json]. It takes about half a minute.

"calm" is the cost on the caller's path: bursts of 1,000 calls after 300 to warm up, with the background thread done before the
next burst; the best and the median of all bursts, the kinds taking turns, so that the machine's noise meets all alike. "busy"
is the cost when one thread does nothing but call: the background thread then competes for the interpreter's lock. Read the
ratios, not the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from time import perf_counter_ns, sleep
from typing import Any

from rollout_sdk import ABTest, Interleave, Runtime, Shadow, Telemetry, disable, enable, rollout

WARM_UP = 300
BURST = 1_000
ROUNDS = 25
ITEMS = [f"item-{number}" for number in range(10)]


def bare(user_id: str, query: str) -> None:
    return None


def candidate(user_id: str, query: str) -> None:
    return None


def decorated(runtime: Runtime, strategy: Any, control: Any = bare, other: Any = candidate) -> Callable[..., Any]:
    return rollout(candidate=other, strategy=strategy, unit="user_id", key="bench", runtime=runtime)(control)


def with_otel() -> Telemetry | None:
    """Telemetry with a live SDK that keeps nothing: a batch processor for spans, a reader for metrics."""
    try:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    except ModuleNotFoundError:
        return None

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(Nowhere()))
    return Telemetry(tracer_provider=tracers, meter_provider=MeterProvider([InMemoryMetricReader()]))


def openfeature() -> Callable[..., Any] | None:
    try:
        from openfeature import api
        from openfeature.evaluation_context import EvaluationContext
        from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider
    except ModuleNotFoundError:
        return None
    api.set_provider(InMemoryProvider({"bench": InMemoryFlag("off", {"on": True, "off": False})}))
    client = api.get_client()

    def call(user_id: str, query: str) -> None:
        enabled = client.get_boolean_details("bench", False, EvaluationContext(user_id)).value
        return candidate(user_id, query) if enabled else bare(user_id, query)

    return call


def scientist() -> Callable[..., Any] | None:
    try:
        import laboratory
    except ModuleNotFoundError:
        return None

    def call(user_id: str, query: str) -> Any:
        experiment = laboratory.Experiment()
        experiment.control(bare, args=(user_id, query))
        experiment.candidate(candidate, args=(user_id, query))
        return experiment.conduct()

    return call


async def abare(user_id: str, query: str) -> None:
    return None


def in_loop(function: Callable[..., Any]) -> Callable[..., Any]:
    """Bursts of a coroutine function, within one run of a loop."""

    async def burst(count: int) -> int:
        began = perf_counter_ns()
        for _ in range(count):
            await function("u-17", "red shoes")
        return perf_counter_ns() - began

    def call(count: int) -> int:
        return asyncio.run(burst(count))

    call.is_burst = True  # type: ignore[attr-defined]
    return call


def burst_ns(function: Callable[..., Any], count: int) -> float:
    """Nanoseconds for each of so many calls."""
    if hasattr(function, "is_burst"):
        return float(function(count)) / count
    began = perf_counter_ns()
    for _ in range(count):
        function("u-17", "red shoes")
    return (perf_counter_ns() - began) / count


def subjects() -> tuple[dict[str, Callable[..., Any] | None], list[Runtime]]:
    """What is measured, by name; None where a peer is not installed."""
    quiet, journal, shadows = Runtime(), Runtime(journal=tempfile.mkdtemp()), Runtime()
    otel = with_otel()
    traced = None if otel is None else Runtime(telemetry=otel)
    ranker = decorated(Runtime(), Interleave(), lambda user_id, query: list(ITEMS), lambda user_id, query: ITEMS[::-1])
    found: dict[str, Callable[..., Any] | None] = {
        "bare function": bare,
        "decorated, no SDK, no journal": decorated(quiet, ABTest(0.1)),
        "decorated, kill switch": decorated(Runtime(), ABTest(0.1)),
        "decorated, journal": decorated(journal, ABTest(0.1)),
        "decorated, OTel SDK": None if traced is None else decorated(traced, ABTest(0.1)),
        "decorated, shadow rate 0.1": decorated(shadows, Shadow(0.1)),
        "decorated, interleave 2 x 10": ranker,
        "bare coroutine function": in_loop(abare),
        "decorated coroutine function": in_loop(decorated(Runtime(), ABTest(0.1), abare, abare)),
        "openfeature-sdk, boolean details": openfeature(),
        "laboratory, control + candidate": scientist(),
    }
    runtimes = [quiet, journal, shadows, *([traced] if traced else [])]
    return found, runtimes


def measure() -> dict[str, dict[str, float | None]]:
    found, runtimes = subjects()
    bursts: dict[str, list[float]] = {name: [] for name in found}
    for function in filter(None, found.values()):
        burst_ns(function, 50)
    for _ in range(ROUNDS):
        for name, function in found.items():
            if function is None:
                continue
            if "kill switch" in name:
                disable()
            burst_ns(function, WARM_UP)
            bursts[name].append(burst_ns(function, BURST))
            enable()
            for runtime in runtimes:
                runtime.flush(5.0)
        sleep(0.005)
    busy = {name: burst_ns(function, 20_000) for name, function in found.items() if function and "kill" not in name}
    results: dict[str, dict[str, float | None]] = {}
    for name, values in bursts.items():
        if values:
            results[name] = {"best_ns": min(values), "median_ns": statistics.median(values), "busy_ns": busy.get(name)}
        else:
            results[name] = {"best_ns": None, "median_ns": None, "busy_ns": None}
    return results


def imports() -> dict[str, float]:
    """Milliseconds that an import takes in a fresh interpreter, over an empty program; the best of five."""
    programs = {
        "nothing": "pass",
        "four dependencies": "import pluggy, attrs, structlog, opentelemetry.trace",
        "rollout_sdk": "import rollout_sdk",
    }
    best = {}
    for name, program in programs.items():
        times = []
        for _ in range(5):
            began = perf_counter_ns()
            subprocess.run([sys.executable, "-c", program], check=True)
            times.append((perf_counter_ns() - began) / 1e6)
        best[name] = min(times)
    return {name: value - best["nothing"] for name, value in best.items() if name != "nothing"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    results, import_ms = measure(), imports()
    if options.json:
        print(json.dumps({"calls": results, "import_ms": import_ms}, indent=2))
        return
    base = {
        "": results["bare function"]["median_ns"] or 0.0,
        "coroutine": results["bare coroutine function"]["median_ns"] or 0.0,
    }
    ours = results["decorated, no SDK, no journal"]["median_ns"] or 1.0
    print(f"{'over the bare call, us':38}{'best':>8}{'median':>8}{'busy':>8}{'ratio':>8}")
    for name, figures in results.items():
        if figures["median_ns"] is None:
            print(f"{name:38}  not installed: pip install openfeature-sdk laboratory opentelemetry-sdk")
            continue
        floor = 0.0 if name.startswith("bare") else base["coroutine" if "coroutine" in name else ""]
        cells = [None if value is None else (value - floor) / 1000 for value in figures.values()]
        ratio = (figures["median_ns"] - floor) / (ours - base[""])
        print(f"{name:38}" + "".join(f"{'-' if cell is None else f'{cell:.2f}':>8}" for cell in cells) + f"{ratio:>7.2f}x")
    print("\nratio: of the medians, to the decorated call without SDK and journal")
    print("import, ms: " + ", ".join(f"{name} {value:.0f}" for name, value in import_ms.items()))


if __name__ == "__main__":
    main()
