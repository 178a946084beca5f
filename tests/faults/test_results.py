"""Answers whose work is still to come when they are returned: it is part of the call, or the call says that it was not seen."""

import asyncio
import collections
import concurrent.futures
import csv
import time

import pytest
import structlog

from rollout_sdk import Canary, Guardrail, Step
from tests.faults.models import served, shadowed

CALLS = 50


class Lost(BaseException):
    """A panic of an extension."""


class Later:
    """A client's awaitable."""

    def __init__(self, work):
        self.work = work

    def __await__(self):
        return self.work().__await__()


def awaitables(work):
    """One piece of asynchronous work as everything that a plain function may return in its place."""

    async def asynchronous():
        await asyncio.sleep(0)
        return work()

    return {
        "coroutine": lambda x: asynchronous(),
        "task": lambda x: asyncio.ensure_future(asynchronous()),
        "object": lambda x: Later(asynchronous),
    }


class Chunks:
    """A client's stream."""

    def __init__(self, work):
        self.work = work
        self.response = "200 OK"

    def __iter__(self):
        yield self.work()

    def close(self):
        self.response = "closed"


class AsyncChunks:
    """The same, asynchronous."""

    def __init__(self, work):
        self.work = work
        self.response = "200 OK"

    async def __aiter__(self):
        await asyncio.sleep(0)
        yield self.work()

    def close(self):
        self.response = "closed"


class EitherChunks(Chunks, AsyncChunks):
    """Both in one."""


def fails():
    raise ConnectionError("429")


def panics():
    raise Lost("panic")


async def collected(stream):
    return [item async for item in stream]


@pytest.mark.parametrize("work", [fails, panics])
@pytest.mark.parametrize("form", ["coroutine", "task", "object"])
def test_f50_an_awaitable_that_fails_is_a_failure_of_its_function(watch, figure, form, work):
    runtime = watch()
    model = served(awaitables(lambda: "mine")[form], awaitables(work)[form], runtime, breaker=None)

    async def main():
        return [await model(x) for x in range(CALLS)]

    answers = asyncio.run(main())
    assert ["mine"] * CALLS == answers
    events = runtime.routed()
    assert [[(type_of(work), "candidate"), (None, "control")]] * CALLS == [
        [(run.error, run.variant) for run in event.runs] for event in events
    ]
    figure("F50", "{right} of {calls} callers answered by the control, for coroutines, tasks and awaitable objects that fail",
           right=answers.count("mine"), calls=len(answers))  # fmt: skip


def type_of(work):
    try:
        work()
    except BaseException as error:
        return type(error).__qualname__


def test_f50_a_future_of_a_thread_pool_that_fails_is_a_failure_of_its_function(watch, figure):
    runtime = watch()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        model = served(lambda x: pool.submit(str, x), lambda x: pool.submit(fails), runtime, breaker=None)
        futures = [model(x) for x in range(CALLS)]
        right = [str(x) == future.result(10) for x, future in enumerate(futures)]
    assert [True] * CALLS == right
    assert {("candidate", "ConnectionError"): CALLS} == {
        key: number for key, number in model.rollout.status().fallbacks.items() if runtime.routed()
    }
    figure("F50", "{right} of {futures} futures of a thread pool end like the control's", right=sum(right), futures=len(right))


def test_f50_the_controls_own_future_reaches_its_caller(watch, figure):
    runtime, made = watch(), []

    async def main():
        async def answer():
            return "mine"

        def control(x):
            made.append(asyncio.ensure_future(answer()))
            return made[-1]

        # The candidate has failed before it returned anything.
        model = served(control, lambda x: fails(), runtime, breaker=None)
        given = [model(x) for x in range(CALLS)]
        return await asyncio.gather(*given), given

    answers, given = asyncio.run(main())
    assert ["mine"] * CALLS == answers
    own, measured = sum(one is other for one, other in zip(made, given, strict=True)), len(runtime.routed())
    assert CALLS == own == measured
    figure("F50", "{own} of {given} futures of the control are the callers' own objects, {measured} measured", own=own,
           given=len(given), measured=measured)  # fmt: skip


