"""A blended call never costs the caller what the bare control would have given."""

import asyncio
import logging
from collections import Counter

import pytest

from rollout_sdk import ABTest, Interleave, Merged, rollout


def blended(control, candidate, runtime, *, strategy=None, **options):
    strategy = Interleave() if strategy is None else strategy
    return rollout(candidate=candidate, strategy=strategy, effects="read", key="blend", runtime=runtime, **options)(control)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_while_a_candidate_ranks_reaches_the_caller(error, runtime):
    def fail(x):
        raise error

    candidates = {"v2": fail, "v3": lambda x: [2, 1]}
    with pytest.raises(error):
        rollout(candidates=candidates, strategy=Interleave(), key="three", runtime=runtime)(lambda x: [1, 2])(0)
    (event,) = runtime.routed()
    assert (True, None, True) == (event.closed_early, event.error, event.excluded)
    assert {} == runtime.faults


def test_when_the_control_fails_no_candidate_is_asked(runtime):
    ran = []

    def control(x):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as caught:
        blended(control, lambda x: ran.append(x), runtime)(0)
    assert ([], None) == (ran, caught.value.__context__)
    assert [["control"]] == [[run.variant for run in event.runs] for event in runtime.routed()]


def test_when_the_control_fails_no_candidate_is_waited_for(runtime):
    async def control(x):
        await asyncio.sleep(0)
        raise ValueError("mine")

    async def candidate(x):
        await asyncio.sleep(30)

    async def serve():
        with pytest.raises(ValueError, match="mine"):
            await asyncio.wait_for(blended(control, candidate, runtime)(0), 5)

    asyncio.run(serve())


def test_a_cancelled_caller_is_not_held_by_a_candidate_that_does_not_obey(runtime):
    async def control(x):
        await asyncio.sleep(30)

    async def candidate(x):
        for _ in range(4):
            try:
                await asyncio.sleep(0.2)
            except asyncio.CancelledError:
                continue

    async def serve():
        task = asyncio.create_task(blended(control, candidate, runtime)(0))
        await asyncio.sleep(0.01)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=0.5)
        return bool(done) and task.cancelled()

    assert asyncio.run(serve())


def test_a_caller_cancelled_while_only_candidates_still_run_is_cancelled(runtime):
    ended = []

    async def control(x):
        return [1]

    async def candidate(x):
        try:
            await asyncio.sleep(30)
        finally:
            ended.append("candidate")

    async def serve():
        task = asyncio.create_task(blended(control, candidate, runtime)(0))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        return ended

    assert ["candidate"] == asyncio.run(serve())
    assert [True] == [event.closed_early for event in runtime.routed()]


@pytest.mark.parametrize("began", [True, False])
def test_a_candidate_that_somebody_else_cancels_has_failed(began, runtime):
    async def control(x):
        if began:
            await asyncio.sleep(0)
        (other,) = asyncio.all_tasks() - {asyncio.current_task()}
        other.cancel()
        return [1]

    async def candidate(x):
        await asyncio.sleep(30)

    assert [1] == asyncio.run(blended(control, candidate, runtime)(0))
    (event,) = runtime.routed()
    assert (True, None, False) == (event.excluded, event.error, event.closed_early)


def test_a_ranker_that_sorts_in_place_sorts_its_own_copy(runtime):
    def control(items):
        items.sort()
        return items

    def candidate(items):
        items.sort(reverse=True)
        return items

    items = [2, 3, 1]
    answer = blended(control, candidate, runtime)(items)
    assert [1, 2, 3] == items == sorted(answer)
    (event,) = runtime.routed()
    assert {"control", "candidate"} >= set(event.teams) - {None}
    assert "candidate" in event.teams


def test_what_cannot_be_copied_is_shared_by_the_rankers(runtime):
    class Request:
        pass

    seen = []
    request = Request()
    blended(lambda request: [1], lambda request: seen.append(request) or [1], runtime)(request)
    assert seen[0] is request
    assert {} == runtime.faults


def test_what_can_be_read_only_once_is_the_controls(runtime):
    ran = []
    model = blended(lambda items: list(items), lambda items: ran.append(items) or [1], runtime)
    assert [1, 2, 3] == model(iter([1, 2, 3]))
    (event,) = runtime.routed()
    assert ([], "control", "one_shot") == (ran, event.served, event.decision.reason)
    assert {} == runtime.faults


def merging(merged):
    class Merging(Interleave):
        def rollout_merge(self, request, outputs):
            return merged

    return Merging()


