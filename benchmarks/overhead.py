"""What a decorated call costs over the bare call, beside the peers, in one run.

    make bench, or: python benchmarks/overhead.py [--json] [--rounds 40] [--units 1000000]

It takes less than a minute. The work is the peers' own: decide which of two functions a user gets at a 10 % split, and call it.
Said is the cost over the bare call, in microseconds a call:

caller path   Short bursts, begun while the background thread gathers facts and sleeps: nothing but the caller runs. This is
              what a request pays. The subjects take turns in another order each round, so that the machine's noise meets all
              alike; the least of all rounds, and the median.
saturated     One thread that does nothing but call, without a pause: the background thread then competes for the interpreter's
              one lock, so that its work is in the figure. This is what a core pays. When the queue is full, facts are dropped
              and counted; their share is said, because a dropped fact costs less.

Read the ratios, which come of one run, rather than the figures, which are the machine's. Besides: what the imports cost in
fresh interpreters, and whether memory grows with the number of distinct units.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from time import perf_counter, perf_counter_ns, sleep
from typing import Any

from attrs import Factory, define

from rollout_sdk import ABTest, Interleave, Runtime, Shadow, Telemetry, disable, enable, rollout

BURST_S = 0.005
"""So short that the background thread, which gathers for 20 ms, sleeps all the while."""

WARM_UP = 30
SATURATED_S = 0.2
USERS = [f"u-{number}" for number in range(1_000)]
ITEMS = [f"item-{number}" for number in range(10)]
FIRST = "decorated, no SDK, no journal"
SHADOWED = "decorated, shadow on every call"
OPENFEATURE = "openfeature-sdk, boolean details"
LABORATORY = "laboratory, control + candidate"


def bare(user_id: str, query: str) -> None:
    return None


def candidate(user_id: str, query: str) -> None:
    return None


async def abare(user_id: str, query: str) -> None:
    return None


async def acandidate(user_id: str, query: str) -> None:
    return None


@define
class Subject:
    """Something to call, and what it is compared with.

    Attributes:
        name: What it is.
        call: The function; None where it is not installed.
        needs: What installs it.
        base: Name of the subject whose cost is taken off.
        runtime: Whose background work is waited for between bursts.
        settle: What else is waited for.
        most: Calls of a burst, at the most.
        warm_up: Calls before a burst.
        guess: About how many nanoseconds a call takes.
        switched_off: Whether the kill switch is off meanwhile.
        costs: Nanoseconds a call, for each round.
        saturated: The same, for each saturated run.
        calls: Calls of the saturated runs.
    """

    name: str
    call: Callable[..., Any] | None
    needs: str = ""
    base: str = "bare function"
    runtime: Runtime | None = None
    settle: Callable[[], Any] | None = None
    most: int = len(USERS)
    warm_up: int = WARM_UP
    guess: float = 0.0
    switched_off: bool = False
    costs: list[float] = Factory(list)
    saturated: list[float] = Factory(list)
    calls: int = 0

    def burst(self, count: int) -> float:
        """Nanoseconds a call, of so many calls for different users."""
        assert self.call is not None
        if asyncio.iscoroutinefunction(self.call):
            return asyncio.run(self._burst_of_coroutines(count))
        users, call = USERS[:count], self.call
        call("u-0", "red shoes")
        self._let_gather()
        for user in users[: self.warm_up]:
            call(user, "red shoes")
        began = perf_counter_ns()
        for user in users:
            call(user, "red shoes")
        return (perf_counter_ns() - began) / count

    async def _burst_of_coroutines(self, count: int) -> float:
        users, call = USERS[:count], self.call
        assert call is not None
        await call("u-0", "red shoes")
        self._let_gather()
        for user in users[: self.warm_up]:
            await call(user, "red shoes")
        began = perf_counter_ns()
        for user in users:
            await call(user, "red shoes")
        return (perf_counter_ns() - began) / count

    def _let_gather(self) -> None:
        """The background thread wakes for the first fact; then it gathers."""
        sleep(0.002)

    def rest(self) -> None:
        """Let the background finish."""
        if self.runtime is not None:
            self.runtime.flush(5.0)
        if self.settle is not None:
            self.settle()

    def round(self) -> None:
        """One burst."""
        if self.switched_off:
            disable()
        if not self.costs:
            self.guess = self.burst(20)
            self.rest()
        count = max(20, min(self.most, int(BURST_S * 1e9 / self.guess)))
        self.costs.append(self.burst(count))
        enable()
        self.rest()

    def saturate(self, seconds: float) -> None:
        """Call without a pause for so long."""
        if self.switched_off:
            disable()
        calls, began = 0, perf_counter()
        if asyncio.iscoroutinefunction(self.call):
            calls = asyncio.run(self._saturate_coroutine(began + seconds))
        else:
            assert self.call is not None
            call = self.call
            while perf_counter() < began + seconds:
                for user in USERS[:200]:
                    call(user, "red shoes")
                calls += 200
        self.saturated.append((perf_counter() - began) * 1e9 / calls)
        self.calls += calls
        enable()
        self.rest()

    async def _saturate_coroutine(self, until: float) -> int:
        calls, call = 0, self.call
        assert call is not None
        while perf_counter() < until:
            for user in USERS[:200]:
                await call(user, "red shoes")
            calls += 200
        return calls


def ours(name: str, strategy: Any, control: Any = bare, other: Any = candidate, **options: Any) -> Subject:
    """A decorated function, with a runtime of its own."""
    runtime = Runtime(**{option: options.pop(option) for option in ("journal", "telemetry") if option in options})
    call = rollout(candidate=other, strategy=strategy, effects="read", unit="user_id", key="bench", runtime=runtime)(control)
    return Subject(name, call, runtime=runtime, **options)


def traced() -> Iterable[Subject]:
    """With a live SDK that keeps nothing: a batch processor for spans, a reader for metrics."""
    names = "decorated, OTel SDK: traces", "decorated, OTel SDK: metrics", "decorated, OTel SDK: traces and metrics"
    try:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    except ModuleNotFoundError:
        yield from (Subject(name, None, "opentelemetry-sdk") for name in names)
        return

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    for name, spans, metrics in zip(names, ("all", "off", "all"), (False, True, True), strict=True):
        tracers, meters = TracerProvider(), MeterProvider([InMemoryMetricReader()])
        tracers.add_span_processor(BatchSpanProcessor(Nowhere()))
        telemetry = Telemetry(spans=spans, metrics=metrics, tracer_provider=tracers, meter_provider=meters)
        # The processor exports at 512 spans, and a call has two: a burst stays below that.
        yield ours(name, ABTest(0.1), telemetry=telemetry, settle=tracers.force_flush, most=200)


def openfeature() -> Subject:
    """The boolean details of a flag, from the provider in memory, and the function that they say."""
    try:
        from openfeature import api
        from openfeature.evaluation_context import EvaluationContext
        from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider
    except ModuleNotFoundError:
        return Subject(OPENFEATURE, None, "openfeature-sdk")
    api.set_provider(InMemoryProvider({"bench": InMemoryFlag("off", {"on": True, "off": False})}))
    client = api.get_client()

    def call(user_id: str, query: str) -> None:
        enabled = client.get_boolean_details("bench", default_value=False, evaluation_context=EvaluationContext(user_id)).value
        return candidate(user_id, query) if enabled else bare(user_id, query)

    return Subject(OPENFEATURE, call)


def scientist() -> Subject:
    """An experiment that runs control and candidate one after the other, and publishes nothing."""
    try:
        import laboratory
    except ModuleNotFoundError:
        return Subject(LABORATORY, None, "laboratory")

    def call(user_id: str, query: str) -> Any:
        experiment = laboratory.Experiment()
        experiment.control(bare, args=(user_id, query))
        experiment.candidate(candidate, args=(user_id, query))
        return experiment.conduct()

    return Subject(LABORATORY, call)


def subjects() -> list[Subject]:
    return [
        Subject("bare function", bare),
        ours(FIRST, ABTest(0.1)),
        ours("decorated, kill switch off", ABTest(0.1), switched_off=True),
        ours("decorated, journal", ABTest(0.1), journal=tempfile.mkdtemp(prefix="rollout-bench-")),
        *traced(),
        # 64 shadows may wait: so few calls that none is dropped.
        ours("decorated, shadow at rate 0.1", Shadow(0.1), most=250),
        ours(SHADOWED, Shadow(1.0), most=40, warm_up=5),
        ours("decorated, interleave 2 x 10", Interleave(), lambda user_id, query: ITEMS[:], lambda user_id, query: ITEMS[::-1]),
        Subject("bare coroutine function", abare, base="bare coroutine function"),
        ours("decorated coroutine function", ABTest(0.1), abare, acandidate, base="bare coroutine function"),
        openfeature(),
        scientist(),
    ]


def measure(rounds: int) -> dict[str, dict[str, Any]]:
    """The figures of every subject, over its base."""
    everybody = subjects()
    installed = [subject for subject in everybody if subject.call is not None]
    order = list(installed)
    for _ in range(rounds):
        random.shuffle(order)
        for subject in order:
            subject.round()
    for _ in range(2):
        random.shuffle(order)
        for subject in order:
            subject.saturate(SATURATED_S)
    by_name = {subject.name: subject for subject in installed}
    figures: dict[str, dict[str, Any]] = {}
    for subject in everybody:
        if subject.call is None:
            figures[subject.name] = {"not_installed": subject.needs}
            continue
        base = by_name[subject.base]
        zero = base is subject
        lost = 0 if subject.runtime is None else subject.runtime.recorder.dropped
        figures[subject.name] = {
            "least_us": (min(subject.costs) - (0 if zero else min(base.costs))) / 1000,
            "median_us": (statistics.median(subject.costs) - (0 if zero else statistics.median(base.costs))) / 1000,
            "saturated_us": (min(subject.saturated) - (0 if zero else min(base.saturated))) / 1000,
            "dropped": lost / subject.calls,
        }
    for column, peer in (("over_openfeature", OPENFEATURE), ("over_laboratory", LABORATORY)):
        for name, found in figures.items():
            if "median_us" in found and "median_us" in figures[peer] and not name.startswith("bare"):
                found[column] = found["median_us"] / figures[peer]["median_us"]
    return figures


def in_fresh_interpreter(program: str, *arguments: str, cache: str) -> dict[str, Any]:
    """What a program says in JSON, with compiled files in `cache`."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = cache
    finished = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(finished.stdout)  # type: ignore[no-any-return]


