"""What is called, and must answer at once, is refused where it is asynchronous; what turns out to be so is a fault."""

import asyncio
import functools
import gc
import inspect
import warnings
from collections.abc import Awaitable

import pytest

from rollout_sdk import ABTest, Canary, ConfigurationError, Interleave, Shadow, Telemetry, rollout
from rollout_sdk.concurrency.synchronous import answered, must_answer_at_once


async def asynchronous(*args, **kwargs):
    return "candidate"


class Asynchronous:
    async def __call__(self, *args, **kwargs):
        return "candidate"

    async def method(self, *args, **kwargs):
        return "candidate"


async def generator(*args, **kwargs):
    yield "candidate"


def yields(*args, **kwargs):
    yield "candidate"


def announced(*args, **kwargs) -> Awaitable[str]:
    return asynchronous()


def announced_in_text(*args, **kwargs) -> "Awaitable[str]":
    return asynchronous()


FUNCTIONS = {
    "a coroutine function": asynchronous,
    "a partial": functools.partial(asynchronous, more=1),
    "a partial of a callable": functools.partial(Asynchronous()),
    "a callable object": Asynchronous(),
    "a method": Asynchronous().method,
    "an async generator function": generator,
    "a generator function": yields,
    "an annotated function": announced,
    "a function annotated in a text": announced_in_text,
}


def decorate(**options):
    options = {"unit": "user", "strategy": ABTest(1.0), "key": "model", **options}
    return rollout(candidate=lambda user: "candidate", **options)(lambda user: "control")


