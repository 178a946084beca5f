"""Streams, awaitables and futures that are objects of their own are measured, and are to callers what the bare ones are."""

import asyncio
import collections.abc
import concurrent.futures
import contextlib
import csv
import gc
import inspect
import sqlite3

import pytest
import structlog

from rollout_sdk import ABTest, Breaker, Canary, Guardrail, Interleave, Shadow, Step, current_decision, rollout

NEW, OLD = ABTest(1.0), ABTest(0.0)


def both(control, candidate, runtime, *, strategy=NEW, key="model", **options):
    return rollout(candidate=candidate, strategy=strategy, key=key, runtime=runtime, **options)(control)


class Chunks:
    """A client's stream: iterable, entered and closed, and not an iterator."""

    def __init__(self, items, *, fails=None):
        self.items = list(items)
        self.fails = fails
        self.response = "200 OK"
        self.closed = 0

    def __iter__(self):
        if self.fails is not None:
            raise self.fails
        yield from self.items

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.closed += 1

    def joined(self):
        return "".join(self.items)


class Eager(Chunks):
    """One that sends its request when it is asked for an iterator."""

    def __iter__(self):
        if self.fails is not None:
            raise self.fails
        return iter(self.items)


class AsyncChunks:
    """The same, asynchronous."""

    def __init__(self, items, *, fails=None):
        self.items = list(items)
        self.fails = fails
        self.response = "200 OK"
        self.closed = 0

    async def __aiter__(self):
        if self.fails is not None:
            raise self.fails
        for item in self.items:
            yield item

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.close()

    async def close(self):
        self.closed += 1


class AsyncCounter(AsyncChunks):
    """One that is its own iterator."""

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)
        if self.fails is not None:
            raise self.fails
        if not self.items:
            raise StopAsyncIteration
        return self.items.pop(0)


class Refusing(AsyncChunks):
    """One that fails where it is asked for an iterator."""

    def __aiter__(self):
        if self.fails is not None:
            raise self.fails
        return super().__aiter__()


class Pending:
    """An awaitable of a client."""

    def __init__(self, answer, *, fails=None):
        self.answer = answer
        self.fails = fails
        self.request_id = "r-1"
        self.entered = 0

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        if self.fails is not None:
            raise self.fails
        return self.answer

    async def __aenter__(self):
        self.entered += 1
        return await self

    async def __aexit__(self, *_):
        self.entered -= 1


async def items_of(stream):
    stream = await stream if inspect.isawaitable(stream) else stream
    return [item async for item in stream]


def given(make):
    """A plain function, and a coroutine function, that return what is made."""

    async def coroutine(n):
        return make()

    return {"plain function": lambda n: make(), "coroutine function": coroutine}


def runs(event):
    return [(run.variant, run.error) for run in event.runs]


FELL_BACK = [("candidate", "ConnectionError"), ("control", None)]


# Streams --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Chunks, Eager])
def test_a_stream_object_is_measured_and_is_what_the_bare_one_is(runtime, kind):
    made = []

    def new(n):
        made.append(kind("abc"))
        return made[-1]

    model = both(lambda n: kind("xyz"), new, runtime)
    with model(1) as stream:
        assert isinstance(stream, kind)
        assert not isinstance(stream, collections.abc.Iterator)
        assert ("200 OK", "abc") == (stream.response, stream.joined())
        items = iter(stream)
        assert isinstance(items, collections.abc.Iterator)
        assert list("abc") == list(items)
        assert list("abc") == list(stream) == list(stream)
    assert 1 == made[0].closed
    (event,) = runtime.routed()
    ((variant, error, first_item_s),) = [(run.variant, run.error, run.first_item_s) for run in event.runs]
    assert ("candidate", None, False, None) == (variant, error, event.closed_early, event.unmeasured)
    assert 0 < first_item_s <= event.runs[0].duration_s < 30


@pytest.mark.parametrize("kind", [Chunks, Eager])
def test_a_stream_object_that_fails_before_the_first_item_falls_back_and_stays_readable(runtime, kind):
    made = []

    def new(n):
        made.append(kind("", fails=ConnectionError("429")))
        return made[-1]

    model = both(lambda n: kind("xyz"), new, runtime, breaker=Breaker(min_runs=3))
    for _ in range(6):
        with model(1) as stream:
            assert list("xyz") == list(stream) == list(stream)
    events = runtime.routed()
    assert [FELL_BACK] * 3 == [runs(event) for event in events[:3]]
    assert ["breaker_open"] * 3 == [event.withheld for event in events[3:]]
    assert [1, 1, 1] == [each.closed for each in made]


