"""A decorated function behaves to its caller as the bare one: values, exceptions, context, and what stays alive."""

import asyncio
import contextlib
import gc
import weakref
from contextvars import ContextVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_sdk import ABTest, Interleave, Runtime, Shadow, current_decision, rollout

RUNTIME = Runtime()


def routed_to(variant, model, runtime=RUNTIME, **options):
    """The model as control and as candidate, with every call going to one of them."""
    share = 1.0 if variant == "candidate" else 0.0
    options = {"strategy": ABTest(share), "key": f"{model.__qualname__} {share}", **options}
    return rollout(candidate=options.pop("candidate", model), runtime=runtime, **options)(model)


# Streams: any model, any consumer ------------------------------------------------------------------------------------------


class Late(Exception):
    """Raised by a model after it has dealt with what was thrown in."""


SCRIPTS = st.lists(
    st.sampled_from(["let pass", "swallow", "yield again", "raise", "raise later", "return", "raise from"]), max_size=4
)
THROWN = [ValueError, KeyError, KeyboardInterrupt, GeneratorExit, StopIteration, asyncio.CancelledError]
STEPS = st.lists(
    st.one_of(
        st.just(("next",)),
        st.tuples(st.just("send"), st.sampled_from([None, "x"])),
        st.tuples(st.just("throw"), st.sampled_from(THROWN)),
        st.just(("close",)),
    ),
    max_size=7,
)


class Log(list):
    """What a model saw. When the play is over, it obeys."""

    over = False


def react(reaction, error, log):
    """What a model does inside `except`; True ends it."""
    if reaction == "let pass" or log.over:
        raise error
    if reaction == "raise":
        raise LookupError("raised while handling")
    if reaction == "raise from":
        raise LookupError("raised on purpose") from error
    return reaction == "return"


def model(log, script):
    try:
        for number, reaction in enumerate(script):
            later = again = False
            try:
                log.append((yield number))
            except BaseException as error:
                log.append(type(error).__name__)
                if react(reaction, error, log):
                    return "returned early"
                later, again = reaction == "raise later", reaction == "yield again"
            if later:
                raise Late
            if again:
                log.append((yield "again"))
        return "returned"
    finally:
        log.append("closed")


async def amodel(log, script):
    try:
        for number, reaction in enumerate(script):
            later = again = False
            try:
                await asyncio.sleep(0)
                log.append((yield number))
            except BaseException as error:
                log.append(type(error).__name__)
                if not log.over:
                    await asyncio.sleep(0)
                if react(reaction, error, log):
                    return
                later, again = reaction == "raise later", reaction == "yield again"
            if later:
                raise Late
            if again:
                log.append((yield "again"))
    finally:
        log.append("closed")


def described(error):
    """An exception with all that hangs on it."""
    if error is None:
        return None
    return type(error).__name__, str(error), described(error.__cause__), described(error.__context__)


def play(function, script, steps):
    """Everything that a consumer sees of a stream, and the model of its consumer."""
    log, seen = Log(), []
    stream = function(log, script)
    ways = {
        "next": lambda: next(stream),
        "send": stream.send,
        "throw": lambda error: stream.throw(error("thrown")),
        "close": stream.close,
    }
    for name, *arguments in steps:
        try:
            seen.append(("value", ways[name](*arguments)))
        except BaseException as error:
            seen.append((described(error), getattr(error, "value", None)))
    log.over = True
    stream.close()
    return seen, log


def play_in_except(*arguments):
    """The same, while the consumer handles an exception of its own."""
    try:
        raise OSError("the consumer's own")
    except OSError:
        return play(*arguments)


async def aplay(function, script, steps):
    log, seen = Log(), []
    stream = function(log, script)
    ways = {
        "next": lambda: anext(stream),
        "send": stream.asend,
        "throw": lambda error: stream.athrow(error("thrown")),
        "close": stream.aclose,
    }
    for name, *arguments in steps:
        try:
            seen.append(("value", await ways[name](*arguments)))
        except BaseException as error:
            seen.append(described(error))
    log.over = True
    # One that yielded instead of closing counts as closed for Python: it is left to the collector.
    with contextlib.suppress(StopAsyncIteration):
        await stream.aclose()
    return seen, list(log)


@pytest.mark.parametrize("variant", ["candidate", "control"])
@pytest.mark.parametrize("play", [play, play_in_except])
@settings(deadline=None, max_examples=150)
@given(script=SCRIPTS, steps=STEPS)
def test_a_generator_and_its_consumer_meet_as_if_they_met_alone(variant, play, script, steps):
    assert play(model, script, steps) == play(routed_to(variant, model), script, steps)


