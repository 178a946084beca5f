"""Streams in progress: items, sent values and thrown exceptions pass straight through and are recorded.

The drivers yield the result of `take`, store what the consumer sent or threw in `received` or `thrown`, and call `resume`. The
model is resumed outside every `except` block, and no passed item is kept while the stream waits: the SDK stays invisible to
model and consumer.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from contextlib import suppress
from contextvars import Token
from typing import Any

from rollout_sdk.concurrency.clocks import perf_counter
from rollout_sdk.concurrency.context_vars import attach, detach
from rollout_sdk.engine.attended import Attended
from rollout_sdk.engine.call import Call
from rollout_sdk.engine.context import enter_fallback, leave_fallback
from rollout_sdk.engine.current import Current, current_call, reset_call, set_call
from rollout_sdk.engine.deadline import STOPPED, PumpedStream, in_time, on_asyncio, within_elsewhere
from rollout_sdk.engine.execute import failed, withheld
from rollout_sdk.engine.steps import LET_GO, Invoke, Result
from rollout_sdk.engine.tracebacks import shorten
from rollout_sdk.resilience import kill_switch
from rollout_sdk.resilience.interruptions import is_interruption

__all__ = ["AsyncStream", "Stream"]

# Python 3.11 looks a method of an imported object up anew at every call.
_last = current_call.get


class _Noted:
    """Common part of both kinds of streams: records duration, first item, and copies for a comparison.

    A stream that something was sent or thrown into is not compared, since a shadow gets none of it.
    """

    def __init__(self, call: Call | None, step: Invoke) -> None:
        """Start the clock; the model starts at the first `resume`."""
        self.call = call
        self.step = step
        self.began = perf_counter()
        self.result = Result(step.variant, 0.0)
        self.result.kept = step.keep
        self.ended = False
        self.received: Any = None
        self.thrown: BaseException | None = None
        self._span_context = step.span_context
        self._model: Any = None
        self._item: Any = None

    def take(self) -> Any:
        """Hand over the item without keeping a reference."""
        item, self._item = self._item, None
        return item

    def begun(self) -> None:
        """Release the arguments, except the call's own where the control may still have to replace this stream."""
        call, step = self.call, self.step
        step.args, step.kwargs = (), LET_GO
        # A candidate that the control may have to replace has a gate, and its rollout falls back.
        if call is not None and (step.gate is None or call.rollout.on_error == "raise"):
            call.args, call.kwargs = (), LET_GO

    def _leave(self, token: Token[Current | None] | None, thrown: BaseException | None) -> None:
        # The garbage collector can close a stream in an unrelated context.
        if token is not None and isinstance(thrown, GeneratorExit):
            with suppress(ValueError):
                reset_call(token)

    def _is_stopped(self) -> bool:
        """Withhold a candidate that the operator stopped before it started; return whether it was."""
        gate = self.step.gate
        if gate is None or not (gate.closed or kill_switch.off):
            return False
        self._withhold()
        return True

    def _withhold(self) -> None:
        self.ended, self.result = True, withheld(self.step)

    def _first(self) -> None:
        self.result.started = True
        call = self.call
        if call is not None:
            # There is no fallback after the first item.
            call.args, call.kwargs = (), LET_GO
        self.result.first_item_s = perf_counter() - self.began
        if self.step.protection is not None and not self.step.protection.started():
            self.step.protection = None

    def _returned(self, value: Any, thrown: BaseException | None) -> None:
        """Record that the model ended by itself, or because the consumer closed it."""
        self._end()
        self.result.value = value
        self.result.interrupted = isinstance(thrown, GeneratorExit)

    def _raised(self, error: BaseException, *, interrupted: bool) -> None:
        shorten(error)
        self._end()
        self.result.error = error
        self.result.interrupted = interrupted

    def _end(self) -> None:
        self.ended = True
        self.result.duration_s = perf_counter() - self.began


def _is_consumers(error: BaseException, thrown: BaseException | None) -> bool:
    """Whether a model raised what its consumer threw in; a model that is closed may raise its own GeneratorExit."""
    return error is thrown or (isinstance(error, GeneratorExit) and isinstance(thrown, GeneratorExit))


