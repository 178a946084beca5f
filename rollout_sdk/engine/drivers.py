"""Four thin drivers, one for each kind of function: each makes the function that executes the flow of every call.

An exception, whatever its class, becomes a Result on the spot and is raised again at the end, outside every `except`
block: the caller gets the model's own exception object with the context it had.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any, NoReturn, TypeAlias

from opentelemetry.context import attach, detach

from rollout_sdk import switch
from rollout_sdk.engine.call import Call, Flow, Invoke, Result, Together
from rollout_sdk.engine.flow import advance, bare
from rollout_sdk.engine.rollout import Kind

__all__ = ["DRIVERS", "drive_async_generator", "drive_coroutine", "drive_function", "drive_generator"]


Begin: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], tuple[Call | None, Flow]]
"""Describes and decides a call, and gives the flow to execute; without a call when that broke."""


def drive_function(begin: Begin, control: Callable[..., Any]) -> Callable[..., Any]:
    """A function that executes the flow of every call; variants are plain functions."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if switch.off:
            return control(*args, **kwargs)
        call, flow = begin(args, kwargs)
        step = advance(call, flow, None)
        while not isinstance(step, Result):
            step = advance(call, flow, _run_all(step.invokes, _run) if isinstance(step, Together) else _run(step))
        if step.error is not None:
            _raise(step)
        return step.value

    return wrapper


def drive_coroutine(begin: Begin, control: Callable[..., Any]) -> Callable[..., Any]:
    """A coroutine function that executes the flow of every call; variants are coroutine functions."""

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        if switch.off:
            return await control(*args, **kwargs)
        call, flow = begin(args, kwargs)
        step = advance(call, flow, None)
        while not isinstance(step, Result):
            sent = await _together(step, _run_async) if isinstance(step, Together) else await _run_async(step)
            step = advance(call, flow, sent)
            del sent
        if step.error is not None:
            _raise(step)
        return step.value

    return wrapper


def drive_generator(begin: Begin, control: Callable[..., Any]) -> Callable[..., Any]:
    """A generator function that executes the flow of every call: items pass through as they come, in both directions."""

    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        if switch.off:
            return (yield from control(*args, **kwargs))
        call, flow = begin(args, kwargs)
        step = advance(call, flow, None)
        blended = False
        while not isinstance(step, Result):
            blended = isinstance(step, Together)
            if isinstance(step, Together):
                step = advance(call, flow, _run_all(step.invokes, _collect))
                continue
            stream = _Stream(step)
            # On close(), `yield from` closes the inner generator and raises here: the stream knows how it ended.
            with suppress(GeneratorExit):
                yield from _pass_on(stream)
            step = advance(call, flow, stream.result)
            del stream
        if step.error is not None:
            _raise(step)
        if blended:
            yield from step.value
            return None
        return step.value

    return wrapper


def drive_async_generator(begin: Begin, control: Callable[..., Any]) -> Callable[..., Any]:
    """An async generator function that executes the flow of every call."""

    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call, flow = (None, bare(control, args, kwargs)) if switch.off else begin(args, kwargs)
        step = advance(call, flow, None)
        blended = False
        while not isinstance(step, Result):
            blended = isinstance(step, Together)
            if isinstance(step, Together):
                step = advance(call, flow, await _together(step, _collect_async))
                continue
            stream = _AsyncStream(step)
            item = await stream.send(None)
            while not stream.ended:
                # What the consumer throws in is the model's to handle; closing is for us both.
                try:
                    received = yield item
                except GeneratorExit as closing:
                    await stream.close(closing)
                except BaseException as thrown:
                    item = await stream.throw(thrown)
                else:
                    item = await stream.send(received)
            step = advance(call, flow, stream.result)
            del stream, item
        if step.error is not None:
            _raise(step)
        if blended:
            for item in step.value:
                yield item

    return wrapper


def _run_all(steps: Sequence[Invoke], run: Callable[[Invoke], Result]) -> list[Result]:
    """Run one after the other; an interruption is the last."""
    results = []
    for step in steps:
        results.append(run(step))
        if results[-1].interrupted:
            break
    return results


def _raise(result: Result) -> NoReturn:
    """Raise a model's own exception, and leave no cycle behind that would keep its frames alive."""
    error = result.error
    result.error = None
    try:
        raise error  # type: ignore[misc]
    finally:
        del error


def _run(step: Invoke) -> Result:
    token = None if step.span_context is None else attach(step.span_context)
    started = perf_counter()
    try:
        value = step.function(*step.args, **step.kwargs)
    except BaseException as error:
        return Result(step.variant, perf_counter() - started, None, error, not isinstance(error, Exception))
    finally:
        if token is not None:
            detach(token)
    return Result(step.variant, perf_counter() - started, value)


async def _run_async(step: Invoke) -> Result:
    token = None if step.span_context is None else attach(step.span_context)
    started = perf_counter()
    try:
        value = await step.function(*step.args, **step.kwargs)
    except BaseException as error:
        return Result(step.variant, perf_counter() - started, error=error, interrupted=_is_interruption(error))
    finally:
        if token is not None:
            detach(token)
    return Result(step.variant, perf_counter() - started, value)


