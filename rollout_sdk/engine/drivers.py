"""Four thin drivers, one per kind of function; each wraps the control in a function that executes the flow of every call.

The caller receives the model's own exception object, raised outside every `except` block, with its original context.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from typing import Any, TypeAlias

# The module, not its clock: cloudpickle takes the globals of a wrapper of __main__ along, and finds a module by its name.
from rollout_sdk.engine import execute
from rollout_sdk.engine.call import Call
from rollout_sdk.engine.common import Common, CommonCall, answered, continued, step_of
from rollout_sdk.engine.execute import attempt, collect, collect_async, failed, run, run_all, run_async, run_together, withheld
from rollout_sdk.engine.flow import advance, bare, route
from rollout_sdk.engine.likeness import FunctionKind, fits_of, says_it_is
from rollout_sdk.engine.returned.forms import EAGER
from rollout_sdk.engine.returned.stand_ins import stand_in
from rollout_sdk.engine.returned.streams import AsyncStream, Stream
from rollout_sdk.engine.steps import Flow, Invoke, Result, Together
from rollout_sdk.engine.tracebacks import drop_frame
from rollout_sdk.resilience import kill_switch
from rollout_sdk.resilience.interruptions import is_interruption

_MOST_ARGUMENTS = 20

__all__ = ["DRIVERS", "drive_async_generator", "drive_coroutine", "drive_function", "drive_generator"]


Begin: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], tuple[Call | None, Flow]]
"""Routes a call and returns its flow; the call is None if that failed."""


def drive_function(  # noqa: C901, PLR0915 - two frames
    begin: Begin, control: Callable[..., Any], common: Common | None = None
) -> Callable[..., Any]:
    """Wrap a plain function; its variants may return streams."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: C901, PLR0912 - one frame, for speed and short tracebacks
        if kill_switch.off:
            return control(*args, **kwargs)
        call: Call | None
        step: Invoke | Together | Result
        ran: Result | None
        begun = None if common is None else common.begin(args, kwargs)
        if isinstance(begun, CommonCall):
            if begun.arm.is_control:
                started = execute.perf_counter()
                try:
                    # Between the clocks, as the candidate's gate is: it takes as long.
                    rollout = begun.arm.plan.rollout
                    # Python passes arguments without names on in half the time.
                    value = control(*args, **kwargs) if kwargs else control(*args)
                except BaseException as error:
                    ran = Result(
                        begun.variant, execute.perf_counter() - started, None, error, is_interruption(error, awaited=False)
                    )
                    drop_frame(error)
                else:
                    duration_s = execute.perf_counter() - started
                    # Almost every answer is of a type that is not a stream.
                    if type(value) in EAGER:
                        answered(begun, rollout, duration_s, value)
                        return value
                    ran = Result(begun.variant, duration_s, value)
                    del value
            else:
                rollout, variant = begun.arm.plan.rollout, begun.arm.decision.variant
                tried = attempt(rollout.local_state, variant, rollout.functions[variant], args, kwargs)
                if isinstance(tried, tuple):
                    value, duration_s = tried
                    if type(value) in EAGER:
                        answered(begun, rollout, duration_s, value)
                        return value
                    ran = Result(variant, duration_s, value)
                    del value, tried
                else:
                    ran = tried
            call, flow, step = continued(begun, args)
            if ran is None:
                ran = withheld(step)
        else:
            call, flow = begin(args, kwargs) if begun is None else (begun, route(begun))
            step, ran = advance(call, flow, None), None
        while not isinstance(step, Result):
            if isinstance(step, Together):
                step = advance(call, flow, run_all(step, run))
                continue
            if ran is None:
                ran = run(step)
            if type(ran.value) not in EAGER:
                stream = stand_in(call, flow, step, ran)
                if stream is not None:
                    return stream
            step, ran = advance(call, flow, ran), None
        if step.error is not None:
            with step:
                raise step.error
        return step.value

    return wrapper


