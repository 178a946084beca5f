"""An application on Ray Serve: two versions of a model, and two replicas of a router that has rollouts between them."""

import asyncio
import os

import ray_shop_tracer
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from ray import serve

from rollout_sdk import Canary, Runtime, Shadow, Telemetry, rollout
from rollout_sdk.extending import names
from rollout_sdk.testing import RecordingPlugin
from rollout_sdk_ray import RayStore, continues_trace, variant


@serve.deployment(ray_actor_options={"num_cpus": 0.1}, max_ongoing_requests=100)
class Model:
    def __init__(self, version):
        self.version = version
        self.seen = []

    async def rank(self, user, query="shoes"):
        if (self.version, query) == ("new", "boom"):
            raise LookupError("no such shelf")
        return f"{self.version} {query} for {user}"

    def rows(self, texts):
        self.seen.append(len(texts))
        return [f"{self.version} {text}" for text in texts]

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.2)
    async def embed(self, texts):
        self.seen.append(len(texts))
        return [f"{self.version} {text}" for text in texts]

    async def slow(self, user):
        try:
            await asyncio.sleep(30 if self.version == "new" else 0)
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            raise
        return self.version

    async def tokens(self, user, fails=False):
        try:
            for number in range(3):
                yield f"{self.version} {number}"
                if fails and self.version == "new":
                    raise LookupError("no such shelf")
        except GeneratorExit:
            self.seen.append("closed")
            raise

    async def endless(self, user):
        try:
            while True:
                yield self.version
                await asyncio.sleep(0.01)
        finally:
            self.seen.append("closed")

    @continues_trace
    async def traced(self, user):
        with ray_shop_tracer.TRACER.start_as_current_span("model") as span:
            return f"{span.get_span_context().trace_id:x}", f"{span.parent.span_id:x}" if span.parent else None

    @continues_trace
    def traced_rows(self, user):
        with ray_shop_tracer.TRACER.start_as_current_span("model") as span:
            for _ in range(2):
                yield f"{trace.get_current_span().get_span_context().trace_id:x}", f"{span.parent.span_id:x}"

    def seen_so_far(self):
        return self.seen, os.getpid()


@serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 0.1}, max_ongoing_requests=100)
class Router:
    def __init__(self, old, new, store):
        self.models, self.facts, self.metrics = {"old": old, "new": new}, RecordingPlugin(), InMemoryMetricReader()
        telemetry = Telemetry(meter_provider=MeterProvider([self.metrics]))
        self.runtime = Runtime(plugins=[self.facts], store=RayStore(store, timeout_s=5.0), telemetry=telemetry)
        always = Canary(["100%"])

        def between(method, strategy, *, key, unit="user", carries_trace=False, stream=False, **options):
            control, candidate = (
                variant(getattr(each.options(stream=stream), method), carries_trace=carries_trace) for each in (old, new)
            )
            decorate = rollout(
                candidate=candidate, strategy=strategy, key=f"shop.{key}", unit=unit, runtime=self.runtime, **options
            )
            return decorate(control)

        self.rollouts = {
            "rank": between("rank", Canary(["50%", "100%"]), key="rank"),
            "failing": between("rank", always, key="failing"),
            "shadowed": between("rank", Shadow(1.0), key="shadowed", effects="read"),
            "rows": between("rows", Canary(["50%"]), key="rows", batch="texts", unit="texts"),
            "embed": between("embed", Canary(["50%"]), key="embed", unit="texts"),
            "slow": between("slow", always, key="slow", deadline_s=1.0),
            "tokens": between("tokens", always, key="tokens", stream=True),
            "endless": between("endless", always, key="endless", stream=True),
            "traced": between("traced", always, key="traced", carries_trace=True),
            "traced_rows": between("traced_rows", always, key="traced_rows", carries_trace=True, stream=True),
        }

    async def knows(self):
        """This replica, and whether it knows where its rollouts stand."""
        answers = [await self.rollouts["rank"](user=f"u-{number}") for number in range(20)]
        return os.getpid(), any(answer.startswith("new") for answer in answers)

    async def ask(self, name, **kwargs):
        return await self.rollouts[name](**kwargs)

    async def ask_many(self, name, parameter, values):
        return await asyncio.gather(*(self.rollouts[name](**{parameter: value}) for value in values))

    async def read(self, name, most=None, **kwargs):
        items, stream = [], self.rollouts[name](**kwargs)
        try:
            async for item in stream:
                items.append(item)
                if len(items) == most:
                    break
        finally:
            await stream.aclose()
        return items

    async def stream(self, name, **kwargs):
        async for item in self.rollouts[name](**kwargs):
            yield item

    async def in_trace(self, name, **kwargs):
        with ray_shop_tracer.TRACER.start_as_current_span("caller") as span:
            found = await (self.read if name == "traced_rows" else self.ask)(name, **kwargs)
        return f"{span.get_span_context().trace_id:x}", f"{span.get_span_context().span_id:x}", found

    async def facts_of(self, name):
        """This replica, and what it has recorded of a rollout."""
        await asyncio.to_thread(self.runtime.flush)
        routed = [event for event in self.facts.routed if event.decision.rollout == f"shop.{name}"]
        runs = [(run.variant, run.error, run.duration_s) for event in routed for run in event.runs]
        shadows = [
            (event.variant, event.end, getattr(event.comparison, "match", None))
            for event in self.facts.shadowed
            if event.decision.rollout == f"shop.{name}"
        ]
        return os.getpid(), runs, shadows

    async def counted(self, name):
        """This replica, and how many decisions of a rollout its metrics have."""
        await asyncio.to_thread(self.runtime.flush)
        scopes = [scope for each in self.metrics.get_metrics_data().resource_metrics for scope in each.scope_metrics]
        (decisions,) = [metric for scope in scopes for metric in scope.metrics if metric.name == names.DECISIONS]
        points = [point for point in decisions.data.data_points if point.attributes[names.KEY] == f"shop.{name}"]
        return os.getpid(), sum(point.value for point in points)

    async def status_of(self, name):
        controller = self.rollouts[name].rollout
        status = controller.status()
        return os.getpid(), status.status, controller.phase.name, {f"{what} {kind}" for what, kind in status.faults}

    async def model(self, version):
        return await self.models[version].seen_so_far.remote()

    async def do(self, name, action):
        getattr(self.rollouts[name].rollout, action)(actor="ann", reason="a test")
        return os.getpid()


def app(store):
    return Router.bind(Model.options(name="Old").bind("old"), Model.options(name="New").bind("new"), store)
