"""The rows of the table of overhead.py: each creates its subject and everything that it needs, in a separate process.

The task is the same for all: decide which of two functions a user gets at a split of 10 %, and call it. A row is a function
that returns the function to call with a user, and the bare function whose cost is subtracted.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from hashlib import blake2b
from typing import Any

from rollout_sdk import ABTest, Canary, Interleave, Runtime, Shadow, ShadowLimits, Telemetry, disable, rollout

QUERY = "red shoes"
ITEMS = [f"item-{number}" for number in range(10)]
Row = tuple[Callable[[str], Any], Callable[[str], Any]]


def bare(user_id: str, query: str) -> None:
    return None


def candidate(user_id: str, query: str) -> None:
    return None


async def abare(user_id: str, query: str) -> None:
    return None


async def acandidate(user_id: str, query: str) -> None:
    return None


def without(user: str) -> None:
    return bare(user, QUERY)


async def awithout(user: str) -> None:
    return await abare(user, QUERY)


def floor() -> Row:
    """Written by hand: hashes, sets a ContextVar, catches, reads three clocks and records a tuple."""
    variant: ContextVar[str | None] = ContextVar("variant", default=None)
    records: deque[tuple[Any, ...]] = deque(maxlen=100_000)
    keyed = blake2b(digest_size=8, key=b"floor")

    def routed(user_id: str, query: str) -> None:
        hasher = keyed.copy()
        hasher.update(user_id.encode())
        digest = int.from_bytes(hasher.digest(), "big")
        arm = "candidate" if (digest >> 32) / 4294967296 < 0.1 else "control"
        model = candidate if arm == "candidate" else bare
        variant.set(arm)
        when, began = time.time_ns(), time.perf_counter()
        error = None
        try:
            return model(user_id, query)
        except Exception as raised:
            error = type(raised).__name__
            raise
        finally:
            records.append((arm, user_id, digest & 511, when, time.perf_counter() - began, error))

    return lambda user: routed(user, QUERY), without


def decorated(strategy: Any, control: Any = bare, other: Any = candidate, **settings: Any) -> Any:
    runtime = Runtime(**settings)
    return rollout(candidate=other, strategy=strategy, effects="read", unit="user_id", key="bench", runtime=runtime)(control)


def of(strategy: Any, control: Any = bare, other: Any = candidate, **settings: Any) -> Row:
    model = decorated(strategy, control, other, **settings)
    if control is abare:

        async def awaited(user: str) -> Any:
            return await model(user, QUERY)

        return awaited, awithout
    return lambda user: model(user, QUERY), without


def journalled(strategy: Any, control: Any = bare, other: Any = candidate) -> Row:
    return of(strategy, control, other, journal=tempfile.mkdtemp(prefix="rollout-bench-"))


def shadowed() -> Row:
    """Every call is handed over: with less of the processor, most would be dropped."""
    return of(Shadow(1.0), shadows=ShadowLimits(cpu_share=1.0))


def assigned() -> Row:
    assign = decorated(ABTest(0.1)).rollout.assign
    return assign, lambda _user: None


def disabled() -> Row:
    row = of(ABTest(0.1))
    disable()
    return row


def traced() -> Row:
    """A live SDK that keeps nothing: a batch processor for spans, a reader for metrics."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(Nowhere()))
    telemetry = Telemetry(tracer_provider=tracers, meter_provider=MeterProvider([InMemoryMetricReader()]))
    return of(ABTest(0.1), telemetry=telemetry)


def interleaved() -> Row:
    return of(Interleave(), lambda user_id, query: ITEMS[:], lambda user_id, query: ITEMS[::-1])


# Peers: their decision, and a call of the selected function ------------------------------------------------------------------


def eppo() -> Row:
    import eppo_client

    class Logger(eppo_client.AssignmentLogger):
        def log_assignment(self, event: Any) -> None:
            records.append(event)

    records: deque[Any] = deque(maxlen=100_000)
    arms = (("candidate", 0, 1_000), ("control", 1_000, 10_000))
    splits = [
        {"variationKey": name, "shards": [{"salt": "bench", "ranges": [{"start": start, "end": end}]}]}
        for name, start, end in arms
    ]
    flag = {
        "key": "bench",
        "enabled": True,
        "variationType": "STRING",
        "variations": {name: {"key": name, "value": name} for name, _, _ in arms},
        "allocations": [{"key": "split", "rules": [], "splits": splits, "doLog": True}],
        "totalShards": 10_000,
    }
    flags = {"createdAt": "2026-01-01T00:00:00.000Z", "format": "SERVER", "environment": {"name": "bench"}}
    configuration = eppo_client.Configuration(flags_configuration=json.dumps({**flags, "flags": {"bench": flag}}).encode())
    client = eppo_client.init(
        eppo_client.ClientConfig(
            api_key="none",
            base_url="http://127.0.0.1:9/api",
            assignment_logger=Logger(),
            initial_configuration=configuration,
            poll_interval_seconds=None,
        )
    )

    def call(user: str) -> None:
        arm = client.get_string_assignment("bench", user, {}, "none")
        assert arm != "none"
        return candidate(user, QUERY) if arm == "candidate" else bare(user, QUERY)

    return call, without