def drive_coroutine(  # noqa: C901 - two frames
    begin: Begin, control: Callable[..., Any], common: Common | None = None
) -> Callable[..., Any]:
    """Wrap a coroutine function."""

    async def driven(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: C901, PLR0912 - as above
        if kill_switch.off:
            return await control(*args, **kwargs)
        call: Call | None
        step: Invoke | Together | Result
        sent: Any = None
        begun = None if common is None else common.begin(args, kwargs)
        if isinstance(begun, CommonCall):
            if begun.arm.is_control:
                started = execute.perf_counter()
                try:
                    rollout = begun.arm.plan.rollout
                    value = await (control(*args, **kwargs) if kwargs else control(*args))
                except BaseException as error:
                    drop_frame(error)
                    sent = failed(begun.variant, execute.perf_counter() - started, error)
                else:
                    duration_s = execute.perf_counter() - started
                    if type(value) in EAGER:
                        answered(begun, rollout, duration_s, value)
                        return value
                    sent = Result(begun.variant, duration_s, value)
                    del value
            else:
                begun_step = step_of(begun, args)
                try:
                    sent = await run_async(begun_step)
                except GeneratorExit as closing:
                    sent = _closed(begun_step, closing)
                if sent.error is None and type(sent.value) in EAGER:
                    answered(begun, begun.arm.plan.rollout, sent.duration_s, sent.value)
                    return sent.value
            call, flow, step = continued(begun, args)
        else:
            call, flow = begin(args, kwargs) if begun is None else (begun, route(begun))
            step = advance(call, flow, None)
        while not isinstance(step, Result):
            if sent is None:
                try:
                    sent = await run_together(step, run_async) if isinstance(step, Together) else await run_async(step)
                except GeneratorExit as closing:
                    sent = _closed(step, closing)
            if isinstance(sent, Result) and type(sent.value) not in EAGER:
                assert isinstance(step, Invoke)
                stream = stand_in(call, flow, step, sent, run_async)
                if stream is not None:
                    return stream
            step, sent = advance(call, flow, sent), None
        if step.error is not None:
            with step:
                raise step.error
        return step.value

    return _refusing(control, driven, CO_COROUTINE)


def drive_generator(begin: Begin, control: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a generator function; items, sent values and thrown exceptions pass straight through."""

    def driven(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Generator[Any, Any, Any]:
        if kill_switch.off:
            bare_stream = control(*args, **kwargs)
            del args, kwargs
            return (yield from bare_stream)
        call, flow = begin(args, kwargs)
        # The stream holds the arguments and releases them when it chooses.
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
    """Wrap an async generator function."""

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
                try:  # noqa: SIM105 - for each item, `suppress` costs as much as the rest of the loop
                    await stream.resume()
                # Closing a coroutine first closes what it awaits, so the stream already knows how it ended.
                except GeneratorExit:
                    pass
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
    """Refuse wrong arguments when called, as the control does, instead of at the first `await` or item."""
    fits = fits_of(control)
    # Arguments without names fit by their number alone.
    numbers = {number for number in range(_MOST_ARGUMENTS) if fits((None,) * number, {})}

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if (not kwargs and len(args) in numbers) or fits(args, kwargs):
            return driven(args, kwargs)
        # Call the control so that it raises its own TypeError.
        return control(*args, **kwargs)

    for name in ("__name__", "__qualname__"):
        setattr(driven, name, getattr(control, name, type(control).__qualname__))
    return says_it_is(wrapper, control, flag)


def _closed(step: Invoke | Together, closing: GeneratorExit) -> Any:
    """Return the result of a step whose coroutine was closed while it waited; what it waited for is lost."""
    several = isinstance(step, Together)
    result = Result((step.invokes[0] if isinstance(step, Together) else step).variant, 0.0, None, closing, interrupted=True)
    return [result] if several else result


DRIVERS: dict[FunctionKind, Callable[[Begin, Callable[..., Any]], Callable[..., Any]]] = {
    "function": drive_function,
    "coroutine": drive_coroutine,
    "generator": drive_generator,
    "async generator": drive_async_generator,
}