class Stream(_Noted):
    """A generator in progress."""

    def resume(self) -> None:
        """Run the model, with what the consumer sent or threw, to its next item or its end."""
        model, thrown, received = self._model, self.thrown, self.received
        span = None if self._span_context is None else attach(self._span_context)
        inner = None if self.step.in_place is None else enter_fallback(self.step.in_place)
        # Interleaved streams must not see each other's call.
        call = self.call
        # Where it is current already, as it mostly is, nothing has to be set for each item.
        token = None if call is None or _last() is call else set_call(call)
        try:
            if thrown is not None:
                self.thrown = self.result.kept = None
                item = model.throw(thrown)
            elif received is not None:
                self.received = self.result.kept = None
                item = model.send(received)
            else:
                if model is None:
                    if self._is_stopped():
                        return
                    model = self._model = self.step.function(*self.step.args, **self.step.kwargs)
                    self.begun()
                item = next(model)
        except StopIteration as stop:
            self._returned(stop.value, thrown)
        except BaseException as error:
            self._raised(error, interrupted=_is_consumers(error, thrown) or is_interruption(error, awaited=False))
        else:
            result = self.result
            if not result.started:
                self._first()
            if result.kept is not None:
                result.kept.add(item)
            self._item = item if self.step.protection is None else self.step.protection.item(item)
        finally:
            if thrown is not None:
                self._leave(token, thrown)
                # The exception's traceback references this frame.
                del thrown
            if span is not None:
                detach(span)
            if inner is not None:
                leave_fallback(inner)


class AsyncStream(_Noted):
    """An async generator in progress."""

    def _started(self) -> Awaitable[Any]:
        """Return the model's first item. The model is hidden from the loop's hooks, which would close it at the loop's end."""
        step = self.step
        if step.deadline_s is not None and on_asyncio():
            self._model = PumpedStream(step.function, step, step.deadline_s)
            return anext(self._model)
        model = self._model = step.function(*step.args, **step.kwargs)
        self.begun()
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, None)
        try:
            first = anext(model)
        finally:
            sys.set_asyncgen_hooks(*hooks)
        return first if step.deadline_s is None else self._first_within(step.deadline_s, first)

    async def _first_within(self, deadline_s: float, first: Awaitable[Any]) -> Any:
        """Await the first item with a deadline, on a loop that is not asyncio's."""
        return in_time(await within_elsewhere(deadline_s, first), self.step, deadline_s)

    async def resume(self) -> None:  # noqa: C901, PLR0912, PLR0915 - the path of every item, in one frame
        """Run the model, with what the consumer sent or threw, to its next item or its end."""
        model, thrown, received = self._model, self.thrown, self.received
        span = None if self._span_context is None else attach(self._span_context)
        inner = None if self.step.in_place is None else enter_fallback(self.step.in_place)
        attended = None
        call = self.call
        # Where it is current already, as it mostly is, nothing has to be set for each item.
        token = None if call is None or _last() is call else set_call(call)
        try:
            if thrown is not None:
                self.thrown = self.result.kept = None
                item = await model.athrow(thrown)
                if item is None and getattr(model, "ag_frame", model) is None:
                    # It had ended already: the garbage collector ends what it finds in any order.
                    raise thrown
            elif received is not None:
                self.received = self.result.kept = None
                item = await model.asend(received)
            else:
                if model is None:
                    if self._is_stopped():
                        return
                    attended = Attended()
                    item = attended.begin(self._started())
                if attended is None:
                    item = await anext(model)
                elif attended.waits:
                    item = await attended
                    if item is STOPPED:
                        self._withhold()
                        return
        except StopAsyncIteration:
            self._returned(None, thrown)
        except BaseException as error:
            if _is_consumers(error, thrown):
                self._raised(error, interrupted=True)
            else:
                ran = failed(self.step.variant, 0.0, error, attended)
                self._end()
                self.result.error, self.result.interrupted = ran.error, ran.interrupted
                # The model's frame, in the exception's traceback, references this one.
                del ran
        else:
            result = self.result
            # An item is not served if the model cancelled its own task, and the control may still need the arguments.
            if not result.started and not self._is_own(attended):
                self._first()
            if result.kept is not None:
                result.kept.add(item)
            self._item = item if self.step.protection is None else self.step.protection.item(item)
        finally:
            if thrown is not None:
                self._leave(token, thrown)
                del thrown
            if span is not None:
                detach(span)
            if inner is not None:
                leave_fallback(inner)
        if attended is not None and self._is_own(attended) and not self.result.interrupted:
            await self._settle(attended)

    def _is_own(self, attended: Attended | None) -> bool:
        """Whether a candidate has cancelled its own task."""
        return attended is not None and bool(attended.own) and self.step.gate is not None

    async def _settle(self, attended: Attended) -> None:
        """End a stream whose model cancelled its own task before the first item, which is then not served."""
        self._end()
        self._item, self.result.started, self.result.first_item_s = None, False, None
        model, self._model = self._model, None
        await attended.settle(self.result)
        with suppress(Exception):
            await model.aclose()