RESIDENT = """
import json, sys, threading
from time import perf_counter
def resident():
    with open("/proc/self/status") as status:
        return next((int(line.split()[1]) for line in status if line.startswith("VmRSS")), 0) / 1024
"""

IMPORT = """
before = resident()
began = perf_counter()
for name in sys.argv[1:]:
    __import__(name)
took = perf_counter() - began
print(json.dumps({"ms": took * 1000, "mib": resident() - before, "threads": threading.active_count() - 1}))
"""

DEPENDENCIES = {
    "pluggy": ["pluggy"],
    "attrs": ["attrs"],
    "structlog": ["structlog"],
    "opentelemetry-api": ["opentelemetry.trace", "opentelemetry.metrics"],
}


def imports(repeats: int = 5) -> dict[str, dict[str, float]]:
    """What imports cost in fresh interpreters, from compiled files; the least of several."""
    programs = {**DEPENDENCIES, "all four": [name for names in DEPENDENCIES.values() for name in names]}
    programs["rollout_sdk"] = ["rollout_sdk"]
    with tempfile.TemporaryDirectory() as cache:
        for names in programs.values():
            in_fresh_interpreter(RESIDENT + IMPORT, *names, cache=cache)
        runs = [
            (title, in_fresh_interpreter(RESIDENT + IMPORT, *names, cache=cache))
            for _ in range(repeats)
            for title, names in programs.items()
        ]
    return {title: min((run for name, run in runs if name == title), key=lambda run: run["ms"]) for title in programs}


