"""What a judge of streams and shadows needs: the first item, also of streams closed early, and the control's own run."""

import asyncio
import time
from contextlib import aclosing

import pytest

from rollout_sdk import ABTest, Interleave, Shadow, rollout
from tests.faults.kinds import KINDS, of_kind, read

LAG_S = 0.02


def slow(*n):
    time.sleep(LAG_S)
    yield 1
    time.sleep(LAG_S)
    yield 2


async def aslow(*n):
    await asyncio.sleep(LAG_S)
    yield 1
    await asyncio.sleep(LAG_S)
    yield 2


def made(candidate, control, runtime, **options):
    options = {"strategy": ABTest(1.0), "effects": "read", "key": "model", **options}
    return rollout(candidate=candidate, runtime=runtime, **options)(control)


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


# The first item --------------------------------------------------------------------------------------------------------------


def test_a_stream_that_its_caller_closes_after_the_first_item_counts_for_when_that_came(runtime):
    stream = made(slow, slow, runtime)(1)
    next(stream)
    stream.close()
    (event,) = runtime.routed()
    (run,) = event.runs
    assert event.closed_early
    assert LAG_S <= run.first_item_s <= run.duration_s < 2 * LAG_S


@pytest.mark.parametrize("deadline_s", [None, 5.0])
def test_so_does_an_async_generator(deadline_s, runtime):
    async def main():
        async with aclosing(made(aslow, aslow, runtime, deadline_s=deadline_s)(1)) as stream:
            await anext(stream)

    asyncio.run(main())
    (event,) = runtime.routed()
    assert event.closed_early
    assert LAG_S * 0.9 <= event.runs[0].first_item_s <= event.runs[0].duration_s < 30


@pytest.mark.parametrize("deadline_s", [None, 5.0])
def test_a_stream_whose_caller_leaves_before_the_first_item_has_none(deadline_s, runtime):
    async def never(n):
        await asyncio.sleep(60)
        yield 1

    async def main():
        stream = made(never, never, runtime, deadline_s=deadline_s)(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.01)

    asyncio.run(main())
    (event,) = runtime.routed()
    assert (True, None, None) == (event.closed_early, event.runs[0].first_item_s, event.runs[0].error)


def test_a_generator_that_is_interrupted_before_its_first_item_has_none(runtime):
    def interrupted(*n):
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        next(made(interrupted, slow, runtime)(1))
    (event,) = runtime.routed()
    assert (True, None) == (event.closed_early, event.runs[0].first_item_s)


@pytest.mark.parametrize("kind", ["generator", "async generator"])
def test_the_first_item_of_the_answering_run_is_its_own_after_a_fallback(kind, runtime, loop):
    def broken(n):
        raise ValueError

    read(kind, lambda: made(of_kind(kind, broken), of_kind(kind, lambda n: [n]), runtime)(1), loop)
    (event,) = runtime.routed()
    failed, answered = event.runs
    assert (None, True) == (failed.first_item_s, 0 <= answered.first_item_s <= answered.duration_s)


@pytest.mark.parametrize(("kind", "stream"), [("generator", slow), ("async generator", aslow)])
def test_runs_of_a_blend_tell_their_first_item(kind, stream, runtime, loop):
    read(kind, lambda: made(stream, stream, runtime, strategy=Interleave())(1), loop)
    (event,) = runtime.routed()
    assert {"control", "candidate"} == {run.variant for run in event.runs}
    assert all(LAG_S * 0.9 <= run.first_item_s <= run.duration_s - LAG_S * 0.9 for run in event.runs)


# Pairs -----------------------------------------------------------------------------------------------------------------------


def shadowed(kind, candidate, control, runtime, loop, wait_s=0.1, **options):
    model = made(candidate, control, runtime, strategy=Shadow(1.0), **options)

    async def wait():
        await asyncio.sleep(wait_s)

    answer = read(kind, lambda: model(1), loop)
    if "async" in kind or kind == "coroutine":
        loop.run_until_complete(wait())
    (event,) = runtime.shadowed()
    return answer, event