@pytest.mark.parametrize("variant", ["candidate", "control"])
@settings(deadline=None, max_examples=150)
@given(script=SCRIPTS, steps=STEPS)
def test_an_async_generator_and_its_consumer_meet_as_if_they_met_alone(variant, script, steps):
    bare = asyncio.run(aplay(amodel, script, steps))
    assert bare == asyncio.run(aplay(routed_to(variant, amodel), script, steps))


# What the caller's exceptions look like -------------------------------------------------------------------------------------


def fail_in_a_context(x):
    try:
        raise LookupError("first")
    except LookupError:
        raise ValueError("second")


async def fail_in_a_context_async(x):
    fail_in_a_context(x)


def calls(model):
    """The model as a function to call, whatever its kind."""
    return (lambda x: model(x).send(None)) if asyncio.iscoroutinefunction(model) else model


@pytest.mark.parametrize("failing", [fail_in_a_context, fail_in_a_context_async])
@pytest.mark.parametrize("variant", ["candidate", "control"])
def test_an_exception_keeps_the_context_that_the_model_gave_it(variant, failing):
    seen = []
    for model in (failing, routed_to(variant, failing, on_error="raise")):
        try:
            raise OSError("the caller's own")
        except OSError:
            with pytest.raises(ValueError) as caught:
                calls(model)(1)
        seen.append(described(caught.value)[3][:3])
    assert [("LookupError", "first", None)] * 2 == seen


def test_what_the_consumer_throws_into_a_stream_is_not_charged_to_the_model(runtime):
    def stream():
        yield 1
        yield 2

    running = routed_to("candidate", stream, runtime)()
    next(running)
    error = ValueError("the consumer's")
    with pytest.raises(ValueError) as caught:
        running.throw(error)
    assert caught.value is error
    (event,) = runtime.routed()
    assert (True, None, [None]) == (event.closed_early, event.error, [run.error for run in event.runs])


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_in_a_coroutine_or_stream_passes_through(error, runtime):
    ran = []

    def generator(x):
        raise error
        yield

    def control_generator(x):
        ran.append(x)
        yield x

    with pytest.raises(error):
        list(routed_to("candidate", control_generator, runtime, candidate=generator)(1))

    async def coroutine(x):
        raise error

    async def control(x):
        ran.append(x)

    driven = routed_to("candidate", control, runtime, candidate=coroutine)(1)
    with pytest.raises(error):
        driven.send(None)
    assert [] == ran
    assert [(True, None)] * 2 == [(event.closed_early, event.error) for event in runtime.routed()]


def test_an_async_stream_that_made_its_cancellation_up_falls_back(runtime):
    async def old(n):
        for item in range(n):
            yield item

    async def new(n):
        raise asyncio.CancelledError
        yield

    async def serve():
        return [item async for item in routed_to("candidate", old, runtime, candidate=new)(3)]

    assert [0, 1, 2] == asyncio.run(serve())
    assert ["CancelledError", None] == [run.error for run in runtime.routed()[0].runs]


def test_outside_of_asyncio_a_cancellation_is_the_callers(runtime):
    async def old(x):
        return x

    async def new(x):
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        routed_to("candidate", old, runtime, candidate=new)(1).send(None)


@pytest.mark.parametrize("strategy", [ABTest(1.0), Interleave()], ids=["candidate", "interleaved"])
@pytest.mark.parametrize("kind", ["coroutine", "async generator"])
def test_a_coroutine_that_is_closed_while_it_waits_is_recorded_and_not_run_again(kind, strategy, runtime):
    ran = []

    async def wait(x):
        ran.append("began")
        await asyncio.sleep(30)

    async def stream(x):
        await wait(x)
        yield

    async def serve():
        model = routed_to("candidate", {"coroutine": wait, "async generator": stream}[kind], runtime, strategy=strategy)
        waiting = model(1) if kind == "coroutine" else anext(model(1))
        waiting.send(None)
        with pytest.raises(GeneratorExit):
            waiting.throw(GeneratorExit)

    asyncio.run(serve())
    assert (["began"], [(True, None)]) == (ran, [(event.closed_early, event.error) for event in runtime.routed()])


# What stays alive -----------------------------------------------------------------------------------------------------------


class Payload:
    """Something large."""


def failing_kinds(alive):
    """A model of each kind that holds a payload when it fails; and what uses it up."""

    def hold():
        payload = Payload()
        alive.append(weakref.ref(payload))
        return payload

    def function(x):
        payload = hold()
        raise ValueError(id(payload))

    async def coroutine(x):
        payload = hold()
        raise ValueError(id(payload))

    def generator(x):
        payload = hold()
        raise ValueError(id(payload))
        yield

    async def async_generator(x):
        payload = hold()
        raise ValueError(id(payload))
        yield

    return {"function": function, "coroutine": coroutine, "generator": generator, "async generator": async_generator}


