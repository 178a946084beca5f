"""Spans and metrics, as an application's own SDK receives them."""

import asyncio
import functools
import gc
import itertools
import random
import threading
import time
from collections import Counter
from types import SimpleNamespace

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from rollout_sdk import ABTest, Canary, Decision, Guardrail, Interleave, Shadow, Step, Telemetry, rollout
from rollout_sdk.telemetry import attributes
from rollout_sdk.telemetry.attributes import Versions


def fail(x):
    raise ValueError("a secret payload")


def test_a_call_is_a_route_span_with_an_invoke_span_inside(traced):
    with traced.tracer.start_as_current_span("request") as request:
        decision = traced.model(lambda x: x, lambda x: x).rollout.route("u").decision
    spans = traced.spans()
    route, invoke = spans["route model"], spans["invoke model/candidate"]
    assert (request.get_span_context().span_id, route.context.span_id) == (route.parent.span_id, invoke.parent.span_id)
    assert {SpanKind.INTERNAL} == {route.kind, invoke.kind}
    assert {StatusCode.UNSET} == {route.status.status_code, invoke.status.status_code}
    assert ("rollout_sdk", "https://opentelemetry.io/schemas/1.44.0") == (
        route.instrumentation_scope.name,
        route.instrumentation_scope.schema_url,
    )
    assert ("candidate", "candidate", decision.id) == (
        route.attributes["feature_flag.result.variant"], invoke.attributes["rollout.variant.role"],
        route.attributes["rollout.decision.id"],
    )  # fmt: skip
    assert ["feature_flag.evaluation"] == [event.name for event in route.events]


class Callable:
    def __call__(self, x):
        return x


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: x, f"{__name__}.<lambda>"),
        (Callable(), f"{__name__}.Callable"),
        (functools.partial(pow, 2), "functools.partial"),
        (abs, "builtins.abs"),
    ],
)
def test_a_run_says_where_its_function_is_defined(function, name, traced):
    traced.model(lambda x, /: x, function)(1)
    assert name == traced.spans()["invoke model/candidate"].attributes["code.function.name"]


def test_spans_of_the_model_are_inside_invoke(traced):
    def candidate(x):
        traced.tracer.start_span("model's own").end()

    traced.model(lambda x: x, candidate)("u")
    spans = traced.spans()
    assert spans["invoke model/candidate"].context.span_id == spans["model's own"].parent.span_id


def test_an_exception_is_recorded_once_on_the_innermost_span_without_its_message(traced):
    with pytest.raises(ValueError):
        traced.model(fail, fail, ABTest(0.0))("u")
    spans = traced.spans()
    route, invoke = spans["route model"], spans["invoke model/control"]
    assert {StatusCode.ERROR} == {route.status.status_code, invoke.status.status_code}
    assert {"ValueError"} == {route.attributes["error.type"], invoke.attributes["error.type"]}
    assert [("exception", {"exception.type": "ValueError"})] == [
        (event.name, dict(event.attributes)) for event in invoke.events
    ]
    assert "exception" not in [event.name for event in route.events]


def test_a_fallback_is_no_error_of_the_route(traced):
    traced.model(lambda x: x, fail)("u")
    spans = traced.spans()
    route = spans["route model"]
    assert (StatusCode.UNSET, "control", "candidate") == (
        route.status.status_code, route.attributes["rollout.fallback.variant"], route.attributes["feature_flag.result.variant"],
    )  # fmt: skip
    assert StatusCode.ERROR == spans["invoke model/candidate"].status.status_code
    (fallback,) = [event for event in route.events if event.name == "rollout.fallback"]
    assert {"rollout.fallback.variant": "control", "error.type": "ValueError"} == dict(fallback.attributes)


def test_a_cancelled_call_is_no_error(traced):
    async def slow(x):
        await asyncio.sleep(10)

    async def work():
        task = asyncio.create_task(traced.model(slow, slow)("u"))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(work())
    assert {StatusCode.UNSET} == {span.status.status_code for span in traced.spans().values()}