def test_the_iterator_of_a_stream_outlives_the_stream_object(runtime):
    items = iter(both(lambda n: Chunks(""), lambda n: Chunks("ab"), runtime)(1))
    gc.collect()
    assert ["a", "b"] == list(items)
    assert [False] == [event.closed_early for event in runtime.routed()]


def test_a_stream_object_that_is_left_early_or_unread_is_recorded_as_closed_early(runtime):
    model = both(lambda n: Chunks(""), lambda n: Chunks("ab"), runtime)
    for item in model(1):
        assert "a" == item
        break
    model(2)
    with model(3):
        pass
    gc.collect()
    assert [(True, None)] * 3 == [(event.closed_early, event.unmeasured) for event in runtime.routed()]


def test_a_stream_object_that_is_read_in_a_way_of_its_own_is_marked_as_unmeasured(runtime):
    model = both(lambda n: Chunks(""), lambda n: Chunks("ab"), runtime)
    assert "ab" == model(1).joined()
    gc.collect()
    (event,) = runtime.routed()
    assert ("Chunks", False) == (event.unmeasured, event.closed_early)


class Reiterable:
    def __iter__(self):
        return iter([1])


class Table(Chunks):
    def __getitem__(self, key):
        return key


class Wrapper:
    """As a temporary file is: the file's methods are not on its class."""

    def __init__(self, file):
        self.file = file

    def __iter__(self):
        return iter(self.file)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def close(self):
        self.file.close()


def test_what_is_looked_up_reread_or_a_file_is_an_answer_and_the_very_object(runtime, tmp_path):
    with (tmp_path / "file").open("w+") as file:
        for number, value in enumerate([Reiterable(), Table("ab"), Wrapper(file), file, range(3), [1], object()]):
            assert both(lambda n: None, lambda n, value=value: value, runtime, key=f"k{number}")(1) is value
    assert [None] * 7 == [event.unmeasured for event in runtime.routed()]


@pytest.mark.parametrize("form", ["plain function", "coroutine function"])
@pytest.mark.parametrize("kind", [AsyncChunks, AsyncCounter])
def test_an_async_stream_object_is_measured_and_is_what_the_bare_one_is(runtime, kind, form):
    made = []

    def make():
        made.append(kind("abc"))
        return made[-1]

    async def main():
        stream = both(given(lambda: kind("x"))[form], given(make)[form], runtime)(1)
        stream = await stream if form == "coroutine function" else stream
        assert isinstance(stream, kind)
        assert isinstance(stream, collections.abc.AsyncIterator) == (kind is AsyncCounter)
        async with stream as entered:
            assert entered is stream
            assert "200 OK" == stream.response
            return [item async for item in stream]

    assert list("abc") == asyncio.run(main())
    assert 1 == made[0].closed
    (event,) = runtime.routed()
    assert ([("candidate", None)], False, None) == (runs(event), event.closed_early, event.unmeasured)
    assert 0 < event.runs[0].first_item_s <= event.runs[0].duration_s < 30


@pytest.mark.parametrize("form", ["plain function", "coroutine function"])
@pytest.mark.parametrize("kind", [AsyncChunks, AsyncCounter, Refusing])
def test_an_async_stream_object_that_fails_before_the_first_item_falls_back(runtime, kind, form):
    control = given(lambda: kind("xyz"))[form]
    model = both(control, given(lambda: kind("", fails=ConnectionError("429")))[form], runtime, breaker=Breaker(min_runs=3))

    async def main():
        return [await items_of(model(1)) for _ in range(6)]

    assert [list("xyz")] * 6 == asyncio.run(main())
    events = runtime.routed()
    assert [FELL_BACK] * 3 == [runs(event) for event in events[:3]]
    assert ["breaker_open"] * 3 == [event.withheld for event in events[3:]]


def test_an_async_stream_that_is_closed_or_left_is_recorded_as_closed_early(runtime):
    async def main():
        model = both(lambda n: AsyncChunks(""), lambda n: AsyncChunks("ab"), runtime)
        closed = model(1)
        async for _ in closed:
            break
        await closed.close()
        async for _ in model(2):
            break
        model(3)
        gc.collect()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert [True] * 3 == [event.closed_early for event in runtime.routed()]


