"""Stand-ins for answers whose work is still to come: the call ends when that work does.

Nothing runs before the consumer asks for it. The caller receives a generator for a generator, a coroutine for a coroutine, a
stand-in for other objects, and the control's own future. An error before the first item falls back to the control; the call is
recorded when the answer ends, fails, is closed, or is garbage-collected.
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
    """Return the stand-in for an answer whose work is still to come; None if the answer is served as it is.

    Answers of batches (`batch=`) are never streams. The flow pauses until the stream has ended.

    Args:
        call: The call.
        flow: Its flow.
        step: The step that ran.
        ran: Its result.
        run_again: Runs the control as a fallback, for answers of coroutine functions; None: call it directly.
    """
    form = form_of(ran.value)
    # Checked in this order because most answers end here.
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
    """A stream returned by a plain function; its time includes the function's, but not the wait until it is read."""

    def __init__(self, call: Call, step: Invoke, ran: Result, is_collected: Callable[[], bool]) -> None:
        """Start the clock when the consumer requests the first item.

        Args:
            call: The call.
            step: The step that returned the stream.
            ran: The step's result.
            is_collected: Whether the consumer's generator is being garbage-collected rather than closed.
        """
        super().__init__(call, step)
        self.began -= ran.duration_s
        self.result.streamed = True
        self._model = ran.value if type(ran.value) is GeneratorType else each(ran.value)
        self._is_collected = is_collected
        self.begun()

    def begin(self) -> None:
        """Run the model to its first item or its end, unless the consumer closed it or threw into it before."""
        self.step.go_on()
        if self.thrown is not None:
            self.throw()
        elif not self._is_stopped():
            self.resume()

    def throw(self) -> None:
        """Run the model with what the consumer threw."""
        if isinstance(self.thrown, GeneratorExit) and self._is_collected():
            # Released, not closed: other code may hold the returned stream and read on.
            self._model = None
            self._raised(self.thrown, interrupted=True)
        else:
            self.resume()


def _generator(call: Call, flow: Flow, step: Invoke, ran: Result, run_again: Run | None) -> Any:
    """Return a generator that passes on a returned generator's items."""
    if run_again is not None:
        # The answer of a coroutine function: a consumer that uses `for` cannot await the control's fallback.
        return None
    model = ran.value
    itself: list[weakref.ref[Any]] = []
    # Weak references to a generator are cleared before garbage collection closes it.
    passed_on: Any = _passed_on(call, flow, step, ran, lambda: itself[0]() is None)
    passed_on.__name__, passed_on.__qualname__ = model.__name__, model.__qualname__
    # Advance to the point that waits for the first request: a generator that never started cannot record its closing.
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
        # An error of the consumer, not of the model.
        thrown = TypeError("can't send non-None value to a just-started generator")
    while True:
        stream = ReturnedStream(call, step, ran, is_collected)
        stream.received, stream.thrown = received, thrown
        received = thrown = None
        del ran
        stream.begin()
        while not stream.ended:
            try:
                stream.received = yield stream.take()
            except BaseException as error:
                stream.thrown = error
            if stream.thrown is None:
                stream.resume()
            else:
                stream.throw()
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
