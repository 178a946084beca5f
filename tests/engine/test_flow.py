"""When something of ours breaks in the midst of a call, the caller gets an answer, once, and the call is not analysed."""

import asyncio
from collections import Counter

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rollout_sdk import ABTest, Interleave, Shadow, Telemetry, rollout


class Broken:
    """A part of ours that fails at every touch, from the `after`-th on."""

    def __init__(self, error=RuntimeError, after=0):
        self.error = error
        self.left = after

    def __getattr__(self, name):
        return self

    def __call__(self, *args, **kwargs):
        self.left -= 1
        if self.left < 0:
            raise self.error("sabotage")


def counted(runs, name):
    def model(x):
        runs[name] += 1
        return name

    return model


def decorated(runs, runtime, *, strategy=ABTest(1.0), **options):
    candidate = options.pop("candidate", counted(runs, "candidate"))
    return rollout(candidate=candidate, strategy=strategy, effects="read", key="model", runtime=runtime, **options)(
        counted(runs, "control")
    )


def break_audience(model, error=RuntimeError):
    """A fault before the first run."""
    broken = Broken(error)
    broken.awake = False
    model.rollout._rollout.audience = broken


def break_ending(model, monkeypatch, error=RuntimeError):
    """A fault after the last run."""

    def broken(*arguments):
        raise error("sabotage")

    monkeypatch.setattr("rollout_sdk.engine.flow.finish", broken)
    monkeypatch.setattr("rollout_sdk.engine.batches.batch_flow.finish_rows", broken)


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_a_fault_before_the_first_run_has_the_control_answer(error, runtime):
    runs = Counter()
    model = decorated(runs, runtime)
    break_audience(model, error)
    assert "control" == model(1)
    assert Counter(control=1) == runs


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_a_fault_after_the_last_run_changes_nothing_for_the_caller(error, runtime, monkeypatch):
    runs = Counter()
    model = decorated(runs, runtime)
    break_ending(model, monkeypatch, error)
    assert "candidate" == model(1)
    assert Counter(candidate=1) == runs
    assert {("engine.flow", error.__name__): 1} == runtime.faults


def test_a_call_that_broke_is_recorded_and_not_analysed(runtime, monkeypatch):
    runs = Counter()
    model = decorated(runs, runtime)
    monkeypatch.setattr("rollout_sdk.engine.call.Call.ran", Broken())
    assert "candidate" == model(1)
    (event,) = runtime.routed()
    assert ("candidate", "candidate", True, None) == (event.decision.variant, event.served, event.excluded, event.error)
    assert Counter(candidate=1) == runs


@pytest.mark.parametrize("on_error", ["control", "raise"])
def test_a_call_that_broke_after_its_candidate_failed_does_what_on_error_says(on_error, runtime, monkeypatch):
    runs = Counter()

    def fail(x):
        raise ValueError("the candidate's")

    model = decorated(runs, runtime, candidate=fail, on_error=on_error)
    monkeypatch.setattr("rollout_sdk.engine.call.Call.ran", Broken())
    if on_error == "control":
        assert "control" == model(1)
    else:
        with pytest.raises(ValueError, match="the candidate's"):
            model(1)
    assert Counter(control=1 if on_error == "control" else 0) == runs + Counter(control=0)
    (event,) = runtime.routed()
    assert (on_error == "raise", True) == (event.error == "ValueError", event.excluded)


def test_a_shadow_of_a_call_that_broke_is_counted(runtime, monkeypatch):
    runs = Counter()
    model = decorated(runs, runtime, strategy=Shadow(1.0))
    monkeypatch.setattr("rollout_sdk.engine.call.Call.ran", Broken())
    assert "control" == model(1)
    assert ["dropped_start"] == [event.end for event in runtime.shadowed()]
    assert [("candidate",)] == [event.decision.shadows for event in runtime.routed()]
    assert Counter(control=1) == runs


def test_an_interruption_is_not_lost_in_a_fault(runtime, monkeypatch):
    def interrupt(x):
        raise KeyboardInterrupt

    monkeypatch.setattr("rollout_sdk.engine.call.Call.ran", Broken())
    with pytest.raises(KeyboardInterrupt):
        decorated(Counter(), runtime, candidate=interrupt)(1)
    assert [True] == [event.closed_early for event in runtime.routed()]