def test_tasks_share_an_async_iterator_as_they_could_share_the_bare_one(runtime):
    async def main():
        stream = both(lambda n: AsyncCounter(""), lambda n: AsyncCounter("abcdef"), runtime)(1)
        parts = await asyncio.gather(*(items_of(stream) for _ in range(3)))
        return sorted(item for part in parts for item in part)

    assert list("abcdef") == asyncio.run(main())
    assert [(False, None)] == [(event.closed_early, event.error) for event in runtime.routed()]


def test_a_coroutine_that_a_plain_function_returns_may_give_a_stream(runtime):
    def of(**options):
        async def create():
            await asyncio.sleep(0)
            return AsyncChunks("xyz", **options)

        return lambda n: create()

    model = both(of(), of(fails=ConnectionError("429")), runtime)
    assert list("xyz") == asyncio.run(items_of(model(1)))
    (event,) = runtime.routed()
    assert FELL_BACK == runs(event)


def test_a_stream_whose_candidate_was_stopped_before_it_was_read_is_the_controls(runtime):
    model = both(lambda n: Chunks("xyz"), lambda n: Chunks("abc"), runtime)
    stream = model(1)
    model.rollout.abort(actor="test", reason="test")
    assert list("xyz") == list(stream)
    assert ["aborted"] == [event.withheld for event in runtime.routed()]


class Response:
    """An HTTP response: its body is read by one of several methods."""

    __module__ = "requests.models"

    def __init__(self, lines, *, fails=None):
        self._content = False
        self.lines = list(lines)
        self.fails = fails
        self.closed = 0

    def iter_lines(self, prefix=""):
        if self.fails is not None:
            raise self.fails
        yield from [prefix + line for line in self.lines]

    async def aiter_lines(self):
        for line in self.iter_lines():
            yield line

    @property
    def text(self):
        return "".join(self.iter_lines())

    def close(self):
        self.closed += 1


@pytest.mark.parametrize("way", ["iter_lines", "aiter_lines"])
def test_the_body_of_a_response_is_measured_by_the_method_that_reads_it(runtime, way):
    made = []

    def failing(n):
        made.append(Response("", fails=ConnectionError("reset")))
        return made[-1]

    def read(response):
        if way == "iter_lines":
            return list(response.iter_lines(prefix=""))
        return asyncio.run(items_of(response.aiter_lines()))

    good = both(lambda n: None, lambda n: Response("ab"), runtime, key="good")(1)
    fallen = both(lambda n: Response("xyz"), failing, runtime)(1)
    assert isinstance(good, Response)
    assert ([*"ab"], [*"xyz"]) == (read(good), read(fallen))
    assert [*"xyz"] == read(fallen)
    fallen.close()
    assert 1 == made[0].closed
    first, second = runtime.routed()
    assert ([("candidate", None)], None) == (runs(first), first.unmeasured)
    assert FELL_BACK == runs(second)
    assert 0 < first.runs[0].first_item_s < 30


def test_where_the_control_returns_no_response_the_candidates_error_is_the_callers(runtime):
    response = both(lambda n: [1], lambda n: Response("", fails=ConnectionError("reset")), runtime)(1)
    with pytest.raises(ConnectionError):
        list(response.iter_lines())


def test_a_response_that_is_read_as_a_whole_is_marked_as_unmeasured(runtime):
    assert "ab" == both(lambda n: None, lambda n: Response("ab"), runtime)(1).text
    gc.collect()
    assert ["Response"] == [event.unmeasured for event in runtime.routed()]


# Awaitables -----------------------------------------------------------------------------------------------------------------


def test_an_awaitable_object_is_measured_falls_back_and_keeps_its_attributes(runtime):
    async def main():
        model = both(lambda n: Pending("control"), lambda n: Pending("", fails=ConnectionError("429")), runtime)
        good = both(lambda n: Pending("control"), lambda n: Pending("new"), runtime, key="good")
        waiting = good(1)
        assert isinstance(waiting, Pending)
        assert "r-1" == waiting.request_id
        return [await waiting, await waiting, await model(1), await asyncio.wait_for(model(2), 1)]

    assert ["new", "new", "control", "control"] == asyncio.run(main())
    fine, *fallen = runtime.routed()
    assert ([("candidate", None)], None) == (runs(fine), fine.unmeasured)
    assert [FELL_BACK] * 2 == [runs(event) for event in fallen]


