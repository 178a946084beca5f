"""What a shadow must not do, what a candidate must not change, and what has no effects twice."""

import asyncio
import contextvars
import inspect
import threading

import pytest

from rollout_sdk import (
    ABTest,
    Canary,
    ConfigurationError,
    Decision,
    Interleave,
    MutationError,
    Shadow,
    ShadowEffectError,
    rollout,
    shadow_guard,
)


def both(control, candidate, runtime, *, strategy=ABTest(1.0), **options):
    return rollout(candidate=candidate, strategy=strategy, key="model", runtime=runtime, **options)(control)


# Effects ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [Shadow(0.1), ABTest(0.5, shadow=0.1), Canary(["5%"], shadow=1.0)], ids=repr)
@pytest.mark.parametrize("effects", ["unknown", "write"])
def test_what_is_not_declared_to_change_nothing_is_not_shadowed(strategy, effects, runtime):
    with pytest.raises(ConfigurationError, match="set effects='read'"):
        both(lambda x: x, lambda x: x, runtime, strategy=strategy, effects=effects, on_error="raise")


@pytest.mark.parametrize("strategy", [Shadow(0), ABTest(0.5), Canary(["5%"]), Interleave()], ids=repr)
def test_what_shadows_nothing_needs_no_declaration(strategy, runtime):
    both(lambda x: x, lambda x: x, runtime, strategy=strategy)


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"effects": "write"}, "Set on_error='raise'"),
        ({"effects": "write", "on_error": "raise", "strategy": Interleave()}, "Use another strategy"),
        ({"effects": "none"}, "must be one of: unknown, read, write"),
    ],
)
def test_what_writes_runs_once_for_a_call(options, cure, runtime):
    with pytest.raises(ConfigurationError, match=cure):
        both(lambda x: x, lambda x: x, runtime, **options)


def test_what_writes_may_be_split(runtime):
    assert "new" == both(lambda x: "old", lambda x: "new", runtime, effects="write", on_error="raise")(1)


class Sneaky:
    """Decides what its function was not declared for."""

    name = "sneaky"

    def __init__(self, **decision):
        self.decision = decision

    def rollout_route(self, request):
        return Decision(request.control, **self.decision)


def test_a_strategy_cannot_shadow_what_was_not_declared(runtime):
    ran = []
    model = both(lambda x: x, lambda x: ran.append(x), runtime, strategy=Sneaky(shadows=("candidate",)))
    assert [1, 2, 3] == [model(x) for x in (1, 2, 3)]
    assert [] == runtime.shadowed() == ran
    assert 3 == model.rollout.status().faults["effects", "PermissionError"]


def test_a_strategy_cannot_blend_what_writes(runtime):
    ran = []
    model = both(
        lambda x: [x],
        lambda x: ran.append(x),
        runtime,
        strategy=Sneaky(blend=("control", "candidate")),
        effects="write",
        on_error="raise",
    )
    assert [1] == model(1)
    assert [] == ran


# shadow_guard -------------------------------------------------------------------------------------------------------------


def test_a_guarded_write_raises_inside_a_shadow_and_nowhere_else(runtime):
    written = []

    @shadow_guard
    def write(x, *, by="model"):
        """Writes."""
        written.append(x)
        return by

    def new(x):
        return write(x)

    assert ("model", "Writes.", "write") == (write(1), write.__doc__, write.__name__)
    model = both(lambda x: write(x, by="control"), new, runtime, strategy=Shadow(1.0), effects="read")
    assert "control" == model(2)
    assert [("error", "ShadowEffectError")] == [(event.end, event.error) for event in runtime.shadowed()]
    assert [1, 2] == written


def test_a_guarded_coroutine_function_stays_one(runtime):
    @shadow_guard
    async def write(x):
        return x

    async def model(x):
        return await write(x)

    async def main():
        answer = await both(model, model, runtime, strategy=Shadow(1.0), effects="read")(3)
        for _ in range(20):
            await asyncio.sleep(0)
        return answer

    assert inspect.iscoroutinefunction(write)
    assert 3 == asyncio.run(main())
    assert ["ShadowEffectError"] == [event.error for event in runtime.shadowed()]


def test_a_thread_of_a_shadow_that_has_its_context_is_guarded(runtime):
    refused = []

    @shadow_guard
    def write():
        raise AssertionError

    def attempt():
        try:
            write()
        except ShadowEffectError as error:
            refused.append(str(error))

    def new(x):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(attempt,))
        thread.start()
        thread.join()

    both(lambda x: x, new, runtime, strategy=Shadow(1.0), effects="read")(1)
    runtime.flush()
    assert 1 == len(refused)
    assert "is_shadow()" in refused[0]


# detect_mutation ----------------------------------------------------------------------------------------------------------


def sorts(items):
    items.sort()
    return items


async def sorts_later(items):
    await asyncio.sleep(0)
    items.sort()


def sorts_as_it_goes(items):
    items.sort()
    yield items


async def sorts_later_as_it_goes(items):
    items.sort()
    yield items


async def items_of(stream):
    return [item async for item in stream]


RUN = {
    sorts: lambda model: model([2, 1]),
    sorts_later: lambda model: asyncio.run(model([2, 1])),
    sorts_as_it_goes: lambda model: list(model([2, 1])),
    sorts_later_as_it_goes: lambda model: asyncio.run(items_of(model([2, 1]))),
}


@pytest.mark.parametrize("function", RUN, ids=lambda function: function.__name__)
def test_a_candidate_that_changes_an_argument_is_told_to_the_caller_in_tests(function, runtime):
    model = both(function, function, runtime, detect_mutation=True)
    with pytest.raises(MutationError, match="changed its positional argument 0"):
        RUN[function](model)


def test_keyword_arguments_are_looked_at_and_a_models_self_is_not(runtime):
    class Model:
        def __init__(self):
            self.calls = 0

        def new(self, *, options):
            self.calls += 1
            if options.get("spoil"):
                del options["spoil"]
            return self.calls

        @rollout(candidate=new, strategy=ABTest(1.0), key="method", detect_mutation=True, runtime=runtime)
        def score(self, *, options):
            return 0

    model = Model()
    assert 1 == model.score(options={"keep": [1]})
    with pytest.raises(MutationError, match="argument 'options'"):
        model.score(options={"spoil": True})


def test_a_shadow_that_changes_its_arguments_ends_as_an_error(runtime):
    model = both(lambda items: items, sorts, runtime, strategy=Shadow(1.0), effects="read", detect_mutation=True)
    assert [2, 1] == model([2, 1])
    assert [("error", "MutationError")] == [(event.end, event.error) for event in runtime.shadowed()]


def test_what_cannot_be_copied_is_not_looked_at(runtime):
    class Connection:
        def __init__(self):
            self.used, self.lock = 0, threading.Lock()

    def new(connection):
        connection.used += 1
        return connection.used

    assert 1 == both(lambda connection: 0, new, runtime, detect_mutation=True)(Connection())


def test_objects_of_the_application_are_looked_at(runtime):
    class Request:
        def __init__(self):
            self.items = [1]

    model = both(lambda request: 0, lambda request: request.items.clear(), runtime, detect_mutation=True)
    with pytest.raises(MutationError, match="changed its positional argument 0"):
        model(Request())
