"""Streams that plain functions return: the call goes on until the stream ends, as with a generator function.

Nothing of a stream runs before its consumer asks. For a generator, the caller gets a generator; for another iterator, an
object that stands in for it. An error before the first item falls back to the control; the call is recorded when the stream
ends, fails, is closed, or is collected as garbage.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator
from inspect import GEN_CREATED, getgeneratorstate
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from rollout_sdk.engine.awaited import coroutine_stand_in, stream_stand_in
from rollout_sdk.engine.call import Call
from rollout_sdk.engine.going_on import go_on
from rollout_sdk.engine.iterators import iterator
from rollout_sdk.engine.lazy import each, is_given, is_stream
from rollout_sdk.engine.steps import Flow, Invoke, Result
from rollout_sdk.engine.streams import Stream
from rollout_sdk.interruptions import is_fault

__all__ = ["ReturnedStream", "stand_in"]


def stand_in(call: Call | None, flow: Flow, step: Invoke, ran: Result) -> Any:
    """What the caller gets in place of what a step returned whose work is still to come; None when it is an answer as it is.

    Answers by row (`batch=`) are never streams. The flow waits until the stream has ended.
    """
    kind = type(ran.value)
    # In this order: most answers end here.
    if not (hasattr(kind, "__next__") or kind is CoroutineType or kind is AsyncGeneratorType) or call is None or call.rows:
        return None
    try:
        if kind is CoroutineType or kind is AsyncGeneratorType:
            if is_given(ran.value, step.args, step.kwargs):
                return None
            return (coroutine_stand_in if kind is CoroutineType else stream_stand_in)(call, flow, step, ran)
        if is_stream(ran.value, step.args, step.kwargs):
            return (_generator if kind is GeneratorType else iterator)(call, flow, step, ran)
    except BaseException as error:
        if not is_fault(error):
            raise
        call.rollout.failed("engine.returned", error)
    return None


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

    def resume(self) -> None:
        """Let the model go on to its next item or its end."""
        is_unread, self._is_unread = self._is_unread, False
        if isinstance(self.thrown, GeneratorExit) and self._is_collected():
            # Let go, and not closed: others may hold what the function returned, and read on.
            self._model = None
            self._raised(self.thrown, interrupted=True)
        elif not (is_unread and self.thrown is None and self._is_stopped()):
            super().resume()


def _generator(call: Call, flow: Flow, step: Invoke, ran: Result) -> Any:
    """A generator that passes on what a returned generator yields."""
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