def test_a_shadow_is_a_trace_of_its_own_that_links_back(traced):
    with traced.tracer.start_as_current_span("request"):
        traced.model(lambda x: x, lambda x: x, Shadow(1.0))("u")
    spans = traced.spans()
    route, shadow = spans["route model"], spans["shadow model/candidate"]
    assert (None, False) == (shadow.parent, shadow.context.trace_id == route.context.trace_id)
    (link,) = shadow.links
    assert (route.context.span_id, {"rollout.link.type": "shadow_of"}) == (link.context.span_id, dict(link.attributes))
    assert (trace.format_trace_id(route.context.trace_id), "shadow") == (
        shadow.attributes["rollout.shadow.origin.trace_id"], shadow.attributes["rollout.variant.role"],
    )  # fmt: skip


def test_a_failed_shadow_has_the_exception_on_its_own_span(traced):
    traced.model(lambda x: x, fail, Shadow(1.0))("u")
    spans = traced.spans()
    assert (StatusCode.ERROR, StatusCode.UNSET) == (
        spans["shadow model/candidate"].status.status_code, spans["route model"].status.status_code,
    )  # fmt: skip


def test_a_blended_call_says_who_contributed(traced):
    traced.model(lambda x: [1, 2, 3], lambda x: [1, 3, 2], Interleave())("u")
    route = traced.spans()["route model"]
    expected = (("control", "candidate"), (1, 1), 3)
    assert expected == tuple(route.attributes[f"rollout.interleave.{name}"] for name in ("variants", "contributions", "size"))
    teams = route.attributes["rollout.interleave.teams"]
    assert (3, (teams.count(0), teams.count(1))) == (len(teams), route.attributes["rollout.interleave.contributions"])


@pytest.mark.parametrize("kind", ["function", "coroutine under trio"])
def test_variants_of_a_batch_that_run_in_turn_have_spans_in_turn(kind, traced):
    options = {"strategy": ABTest(0.5), "batch": "rows", "unit": "rows", "key": "batch", "runtime": traced.runtime}
    rows = [f"u{number}" for number in range(40)]
    if kind == "function":
        rollout(candidate=lambda rows: list(rows), **options)(lambda rows: list(rows))(rows)
    else:
        trio = pytest.importorskip("trio", reason="trio is not installed; the extra dev has it")

        async def function(rows):
            await trio.sleep(0.01)
            return list(rows)

        async def candidate(rows):
            return await function(rows)

        trio.run(rollout(candidate=candidate, **options)(function), rows)
    spans = traced.spans()
    first, second = sorted(
        (spans["invoke batch/candidate"], spans["invoke batch/control"]), key=lambda span: (span.start_time, span.end_time)
    )
    assert first.start_time <= first.end_time <= second.start_time <= second.end_time


def test_a_batch_says_how_many_rows_each_variant_had(traced):
    batch = rollout(candidate=lambda rows: list(rows), strategy=ABTest(0.5), batch="rows", key="batch", runtime=traced.runtime)(
        lambda rows: list(rows)
    )
    routed = batch.rollout.route(list(range(40)))
    route = traced.spans()["route batch"]
    counts = Counter(decision.variant for decision in routed.decisions)
    assert (40, {f"{name}={n}" for name, n in counts.items()}) == (
        route.attributes["rollout.batch.size"], set(route.attributes["rollout.batch.variants"]),
    )  # fmt: skip


def transitions(traced):
    traced.runtime.flush()
    spans = [span for span in traced.exporter.get_finished_spans() if span.name == "transition model"]
    return {span.attributes["rollout.transition.action"]: span for span in spans}


def test_a_transition_is_a_span_with_the_weights_before_and_after(traced):
    canary = traced.model(lambda x: x, lambda x: x, Canary(["10%", "50%"]))
    with traced.tracer.start_as_current_span("operator") as operator:
        canary.rollout.promote(actor="ann")
    span = transitions(traced)["promote"]
    (link,) = span.links
    assert (None, operator.get_span_context().span_id) == (span.parent, link.context.span_id)
    assert {"rollout.link.type": "triggered_by"} == dict(link.attributes)
    assert ("manual", "0:10%", "1:50%") == tuple(
        span.attributes[name] for name in ("rollout.transition.reason", "rollout.phase.previous", "rollout.phase.name")
    )
    weights = {
        event.attributes["feature_flag.result.variant"]: tuple(
            event.attributes[f"rollout.variant.weight{which}"] for which in (".previous", "")
        )
        for event in span.events
    }
    assert {"control": (0.9, 0.5), "candidate": (0.1, 0.5)} == weights


