"""What a variant runs in: its span, and where it is asked for, baggage and fields for its own log lines."""

import asyncio

import pytest
import structlog
from opentelemetry import baggage, context, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator

from rollout_sdk import ABTest, Shadow


def header():
    carrier = {}
    W3CBaggagePropagator().inject(carrier)
    return carrier.get("baggage")


@pytest.mark.parametrize("spans", ["all", "route", "off"])
def test_baggage_says_which_variant_it_was_to_what_the_variant_calls_and_to_nobody_else(spans, trace_with):
    traced, seen = trace_with(spans=spans, propagate=True), []
    traced.model(lambda x: x, lambda x: seen.append(header()))("u")
    assert (["rollout.model=candidate"], None) == (seen, header())


def test_baggage_of_the_application_goes_with_it(trace_with):
    traced, seen = trace_with(propagate=True), []
    token = context.attach(baggage.set_baggage("tenant", "t1"))
    try:
        traced.model(lambda x: x, lambda x: seen.append(sorted(header().split(","))))("u")
    finally:
        context.detach(token)
    assert [["rollout.model=candidate", "tenant=t1"]] == seen


def test_without_being_asked_for_there_is_no_baggage(traced):
    seen = []
    traced.model(lambda x: x, lambda x: seen.append(header()))("u")
    assert [None] == seen


@pytest.mark.parametrize("spans", ["all", "off"])
def test_a_shadow_has_baggage_and_log_fields_of_its_own(spans, trace_with):
    traced, seen = trace_with(spans=spans, propagate=True, bind_logs=True), {}

    def note(name):
        seen[name] = header(), structlog.contextvars.get_contextvars().get("rollout_variant")

    traced.model(lambda x: note("control"), lambda x: note("candidate"), Shadow(1.0))("u")
    assert traced.runtime.flush(10.0)
    assert {name: (f"rollout.model={name}", name) for name in ("control", "candidate")} == seen


def test_bound_fields_are_on_the_models_own_lines_and_gone_after_the_call(trace_with):
    traced = trace_with(bind_logs=True)

    def model(x):
        structlog.get_logger().info("model ran")
        return x

    structlog.contextvars.bind_contextvars(request="r1")
    processors = [structlog.contextvars.merge_contextvars]
    try:
        with structlog.testing.capture_logs(processors=processors) as lines:
            decision = traced.model(lambda x: x, model).rollout.route("u").decision
            assert traced.runtime.flush(10.0)
        assert {"request": "r1"} == structlog.contextvars.get_contextvars()
    finally:
        structlog.contextvars.clear_contextvars()
    (line,) = [line for line in lines if line["event"] == "model ran"]
    expected = {"request": "r1", "rollout_key": "model", "rollout_variant": "candidate", "rollout_decision_id": decision.id}
    assert expected == {name: line[name] for name in expected}


def test_fields_are_gone_when_the_model_raises_and_between_the_items_of_a_stream(trace_with):
    traced = trace_with(bind_logs=True)

    def stream(x):
        yield structlog.contextvars.get_contextvars()["rollout_variant"]
        raise ValueError

    items, outside = traced.model(stream, stream)("u"), []
    assert "candidate" == next(items)
    outside.append(structlog.contextvars.get_contextvars())
    with pytest.raises(ValueError):
        next(items)
    outside.append(structlog.contextvars.get_contextvars())
    assert [{}, {}] == outside


def test_a_shadow_in_a_thread_or_a_task_has_the_callers_context_and_its_own_span(traced):
    variable = structlog.contextvars
    seen = {}

    def candidate(x):
        seen["thread"] = variable.get_contextvars(), trace.get_current_span().get_span_context().span_id

    async def acandidate(x):
        seen["task"] = variable.get_contextvars(), trace.get_current_span().get_span_context().span_id

    async def control(x):
        return None

    async def work():
        await traced.model(control, acandidate, Shadow(1.0), key="task")("u")
        await asyncio.sleep(0.1)

    variable.bind_contextvars(request="r1")
    try:
        traced.model(lambda x: None, candidate, Shadow(1.0), key="thread")("u")
        asyncio.run(work())
    finally:
        variable.clear_contextvars()
    spans = traced.spans()
    assert {
        key: ({"request": "r1"}, spans[f"shadow {key}/candidate"].context.span_id) for key in ("thread", "task")
    } == seen  # fmt: skip


def test_instrumentation_of_a_model_nests_under_its_run(traced):
    def candidate(x):
        with traced.tracer.start_as_current_span("chat small-model", attributes={"gen_ai.operation.name": "chat"}):
            return x

    traced.model(lambda x: x, candidate)("u")
    spans = traced.spans()
    assert spans["invoke model/candidate"].context.span_id == spans["chat small-model"].parent.span_id
    assert not [name for name in spans["invoke model/candidate"].attributes if name.startswith("gen_ai.")]


def test_the_callers_span_is_left_as_it_was(traced):
    with traced.tracer.start_as_current_span("request", attributes={"mine": 1}):
        traced.model(lambda x: [x], lambda x: [x], ABTest(1.0))("u")
        traced.model(lambda x: [x], lambda x: 1 / 0, ABTest(1.0), key="failing")("u")
    request = traced.spans()["request"]
    assert ({"mine": 1}, ()) == (dict(request.attributes), request.events)


def test_nothing_stays_attached_after_calls_of_any_end(traced):
    before = context.get_current()

    def fail(x):
        raise ValueError

    for key, control, candidate in (("falls back", lambda x: x, fail), ("answers", lambda x: x, lambda x: x)):
        assert "u" == traced.model(control, candidate, key=key)("u")
        assert before == context.get_current()
    model = traced.model(fail, fail, key="fails")
    with pytest.raises(ValueError, match=r"^$"):
        model("u")
    assert before == context.get_current()
    routes = {span.name for span in traced.finished() if span.name.startswith("route")}
    assert {"route falls back", "route answers", "route fails"} == routes
