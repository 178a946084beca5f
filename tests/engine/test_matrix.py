"""Four kinds of functions under four strategies: the right value, once recorded, and the function still looks like itself."""

import asyncio
import inspect
from functools import partial

import pytest

from rollout_sdk import ABTest, Canary, Interleave, Shadow, rollout

OLD, NEW = ["a", "b", "c"], ["a", "c", "b"]
KINDS = ["function", "coroutine", "generator", "async generator"]
STRATEGIES = {"ab": ABTest(1.0), "canary": Canary(["100%"]), "interleave": Interleave(), "shadow": Shadow(1.0)}
ANSWERED_BY = {"ab": "candidate", "canary": "candidate", "interleave": "interleaved", "shadow": "control"}


def model(kind, items, seen=None):
    """A model of a kind that gives these items; notes in `seen` what becomes of a stream."""
    seen = [] if seen is None else seen

    def function(user: str) -> list[str]:
        """Rank."""
        return list(items)

    async def coroutine(user: str) -> list[str]:
        """Rank."""
        await asyncio.sleep(0)
        return list(items)

    def generator(user: str) -> list[str]:
        """Rank."""
        try:
            yield from items
        finally:
            seen.append("closed")

    async def async_generator(user: str) -> list[str]:
        """Rank."""
        try:
            for item in items:
                await asyncio.sleep(0)
                yield item
        finally:
            seen.append("closed")

    return {"function": function, "coroutine": coroutine, "generator": generator, "async generator": async_generator}[kind]


async def whole(kind, called):
    if kind == "coroutine":
        return await called
    if kind == "generator":
        return list(called)
    if kind == "async generator":
        return [item async for item in called]
    return called


def decorated(kind, strategy, runtime, seen=None):
    decorate = rollout(
        candidate=model(kind, NEW),
        strategy=STRATEGIES[strategy],
        effects="read",
        unit="user",
        key=f"{kind}.{strategy}",
        runtime=runtime,
    )
    return decorate(model(kind, OLD, seen))


def run(work):
    """Run a coroutine, and let shadows on its loop end."""

    async def patient():
        result = await work
        for _ in range(50):
            await asyncio.sleep(0)
        return result

    return asyncio.run(patient())


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_right_value_is_served_and_recorded_once(kind, strategy, runtime):
    rank = decorated(kind, strategy, runtime)
    value = run(whole(kind, rank("u")))
    (event,) = runtime.routed()
    expected = {"ab": [NEW], "canary": [NEW], "shadow": [OLD], "interleave": [["a", "b", "c"], ["a", "c", "b"]]}[strategy]
    assert value in expected
    assert ANSWERED_BY[strategy] == event.decision.variant == event.served
    assert (strategy, None, False, False) == (event.decision.strategy, event.error, event.closed_early, event.excluded)
    ends = [(shadow.variant, shadow.end, shadow.comparison.match) for shadow in runtime.shadowed()]
    assert ([("candidate", "ok", False)] if strategy == "shadow" else []) == ends
    if strategy == "interleave":
        assert 3 == len(event.items) == len(event.teams)
        assert {"control", "candidate"} == {run.variant for run in event.runs}


@pytest.mark.parametrize("kind", KINDS)
def test_the_function_keeps_its_looks(kind, runtime):
    rank, bare = decorated(kind, "ab", runtime), model(kind, OLD)
    for look in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction, inspect.signature):
        assert look(bare) == look(rank)
    assert (bare.__name__, bare.__qualname__, bare.__doc__, bare.__annotations__) == (
        rank.__name__, rank.__qualname__, rank.__doc__, rank.__annotations__,
    )  # fmt: skip


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("kind", KINDS)
def test_route_gives_the_value_with_its_decision(kind, strategy, runtime):
    async def work():
        rank = decorated(kind, strategy, runtime)
        routed = rank.rollout.route("u")
        if kind == "coroutine":
            routed = await routed
            return routed.decision, routed.value
        return routed.decision, await whole(kind, routed.value)

    decision, value = run(work())
    (event,) = runtime.routed()
    assert event.decision == decision
    assert set(OLD) == set(value)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("kind", ["generator", "async generator"])