def test_the_start_of_a_rollout_is_a_transition_from_nothing_told_once(traced):
    canary = traced.model(lambda x: x, lambda x: x, Canary(["10%", "50%"]))
    canary("u")
    canary("v")
    span = transitions(traced)["start"]
    assert "rollout.phase.previous" not in span.attributes
    assert ("configured", "0:10%", None, 0) == (
        span.attributes["rollout.transition.reason"], span.attributes["rollout.phase.name"], span.parent, len(span.links),
    )  # fmt: skip
    assert {"control": 0.9, "candidate": 0.1} == {
        event.attributes["feature_flag.result.variant"]: event.attributes["rollout.variant.weight"] for event in span.events
    }
    assert 1 == sum(span.name == "transition model" for span in traced.exporter.get_finished_spans())
    assert {"start": 1} == {
        point.attributes["rollout.transition.action"]: point.value
        for point in traced.metrics()["rollout.transitions"].data.data_points
    }


def test_a_rollout_starts_once_also_where_its_first_fact_is_a_change_or_its_own_start(traced):
    for version in ("1", "2"):
        canary = traced.model(lambda x: x, lambda x: x, Canary(["10%"]), version=version)
        canary.rollout.abort()
        # Without its function, another version may take its place.
        del canary
        gc.collect()
    told = [span.attributes["rollout.transition.action"] for span in traced.finished() if span.name == "transition model"]
    assert ["start", "abort", "start", "abort"] == told


@pytest.mark.parametrize("kind", ["generator", "async generator"])
def test_a_stream_makes_its_span_current_only_while_it_advances(kind, traced):
    seen = []

    def sync_model(x):
        for n in range(3):
            seen.append(trace.get_current_span().get_span_context().span_id)
            yield n

    async def async_model(x):
        for n in range(3):
            seen.append(trace.get_current_span().get_span_context().span_id)
            yield n

    def consume():
        stream = traced.model(sync_model, sync_model)("u")
        outside = [trace.get_current_span().get_span_context().is_valid for _ in stream]
        stream = traced.model(sync_model, sync_model)("u")
        next(stream)
        stream.close()
        return [*outside, trace.get_current_span().get_span_context().is_valid]

    async def aconsume():
        stream = traced.model(async_model, async_model)("u")
        outside = [trace.get_current_span().get_span_context().is_valid async for _ in stream]
        stream = traced.model(async_model, async_model)("u")
        await anext(stream)
        await asyncio.create_task(stream.aclose())
        return [*outside, trace.get_current_span().get_span_context().is_valid]

    outside = consume() if kind == "generator" else asyncio.run(aconsume())
    assert [False] * 4 == outside
    traced.runtime.flush()
    invokes = [span.context.span_id for span in traced.exporter.get_finished_spans() if span.name.startswith("invoke")]
    assert Counter(seen) == {invokes[0]: 3, invokes[1]: 1}


@pytest.mark.parametrize(("spans", "expected"), [("route", {"route model", "transition model"}), ("off", set())])
def test_spans_can_be_fewer(spans, expected, trace_with):
    traced = trace_with(spans=spans)
    traced.model(lambda x: x, fail)("u")
    assert expected == set(traced.spans())


def test_with_route_spans_only_the_exception_that_the_caller_sees_is_recorded_once_on_the_route(trace_with):
    traced = trace_with(spans="route")
    with pytest.raises(ValueError):
        traced.model(fail, fail, ABTest(0.0))("u")
    route = traced.spans()["route model"]
    assert (StatusCode.ERROR, "ValueError") == (route.status.status_code, route.attributes["error.type"])
    assert [{"exception.type": "ValueError"}] == [dict(event.attributes) for event in route.events if event.name == "exception"]


def test_with_route_spans_only_an_exception_that_nobody_sees_is_in_the_fallback_alone(trace_with):
    traced = trace_with(spans="route")
    traced.model(lambda x: x, fail)("u")
    route = traced.spans()["route model"]
    assert (StatusCode.UNSET, None) == (route.status.status_code, route.attributes.get("error.type"))
    assert ["feature_flag.evaluation", "rollout.fallback"] == [event.name for event in route.events]


def test_an_unsampled_call_costs_no_spans_and_its_model_is_unsampled_too(trace_with):
    traced = trace_with(sampler=ALWAYS_OFF)
    seen = []
    traced.model(lambda x: x, lambda x: seen.append(trace.get_current_span().get_span_context()))("u")
    assert {} == traced.spans()
    assert (True, False) == (seen[0].is_valid, seen[0].trace_flags.sampled)


