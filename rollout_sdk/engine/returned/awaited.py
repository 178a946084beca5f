"""Returned awaitables and async generators: the call ends when they do, as with functions of those kinds.

They come from a plain function (a decorator written for plain functions, a client's method) or from a coroutine function. A
coroutine or async generator that is never started is not recorded, as with functions of those kinds.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from inspect import CORO_CREATED, getcoroutinestate
from types import AsyncGeneratorType
from typing import Any

from rollout_sdk.engine.call import Call
from rollout_sdk.engine.current import set_call
from rollout_sdk.engine.execute import run, run_async
from rollout_sdk.engine.flow import advance
from rollout_sdk.engine.returned.forms import EAGER, each_async, is_awaitable
from rollout_sdk.engine.returned.reading import AsyncReading
from rollout_sdk.engine.returned.stage import Run, go_on_async
from rollout_sdk.engine.returned.streams import AsyncStream
from rollout_sdk.engine.steps import LET_GO, Flow, Invoke, Result
from rollout_sdk.formatting import class_name

__all__ = ["Awaiting", "Look", "awaited", "coroutine_stand_in", "run_plain", "stream_stand_in", "whole"]

Look = Callable[[Call, Flow, Invoke, Result, Run], Any]
"""Returns the stand-in for an answer whose work continues, or None."""


async def run_plain(step: Invoke) -> Result:
    """Run a plain function, for callers that await it."""
    return run(step)


def whole(run_again: Run) -> Run:
    """Wrap the runner of a fallback so that it awaits what the control returns, if that is awaitable."""

    async def again(step: Invoke) -> Result:
        ran = await run_again(step)
        if ran.error is None and is_awaitable(ran.value) and not hasattr(type(ran.value), "__aiter__"):
            took, ran = ran.duration_s, await run_async(_going_on(step, _await, ran))
            ran.duration_s += took
        return ran

    return again


def _gave(value: Any) -> Any:
    return value


async def _await(value: Awaitable[Any]) -> Any:
    return await value


async def _enter(value: Any) -> Any:
    return await value.__aenter__()


_NEEDED: Mapping[Callable[[Any], Awaitable[Any]], str] = {_await: "__await__", _enter: "__aenter__"}


def _going_on(step: Invoke, function: Callable[..., Any], ran: Result) -> Invoke:
    """Build the step for the remaining work of an answer that a function has returned."""
    rest = Invoke(step.variant, function, (ran.value,), {})
    rest.span_context, rest.gate, rest.keep, rest.protection = step.span_context, step.gate, step.keep, step.protection
    rest.in_place = step.in_place
    if step.deadline_s is not None:
        rest.deadline_s = max(0.0, step.deadline_s - ran.duration_s)
    return rest


def coroutine_stand_in(call: Call, flow: Flow, step: Invoke, ran: Result, run_again: Run, look: Look) -> Any:
    """Return a coroutine with the same result as a returned one."""
    model = ran.value
    gone: list[Any] = []
    stand_in: Any = awaited(call, flow, step, ran, run_again, look, gone=gone)
    stand_in.__name__, stand_in.__qualname__ = model.__name__, model.__qualname__
    # Python warns about a coroutine that is never awaited; the warning should name the stand-in only. Weak references are
    # cleared before the warning, and this one lives in the stand-in's own frame.
    gone.append(weakref.ref(stand_in, lambda _: _close_unbegun(model)))
    return stand_in


def _close_unbegun(coroutine: Any) -> None:
    if getcoroutinestate(coroutine) == CORO_CREATED:
        coroutine.close()


async def awaited(
    call: Call,
    flow: Flow,
    step: Invoke,
    ran: Result,
    run_again: Run,
    look: Look,
    how: Callable[[Any], Awaitable[Any]] = _await,
    awaiting: Awaiting | None = None,
    gone: list[Any] | None = None,  # noqa: ARG001 - held by the frame
) -> Any:
    """Await (or enter) a returned object; if the control returns something that is not awaitable, that is the answer.

    The result may itself have work to come, such as a client's stream; the call then continues with it. `gone` is only kept
    alive.
    """
    ended: Invoke | Result
    set_call(call)
    while True:
        if ran.error is None and hasattr(type(ran.value), _NEEDED[how]):
            took, model = ran.duration_s, ran.value
            step.go_on()
            if awaiting is not None:
                awaiting.model = model
            try:
                ran = await run_async(_going_on(step, how, ran))
            except GeneratorExit as closing:
                ran = Result(step.variant, 0.0, None, closing, interrupted=True)
            ran.duration_s += took
            ran.awaited = True
            if ran.withheld is not None:
                # It was never started. If it is a task, it would keep running.
                end = getattr(model, "close", None) or getattr(model, "cancel", None)
                if end is not None:
                    end()
            if ran.value is not model and type(ran.value) not in EAGER:
                made = look(call, flow, step, ran, run_again)
                if made is not None:
                    return made
            del model
        ended = advance(call, flow, ran)  # type: ignore[assignment] # several variants run only in the first step
        del ran
        if isinstance(ended, Result):
            break
        step = ended
        ran = await run_again(step)
    if ended.error is not None:
        with ended:
            raise ended.error
    return ended.value


def stream_stand_in(call: Call, flow: Flow, step: Invoke, ran: Result, run_again: Run) -> Any:
    """Return an async generator that passes on a returned one's items; `run_again` runs the control as a fallback."""
    model = ran.value
    stand_in: Any = _passed_on(call, flow, step, ran, whole(run_again))
    stand_in.__name__, stand_in.__qualname__ = model.__name__, model.__qualname__
    return stand_in