def statsig() -> Row:
    from statsig_python_core import Statsig, StatsigOptions, StatsigUser

    options = StatsigOptions()
    options.disable_network = True
    client = Statsig("secret-none", options)
    client.initialize().wait()
    client.override_gate("bench", value=False)

    def call(user: str) -> None:
        return candidate(user, QUERY) if client.check_gate(StatsigUser(user_id=user), "bench") else bare(user, QUERY)

    return call, without


def openfeature() -> Row:
    from openfeature import api
    from openfeature.evaluation_context import EvaluationContext
    from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

    api.set_provider(InMemoryProvider({"bench": InMemoryFlag("off", {"on": True, "off": False})}))
    client = api.get_client()

    def call(user: str) -> None:
        on = client.get_boolean_details("bench", default_value=False, evaluation_context=EvaluationContext(user)).value
        return candidate(user, QUERY) if on else bare(user, QUERY)

    return call, without


def growthbook() -> Row:
    from growthbook import GrowthBook

    rule = {"key": "bench", "variations": ["control", "candidate"], "weights": [0.9, 0.1], "hashAttribute": "id"}
    features = {"bench": {"defaultValue": "control", "rules": [rule]}}

    def call(user: str) -> None:
        arm = GrowthBook(attributes={"id": user}, features=features).get_feature_value("bench", "control")
        return candidate(user, QUERY) if arm == "candidate" else bare(user, QUERY)

    return call, without


def laboratory() -> Row:
    import laboratory as lab

    def call(user: str) -> Any:
        experiment = lab.Experiment()
        experiment.control(bare, args=(user, QUERY))
        experiment.candidate(candidate, args=(user, QUERY))
        return experiment.conduct()

    return call, without


def launchdarkly() -> Row:
    import ldclient
    from ldclient.config import Config
    from ldclient.integrations.test_data import TestData

    data = TestData.data_source()
    data.update(data.flag("bench").variation_for_all(variation=False))
    client = ldclient.LDClient(Config("none", update_processor_class=data, send_events=False))

    def call(user: str) -> None:
        on = client.variation("bench", ldclient.Context.create(user), default=False)
        return candidate(user, QUERY) if on else bare(user, QUERY)

    return call, without


def unleash() -> Row:
    from UnleashClient import UnleashClient
    from UnleashClient.cache import FileCache

    cache = FileCache("bench", directory=tempfile.mkdtemp(prefix="rollout-bench-"))
    strategy = {"name": "flexibleRollout", "parameters": {"rollout": "10", "stickiness": "userId", "groupId": "bench"}}
    cache.bootstrap_from_dict({"version": 1, "features": [{"name": "bench", "enabled": True, "strategies": [strategy]}]})
    client = UnleashClient(
        url="http://127.0.0.1:9/api", app_name="bench", disable_metrics=True, disable_registration=True, cache=cache
    )
    client.initialize_client(fetch_toggles=False)

    def call(user: str) -> None:
        return candidate(user, QUERY) if client.is_enabled("bench", {"userId": user}) else bare(user, QUERY)

    return call, without


FLOOR, FIRST = "written by hand", "ours: A/B, journal"
ROWS: dict[str, tuple[Callable[[], Row], int, str]] = {
    FLOOR: (floor, 1_000, ""),
    FIRST: (lambda: journalled(ABTest(0.1)), 1_000, ""),
    "ours: A/B": (lambda: of(ABTest(0.1)), 1_000, ""),
    "ours: A/B at 50 %, journal": (lambda: journalled(ABTest(0.5)), 1_000, ""),
    "ours: coroutine, journal": (lambda: journalled(ABTest(0.1), abare, acandidate), 1_000, ""),
    "ours: canary, journal": (lambda: journalled(Canary(["10%", "50%"])), 1_000, ""),
    "ours: shadow, not sampled": (lambda: of(Shadow(0.0)), 1_000, ""),
    "ours: shadow on every call": (shadowed, 40, ""),
    "ours: interleave 2 x 10": (interleaved, 200, ""),
    "ours: assign()": (assigned, 1_000, ""),
    "ours: disabled": (disabled, 1_000, ""),
    "ours: OTel SDK, spans and metrics": (traced, 200, "opentelemetry-sdk"),
    "eppo (Rust), logged": (eppo, 1_000, "eppo-server-sdk"),
    "statsig (Rust), overridden gate": (statsig, 1_000, "statsig-python-core"),
    "openfeature, in memory": (openfeature, 1_000, "openfeature-sdk"),
    "launchdarkly, no events": (launchdarkly, 200, "launchdarkly-server-sdk"),
    "growthbook, experiment": (growthbook, 200, "growthbook"),
    "unleash, flexible rollout": (unleash, 200, "UnleashClient"),
    "laboratory, both functions run": (laboratory, 200, "laboratory"),
}
"""By name: its constructor, the calls of a round, and the package to install."""