class Broken(SpanProcessor):
    def on_start(self, span, parent_context=None):
        raise RuntimeError

    def on_end(self, span):
        raise RuntimeError


@pytest.mark.parametrize("strategy", [ABTest(1.0), Shadow(1.0), Interleave()], ids=lambda strategy: strategy.name)
def test_a_broken_span_processor_never_reaches_the_caller(strategy, trace_with):
    traced = trace_with()
    traced.provider.add_span_processor(Broken())
    ranker = traced.model(lambda x: [1], lambda x: [1], strategy)
    assert [[1], [1]] == [ranker("u"), ranker("u")]
    assert len(traced.runtime.routed()) == 2
    traced.faults = {("telemetry.spans", "RuntimeError")}


MARK = "marker-4711"


def test_no_unit_payload_or_message_is_in_any_signal(traced, caplog):
    caplog.set_level("DEBUG")

    def noisy(x):
        raise ValueError(x)

    for strategy in (ABTest(1.0), Shadow(1.0), Interleave()):
        each = rollout(candidate=noisy, strategy=strategy, effects="read", unit="x", key=strategy.name, runtime=traced.runtime)(
            lambda x: [x]
        )
        routed = each.rollout.route(MARK)
        each.rollout.record("click", 1.0, decision_id=routed.decision.id)
    text = repr([span.to_json() for span in traced.spans().values()]) + repr(traced.metrics())
    assert MARK not in text
    assert caplog.records
    assert MARK not in repr([vars(record) for record in caplog.records])


def test_a_strategy_that_failed_is_an_error_of_the_evaluation_only(traced):
    class Bad:
        def rollout_route(self, request):
            return Decision("nobody")

    traced.model(lambda x: x, lambda x: x, Bad())("u")
    traced.faults = {("strategy", "TypeError")}
    route = traced.spans()["route model"]
    (evaluation,) = [event for event in route.events if event.name == "feature_flag.evaluation"]
    assert ("general", "error", StatusCode.UNSET) == (
        evaluation.attributes["error.type"], evaluation.attributes["feature_flag.result.reason"], route.status.status_code,
    )  # fmt: skip


def test_a_provider_that_is_set_after_decorating_is_noticed(run_python):
    result = run_python("""
        from rollout_sdk import ABTest, rollout
        model = rollout(candidate=lambda x: x, strategy=ABTest(1.0), key="m")(lambda x: x)
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        exporter = InMemorySpanExporter()
        trace.set_tracer_provider(TracerProvider())
        trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))
        model(1)
        print([span.name for span in exporter.get_finished_spans()])
    """)
    assert ("['invoke m/candidate', 'route m']\n", "", 0) == (result.stdout, result.stderr, result.returncode)


def test_without_an_sdk_nothing_is_printed(run_python):
    result = run_python("""
        from rollout_sdk import ABTest, Interleave, Runtime, Shadow, default_runtime, rollout
        def fail(x): raise ValueError
        for strategy in (ABTest(1.0), Shadow(1.0), Interleave()):
            model = rollout(candidate=fail, strategy=strategy, effects="read", key=strategy.name)(lambda x: [x])
            model(1)
        default_runtime().flush()
    """)
    assert ("", "", 0) == (result.stdout, result.stderr, result.returncode)


def test_a_shadow_can_be_a_child_of_its_call_for_backends_that_show_only_trees(trace_with):
    traced = trace_with(shadow_spans="child")
    traced.model(lambda x: x, lambda x: x, Shadow(1.0))("u")
    spans = traced.spans()
    route, shadow = spans["route model"], spans["shadow model/candidate"]
    assert (route.context.span_id, (), False) == (
        shadow.parent.span_id, tuple(shadow.links), "rollout.shadow.origin.trace_id" in shadow.attributes,
    )  # fmt: skip


def test_a_shadow_that_was_not_run_is_an_event_of_its_call(traced):
    shadowed = traced.model(lambda x: 0, lambda x: 0, Shadow(1.0), unit=None, isolate=lambda value: 1 / 0)
    shadowed([1])
    (dropped,) = [event for event in traced.spans()["route model"].events if event.name == "rollout.shadow.dropped"]
    assert {"feature_flag.result.variant": "candidate", "rollout.drop.reason": "snapshot"} == dict(dropped.attributes)