def test_an_awaitable_object_that_is_entered_is_measured(runtime):
    made = []

    def new(n):
        made.append(Pending("new"))
        return made[-1]

    async def main():
        model = both(lambda n: Pending("control"), lambda n: Pending("", fails=ConnectionError("429")), runtime)
        async with both(lambda n: None, new, runtime, key="good")(1) as good, model(1) as fallen:
            assert 1 == made[0].entered
            return good, fallen

    assert ("new", "control") == asyncio.run(main())
    assert 0 == made[0].entered
    assert [[("candidate", None)], FELL_BACK] == [runs(event) for event in runtime.routed()]


def test_an_awaitable_that_is_read_as_a_stream_is_measured(runtime):
    class Pages(Pending):
        async def __aiter__(self):
            if self.fails is not None:
                raise self.fails
            for item in self.answer:
                yield item

    async def main():
        model = both(lambda n: Pages("xyz"), lambda n: Pages("", fails=ConnectionError("429")), runtime)
        return [item async for item in model(1)], await both(lambda n: None, lambda n: Pages("ab"), runtime, key="good")(1)

    assert (list("xyz"), "ab") == asyncio.run(main())
    assert [FELL_BACK, [("candidate", None)]] == [runs(event) for event in runtime.routed()]


def test_the_controls_future_is_the_callers_own_object_and_is_measured(runtime):
    async def answer(n):
        await asyncio.sleep(0)
        if n < 0:
            raise ConnectionError
        return n

    made = []

    def control(n):
        made.append(asyncio.ensure_future(answer(n)))
        return made[-1]

    async def main():
        model = both(control, control, runtime, strategy=OLD)
        task = model(7)
        assert task is made[0]
        failing = model(-1)
        with pytest.raises(ConnectionError):
            await failing
        return await task

    assert 7 == asyncio.run(main())
    failed, good = sorted(runtime.routed(), key=lambda event: event.error or "z")
    assert [("control", "ConnectionError")] == runs(failed)
    assert [("control", None)] == runs(good)
    assert 0 < good.runs[0].duration_s < 30


def test_a_candidates_task_falls_back_and_is_a_task(runtime):
    async def answer(n):
        await asyncio.sleep(0)
        return n

    async def fails(n):
        await asyncio.sleep(0)
        raise ConnectionError("429")

    async def main():
        model = both(lambda n: asyncio.ensure_future(answer(n)), lambda n: asyncio.ensure_future(fails(n)), runtime)
        task = model(7)
        assert isinstance(task, asyncio.Task)
        return await asyncio.gather(task, model(8))

    assert [7, 8] == asyncio.run(main())
    assert [FELL_BACK] * 2 == [runs(event) for event in runtime.routed()]


def test_a_cancelled_task_cancels_the_candidates_own(runtime):
    made = []

    async def forever():
        await asyncio.sleep(60)

    def new(n):
        made.append(asyncio.ensure_future(forever()))
        return made[-1]

    async def main():
        task = both(lambda n: None, new, runtime)(1)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert made[0].cancelled()

    asyncio.run(main())
    assert [(True, None)] == [(event.closed_early, event.error) for event in runtime.routed()]


def test_a_future_of_a_thread_pool_is_measured_and_falls_back(runtime):
    def fails(n):
        raise ConnectionError("429")

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        made = []

        def control(n):
            made.append(pool.submit(str, n))
            return made[-1]

        model = both(control, lambda n: pool.submit(fails, n), runtime)
        good = both(control, lambda n: pool.submit(str, n), runtime, key="good")
        plain = both(str, lambda n: pool.submit(fails, n), runtime, key="plain")
        own = both(control, control, runtime, strategy=OLD, key="own")(4)
        assert own is made[-1]
        futures = [model(1), good(2), plain(3), own]
        assert set(futures) == concurrent.futures.wait(futures).done
        assert ["1", "2", "3", "4"] == [future.result() for future in futures]
    by_key = {event.decision.rollout: runs(event) for event in runtime.routed()}
    assert {
        "model": FELL_BACK, "good": [("candidate", None)], "plain": FELL_BACK, "own": [("control", None)],
    } == by_key  # fmt: skip


