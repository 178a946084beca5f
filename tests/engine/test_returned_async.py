"""Coroutines and async generators that are returned are measured, fall back and are recorded as of functions of their kind."""

import asyncio
import functools
import inspect

import pytest

from rollout_sdk import ABTest, Breaker, Shadow, rollout

NEW = ABTest(1.0)


def both(control, candidate, runtime, *, strategy=NEW, key="model", **options):
    return rollout(candidate=candidate, strategy=strategy, key=key, runtime=runtime, **options)(control)


def plain(function):
    """The classic decorator for plain functions, which hides what a function is."""

    @functools.wraps(function)
    def wrapped(n):
        return function(n)

    del wrapped.__wrapped__
    return wrapped


async def items(n):
    for i in range(n):
        yield i


async def gives_items(n):
    return items(n)


async def broken(n):
    raise ConnectionError("429")
    yield


async def gives_broken(n):
    return broken(n)


async def breaks_later(n):
    yield "new"
    raise ConnectionError("429")


async def gives_breaks_later(n):
    return breaks_later(n)


async def answer(n):
    await asyncio.sleep(0)
    return n


async def fails(n):
    await asyncio.sleep(0)
    raise ConnectionError("429")


async def collected(stream):
    stream = await stream if inspect.isawaitable(stream) else stream
    return [item async for item in stream]


kinds = pytest.mark.parametrize(
    ("good", "before", "after"),
    [(plain(items), plain(broken), plain(breaks_later)), (gives_items, gives_broken, gives_breaks_later)],
    ids=["plain function", "coroutine function"],
)


@kinds
def test_a_returned_async_generator_is_passed_on_and_measured(runtime, good, before, after):
    model = both(before, good, runtime)
    assert [0, 1, 2] == asyncio.run(collected(model(3)))
    (event,) = runtime.routed()
    (run,) = event.runs
    assert ("candidate", None, False) == (run.variant, run.error, event.closed_early)
    assert 0 < run.first_item_s <= run.duration_s < 30


@kinds
def test_an_error_before_the_first_item_falls_back(runtime, good, before, after):
    model = both(good, before, runtime, breaker=Breaker(min_runs=3))

    async def main():
        return [await collected(model(2)) for _ in range(6)]

    assert [[0, 1]] * 6 == asyncio.run(main())
    events = runtime.routed()
    assert [("candidate", "ConnectionError"), ("control", None)] == [(run.variant, run.error) for run in events[0].runs]
    assert [None] * 3 + ["breaker_open"] * 3 == [event.withheld for event in events]


@kinds
def test_an_error_after_the_first_item_is_the_callers(runtime, good, before, after):
    with pytest.raises(ConnectionError) as caught:
        asyncio.run(collected(both(good, after, runtime)(2)))
    assert caught.value.__context__ is None
    (event,) = runtime.routed()
    assert ("candidate", "ConnectionError") == (event.served, event.error)


@kinds
def test_a_closed_stream_is_recorded_as_closed_early(runtime, good, before, after):
    async def main():
        stream = both(before, good, runtime)(3)
        stream = await stream if inspect.isawaitable(stream) else stream
        assert inspect.isasyncgen(stream)
        assert 0 == await anext(stream)
        await stream.aclose()

    asyncio.run(main())
    (event,) = runtime.routed()
    assert (True, None) == (event.closed_early, event.error)


@kinds
def test_where_the_control_returns_no_stream_the_candidates_error_is_the_callers(runtime, good, before, after):
    async def seventeen(n):
        return 17

    control = (lambda n: 17) if not inspect.iscoroutinefunction(good) else seventeen
    with pytest.raises(ConnectionError):
        asyncio.run(collected(both(control, before, runtime)(3)))
    (event,) = runtime.routed()
    assert ["ConnectionError", None] == [run.error for run in event.runs]
    assert "ConnectionError" == event.error