def test_a_stream_closed_early_is_recorded_once_and_closes_the_model(kind, strategy, runtime):
    seen = []

    async def work():
        stream = decorated(kind, strategy, runtime, seen)("u")
        if kind == "generator":
            first = next(stream)
            stream.close()
        else:
            first = await anext(stream)
            await stream.aclose()
        return first

    assert run(work()) == "a"
    (event,) = runtime.routed()
    assert (True, None) == (event.closed_early, event.error)
    assert seen == (["closed"] if strategy in ("interleave", "shadow") else [])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_cancelled_coroutine_stays_cancelled_and_nothing_answers_in_its_place(strategy, runtime):
    started = []

    async def slow(user):
        started.append(user)
        await asyncio.sleep(30)

    rank = rollout(candidate=slow, strategy=STRATEGIES[strategy], effects="read", unit="user", key=strategy, runtime=runtime)(
        slow
    )

    async def work():
        task = asyncio.create_task(rank("u"))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return task.cancelled(), len(started)

    expected = {"ab": 1, "canary": 1, "interleave": 2, "shadow": 1}[strategy]
    cancelled, runs = asyncio.run(work())
    assert (True, expected) == (cancelled, runs)
    (event,) = runtime.routed()
    assert (True, None) == (event.closed_early, event.error)


def test_methods_static_and_class_methods_work_in_both_orders(runtime):
    decorate = lambda name, candidate: rollout(candidate=candidate, strategy=ABTest(1.0), key=name, runtime=runtime)

    class Ranker:
        bias = 10

        def new(self, x):
            return self.bias + x

        @decorate("method", new)
        def old(self, x):
            return x

        @decorate("static-inner", lambda x: x + 1)
        @staticmethod
        def static_inner(x):
            return x

        @staticmethod
        @decorate("static-outer", lambda x: x + 2)
        def static_outer(x):
            return x

        @decorate("class-inner", lambda cls, x: cls.bias + x + 1)
        @classmethod
        def class_inner(cls, x):
            return x

        @classmethod
        @decorate("class-outer", lambda cls, x: cls.bias + x + 2)
        def class_outer(cls, x):
            return x

    ranker = Ranker()
    got = [ranker.old(1), ranker.static_inner(1), Ranker.static_outer(1), ranker.class_inner(1), Ranker.class_outer(x=1)]
    assert [11, 2, 3, 12, 13] == got
    assert "method" == ranker.old.rollout.key


def test_partials_callable_objects_and_builtins_can_be_controls_and_candidates(runtime):
    class Model:
        def __call__(self, x):
            return x * 2

    class AsyncModel:
        async def __call__(self, x):
            return x * 3

    def power(base, x):
        return x**base

    decorate = lambda name, candidate: rollout(candidate=candidate, strategy=ABTest(1.0), key=name, runtime=runtime)
    assert 10 == decorate("object", Model())(partial(power, 2))(5)
    assert 25 == decorate("partial", partial(power, 2))(Model())(5)
    assert 15 == asyncio.run(decorate("async object", AsyncModel())(AsyncModel())(5))
    assert 3 == decorate("builtin", len)(len)([1, 2, 3])


def test_a_partial_and_an_object_lend_their_names(runtime):
    class Model:
        """A model."""

        def __call__(self, x):
            return x

    def score(base, x):
        return x

    by_object = rollout(candidate=lambda x: x, strategy=ABTest(0.5), runtime=runtime)(Model())
    by_partial = rollout(candidate=lambda x: x, strategy=ABTest(0.5), runtime=runtime)(partial(score, 1))
    assert by_object.rollout.key.endswith("Model")
    assert by_partial.rollout.key.endswith("score")
    assert ["x"] == list(inspect.signature(by_partial).parameters)