def test_both_futures_fail_and_the_caller_gets_the_controls_own_exception(runtime):
    mine = LookupError("mine")

    def raises(error):
        raise error

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        model = both(lambda n: pool.submit(raises, mine), lambda n: pool.submit(raises, ConnectionError()), runtime)
        assert mine is model(1).exception(5)
    assert [("candidate", "ConnectionError"), ("control", "LookupError")] == runs(runtime.routed()[0])


# What cannot be driven ------------------------------------------------------------------------------------------------------


class Handle:
    """A handle of a cluster: awaitable, and its own library wants the very object."""

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        raise ConnectionError("lost")

    def result(self):
        raise ConnectionError("lost")


@contextlib.contextmanager
def managed():
    yield 1


UNMEASURED = {
    "Handle": Handle,
    "_csv.reader": lambda: csv.reader([]),
    "Cursor": lambda: sqlite3.Cursor.__new__(sqlite3.Cursor),
    "_GeneratorContextManager": managed,
    "StreamingResponse": type("StreamingResponse", (), {}),
}


@pytest.mark.parametrize("make", UNMEASURED.values(), ids=UNMEASURED)
def test_what_cannot_be_driven_is_handed_on_as_it_is_and_marked(runtime, make):
    value = make()
    model = both(lambda n: None, lambda n: value, runtime)
    assert model(1) is value
    (event,) = runtime.routed()
    assert type(value).__qualname__ == event.unmeasured
    assert {("candidate", event.unmeasured): 1} == model.rollout.status().unmeasured
    assert f"unmeasured candidate {event.unmeasured}: 1" in str(model.rollout.status())


def test_a_generator_of_a_coroutine_function_is_marked_because_nothing_could_take_its_place(runtime):
    async def new(n):
        return iter([n])

    assert [7] == list(asyncio.run(both(new, new, runtime)(7)))
    assert ["list_iterator"] == [event.unmeasured for event in runtime.routed()]


def test_a_response_whose_body_is_there_is_an_answer(runtime):
    closed = type("Response", (), {"__module__": "httpx._models", "is_closed": True})()
    read = type("Response", (), {"__module__": "requests.models", "_content": b"x"})()
    for number, value in enumerate([closed, read]):
        assert both(lambda n: None, lambda n, value=value: value, runtime, key=f"k{number}")(1) is value
    assert [None, None] == [event.unmeasured for event in runtime.routed()]


def test_it_is_warned_of_once_for_each_rollout_with_the_cure(runtime):
    with structlog.testing.capture_logs() as lines:
        for key in ("one", "two"):
            model = both(lambda n: None, lambda n: Handle(), runtime, key=key)
            for _ in range(3):
                model(1)
        assert 6 == len(runtime.routed())
        runtime.flush()
    warned = [line for line in lines if line["event"] == "rollout.unmeasured"]
    assert [("one", "Handle", "warning"), ("two", "Handle", "warning")] == [
        (line["rollout"], line["answer_type"], line["log_level"]) for line in warned
    ]
    assert "Return the answer itself" in warned[0]["cure"]


@pytest.mark.parametrize("share", [1.0, 0.1], ids=["always", "now and then"])
@pytest.mark.parametrize("whose", ["control", "candidate"])
def test_no_step_passes_on_what_was_not_measured(runtime, share, whose):
    def handles(unit):
        return Handle() if int(unit) % 10 < 10 * share else 1

    def plain(unit):
        return 1

    control, candidate = (handles, plain) if whose == "control" else (plain, handles)
    step = Canary([Step("50%", min_units=50, min_time=0.001), "100%"], guardrails=[Guardrail("error_rate", margin=0.2)])
    model = both(control, candidate, runtime, strategy=step, unit="unit", key=f"{whose}-{share}")
    measured = both(plain, plain, runtime, strategy=step, unit="unit", key="measured")
    for number in range(3_000):
        model(str(number))
        measured(str(number))
        # On a busy machine, so many calls at once would be too many to keep all.
        assert number % 500 or runtime.flush(10.0)
    assert runtime.flush(10.0)
    assert "PASS" == measured.rollout.judge().outcome
    verdict = model.rollout.judge()
    assert ("INSUFFICIENT_DATA", True) == (verdict.outcome, verdict.valid)
    assert f"calls of {whose} returned an answer that cannot be measured" in verdict.reason