OPTIONS = {
    "unit": lambda function, runtime: decorate(unit=function, runtime=runtime),
    "override": lambda function, runtime: decorate(override=function, runtime=runtime),
    "isolate": lambda function, runtime: decorate(isolate=function, runtime=runtime),
    "covariate": lambda function, runtime: decorate(covariate=function, runtime=runtime),
    "failed_if": lambda function, runtime: decorate(failed_if=function, runtime=runtime),
    "approve": lambda function, runtime: Canary(approve=function),
    "capture": lambda function, runtime: Telemetry(capture=function),
    "redact": lambda function, runtime: Telemetry(redact=function),
    "key": lambda function, runtime: Interleave(key=function),
    "items": lambda function, runtime: Interleave(items=function, rebuild=lambda output, items: items),
    "rebuild": lambda function, runtime: Interleave(rebuild=function),
    "first_page": lambda function, runtime: Interleave(first_page=function),
    "stamp": lambda function, runtime: Interleave(stamp=function),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize("option", OPTIONS)
def test_what_would_have_to_be_awaited_is_refused_with_the_cure(option, function, runtime):
    with pytest.raises(ConfigurationError, match=f"^{option}= of .* must answer at once: nothing awaits it. (Make|Pass)"):
        OPTIONS[option](function, runtime)


def test_what_answers_at_once_is_not_refused():
    class Model:
        def __call__(self, user) -> str:
            return "u-1"

    for function in (lambda user: "u-1", Model(), Model, functools.partial(Model()), str, None, "user"):
        must_answer_at_once("unit= of 'model'", function, "Make it a plain function.")


def closed(make):
    """What a function gave, and that no coroutine was left: Python would warn of it."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        given = make()
        gc.collect()
    assert [] == [str(each.message) for each in warned]
    return given


AT_RUN_TIME = {
    "unit": {"unit": lambda user: asynchronous()},
    "override": {"override": lambda user: asynchronous(), "strategy": ABTest(0.0)},
}


@pytest.mark.parametrize("option", AT_RUN_TIME)
def test_a_coroutine_at_run_time_is_a_fault_and_the_control_serves(option, runtime):
    model = decorate(runtime=runtime, **AT_RUN_TIME[option])
    assert closed(lambda: [model("u-1") for _ in range(3)]) == ["control"] * 3
    assert model.rollout.status().faults == {(option, "TypeError"): 3}


@pytest.mark.parametrize(
    ("option", "options"),
    [
        ("covariate", {"covariate": lambda user: asynchronous()}),
        ("failed_if", {"failed_if": lambda answer: asynchronous()}),
        ("isolate", {"isolate": lambda value: asynchronous()}),
    ],
)
def test_a_coroutine_of_what_does_not_decide_is_a_fault_and_changes_no_answer(option, options, runtime):
    model = decorate(runtime=runtime, **{"unit": None, **options})
    assert closed(lambda: model(["u-1"])) == "candidate"
    assert model.rollout.status().faults[option, "TypeError"] >= 1


def test_a_shadow_whose_input_was_copied_to_a_coroutine_does_not_run(runtime):
    ran = []
    model = rollout(
        candidate=lambda user: ran.append(user),
        strategy=Shadow(1.0),
        effects="read",
        key="m",
        isolate=lambda value: asynchronous(),
        runtime=runtime,
    )(lambda user: "control")
    assert closed(lambda: model(["u-1"])) == "control"
    assert model.rollout.status().faults == {("isolate", "TypeError"): 1}
    assert ran == []


INTERLEAVING = {
    "key": {"key": lambda item: asynchronous()},
    "items": {"items": lambda output: asynchronous(), "rebuild": lambda output, items: items},
    "rebuild": {"rebuild": lambda output, items: asynchronous()},
    "first_page": {"first_page": lambda call: asynchronous()},
    "stamp": {"stamp": lambda item, token: asynchronous()},
}


@pytest.mark.parametrize("option", INTERLEAVING)
def test_a_coroutine_in_a_blend_is_a_fault_and_the_control_serves(option, runtime):
    model = rollout(
        candidate=lambda user: ["c", "d"], strategy=Interleave(**INTERLEAVING[option]), unit="user", key="m", runtime=runtime
    )(lambda user: ["a", "b"])
    assert closed(lambda: model("u-1")) == ["a", "b"]
    assert {kind for _, kind in model.rollout.status().faults} == {"TypeError"}


class Routes:
    name = "routes"

    def rollout_route(self, request):
        return asynchronous()


class Observes:
    name = "observes"

    def rollout_routed(self, event):
        return asynchronous()


class Compares:
    name = "compares"

    def rollout_compare(self, control, candidate):
        return asynchronous()


def test_a_strategy_that_gives_a_coroutine_is_at_fault_and_the_control_serves(runtime):
    model = decorate(strategy=Routes(), runtime=runtime)
    assert closed(lambda: model("u-1")) == "control"
    assert model.rollout.status().faults == {("routes.rollout_route", "TypeError"): 1}


def test_an_observer_that_gives_a_coroutine_is_at_fault(runtime):
    model = decorate(plugins=[Observes()], runtime=runtime)
    assert closed(lambda: (model("u-1"), runtime.flush(10.0))[0]) == "candidate"
    assert model.rollout.status().faults == {("observes.rollout_routed", "TypeError"): 1}


def test_a_comparison_that_gives_a_coroutine_is_at_fault_and_the_default_compares(runtime):
    model = decorate(strategy=Shadow(1.0), effects="read", plugins=[Compares()], runtime=runtime)
    assert closed(lambda: (model("u-1"), runtime.flush(10.0))[0]) == "control"
    assert model.rollout.status().faults == {("compares.rollout_compare", "TypeError"): 1}
    assert [event.comparison.match for event in runtime.shadowed()] == [False]


def test_an_awaitable_that_is_handed_back_is_the_callers_own_and_stays_open():
    given = asynchronous()
    with pytest.raises(TypeError, match="unit= gave an awaitable"):
        answered("unit=", given, (given,))
    assert inspect.getcoroutinestate(given) == inspect.CORO_CREATED
    given.close()


def test_a_coroutine_that_has_begun_is_not_closed():
    async def main():
        task = asyncio.ensure_future(asyncio.sleep(0, "done"))
        await asyncio.sleep(0)
        for running in (task, task.get_coro()):
            with pytest.raises(TypeError):
                answered("unit=", running)
        return await task

    assert asyncio.run(main()) == "done"