@pytest.mark.parametrize(("kind", "stream"), [("generator", slow), ("async generator", aslow)])
def test_a_shadow_of_a_stream_tells_its_first_item_and_the_controls(kind, stream, runtime, loop):
    _, event = shadowed(kind, stream, of_kind(kind, lambda n: [1, 2]), runtime, loop)
    assert ("ok", None) == (event.end, event.control_error)
    assert LAG_S * 0.9 <= event.first_item_s <= event.duration_s - LAG_S * 0.9
    assert 0 <= event.control_first_item_s <= event.control_duration_s < LAG_S


@pytest.mark.parametrize("kind", ["generator", "async generator"])
def test_a_shadow_that_gives_no_item_has_no_first_one(kind, runtime, loop):
    _, event = shadowed(kind, of_kind(kind, lambda n: []), of_kind(kind, lambda n: []), runtime, loop, wait_s=0.01)
    assert ("ok", None, None) == (event.end, event.first_item_s, event.control_first_item_s)
    assert 0 <= event.control_duration_s


@pytest.mark.parametrize("kind", KINDS)
def test_a_shadow_knows_how_the_control_did_in_the_same_call(kind, runtime, loop):
    def control(n):
        time.sleep(LAG_S)
        return [n]

    _, event = shadowed(kind, of_kind(kind, lambda n: [n]), of_kind(kind, control), runtime, loop, wait_s=0.01)
    assert (None, True) == (event.control_error, LAG_S <= event.control_duration_s)


@pytest.mark.parametrize("kind", KINDS)
def test_and_that_it_failed(kind, runtime, loop):
    def control(n):
        raise LookupError

    _, event = shadowed(kind, of_kind(kind, lambda n: [n]), of_kind(kind, control), runtime, loop, wait_s=0.01)
    assert ("ok", "LookupError", True) == (event.end, event.control_error, 0 <= event.control_duration_s)


def test_and_that_it_answered_a_failure_which_is_compared_all_the_same(runtime, loop):
    _, event = shadowed("function", lambda n: 200, lambda n: 500, runtime, loop, failed_if=lambda answer: answer >= 500)
    assert ("ok", "failed_if", False) == (event.end, event.control_error, event.comparison.match)


def test_nothing_is_known_of_a_control_that_its_caller_left(runtime, loop):
    model = made(slow, slow, runtime, strategy=Shadow(1.0))
    stream = model(1)
    next(stream)
    stream.close()
    (event,) = runtime.shadowed()
    assert (None, None, None) == (event.control_error, event.control_duration_s, event.control_first_item_s)


def test_nothing_is_known_of_the_control_where_the_shadow_was_dropped_before_it_ran(watch):
    runtime = watch(shadows={"max_jobs": 0})
    made(lambda n: n, lambda n: n, runtime, strategy=Shadow(1.0))(1)
    (event,) = runtime.shadowed()
    assert ("dropped_full", None) == (event.end, event.control_duration_s)


def test_a_shadow_that_times_out_is_paired_as_well(watch):
    runtime = watch(shadows={"timeout_s": 0.05})
    made(lambda n: time.sleep(0.5), lambda n: n, runtime, strategy=Shadow(1.0))(1)
    time.sleep(0.2)
    (event,) = runtime.shadowed()
    assert ("timeout", None, True) == (event.end, event.control_error, event.control_duration_s is not None)


def test_each_row_of_a_batch_is_paired_with_the_run_of_the_control_that_answered_it(runtime):
    model = made(lambda rows: rows, lambda rows: [None, *rows[1:]], runtime, batch="rows", failed_if=lambda row: row is None,
                 strategy=Shadow(1.0))  # fmt: skip
    model([1, 2, 3])
    events = runtime.shadowed()
    assert ["failed_if", None, None] == [event.control_error for event in events]
    (measured,) = {run.duration_s for event in runtime.routed() for run in event.runs}
    assert [measured] * 3 == [event.control_duration_s for event in events]