@pytest.mark.parametrize("work", [fails, panics])
@pytest.mark.parametrize("form", ["plain", "asynchronous", "either, by for", "either", "given by a coroutine"])
def test_f51_a_clients_stream_that_fails_before_its_first_item_is_the_controls(watch, figure, form, work):
    runtime = watch()

    def of(work):
        async def create(x):
            return AsyncChunks(work)

        made = {"asynchronous": AsyncChunks, "plain": Chunks, "either, by for": EitherChunks, "either": EitherChunks}
        return create if form == "given by a coroutine" else lambda x: made[form](work)

    model = served(of(lambda: "mine"), of(work), runtime, breaker=None)

    async def one(x):
        stream = model(x)
        stream = await stream if form == "given by a coroutine" else stream
        assert isinstance(stream, Chunks | AsyncChunks)
        assert "200 OK" == stream.response
        items = list(stream) if form in ("plain", "either, by for") else await collected(stream)
        stream.close()
        return items, stream.response

    async def main():
        return [await one(x) for x in range(CALLS)]

    given = asyncio.run(main())
    assert [(["mine"], "closed")] * CALLS == given
    assert [[type_of(work), None]] * CALLS == [[run.error for run in event.runs] for event in runtime.routed()]
    figure("F51", "{right} of {readers} readers of {form} kinds of clients' streams have the control's items; attributes and "
           "close() are kept", right=given.count((["mine"], "closed")), readers=len(given), form=form)  # fmt: skip


def test_f52_the_time_of_a_stream_is_that_of_its_items(watch, figure):
    runtime = watch()

    slow_s = 0.02

    def slow():
        time.sleep(slow_s)
        return "x"

    plain = served(lambda x: Chunks(slow), lambda x: Chunks(slow), runtime, key="plain")
    later = served(lambda x: AsyncChunks(slow), lambda x: AsyncChunks(slow), runtime, key="later")

    async def main():
        for _ in range(5):
            assert ["x"] == list(plain(1)) == await collected(later(1))

    asyncio.run(main())
    found = [run.first_item_s for event in runtime.routed() for run in event.runs]
    assert 10 == len(found)
    assert all(slow_s <= first_item_s < 0.5 for first_item_s in found)
    figure("F52", "the first item after {least:.0f} to {most:.0f} ms, for {streams} streams that need {slow:.0f} ms for it",
           least=min(found) * 1e3, most=max(found) * 1e3, streams=len(found), slow=slow_s * 1e3)  # fmt: skip


class Handle:
    """A handle of a cluster, which only its own library can redeem."""

    def __await__(self):
        yield

    def result(self):
        fails()


@pytest.mark.parametrize("make", [Handle, lambda: csv.reader([])], ids=["handle", "reader"])
def test_f53_what_cannot_be_measured_is_marked_warned_of_once_and_passes_no_step(watch, figure, make):
    runtime = watch()
    step = Canary([Step("50%", min_units=50, min_time=0.001), "100%"], guardrails=[Guardrail("error_rate", margin=0.2)])
    with structlog.testing.capture_logs() as lines:
        model = served(lambda unit: 1, lambda unit: make(), runtime, strategy=step, unit="unit")
        given = [model(str(unit)) for unit in range(2_000)]
        events = runtime.routed()
        verdict = model.rollout.judge()
    marked = [event for event in events if event.unmeasured is not None]
    handles = sum(one != 1 for one in given)
    assert handles == len(marked) > 800
    warnings = len([line for line in lines if line["event"] == "rollout.unmeasured"])
    assert 1 == warnings
    assert ("INSUFFICIENT_DATA", True, "running") == (verdict.outcome, verdict.valid, model.rollout.status().status)
    figure("F53", "{calls:,} calls of {runs} canaries: {marked:,} of {handles:,} handles marked, {warnings} warnings, no "
           "step passed, no false alarm about shares", calls=len(given), marked=len(marked), handles=handles,
           warnings=warnings)  # fmt: skip


@pytest.mark.parametrize("form", ["coroutine", "task", "object", "stream"])
def test_f54_a_shadow_carries_out_what_its_candidate_returns(watch, figure, form):
    runtime = watch()

    def of(work):
        return (lambda x: AsyncChunks(work)) if form == "stream" else awaitables(work)[form]

    good = shadowed(of(lambda: "mine"), of(lambda: "mine"), runtime, key="good", breaker=None)
    bad = shadowed(of(lambda: "mine"), of(fails), runtime, key="bad", breaker=None)

    async def main():
        for model in (good, bad):
            for x in range(20):
                assert ["mine"] == (await collected(model(x)) if form == "stream" else [await model(x)])
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)

    asyncio.run(main())
    ends = collections.Counter((event.decision.rollout, event.end, event.error) for event in runtime.shadowed())
    assert {("good", "ok", None): 20, ("bad", "error", "ConnectionError"): 20} == ends
    alike = sum(event.comparison.match for event in runtime.shadowed() if event.end == "ok")
    assert 20 == alike
    figure(
        "F54",
        "{shadows} shadows of coroutines, tasks, awaitable objects and streams run to their end: {alike} match, "
        "{failed} failed",
        shadows=ends.total(),
        alike=alike,
        failed=ends["bad", "error", "ConnectionError"],
    )
