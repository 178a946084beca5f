"""Four thin drivers, one for each kind of function: each makes the function that executes the flow of every call.

The caller gets the model's own exception object, raised outside every `except` block, with the context it had.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from typing import Any, TypeAlias

from rollout_sdk.engine.call import Call
from rollout_sdk.engine.execute import collect, collect_async, run, run_all, run_async, run_together
from rollout_sdk.engine.flow import advance, bare
from rollout_sdk.engine.likeness import fits_of, says_it_is
from rollout_sdk.engine.returned.forms import EAGER
from rollout_sdk.engine.returned.stand_ins import stand_in
from rollout_sdk.engine.returned.streams import AsyncStream, Stream
from rollout_sdk.engine.rollout import Kind
from rollout_sdk.engine.steps import Flow, Invoke, Result, Together
from rollout_sdk.resilience import kill_switch

__all__ = ["DRIVERS", "drive_async_generator", "drive_coroutine", "drive_function", "drive_generator"]


Begin: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], tuple[Call | None, Flow]]
"""Describes and decides a call, and gives the flow to execute; without a call when that broke."""


def drive_function(begin: Begin, control: Callable[..., Any]) -> Callable[..., Any]:
    """A function that executes the flow of every call; variants are plain functions, which may return streams."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if kill_switch.off:
            return control(*args, **kwargs)
        call, flow = begin(args, kwargs)
        step = advance(call, flow, None)
        while not isinstance(step, Result):
            if isinstance(step, Together):
                step = advance(call, flow, run_all(step, run))
                continue
            ran = run(step)
            # Nearly every answer is of a type that needs no second look.
            if type(ran.value) not in EAGER:
                stream = stand_in(call, flow, step, ran)
                if stream is not None:
                    return stream
            step = advance(call, flow, ran)
        if step.error is not None:
            with step:
                raise step.error
        return step.value

    return wrapper


def drive_coroutine(begin: Begin, control: Callable[..., Any]) -> Callable[..., Any]:
    """A coroutine function that executes the flow of every call; variants are coroutine functions."""

    async def driven(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kill_switch.off:
            return await control(*args, **kwargs)
        call, flow = begin(args, kwargs)
        step = advance(call, flow, None)
        while not isinstance(step, Result):
            try:
                sent = await run_together(step, run_async) if isinstance(step, Together) else await run_async(step)
            except GeneratorExit as closing:
                sent = _closed(step, closing)
            if isinstance(sent, Result) and type(sent.value) not in EAGER:
                assert isinstance(step, Invoke)
                stream = stand_in(call, flow, step, sent, run_async)
                if stream is not None:
                    return stream
            step = advance(call, flow, sent)
            del sent
        if step.error is not None:
            with step:
                raise step.error
        return step.value

    return _refusing(control, driven, CO_COROUTINE)


def drive_generator(begin: Begin, control: Callable[..., Any]) -> Callable[..., Any]:
    """A generator function that executes the flow of every call: items pass through as they come, in both directions."""

    def driven(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Generator[Any, Any, Any]:
        if kill_switch.off:
            bare_stream = control(*args, **kwargs)
            del args, kwargs
            return (yield from bare_stream)
        call, flow = begin(args, kwargs)
        # The stream has them now, and keeps them as long as it likes.
        del args, kwargs
        step = advance(call, flow, None)
        while not isinstance(step, Result):
            if isinstance(step, Together):
                step = advance(call, flow, run_all(step, collect))
                continue
            stream = Stream(call, step)
            stream.resume()
            while not stream.ended:
                try:
                    stream.received = yield stream.take()
                except BaseException as thrown:
                    stream.thrown = thrown
                stream.resume()
            step = advance(call, flow, stream.result)
            del stream
        if step.error is not None:
            with step:
                raise step.error
        return step.value

    return _refusing(control, driven, CO_GENERATOR)


def drive_async_generator(begin: Begin, control: Callable[..., Any]) -> Callable[..., Any]:
    """An async generator function that executes the flow of every call."""

    async def driven(args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncGenerator[Any, Any]:
        call, flow = (None, bare(control, args, kwargs)) if kill_switch.off else begin(args, kwargs)
        del args, kwargs
        step = advance(call, flow, None)
        while not isinstance(step, Result):
            if isinstance(step, Together):
                try:
                    sent = await run_together(step, collect_async)
                except GeneratorExit as closing:
                    sent = _closed(step, closing)
                step = advance(call, flow, sent)
                del sent
                continue
            stream = AsyncStream(call, step)
            while True:
                # Whoever closes a coroutine closes first what it waits for: then the stream knows how it ended.
                with suppress(GeneratorExit):
                    await stream.resume()
                if stream.ended:
                    break
                try:
                    stream.received = yield stream.take()
                except BaseException as thrown:
                    stream.thrown = thrown
            step = advance(call, flow, stream.result)
            del stream
        if step.error is not None:
            with step:
                raise step.error

    return _refusing(control, driven, CO_ASYNC_GENERATOR)


def _refusing(control: Callable[..., Any], driven: Callable[..., Any], flag: int) -> Callable[..., Any]:
    """A function that refuses wrong arguments when it is called, and else gives what is driven."""
    fits = fits_of(control)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        # The control raises: it knows best how to say it.
        return driven(args, kwargs) if fits(args, kwargs) else control(*args, **kwargs)

    for name in ("__name__", "__qualname__"):
        setattr(driven, name, getattr(control, name, type(control).__qualname__))
    return says_it_is(wrapper, control, flag)


def _closed(step: Invoke | Together, closing: GeneratorExit) -> Any:
    """What a step gave whose coroutine was closed while it waited: the result of what it waited for is lost."""
    several = isinstance(step, Together)
    result = Result((step.invokes[0] if isinstance(step, Together) else step).variant, 0.0, None, closing, interrupted=True)
    return [result] if several else result


DRIVERS: dict[Kind, Callable[[Begin, Callable[..., Any]], Callable[..., Any]]] = {
    "function": drive_function,
    "coroutine": drive_coroutine,
    "generator": drive_generator,
    "async generator": drive_async_generator,
}
