"""Coroutines and async generators that are returned: the call goes on until they end, as with functions of their own kind.

They are a plain function's (a decorator written for plain functions, a client's method), or an async generator that a
coroutine function gives. One that is never awaited or read is not recorded, as with functions of their own kind.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from types import AsyncGeneratorType, CoroutineType
from typing import Any

from rollout_sdk.engine.call import Call
from rollout_sdk.engine.context import set_call
from rollout_sdk.engine.flow import advance
from rollout_sdk.engine.going_on import Run, go_on_async
from rollout_sdk.engine.running import run, run_async
from rollout_sdk.engine.steps import Flow, Invoke, Result
from rollout_sdk.engine.streams import AsyncStream

__all__ = ["coroutine_stand_in", "stream_stand_in"]


async def _run(step: Invoke) -> Result:
    """Run a plain function."""
    return run(step)


def _gave(value: Any) -> Any:
    return value


async def _await(value: Awaitable[Any]) -> Any:
    return await value


def _going_on(step: Invoke, function: Callable[..., Any], ran: Result) -> Invoke:
    """The rest of a step, whose function has returned already."""
    rest = Invoke(step.variant, function, (ran.value,), {})
    rest.span_context, rest.gate, rest.keep, rest.protection = step.span_context, step.gate, step.keep, step.protection
    if step.deadline_s is not None:
        rest.deadline_s = max(0.0, step.deadline_s - ran.duration_s)
    return rest


def coroutine_stand_in(call: Call, flow: Flow, step: Invoke, ran: Result) -> Any:
    """A coroutine that gives what one gives that a plain function returned."""
    model = ran.value
    stand_in: Any = _awaited(call, flow, step, ran)
    stand_in.__name__, stand_in.__qualname__ = model.__name__, model.__qualname__
    return stand_in


async def _awaited(call: Call, flow: Flow, step: Invoke, ran: Result) -> Any:
    """Await what a plain function returned; when the control returns what cannot be awaited, that is the answer."""
    ended: Invoke | Result
    set_call(call)
    while True:
        if ran.error is None and hasattr(type(ran.value), "__await__"):
            took, model = ran.duration_s, ran.value
            try:
                ran = await run_async(_going_on(step, _await, ran))
            except GeneratorExit as closing:
                ran = Result(step.variant, 0.0, None, closing, interrupted=True)
            ran.duration_s += took
            if ran.withheld is not None and type(model) is CoroutineType:
                model.close()
            del model
        ended = advance(call, flow, ran)  # type: ignore[assignment] # several variants run only in the first step
        del ran
        if isinstance(ended, Result):
            break
        step = ended
        ran = run(step)
    if ended.error is not None:
        ended.reraise()
    return ended.value


def stream_stand_in(call: Call, flow: Flow, step: Invoke, ran: Result, run_again: Run = _run) -> Any:
    """An async generator that passes on what one yields that was returned; `run_again` runs the control in its place."""
    model = ran.value
    stand_in: Any = _passed_on(call, flow, step, ran, run_again)
    stand_in.__name__, stand_in.__qualname__ = model.__name__, model.__qualname__
    return stand_in


async def _each(iterable: Any) -> AsyncGenerator[Any, Any]:
    async for item in iterable:
        yield item


async def _passed_on(call: Call, flow: Flow, step: Invoke, ran: Result, run_again: Run) -> AsyncGenerator[Any, Any]:
    while True:
        stream = AsyncStream(call, _going_on(step, _gave if type(ran.value) is AsyncGeneratorType else _each, ran))
        stream.began -= ran.duration_s
        stream.result.streamed = True
        del ran
        while True:
            # What closes an async generator closes first what it waits for: then the stream knows how it ended.
            with suppress(GeneratorExit):
                await stream.resume()
            if stream.ended:
                break
            try:
                stream.received = yield stream.take()
            except BaseException as thrown:
                stream.thrown = thrown
        ended = await go_on_async(call, flow, stream.result, run_again)
        del stream
        if isinstance(ended, Result):
            break
        step, ran = ended
        del ended
    if ended.error is not None:
        ended.reraise()