async def use(kind, called):
    if kind == "coroutine":
        return await called
    if kind == "async generator":
        return [item async for item in called]
    return list(called) if kind == "generator" else called


def good_kinds(look):
    """A control of each kind that calls `look` while it runs."""

    def function(x):
        return look()

    async def coroutine(x):
        return look()

    def generator(x):
        yield look()

    async def async_generator(x):
        yield look()

    return {"function": function, "coroutine": coroutine, "generator": generator, "async generator": async_generator}


KINDS = ["function", "coroutine", "generator", "async generator"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strategy", [ABTest(1.0), ABTest(0.0), Interleave()], ids=["candidate", "control", "interleaved"])
def test_an_exception_that_was_handled_holds_nothing(strategy, kind, runtime):
    alive = []
    failing = failing_kinds(alive)[kind]

    async def serve():
        model = rollout(candidate=failing, strategy=strategy, effects="read", key="failing", runtime=runtime)(failing)
        with contextlib.suppress(ValueError):
            await use(kind, model(1))
        return [reference() for reference in alive]

    gc.disable()
    try:
        left = asyncio.run(serve())
    finally:
        gc.enable()
    assert left
    assert not any(left)


@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_candidate_holds_nothing_while_the_control_answers(kind, runtime):
    alive = []
    control = good_kinds(lambda: [reference() for reference in alive])[kind]
    model = rollout(candidate=failing_kinds(alive)[kind], strategy=ABTest(1.0), key="fallback", runtime=runtime)(control)
    gc.disable()
    try:
        left = asyncio.run(use(kind, model(1)))
    finally:
        gc.enable()
    assert left in ([None], [[None]])


@pytest.mark.parametrize("kind", ["generator", "async generator"])
def test_an_item_belongs_to_the_consumer_alone(kind, runtime):
    def generator(x):
        yield Payload()
        yield Payload()

    async def async_generator(x):
        yield Payload()
        yield Payload()

    bare = {"generator": generator, "async generator": async_generator}[kind]
    model = routed_to("candidate", bare, runtime)

    async def serve():
        stream = model(1)
        item = next(stream) if kind == "generator" else await anext(stream)
        alive = weakref.ref(item)
        del item
        return alive(), stream

    assert asyncio.run(serve())[0] is None


# Whose call it is -----------------------------------------------------------------------------------------------------------


def test_streams_that_take_turns_see_each_its_own_decision(runtime):
    def model(n):
        for _ in range(n):
            yield current_decision().id

    stream = routed_to("candidate", model, runtime)
    pairs = list(zip(stream(3), stream(3), strict=True))
    assert [(pairs[0][0], pairs[0][1])] * 3 == pairs
    assert pairs[0][0] != pairs[0][1]


def test_async_streams_that_take_turns_see_each_its_own_decision(runtime):
    async def model(n):
        for _ in range(n):
            await asyncio.sleep(0)
            yield current_decision().id

    async def serve():
        stream = routed_to("candidate", model, runtime)
        one, two = stream(3), stream(3)
        return [(await anext(one), await anext(two)) for _ in range(3)]

    pairs = asyncio.run(serve())
    assert [pairs[0]] * 3 == pairs
    assert pairs[0][0] != pairs[0][1]


def test_a_stream_that_the_collector_closes_leaves_the_callers_decision_alone(runtime):
    def model(n):
        yield from range(n)

    stream = routed_to("candidate", model, runtime)
    forgotten = stream(3)
    next(forgotten)
    mine = routed_to("candidate", lambda x: x, runtime, key="mine")
    mine(1)
    decision = current_decision()
    del forgotten
    assert decision == current_decision()
    assert [True, False] == sorted((event.closed_early for event in runtime.routed()), reverse=True)


def test_a_coroutine_may_change_its_callers_context_as_the_bare_one_may(runtime):
    tenant = ContextVar("tenant", default="none")

    async def model(x):
        tenant.set("from the control")
        return [1]

    async def other(x):
        tenant.set("from the candidate")
        return [1]

    async def serve(strategy):
        tenant.set("none")
        await rollout(candidate=other, strategy=strategy, effects="read", key=strategy.name, runtime=runtime)(model)(1)
        return tenant.get()

    assert "from the control" == asyncio.run(serve(Interleave()))
    assert "from the control" == asyncio.run(serve(Shadow(1.0)))
    assert "from the candidate" == asyncio.run(serve(ABTest(1.0)))