@pytest.mark.parametrize("kind", ["generator", "async generator"])
@pytest.mark.parametrize("strategy", [ABTest(1.0), Interleave()], ids=["candidate", "interleaved"])
def test_a_stream_whose_flow_breaks_is_whole(strategy, kind, runtime, monkeypatch):
    def generator(x):
        yield from (1, 2)

    async def async_generator(x):
        yield 1
        yield 2

    bare = {"generator": generator, "async generator": async_generator}[kind]
    model = rollout(candidate=bare, strategy=strategy, effects="read", key="stream", runtime=runtime)(bare)
    monkeypatch.setattr("rollout_sdk.engine.call.Call.ran", Broken())

    async def whole():
        return [item async for item in model(1)]

    assert [1, 2] == (list(model(1)) if kind == "generator" else asyncio.run(whole()))
    assert [True] == [event.excluded for event in runtime.routed()]


def batched(runs, runtime, *, strategy=ABTest(0.5)):
    def control(rows):
        runs["control"] += len(rows)
        return [("control", row) for row in rows]

    def candidate(rows):
        runs["candidate"] += len(rows)
        return [("candidate", row) for row in rows]

    return rollout(candidate=candidate, strategy=strategy, effects="read", batch="rows", key="batch", runtime=runtime)(control)


ROWS = list(range(40))


def test_a_batch_that_breaks_is_answered_by_the_control_as_a_whole(runtime, monkeypatch):
    model = batched(Counter(), runtime)
    monkeypatch.setattr("rollout_sdk.engine.batches.batch_flow._ran", Broken())
    assert [("control", row) for row in ROWS] == model(ROWS)
    events = runtime.routed()
    assert {("control", True)} == {(event.served, event.excluded) for event in events}
    assert 40 == len({event.decision.id for event in events})


def test_a_batch_that_breaks_after_its_last_run_keeps_its_answer(runtime, monkeypatch):
    runs = Counter()
    model = batched(runs, runtime)
    break_ending(model, monkeypatch)
    assert ROWS == [row for _, row in model(ROWS)]
    assert 40 == runs.total()


def test_a_batch_that_breaks_before_its_first_run_is_the_controls(runtime):
    runs = Counter()
    model = batched(runs, runtime)
    break_audience(model)
    assert [("control", row) for row in ROWS] == model(ROWS)
    assert Counter(control=40) == runs


def test_the_shadows_of_a_batch_that_breaks_are_counted(runtime, monkeypatch):
    model = batched(Counter(), runtime, strategy=Shadow(1.0))
    monkeypatch.setattr("rollout_sdk.engine.batches.batch_flow._answered", Broken())
    assert [("control", row) for row in ROWS] == model(ROWS)
    assert Counter(dropped_start=40) == Counter(event.end for event in runtime.shadowed())


@pytest.fixture
def traced(watch):
    """A runtime whose spans can be looked at, and the finished ones by name."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    runtime = watch(telemetry=Telemetry(tracer_provider=provider))
    return runtime, lambda name: [span for span in exporter.get_finished_spans() if span.name == name]


def test_the_span_of_a_batch_that_breaks_ends(traced, monkeypatch):
    runtime, spans = traced
    model = batched(Counter(), runtime)
    monkeypatch.setattr("rollout_sdk.engine.batches.batch_flow._ran", Broken())
    assert [("control", row) for row in ROWS] == model(ROWS)
    assert 1 == len(spans("route batch"))


def test_the_span_of_a_batch_tells_of_no_fallback_where_there_was_none(traced):
    runtime, spans = traced
    batched(Counter(), runtime, strategy=ABTest(1.0))(ROWS)
    (route,) = spans("route batch")
    assert [] == [name for name in route.attributes if "fallback" in name]
    assert ["feature_flag.evaluation"] * len(ROWS) == [event.name for event in route.events]


def test_the_span_of_a_failed_batch_is_an_error(traced):
    runtime, spans = traced

    def fail(rows):
        raise ValueError

    with pytest.raises(ValueError):
        rollout(candidate=fail, strategy=ABTest(1.0), batch="rows", key="batch", runtime=runtime)(fail)(ROWS)
    (route,) = spans("route batch")
    assert not route.status.is_ok
    assert "ValueError" == route.attributes["error.type"]