async def _passed_on(call: Call, flow: Flow, step: Invoke, ran: Result, run_again: Run) -> AsyncGenerator[Any, Any]:
    while True:
        stream = AsyncStream(call, _going_on(step, _gave if type(ran.value) is AsyncGeneratorType else each_async, ran))
        # The function holds the arguments and releases them when it chooses.
        step.args, step.kwargs = (), LET_GO
        stream.began -= ran.duration_s
        stream.result.streamed = stream.result.awaited = True
        del ran
        step.go_on()
        while True:
            try:  # noqa: SIM105 - for each item, `suppress` costs as much as the rest of the loop
                await stream.resume()
            # Closing an async generator first closes what it awaits, so the stream already knows how it ended.
            except GeneratorExit:
                pass
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
        with ended:
            raise ended.error


class Awaiting:
    """A call in progress whose answer is an awaitable object, measured once it is first awaited, entered or iterated over.

    Attributes:
        model: The object returned by the variant that answers now.
    """

    def __init__(self, call: Call, flow: Flow, step: Invoke, ran: Result, run_again: Run, look: Look) -> None:
        """Start with the object that a step returned."""
        self.model = ran.value
        self._call = call
        self._rest = flow, step, ran, run_again, look
        self._stream: AsyncReading | None = None
        self._coroutine: Any = None
        self._touched = False
        self._open = [True]

    def _claim(self) -> bool:
        try:
            self._open.pop()
        except IndexError:
            return False
        return True

    def begin(self) -> Any:
        """Return a coroutine that awaits the object; a second `await` goes to the object directly."""
        return awaited(self._call, *self._rest, _await, self) if self._claim() else _await(self.model)

    def coroutine(self) -> Any:
        """Return the single coroutine for `send`, `throw` and `close`."""
        if self._coroutine is None:
            self._coroutine = self.begin()
        return self._coroutine

    async def enter(self) -> Any:
        """Enter the object with `async with`."""
        return await (awaited(self._call, *self._rest, _enter, self) if self._claim() else _enter(self.model))

    def as_stream(self) -> AsyncReading | None:
        """Switch to reading it with `async for`; return None if it has been started in another way."""
        if not self._claim():
            return None
        flow, step, ran, run_again, _ = self._rest
        self._stream = AsyncReading(self._call, flow, step, ran, whole(run_again))
        return self._stream

    def touch(self, _: str) -> None:
        """Record that the consumer accessed an attribute, which may be another way to get the answer."""
        self._touched = True

    def let_go(self) -> None:
        """End the call of an object that was released before it was started; its outcome is unknown."""
        if not self._claim():
            return
        flow, step, ran, _, _ = self._rest
        result = Result(step.variant, ran.duration_s, None, GeneratorExit(), interrupted=True)
        if self._touched:
            self._call.unmeasured = class_name(self.model)
            result = Result(step.variant, ran.duration_s)
            result.streamed = True
        advance(self._call, flow, result)
