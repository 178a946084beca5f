"""Answers whose work is still to come: the call goes on until that ends, as with functions of their own kind.

Nothing of it runs before its consumer asks. For a generator or coroutine, the caller gets one; for another object, one that
stands in for it; for a future of the control, that itself. An error before the first item falls back to the control; the call
is recorded when the answer ends, fails, is closed, or is collected as garbage.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Mapping
from inspect import GEN_CREATED, getgeneratorstate
from types import GeneratorType
from typing import Any

from rollout_sdk.engine.call import Call
from rollout_sdk.engine.returned.awaited import Awaiting, coroutine_stand_in, run_plain, stream_stand_in, whole
from rollout_sdk.engine.returned.forms import ANSWER, Form, each, form_of, is_given
from rollout_sdk.engine.returned.futures import future_stand_in
from rollout_sdk.engine.returned.iterators import OF_AWAITABLES, OF_STREAMS, of_response, stand_in_for
from rollout_sdk.engine.returned.reading import AsyncReading, Either, Reading
from rollout_sdk.engine.returned.stage import Run, go_on
from rollout_sdk.engine.returned.streams import Stream
from rollout_sdk.engine.steps import Flow, Invoke, Result
from rollout_sdk.formatting import class_name
from rollout_sdk.records import UNMEASURED
from rollout_sdk.resilience.interruptions import is_fault

__all__ = ["ReturnedStream", "stand_in"]


def stand_in(call: Call | None, flow: Flow, step: Invoke, ran: Result, run_again: Run | None = None) -> Any:
    """What the caller gets in place of what a step returned whose work is still to come; None when it is an answer as it is.

    Answers by row (`batch=`) are never streams. The flow waits until the stream has ended.

    Args:
        call: The call.
        flow: Its flow.
        step: The step.
        ran: What the step gave.
        run_again: Runs the control in its place, for what a coroutine function gave; None: by calling it.
    """
    form = form_of(ran.value)
    # In this order: most answers end here.
    if form == ANSWER or call is None or call.rows:
        return None
    try:
        if is_given(ran.value, step.args, step.kwargs):
            return None
        step.rest()
        made = None if form == UNMEASURED else _MAKERS[form](call, flow, step, ran, run_again)
    except BaseException as error:
        if not is_fault(error):
            raise
        call.rollout.failed("engine.returned", error)
        made = None
    if made is None:
        call.unmeasured = class_name(ran.value)
    return made


class ReturnedStream(Stream):
    """A stream under way that a plain function returned; its time begins with the function's, and rests until it is read."""

    def __init__(self, call: Call, step: Invoke, ran: Result, is_collected: Callable[[], bool]) -> None:
        """Start the clock: the consumer asks for the first item.

        Args:
            call: The call.
            step: The step that returned the stream.
            ran: What the step gave.
            is_collected: Whether the consumer's generator is garbage, and not closed by its consumer.
        """
        super().__init__(call, step)
        self.began -= ran.duration_s
        self.result.streamed = True
        self._model = ran.value if type(ran.value) is GeneratorType else each(ran.value)
        self._is_collected = is_collected
        self._is_unread = True
        self.begun()

    def resume(self) -> None:
        """Let the model go on to its next item or its end."""
        is_unread, self._is_unread = self._is_unread, False
        if is_unread:
            self.step.go_on()
        if isinstance(self.thrown, GeneratorExit) and self._is_collected():
            # Let go, and not closed: others may hold what the function returned, and read on.
            self._model = None
            self._raised(self.thrown, interrupted=True)
        elif not (is_unread and self.thrown is None and self._is_stopped()):
            super().resume()


def _generator(call: Call, flow: Flow, step: Invoke, ran: Result, run_again: Run | None) -> Any:
    """A generator that passes on what a returned generator yields."""
    if run_again is not None:
        # Of a coroutine function: whoever reads it cannot await the control in its place.
        return None
    model = ran.value
    itself: list[weakref.ref[Any]] = []
    # A generator's weak references are cleared before it is closed as garbage.
    passed_on: Any = _passed_on(call, flow, step, ran, lambda: itself[0]() is None)
    passed_on.__name__, passed_on.__qualname__ = model.__name__, model.__qualname__
    # Up to where the first item is asked for: one that never began could not note that it was closed unread.
    next(passed_on)
    itself.append(weakref.ref(passed_on))
    return passed_on


def _passed_on(call: Call, flow: Flow, step: Invoke, ran: Result, is_collected: Callable[[], bool]) -> Generator[Any, Any, Any]:
    received: Any = None
    thrown: BaseException | None = None
    try:
        received = yield
    except BaseException as error:
        thrown = error
    if received is not None and getgeneratorstate(ran.value) == GEN_CREATED:
        # The consumer's mistake, not the model's.
        thrown = TypeError("can't send non-None value to a just-started generator")
    while True:
        stream = ReturnedStream(call, step, ran, is_collected)
        stream.received, stream.thrown = received, thrown
        received = thrown = None
        del ran
        stream.resume()
        while not stream.ended:
            try:
                stream.received = yield stream.take()
            except BaseException as error:
                stream.thrown = error
            stream.resume()
        ended = go_on(call, flow, stream.result)
        del stream
        if isinstance(ended, Result):
            break
        step, ran = ended
        del ended
    if ended.error is not None:
        with ended:
            raise ended.error
    return ended.value


def _iterator(call: Call, flow: Flow, step: Invoke, ran: Result, run_again: Run | None) -> Any:
    return None if run_again is not None else stand_in_for(ran.value, OF_STREAMS)(Reading(call, flow, step, ran))


def _coroutine(call: Call, flow: Flow, step: Invoke, ran: Result, run_again: Run | None) -> Any:
    return coroutine_stand_in(call, flow, step, ran, run_again or run_plain, stand_in)


def _async_generator(call: Call, flow: Flow, step: Invoke, ran: Result, run_again: Run | None) -> Any:
    return stream_stand_in(call, flow, step, ran, run_again or run_plain)


def _async_stream(call: Call, flow: Flow, step: Invoke, ran: Result, run_again: Run | None) -> Any:
    reading = AsyncReading(call, flow, step, ran, whole(run_again or run_plain))
    return stand_in_for(ran.value, OF_STREAMS)(reading)


def _either(call: Call, flow: Flow, step: Invoke, ran: Result, run_again: Run | None) -> Any:
    reading = None if run_again is not None else Reading(call, flow, step, ran)
    other = AsyncReading(call, flow, step, ran, whole(run_again or run_plain))
    special = of_response(ran.value) if form_of(ran.value) == "response" else OF_STREAMS
    return stand_in_for(ran.value, special)(Either(reading, other))


def _awaitable(call: Call, flow: Flow, step: Invoke, ran: Result, run_again: Run | None) -> Any:
    return stand_in_for(ran.value, OF_AWAITABLES)(Awaiting(call, flow, step, ran, run_again or run_plain, stand_in))


def _future(call: Call, flow: Flow, step: Invoke, ran: Result, run_again: Run | None) -> Any:
    return future_stand_in(call, flow, step, ran, run_again or run_plain, stand_in)


_MAKERS: Mapping[Form, Callable[[Call, Flow, Invoke, Result, Run | None], Any]] = {
    "generator": _generator,
    "iterator": _iterator,
    "stream": _iterator,
    "coroutine": _coroutine,
    "async generator": _async_generator,
    "async stream": _async_stream,
    "either": _either,
    "response": _either,
    "awaitable": _awaitable,
    "future": _future,
}