def _is_interruption(error: BaseException) -> bool:
    """Whether an exception is the caller's will and not the model's failure.

    A CancelledError that nobody asked for was made up by the model, and is a failure like any other.
    """
    if isinstance(error, Exception):
        return False
    if isinstance(error, asyncio.CancelledError):
        try:
            task = asyncio.current_task()
        except RuntimeError:
            return True
        return task is None or task.cancelling() > 0
    return True


async def _together(step: Together, run: Callable[[Invoke], Awaitable[Result]]) -> list[Result]:
    """Run all at once; a cancelled caller cancels all and waits for them."""
    tasks = [asyncio.ensure_future(run(invoke)) for invoke in step.invokes]
    try:
        await asyncio.wait(tasks)
    except BaseException as error:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return [Result(invoke.variant, 0.0, error=error, interrupted=True) for invoke in step.invokes]
    return [task.result() for task in tasks]


def _collect(step: Invoke) -> Result:
    token = None if step.span_context is None else attach(step.span_context)
    started = perf_counter()
    try:
        value = list(step.function(*step.args, **step.kwargs))
    except BaseException as error:
        interrupted = not isinstance(error, Exception)
        return Result(step.variant, perf_counter() - started, error=error, interrupted=interrupted)
    finally:
        if token is not None:
            detach(token)
    return Result(step.variant, perf_counter() - started, value)


async def _collect_async(step: Invoke) -> Result:
    async def whole(*args: Any, **kwargs: Any) -> list[Any]:
        return [item async for item in step.function(*args, **kwargs)]

    collecting = Invoke(step.variant, whole, step.args, step.kwargs)
    collecting.span_context = step.span_context
    return await _run_async(collecting)


class _Stream:
    """What both kinds of streams note while items pass: time, first item, and the first items for a comparison."""

    def __init__(self, step: Invoke) -> None:
        self.step = step
        self.began = perf_counter()
        self.result = Result(step.variant, 0.0)
        self.ended = False
        if step.keep:
            self.result.collected = []

    def passed(self, item: Any) -> Any:
        result = self.result
        if not result.started:
            result.started = True
            result.first_item_s = perf_counter() - self.began
        if result.collected is not None:
            if len(result.collected) < self.step.keep:
                result.collected.append(item)
            else:
                # Half a stream compares with nothing.
                result.collected = None
        return item

    def end(self, value: Any = None, error: BaseException | None = None, *, interrupted: bool = False) -> None:
        result = self.result
        result.duration_s = perf_counter() - self.began
        result.value = value
        result.error = error
        result.interrupted = interrupted
        self.ended = True


def _pass_on(stream: _Stream) -> Generator[Any, Any, None]:
    """Pass a generator's items on as `yield from` would (PEP 380), with the span current only while the model runs."""
    step = stream.step
    model: Any = None

    def advance_model(method: Callable[..., Any], *arguments: Any, item: bool = True) -> Any:
        token = None if step.span_context is None else attach(step.span_context)
        try:
            value = method(*arguments)
            return stream.passed(value) if item else value
        except StopIteration as stop:
            stream.end(stop.value)
        except BaseException as error:
            stream.end(error=error, interrupted=not isinstance(error, Exception))
        finally:
            if token is not None:
                detach(token)
        return None

    def first() -> Any:
        nonlocal model
        model = iter(step.function(*step.args, **step.kwargs))
        return next(model)

    item = advance_model(first)
    while not stream.ended:
        try:
            received = yield item
        except GeneratorExit as closing:
            if hasattr(model, "close"):
                advance_model(model.close, item=False)
            if stream.result.error is None:
                stream.end(error=closing, interrupted=True)
        except BaseException as thrown:
            if hasattr(model, "throw"):
                item = advance_model(model.throw, thrown)
            else:
                stream.end(error=thrown, interrupted=not isinstance(thrown, Exception))
        else:
            item = advance_model(next, model) if received is None else advance_model(model.send, received)


class _AsyncStream(_Stream):
    """An async generator whose items pass on, with the span current only while the model runs."""

    def __init__(self, step: Invoke) -> None:
        super().__init__(step)
        self.model: Any = None

    async def send(self, received: Any) -> Any:
        """The next item, or None and `ended`."""
        return await self._pull(lambda: self._next(received))

    async def throw(self, thrown: BaseException) -> Any:
        return await self._pull(lambda: self.model.athrow(thrown))

    async def close(self, closing: GeneratorExit) -> None:
        if hasattr(self.model, "aclose"):
            await self._pull(self.model.aclose, item=False)
        if self.result.error is None:
            self.end(error=closing, interrupted=True)

    async def _next(self, received: Any) -> Any:
        if self.model is None:
            self.model = aiter(self.step.function(*self.step.args, **self.step.kwargs))
        return await (anext(self.model) if received is None else self.model.asend(received))

    async def _pull(self, advance_model: Callable[[], Awaitable[Any]], *, item: bool = True) -> Any:
        token = None if self.step.span_context is None else attach(self.step.span_context)
        try:
            value = await advance_model()
            return self.passed(value) if item else value
        except StopAsyncIteration:
            self.end()
        except BaseException as error:
            self.end(error=error, interrupted=_is_interruption(error))
        finally:
            if token is not None:
                detach(token)
        return None


DRIVERS: dict[Kind, Callable[[Begin, Callable[..., Any]], Callable[..., Any]]] = {
    "function": drive_function,
    "coroutine": drive_coroutine,
    "generator": drive_generator,
    "async generator": drive_async_generator,
}