def test_a_returned_coroutine_is_awaited_measured_and_falls_back(runtime):
    model = both(plain(answer), plain(fails), runtime)
    good = both(plain(fails), plain(answer), runtime, key="good")

    async def main():
        waiting = good(1)
        assert inspect.iscoroutine(waiting)
        assert waiting.__qualname__ == "answer"
        return [await model(7), await asyncio.create_task(model(8)), await waiting]

    assert [7, 8, 1] == asyncio.run(main())
    *fallen, fine = runtime.routed()
    runs = [("candidate", "ConnectionError"), ("control", None)]
    assert [runs] * 2 == [[(run.variant, run.error) for run in event.runs] for event in fallen]
    assert ("candidate", None) == (fine.served, fine.error)


def test_the_control_may_return_an_answer_in_place_of_a_coroutine(runtime):
    assert 17 == asyncio.run(_await(both(lambda n: 17, plain(fails), runtime)(1)))


async def _await(waiting):
    return await waiting


def test_a_cancelled_caller_is_cancelled_and_its_call_closed_early(runtime):
    async def forever(n):
        await asyncio.sleep(60)

    async def main():
        task = asyncio.create_task(both(plain(forever), plain(forever), runtime)(1))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    (event,) = runtime.routed()
    assert (True, None) == (event.closed_early, event.error)


def test_a_coroutine_that_was_not_begun_when_it_was_aborted_is_never_begun(runtime):
    ran = []

    async def new(n):
        ran.append(n)

    async def main():
        model = both(plain(answer), plain(new), runtime)
        waiting = model(7)
        model.rollout.abort(actor="test", reason="test")
        return await waiting

    assert 7 == asyncio.run(main())
    assert [] == ran
    assert ["aborted"] == [event.withheld for event in runtime.routed()]


def test_one_deadline_holds_for_the_coroutine_and_its_first_item(runtime):
    async def slow(n):
        await asyncio.sleep(60)
        yield

    async def new(n):
        return slow(n)

    model = both(gives_items, new, runtime, deadline_s=0.02)
    assert [0, 1] == asyncio.run(collected(model(2)))
    assert "DeadlineError" == runtime.routed()[0].runs[0].error


def test_a_shadowed_async_generator_is_compared_as_a_whole(runtime):
    same = both(gives_items, gives_items, runtime, strategy=Shadow(1.0), effects="read")
    bad = both(gives_items, gives_breaks_later, runtime, strategy=Shadow(1.0), effects="read", key="bad")

    async def main():
        assert [0, 1] == await collected(same(2)) == await collected(bad(2))
        await asyncio.sleep(0.1)

    asyncio.run(main())
    by_key = {event.decision.rollout: event for event in runtime.shadowed()}
    assert ("ok", True) == (by_key["model"].end, by_key["model"].comparison.match)
    assert ("error", "ConnectionError") == (by_key["bad"].end, by_key["bad"].error)


@kinds
def test_when_both_fail_before_the_first_item_the_caller_gets_the_controls_own_exception(good, before, after, runtime):
    mine = LookupError("the control's")

    async def fails_too(n):
        raise mine
        yield

    async def gives_fails_too(n):
        return fails_too(n)

    control = gives_fails_too if inspect.iscoroutinefunction(good) else plain(fails_too)
    with pytest.raises(LookupError) as caught:
        asyncio.run(collected(both(control, before, runtime)(1)))
    assert caught.value is mine
    (event,) = runtime.routed()
    assert [("candidate", "ConnectionError"), ("control", "LookupError")] == [(run.variant, run.error) for run in event.runs]


@kinds
def test_when_the_control_fails_without_a_stream_the_caller_gets_its_exception(good, before, after, runtime):
    mine = LookupError("the control's")

    async def raises(n):
        raise mine

    def raises_at_once(n):
        raise mine

    control = raises if inspect.iscoroutinefunction(good) else raises_at_once
    with pytest.raises(LookupError) as caught:
        asyncio.run(collected(both(control, before, runtime)(1)))
    assert caught.value is mine