MEMORY = """
from rollout_sdk import ABTest, Runtime, rollout
runtime = Runtime()
@rollout(candidate=lambda user: None, strategy=ABTest(0.1), unit="user", key="memory", runtime=runtime)
def model(user): return None
def call(first, number):
    for start in range(first, first + number, 5_000):
        for user in range(start, start + 5_000):
            model(f"u-{user}")
        runtime.flush()
number = int(sys.argv[1])
call(0, 50_000)
before = resident()
call(50_000, number)
print(json.dumps({"units": number, "grown_mib": resident() - before, "lost": model.rollout.status().lost,
    "threads": threading.active_count() - 1}))
"""


def memory(units: int) -> dict[str, Any]:
    """How the process grows over so many distinct units, after 50,000 others."""
    with tempfile.TemporaryDirectory() as cache:
        return in_fresh_interpreter(RESIDENT + MEMORY, str(units), cache=cache)


def show(figures: dict[str, dict[str, Any]], imported: dict[str, dict[str, float]], grown: dict[str, Any]) -> None:
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores. Microseconds a call over the bare call:\n")
    print(f"{'':42}{'caller path':>16}{'saturated':>19}{'times the cost of':>26}")
    print(f"{'':42}{'least':>8}{'median':>8}{'':>10}{'dropped':>9}{'openfeature':>14}{'laboratory':>12}")
    for name, found in figures.items():
        if "not_installed" in found:
            print(f"{name:42}  not installed: pip install {found['not_installed']}")
            continue
        ratios = [found.get(column) for column in ("over_openfeature", "over_laboratory")]
        cells = ["-" if ratio is None else f"{ratio:.2f}x" for ratio in ratios]
        print(
            f"{name:42}{found['least_us']:>8.2f}{found['median_us']:>8.2f}{found['saturated_us']:>10.2f}"
            f"{found['dropped']:>9.0%}{cells[0]:>14}{cells[1]:>12}"
        )
    print(
        "\ncaller path: short bursts while the background sleeps: what a request pays."
        "\nsaturated: one thread calls without a pause, the background's work included: what a core pays; dropped: share of"
        "\n  the facts that did not fit the queue. The bare rows are absolute. Ratios are of the medians of the caller path."
    )
    shadow = figures[SHADOWED]["median_us"] - figures[FIRST]["median_us"]
    print(f"One shadow costs its caller {shadow:.1f} us: copying the arguments, and handing over.")
    print("\nImport in a fresh interpreter:")
    for title, cost in imported.items():
        print(f"  {title:20}{cost['ms']:>7.0f} ms{cost['mib']:>7.1f} MiB{cost['threads']:>4} threads")
    print(
        f"\nMemory: {grown['grown_mib']:+.1f} MiB over {grown['units']:,} distinct units,"
        f" {grown['grown_mib'] * 2**20 / grown['units']:.2f} bytes each; {grown['threads']} thread, {grown['lost']} facts lost"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--rounds", type=int, default=40, help="bursts of every subject (40)")
    parser.add_argument("--units", type=int, default=1_000_000, help="distinct units of the memory run (1,000,000)")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    figures, imported, grown = measure(options.rounds), imports(), memory(options.units)
    if options.json:
        print(json.dumps({"calls": figures, "imports": imported, "memory": grown}, indent=2))
    else:
        show(figures, imported, grown)


if __name__ == "__main__":
    main()