def test_a_namespace_is_the_flag_set_of_calls_and_evaluations(trace_with):
    traced = trace_with(namespace="staging")
    traced.model(lambda x: x, lambda x: x)("u")
    route = traced.spans()["route model"]
    assert ["staging"] * 2 == [each.attributes["feature_flag.set.id"] for each in (route, route.events[0])]


def test_versions_are_remembered_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(attributes, "_MOST_VERSIONS", 3)
    versions = Versions()
    phases = [SimpleNamespace(fingerprint="f", name=f"{number}", all_shares={"control": 1.0}) for number in range(10)]
    assert [Versions.of("f", phase.name, {"control": 1.0}) for phase in phases] == list(map(versions, phases))
    assert len(versions._known) <= 3


def test_the_version_changes_with_the_shares_and_is_the_same_in_every_process(traced):
    canary = traced.model(lambda x: x, lambda x: x, Canary(["10%", "50%"]))
    canary("u")
    canary.rollout.promote(actor="ann")
    canary("u")
    before, after = [
        span.attributes["feature_flag.version"] for span in traced.finished() if span.name == "route model"
    ]  # fmt: skip
    assert before != after
    assert [before, after] == [
        transitions(traced)[action].attributes["feature_flag.version"] for action in ("start", "promote")
    ]
    # The value itself is a promise: dashboards and other processes compare it.
    assert "eec2c31b" == Versions.of("canary", "0:20%", {"control": 0.8, "candidate": 0.2})


def test_spans_name_the_version_of_the_candidates_and_the_fingerprint(traced):
    """Two deployments with the same phase are told apart by either, and by the version of the flag."""
    models = [traced.model(lambda x: x, lambda x: x, key=f"model-{number}", version=number) for number in ("", "7")]
    for model in models:
        model("u")
        model.rollout.abort()
    for model, version in zip(models, (None, "7"), strict=True):
        spans = [
            span for span in traced.finished() if span.name in (f"route {model.rollout.key}", f"transition {model.rollout.key}")
        ]
        assert [(version, model.rollout.status().fingerprint)] * 3 == [
            (span.attributes.get("rollout.version"), span.attributes["rollout.fingerprint"]) for span in spans
        ]
    flags = {span.attributes["feature_flag.version"] for span in traced.finished() if span.name.startswith("route")}
    assert 2 == len(flags)


def test_a_verdict_is_on_the_transition_with_its_arithmetic(traced):
    plan = Canary([Step("50%", min_units=10, min_time="0s")], guardrails=[Guardrail("error_rate")])
    canary = traced.model(lambda x: x, fail, plan, breaker=None)
    for number in range(200):
        canary(f"u-{number}")
    verdict = canary.rollout.judge()
    span = transitions(traced)["rollback"]
    assert ("verdict", "error_rate", 200) == tuple(
        span.attributes[f"rollout.{name}"] for name in ("transition.reason", "gate.name", "gate.samples")
    )
    assert span.attributes["rollout.gate.value"] >= span.attributes["rollout.gate.threshold"] > 0
    (finding,) = [each for each in verdict.findings if each.name == "error_rate"]
    assert finding.harm_log_e == span.attributes["rollout.gate.value"]


def test_each_row_of_a_batch_is_an_evaluation_with_its_own_decision_and_unit(trace_with):
    traced = trace_with(unit_id="raw")
    batch = rollout(
        candidate=lambda rows: list(rows), strategy=ABTest(0.5), batch="rows", unit="rows", key="b", runtime=traced.runtime
    )(lambda rows: list(rows))
    routed = batch.rollout.route([f"u{number}" for number in range(120)])
    route = traced.spans()["route b"]
    told = [
        tuple(
            event.attributes[name] for name in ("rollout.decision.id", "feature_flag.result.variant", "feature_flag.context.id")
        )
        for event in route.events
    ]
    expected = [(decision.id, decision.variant, f"u{n}") for n, decision in enumerate(routed.decisions)][:100]
    assert expected == told
    assert ("mixed", True) == (
        route.attributes["feature_flag.result.variant"], "feature_flag.context.id" not in route.attributes,
    )  # fmt: skip