@pytest.mark.parametrize("merged", ["no answer", Merged(None, items=5), [1]], ids=["text", "items", "list"])
def test_a_merge_that_gives_nonsense_leaves_the_controls_list(merged, runtime):
    assert [1, 2] == blended(lambda x: [1, 2], lambda x: [2, 1], runtime, strategy=merging(merged))(0)
    (event,) = runtime.routed()
    assert ("control", True, ()) == (event.served, event.excluded, event.items)
    assert runtime.faults


@pytest.mark.parametrize("merged", [Merged(5), "no answer"], ids=["no list", "text"])
@pytest.mark.parametrize("kind", ["generator", "async generator"])
def test_a_stream_whose_merge_gives_nonsense_is_the_controls(kind, merged, runtime):
    assert [1, 2] == read(kind, *streams(kind, [1, 2], [2, 1]), runtime, strategy=merging(merged))
    (event,) = runtime.routed()
    assert ("control", True) == (event.served, event.excluded)


def streams(kind, control, candidate):
    """A control and a candidate that give these items; an exception among them is raised."""

    def make(items):
        def generator(x):
            for item in items:
                if isinstance(item, BaseException):
                    raise item
                yield item
            return "returned"

        async def async_generator(x):
            for item in items:
                await asyncio.sleep(0)
                if isinstance(item, BaseException):
                    raise item
                yield item

        return {"generator": generator, "async generator": async_generator}[kind]

    return make(control), make(candidate)


def read(kind, control, candidate, runtime, got=None, **options):
    """The items of the blended stream."""
    got = [] if got is None else got
    stream = blended(control, candidate, runtime, **options)(0)
    if kind == "generator":
        got.extend(item for item in iter(stream.__next__, object()))
        return got

    async def whole():
        async for item in stream:
            got.append(item)

    asyncio.run(whole())
    return got


@pytest.mark.parametrize("kind", ["generator", "async generator"])
def test_a_stream_whose_control_breaks_off_gives_what_came_before_that(kind, runtime):
    error = ValueError("broke off")
    control, candidate = streams(kind, [1, 2, error], [2, 1])
    got = []
    with pytest.raises(ValueError) as caught:
        read(kind, control, candidate, runtime, got)
    assert ([1, 2], True) == (got, caught.value is error)
    assert error.__context__ is None
    (event,) = runtime.routed()
    assert ("ValueError", "control", True) == (event.error, event.served, event.excluded)


@pytest.mark.parametrize("kind", ["generator", "async generator"])
def test_a_stream_whose_candidate_fails_is_the_controls(kind, runtime):
    keeping = []

    def keep_returned(stream):
        keeping.append((yield from stream))

    control, candidate = streams(kind, [1, 2], [ValueError()])
    if kind == "generator":
        assert [1, 2] == list(keep_returned(blended(control, candidate, runtime)(0)))
        assert ["returned"] == keeping
    else:
        assert [1, 2] == read(kind, control, candidate, runtime)
    assert [("control", True)] == [(event.served, event.excluded) for event in runtime.routed()]


def test_a_blended_answer_is_not_kept(runtime):
    model = blended(lambda x: [1, 2], lambda x: [2, 1], runtime)
    model(0)
    from rollout_sdk.engine.current import current_call

    assert None is current_call.get().merged.value


def test_several_candidates_are_blended_and_one_that_fails_leaves_the_control(runtime):
    def fail(x):
        raise ValueError

    candidates = {"v2": lambda x: [2, 1, 3], "v3": lambda x: [3, 1, 2]}
    model = rollout(candidates=candidates, strategy=Interleave(), key="three", runtime=runtime)(lambda x: [1, 2, 3])
    assert [1, 2, 3] == sorted(model(0))
    model = rollout(candidates={**candidates, "v3": fail}, strategy=Interleave(), key="two", runtime=runtime)(lambda x: [1, 2])
    assert [1, 2] == model(0)
    runs = Counter(run.variant for event in runtime.routed() for run in event.runs)
    assert Counter(control=2, v2=2, v3=2) == runs


def test_an_async_stream_that_the_loop_closes_is_closed_once(runtime, caplog):
    seen = []

    async def model(x):
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            seen.append("closed")

    stream = rollout(candidate=model, strategy=ABTest(1.0), key="left open", runtime=runtime)(model)(0)

    async def serve():
        return await anext(stream)

    with caplog.at_level(logging.WARNING):
        assert 1 == asyncio.run(serve())
    assert (["closed"], []) == (seen, caplog.records)
    assert [True] == [event.closed_early for event in runtime.routed()]