def test_a_candidate_that_failed_is_evidence_whatever_the_control_returns(runtime):
    def fails(n):
        raise ConnectionError

    model = both(lambda n: Handle(), fails, runtime)
    assert isinstance(model(1), Handle)
    (event,) = runtime.routed()
    assert (FELL_BACK, "Handle") == (runs(event), event.unmeasured)


# Shadows --------------------------------------------------------------------------------------------------------------------


async def answer(n):
    await asyncio.sleep(0)
    return n


async def fails(n):
    await asyncio.sleep(0)
    raise ConnectionError("429")


async def agen(n):
    for i in range(n):
        yield i


async def agen_fails(n):
    raise ConnectionError("429")
    yield


SHADOWS = {
    "coroutine": (lambda n: answer(n), lambda n: fails(n), lambda made: made),
    "async generator": (lambda n: agen(n), lambda n: agen_fails(n), items_of),
    "async stream": (lambda n: AsyncChunks("ab"), lambda n: AsyncChunks("", fails=ConnectionError()), items_of),
    "awaitable": (lambda n: Pending(n), lambda n: Pending(n, fails=ConnectionError()), lambda made: made),
    "task": (lambda n: asyncio.ensure_future(answer(n)), lambda n: asyncio.ensure_future(fails(n)), lambda made: made),
}


@pytest.mark.parametrize(("good", "bad", "read"), SHADOWS.values(), ids=SHADOWS)
def test_a_shadow_carries_out_what_its_candidate_returns_on_the_callers_loop(runtime, good, bad, read):
    async def main():
        for key, candidate in (("good", good), ("bad", bad)):
            await read(both(good, candidate, runtime, strategy=Shadow(1.0), effects="read", key=key)(2))
        await asyncio.sleep(0.1)

    asyncio.run(main())
    by_key = {event.decision.rollout: event for event in runtime.shadowed()}
    assert ("ok", True) == (by_key["good"].end, by_key["good"].comparison.match)
    assert ("error", "ConnectionError") == (by_key["bad"].end, by_key["bad"].error)
    assert 0 < by_key["good"].control_duration_s < 30


@pytest.mark.parametrize(
    ("candidate", "end"),
    [
        (lambda n: answer(n), ("ok", None)),
        (lambda n: fails(n), ("error", "ConnectionError")),
        (lambda n: agen_fails(n), ("error", "ConnectionError")),
        (lambda n: Chunks("", fails=ConnectionError()), ("error", "ConnectionError")),
        (lambda n: Handle(), ("unmeasured", "Handle")),
    ],
    ids=["coroutine", "failing coroutine", "failing async generator", "failing stream", "handle"],
)
def test_beside_a_plain_answer_it_is_carried_out_in_the_shadows_thread(runtime, candidate, end):
    model = both(lambda n: n, candidate, runtime, strategy=Shadow(1.0), effects="read")
    assert 7 == model(7)
    (event,) = runtime.shadowed()
    assert end == (event.end, event.error)
    if event.comparison is not None:
        # Whoever adds to the one cannot add to the other.
        assert (False, "type") == (event.comparison.match, event.comparison.reason)


def test_a_shadow_step_does_not_pass_on_what_was_not_measured(runtime):
    steps = Canary([Step(0, shadow=1.0, min_units=20, min_time=0.001), "100%"])
    model = both(lambda unit: 1, lambda unit: Handle(), runtime, strategy=steps, effects="read", unit="unit")
    for number in range(100):
        model(str(number))
    assert runtime.flush(10.0)
    verdict = model.rollout.judge()
    assert "INSUFFICIENT_DATA" == verdict.outcome
    assert {("candidate", "unmeasured"): 100} == model.rollout.status().shadows


# Elsewhere ------------------------------------------------------------------------------------------------------------------


def test_python_warns_of_a_coroutine_that_the_caller_never_awaits_and_of_no_other(runtime, recwarn):
    both(lambda n: n, lambda n: answer(n), runtime)(1)
    gc.collect()
    assert ["coroutine 'answer' was never awaited"] == [str(each.message) for each in recwarn.list]
    recwarn.clear()
    batch = both(lambda rows: rows, lambda rows: answer(rows), runtime, key="batch", batch="rows", unit="rows")
    assert ["a"] == batch(["a"])
    blend = both(lambda n: [1, 2], lambda n: answer([2]), runtime, strategy=Interleave(), key="blend")
    assert [1, 2] == blend(1)
    both(lambda n: n, lambda n: answer(n), runtime, strategy=Shadow(1.0), effects="read", key="shadow")(1)
    assert runtime.flush(10.0)
    gc.collect()
    assert [] == [str(each.message) for each in recwarn.list]


