"""A decorated stream cannot be told from the bare one, whatever its consumer does."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_sdk import ABTest, Runtime, Shadow, rollout

RUNTIME = Runtime()


def bare(log):
    """A model that answers what it is sent, survives one ValueError, and ends on 'stop'."""
    try:
        received = yield "ready"
        while received != "stop":
            try:
                received = yield ("got", received)
            except ValueError as error:
                log.append("survived")
                received = str(error)
        return "done"
    finally:
        log.append("closed")


async def abare(log):
    try:
        received = yield "ready"
        while received != "stop":
            try:
                received = yield ("got", received)
            except ValueError as error:
                log.append("survived")
                received = str(error)
    finally:
        log.append("closed")


actions = st.lists(
    st.one_of(
        st.just(("next",)),
        st.tuples(st.just("send"), st.sampled_from([None, 1, "x", "stop"])),
        st.tuples(st.just("throw"), st.sampled_from([ValueError, KeyError, KeyboardInterrupt])),
        st.just(("close",)),
    ),
    max_size=8,
)


def outcome(action):
    try:
        return ("value", action())
    except StopIteration as stop:
        return ("end", stop.value)
    except BaseException as error:
        return (type(error), str(error), type(error.__context__))


def trace(function, steps):
    log = []
    stream = function(log)
    done = []
    for step in steps:
        if step[0] == "next":
            done.append(outcome(lambda: next(stream)))
        elif step[0] == "send":
            done.append(outcome(lambda step=step: stream.send(step[1])))
        elif step[0] == "throw":
            done.append(outcome(lambda step=step: stream.throw(step[1]("thrown"))))
        else:
            done.append(outcome(stream.close))
    stream.close()
    return done, log


async def atrace(function, steps):
    log = []
    stream = function(log)
    done = []

    async def outcome_of(awaitable):
        try:
            return ("value", await awaitable)
        except StopAsyncIteration:
            return ("end",)
        except BaseException as error:
            return (type(error), str(error), type(error.__context__))

    for step in steps:
        if step[0] == "next":
            done.append(await outcome_of(anext(stream)))
        elif step[0] == "send":
            done.append(await outcome_of(stream.asend(step[1])))
        elif step[0] == "throw":
            done.append(await outcome_of(stream.athrow(step[1]("thrown"))))
        else:
            done.append(await outcome_of(stream.aclose()))
    await stream.aclose()
    return done, log


def decorated(function, strategy, name):
    return rollout(candidate=function, strategy=strategy, key=name, isolate="none", runtime=RUNTIME)(function)


@pytest.mark.parametrize("strategy", [ABTest(1.0), ABTest(0.0)], ids=["candidate", "control"])
@settings(deadline=None, max_examples=150)
@given(steps=actions)
def test_a_generator_answers_every_sequence_of_calls_as_the_bare_one(strategy, steps):
    assert trace(bare, steps) == trace(decorated(bare, strategy, f"sync {strategy.shares}"), steps)


@pytest.mark.parametrize("strategy", [ABTest(1.0), ABTest(0.0)], ids=["candidate", "control"])
@settings(deadline=None, max_examples=150)
@given(steps=actions.filter(lambda steps: not any(KeyboardInterrupt in step for step in steps)))
def test_an_async_generator_answers_every_sequence_of_calls_as_the_bare_one(strategy, steps):
    plain = asyncio.run(atrace(abare, steps))
    assert plain == asyncio.run(atrace(decorated(abare, strategy, f"async {strategy.shares}"), steps))


def test_a_stream_that_failed_before_its_first_item_falls_back(runtime):
    def broken(n):
        raise ValueError
        yield

    @rollout(candidate=broken, strategy=ABTest(1.0), runtime=runtime)
    def stream(n):
        yield from range(n)

    assert [0, 1, 2] == list(stream(3))
    (event,) = runtime.routed()
    assert ("candidate", "control", None) == (event.decision.variant, event.served, event.error)
    assert [("candidate", "ValueError"), ("control", None)] == [(run.variant, run.error) for run in event.runs]


def test_a_stream_that_failed_after_its_first_item_fails_for_the_caller_too(runtime):
    def broken(n):
        yield 0
        raise ValueError("late")

    @rollout(candidate=broken, strategy=ABTest(1.0), runtime=runtime)
    def stream(n):
        yield from range(n)

    got = []
    with pytest.raises(ValueError, match="late"):
        got.extend(stream(3))
    (event,) = runtime.routed()
    assert ("candidate", "ValueError") == (event.served, event.error)


def test_the_time_to_the_first_item_is_recorded(runtime):
    def other(n):
        yield 1

    @rollout(candidate=other, strategy=ABTest(0.0), runtime=runtime)
    def stream(n):
        yield from range(n)

    list(stream(2))
    (run,) = runtime.routed()[0].runs
    assert 0 < run.first_item_s <= run.duration_s


def test_a_shadowed_stream_is_compared_as_a_whole(runtime):
    def other(n):
        yield from range(n)

    @rollout(candidate=other, strategy=Shadow(1.0), runtime=runtime)
    def stream(n):
        yield from range(n)

    assert [0, 1, 2] == list(stream(3))
    (event,) = runtime.shadowed()
    assert ("ok", True) == (event.end, event.comparison.match)


def test_a_stream_longer_than_what_is_kept_is_not_compared(watch):
    runtime = watch(shadows={"kept_items": 2})

    def other(n):
        yield from range(n)

    @rollout(candidate=other, strategy=Shadow(1.0), runtime=runtime)
    def stream(n):
        yield from range(n)

    assert 3 == len(list(stream(3)))
    (event,) = runtime.shadowed()
    assert ("ok", None) == (event.end, event.comparison)
