"""Every span that begins is ended, and as long as what it is about, however a call of several runs ends."""

import asyncio
import contextvars
import logging
import threading
import time

import pytest
from opentelemetry.sdk.trace import SpanProcessor

from rollout_sdk import ABTest, Comparison, Interleave, Shadow, rollout


def fail(x):
    raise ValueError


def in_rows(rows):
    return list(rows)


def fail_rows(rows):
    raise ValueError


async def afail(x):
    raise ValueError


async def forever(x):
    await asyncio.sleep(60)


async def cancelled(call):
    task = asyncio.create_task(call)
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])


def batch(traced, control, candidate, strategy, **options):
    return rollout(
        candidate=candidate,
        strategy=strategy,
        batch="rows",
        unit="rows",
        key="b",
        effects="read",
        runtime=traced.runtime,
        **options,
    )(control)


ENDS = {
    "a blend whose control fails": lambda traced: traced.model(fail, lambda x: [x], Interleave())("u"),
    "a blend in tasks whose control fails": lambda traced: asyncio.run(traced.model(afail, forever, Interleave())("u")),
    "a blend that is cancelled": lambda traced: asyncio.run(cancelled(traced.model(forever, forever, Interleave())("u"))),
    "a batch whose control fails": lambda traced: batch(traced, fail_rows, in_rows, ABTest(0.5))([f"u{n}" for n in range(40)]),
    "a batch whose candidate raises": lambda traced: batch(traced, in_rows, fail_rows, ABTest(0.5), on_error="raise")(
        [f"u{n}" for n in range(40)]
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_no_span_stays_open(end, traced):
    try:
        ENDS[end](traced)
    except ValueError:
        pass
    assert "route" in [span.name.split()[0] for span in traced.finished()]
    assert {} == traced.open.spans


class Slow(SpanProcessor):
    """Takes its time when a shadow's span begins."""

    def __init__(self):
        self.begun, self.go = threading.Event(), threading.Event()

    def on_start(self, span, parent_context=None):
        if span.name.startswith("shadow"):
            self.begun.set()
            self.go.wait(10)


def test_the_span_of_a_shadow_that_is_given_up_as_it_begins_is_ended(traced):
    slow = Slow()
    traced.provider.add_span_processor(slow)
    traced.model(lambda x: x, lambda x: x, Shadow(1.0))("u")
    assert slow.begun.wait(10)
    traced.runtime.background.close(0.0)
    slow.go.set()
    deadline = time.monotonic() + 10
    while traced.open.spans and time.monotonic() < deadline:
        time.sleep(0.01)
    assert {} == traced.open.spans
    assert "abandoned" == traced.spans()["shadow model/candidate"].attributes["rollout.shadow.end"]


@pytest.mark.parametrize("kind", ["blend", "batch"])
def test_each_run_of_several_has_a_span_as_long_as_itself(kind, traced):
    if kind == "blend":
        traced.model(lambda x: [x], lambda x: [x], Interleave())("u")
    else:
        batch(traced, in_rows, in_rows, ABTest(0.5))([f"u{n}" for n in range(40)])
    runs = sorted((s.start_time, s.end_time) for s in traced.finished() if s.name.startswith("invoke"))
    assert 2 == len(runs)
    assert runs[0][1] <= runs[1][0]


def test_a_run_of_a_batch_is_measured_once(traced):
    batch(traced, in_rows, in_rows, ABTest(0.5))([f"u{n}" for n in range(40)])
    counts = {
        point.attributes["feature_flag.result.variant"]: point.count
        for point in traced.metrics()["rollout.call.duration"].data.data_points
    }
    assert {"control": 1, "candidate": 1} == counts


def test_the_shadow_of_a_batch_matches_when_every_row_does(traced):
    def unlike(rows):
        return [rows[0]] + ["another"] * (len(rows) - 1)

    batch(traced, in_rows, unlike, Shadow(1.0))(["a", "b", "c"])
    assert False is traced.spans()["shadow b/candidate"].attributes["rollout.comparison.match"]


class Truth:
    """What a comparison of arrays gives: true or false, and no bool."""

    def __bool__(self):
        return True


class Arrays:
    """A comparator of arrays."""

    name = "arrays"

    def rollout_compare(self, request, control, candidate):
        return Comparison(match=Truth(), name="arrays")


def test_what_a_comparator_of_arrays_finds_is_a_boolean(traced):
    traced.model(lambda x: x, lambda x: x, Shadow(1.0), plugins=[Arrays()])("u")
    (point,) = traced.metrics()["rollout.comparisons"].data.data_points
    assert (True, True) == (
        traced.spans()["shadow model/candidate"].attributes["rollout.comparison.match"],
        point.attributes["rollout.comparison.match"],
    )


@pytest.mark.parametrize("bind_logs", [False, True])
def test_a_call_that_is_closed_from_another_context_ends_quietly(bind_logs, trace_with, caplog):
    class Pending:
        def __await__(self):
            yield

    async def waits(x):
        await Pending()

    traced = trace_with(bind_logs=bind_logs)
    call = traced.model(waits, waits)("u")
    contextvars.copy_context().run(call.send, None)
    call.close()
    assert traced.runtime.flush(10.0)
    assert ({}, []) == (traced.open.spans, [record for record in caplog.records if record.levelno >= logging.ERROR])