def test_a_blend_whose_candidate_failed_is_a_fallback(traced):
    traced.model(lambda x: [1, 2], fail, Interleave())("u")
    route = traced.spans()["route model"]
    (fallback,) = [event for event in route.events if event.name == "rollout.fallback"]
    assert {"rollout.fallback.variant": "control", "error.type": "ValueError"} == dict(fallback.attributes)
    (counted,) = traced.metrics()["rollout.fallbacks"].data.data_points
    assert ("candidate", 1) == (counted.attributes["feature_flag.result.variant"], counted.value)


def test_a_blend_whose_control_failed_is_none(traced):
    with pytest.raises(ValueError):
        traced.model(fail, lambda x: [1, 2], Interleave())("u")
    assert ["feature_flag.evaluation"] == [event.name for event in traced.spans()["route model"].events]
    assert 0 == traced.runtime.tally("model").fallbacks.total()


def test_how_long_a_shadow_waited_is_what_it_waited(trace_with):
    traced = trace_with(runtime={"shadows": {"workers": 1}})
    go, begun = threading.Event(), threading.Event()

    def held(x):
        begun.set()
        assert go.wait(10)

    model = traced.model(lambda x: x, held, Shadow(1.0), unit=None)
    submitting = time.monotonic()
    model(0)
    assert begun.wait(10)
    first_at_most = time.monotonic() - submitting
    submitting = time.monotonic()
    for number in range(1, 5):
        model(number)
    submitted = time.monotonic()
    time.sleep(0.1)
    released = time.monotonic()
    go.set()
    shadows = [span for span in traced.finished() if span.name.startswith("shadow")]
    first, *others = sorted(span.attributes["rollout.shadow.wait"] for span in shadows)
    # The first found a thread at once, however long it then ran; the others waited until it was over.
    assert 0 < first <= first_at_most
    assert 4 == len(others)
    assert released - submitted <= others[0]
    assert others[-1] <= time.monotonic() - submitting


def drawn(model):
    random.seed(7)
    return [model(0) for _ in range(5)]


def test_spans_leave_the_applications_random_numbers_as_they_are(traced):
    def model(x):
        return random.random()

    assert drawn(traced.model(model, model)) == drawn(model)
    spans = [span.context for span in traced.finished() if not span.name.startswith("transition")]
    ids = [(context.trace_id, context.span_id) for context in spans]
    assert (len(ids), len(set(ids)), len({trace_id for trace_id, _ in ids})) == (10, 10, 5)


def test_an_applications_own_ids_are_those_of_our_spans(watch):
    class Counting(IdGenerator):
        ids = itertools.count(1)

        def generate_span_id(self):
            return next(self.ids)

        def generate_trace_id(self):
            return next(self.ids)

    provider, exporter = TracerProvider(id_generator=Counting()), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    runtime = watch(telemetry=Telemetry(tracer_provider=provider, metrics=False))
    rollout(candidate=lambda: 1, strategy=ABTest(1.0), key="m", runtime=runtime)(lambda: 1)()
    assert runtime.flush()
    invoke, route, *_ = (span.context for span in exporter.get_finished_spans())
    assert (route.trace_id, route.span_id, invoke.trace_id, invoke.span_id) == (1, 2, 1, 3)


def test_spans_leave_random_numbers_alone_whenever_the_application_sets_its_provider(run_python):
    result = run_python("""
        import os, random
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from rollout_sdk import ABTest, Runtime, rollout
        runtime, model = Runtime(), lambda: random.random()
        decorated = rollout(candidate=model, strategy=ABTest(1.0), key="m", runtime=runtime)(model)
        decorated()
        exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        runtime.audience.look()
        def ids():
            spans = exporter.get_finished_spans()
            return {str(span.context.span_id) for span in spans if not span.name.startswith("transition")}
        def drawn(model):
            random.seed(7)
            return [model() for _ in range(3)]
        same = drawn(decorated) == drawn(model)
        exporter.clear()
        reader, writer = os.pipe()
        if os.fork() == 0:
            decorated()
            os.write(writer, " ".join(ids()).encode())
            os._exit(0)
        os.wait()
        decorated()
        theirs = set(os.read(reader, 1000).decode().split())
        print(same, len(ids()), len(theirs), len(ids() & theirs))
    """)
    assert ("True 2 2 0\n", "") == (result.stdout, result.stderr)