class Job:
    """A coroutine that is not Python's own, as extension modules make them."""

    def __init__(self, value):
        self.value = value
        self._steps = self.__await__()

    def __await__(self):
        yield "first"
        return self.value

    def send(self, value):
        return self._steps.send(value)

    def throw(self, *error):
        return self._steps.throw(*error)

    def close(self):
        return self._steps.close()


def test_a_coroutine_of_another_make_is_driven_by_hand_to_its_end(runtime):
    job = both(lambda n: Job("old"), lambda n: Job("new"), runtime)(1)
    assert "first" == job.send(None)
    with pytest.raises(StopIteration) as ended:
        job.send(None)
    assert "new" == ended.value.value
    (event,) = runtime.routed()
    assert [("candidate", None)] == runs(event)
    assert 0 < event.runs[0].duration_s < 30


@pytest.mark.parametrize("end", [lambda job: job.close(), lambda job: job.throw(KeyboardInterrupt)], ids=["close", "throw"])
def test_a_coroutine_of_another_make_that_is_ended_by_hand_is_recorded_once(end, runtime):
    job = both(lambda n: Job("old"), lambda n: Job("new"), runtime)(1)
    assert "first" == job.send(None)
    with contextlib.suppress(KeyboardInterrupt):
        end(job)
    (event,) = runtime.routed()
    assert ["candidate"] == [run.variant for run in event.runs]


@pytest.mark.parametrize("strategy", [NEW, OLD], ids=["candidate", "control"])
@pytest.mark.parametrize("read", [map, Eager], ids=["an iterator", "a stream"])
def test_an_error_between_items_has_one_frame_of_each_function_on_its_way(strategy, read, runtime):
    def checked(item):
        if item == "third":
            raise ValueError(item)
        return item

    def model(x):
        items = map(checked, ["first", "second", "third"])
        return items if read is map else Passing(items)

    items = iter(both(model, model, runtime, strategy=strategy)("u"))
    assert ["first", "second"] == [next(items), next(items)]
    with pytest.raises(ValueError, match="third") as caught:
        next(items)
    names = [entry.name for entry in caught.traceback]
    assert ("checked", sorted(set(names))) == (names[-1], sorted(names))
    assert ["ValueError"] == [run.error for event in runtime.routed() for run in event.runs]


class Passing:
    """A stream that gives the iterator of another."""

    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return self.items

    def close(self):
        pass


@pytest.mark.parametrize("passed_on", [iter, lambda rows: filter(None, rows), lambda rows: Passing(iter(rows))])
def test_every_item_of_a_candidates_stream_is_the_callers_own_object(passed_on, runtime):
    rows = [{"id": number} for number in range(4)]
    served = list(both(lambda rows: iter(rows), lambda rows: passed_on(rows), runtime, isolate="deepcopy")(rows))
    assert [True] * 4 == [mine is theirs for mine, theirs in zip(rows, served, strict=True)]


def test_two_async_streams_read_by_turns_have_their_own_decisions_and_end_with_their_own_errors(runtime):
    class Items:
        def __init__(self, unit):
            self.unit, self.number = unit, 0

        def __aiter__(self):
            return self

        async def __anext__(self):
            self.number += 1
            if self.number > 3:
                raise KeyError(self.unit)
            return current_decision().id

    async def main():
        model = both(Items, Items, runtime, unit="unit")
        streams, found = [aiter(model(name)) for name in "ab"], []
        for _ in range(3):
            found.append([await anext(stream) for stream in streams])
        errors = []
        for stream in streams:
            with pytest.raises(KeyError) as caught:
                await anext(stream)
            errors.append(caught.value.args[0])
        return found, errors

    found, errors = asyncio.run(main())
    routed = runtime.routed()
    assert ([[event.decision.id for event in routed]] * 3, ["a", "b"]) == (found, errors)
    assert ["KeyError"] * 2 == [run.error for event in routed for run in event.runs]
