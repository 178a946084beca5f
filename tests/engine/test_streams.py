"""A stream falls back before its first item and never after it, and is recorded and compared as a whole."""

import asyncio
import gc
import weakref

import pytest

from rollout_sdk import ABTest, Shadow, rollout


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
    assert 0 < run.first_item_s <= run.duration_s < 30


def test_a_shadowed_stream_is_compared_as_a_whole(runtime):
    def other(n):
        yield from range(n)

    @rollout(candidate=other, strategy=Shadow(1.0), effects="read", runtime=runtime)
    def stream(n):
        yield from range(n)

    assert [0, 1, 2] == list(stream(3))
    (event,) = runtime.shadowed()
    assert ("ok", True) == (event.end, event.comparison.match)


def test_a_stream_longer_than_what_is_kept_is_not_compared(watch):
    runtime = watch(shadows={"kept_items": 2})

    def other(n):
        yield from range(n)

    @rollout(candidate=other, strategy=Shadow(1.0), effects="read", runtime=runtime)
    def stream(n):
        yield from range(n)

    assert 3 == len(list(stream(3)))
    (event,) = runtime.shadowed()
    assert ("ok", None) == (event.end, event.comparison)


class Prompt:
    """Something large, which a model lets go of when it has read it."""


def reads(prompt):
    del prompt
    yield from range(3)


async def reads_async(prompt):
    del prompt
    for number in range(3):
        yield number


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_once_no_fallback_is_possible_a_prompt_is_not_kept(share, runtime):
    options = {"strategy": ABTest(share), "runtime": runtime}
    stream = rollout(candidate=reads, key="stream", **options)(reads)
    stream_async = rollout(candidate=reads_async, key="async", **options)(reads_async)

    async def first_of_async(prompt):
        items = stream_async(prompt)
        return await anext(items), items

    gc.disable()
    try:
        prompt, other = Prompt(), Prompt()
        alive = [weakref.ref(prompt), weakref.ref(other)]
        items = stream(prompt)
        assert 0 == next(items)
        with asyncio.Runner() as runner:
            first, items_async = runner.run(first_of_async(other))
            del prompt, other
            assert (0, [None, None]) == (first, [each() for each in alive])
            runner.run(items_async.aclose())
        items.close()
    finally:
        gc.enable()
