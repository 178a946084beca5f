"""Streams under way: items pass through as they come, in both directions, and what happens is noted.

The drivers yield what `take` gives, put what the consumer sent or threw into `received` or `thrown`, and call `resume`. The
model is resumed outside every `except` block, and nothing that passed is held while the stream waits: to model and consumer
it is as if they met without us.
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
from rollout_sdk.engine.context import enter_fallback, leave_fallback, reset_call, set_call
from rollout_sdk.engine.deadline import STOPPED, PumpedStream, in_time, on_asyncio, within_elsewhere
from rollout_sdk.engine.execute import failed, withheld
from rollout_sdk.engine.steps import LET_GO, Invoke, Result
from rollout_sdk.engine.tracebacks import shorten
from rollout_sdk.resilience import kill_switch
from rollout_sdk.resilience.interruptions import is_interruption

__all__ = ["AsyncStream", "Stream"]


class _Noted:
    """What both kinds of streams note while items pass: time, first item, and copies for a comparison.

    What was sent or thrown into is not compared: no shadow was sent the same.
    """

    def __init__(self, call: Call | None, step: Invoke) -> None:
        """Start the clock; the model starts with the first `resume`."""
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
        """The item, which is the consumer's alone from now on."""
        item, self._item = self._item, None
        return item

    def begun(self) -> None:
        """Let go of the arguments, but for the call's own where the control may still have to take this stream's place."""
        call, step = self.call, self.step
        step.args, step.kwargs = (), LET_GO
        # Only a candidate that the control may have to take the place of has a gate and a fallback.
        if call is not None and (step.gate is None or call.rollout.on_error == "raise"):
            call.args, call.kwargs = (), LET_GO

    def _leave(self, token: Token[Call | None] | None, thrown: BaseException | None) -> None:
        # A stream can be closed by the garbage collector, in the midst of a context that has nothing to do with it.
        if token is not None and isinstance(thrown, GeneratorExit):
            with suppress(ValueError):
                reset_call(token)

    def _is_stopped(self) -> bool:
        """Whether the operator was faster than this candidate, which then is not run."""
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
        if call is not None and self.step.gate is not None:
            # No control takes its place any more.
            call.args, call.kwargs = (), LET_GO
        self.result.first_item_s = perf_counter() - self.began
        if self.step.protection is not None and not self.step.protection.started():
            self.step.protection = None

    def _returned(self, value: Any, thrown: BaseException | None) -> None:
        """The model ended of itself, or because the consumer closed it."""
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
    """Whether a model raised what its consumer threw into it; one that is closed may raise a GeneratorExit of its own."""
    return error is thrown or (isinstance(error, GeneratorExit) and isinstance(thrown, GeneratorExit))


class Stream(_Noted):
    """A generator under way."""

    def resume(self) -> None:
        """Let the model go on, with what the consumer sent or threw, to its next item or its end."""
        model, thrown, received = self._model, self.thrown, self.received
        span = None if self._span_context is None else attach(self._span_context)
        inner = None if self.step.in_place is None else enter_fallback(self.step.in_place)
        # Streams that take turns must not meet each other's call.
        token = None if self.call is None else set_call(self.call)
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
                # The exception's traceback holds this frame.
                del thrown
            if span is not None:
                detach(span)
            if inner is not None:
                leave_fallback(inner)


class AsyncStream(_Noted):
    """An async generator under way."""

    def _started(self) -> Awaitable[Any]:
        """The model's first item. The loop does not hear of the model: at its end it would close it beside our own."""
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
        """The first item, on a loop that is not asyncio's."""
        return in_time(await within_elsewhere(deadline_s, first), self.step, deadline_s)

    async def resume(self) -> None:  # noqa: C901, PLR0912, PLR0915 - the way of every item, in one frame
        """Let the model go on, with what the consumer sent or threw, to its next item or its end."""
        model, thrown, received = self._model, self.thrown, self.received
        span = None if self._span_context is None else attach(self._span_context)
        inner = None if self.step.in_place is None else enter_fallback(self.step.in_place)
        attended = None
        token = None if self.call is None else set_call(self.call)
        try:
            if thrown is not None:
                self.thrown = self.result.kept = None
                item = await model.athrow(thrown)
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
                ran = failed(self.step, 0.0, error, attended)
                self._end()
                self.result.error, self.result.interrupted = ran.error, ran.interrupted
                # The model's frame, in the exception's traceback, knows this one.
                del ran
        else:
            result = self.result
            # What has cancelled its own task is not served, and the control may still need the arguments.
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
        """Whether a candidate has its own task cancelled."""
        return attended is not None and bool(attended.own) and self.step.gate is not None

    async def _settle(self, attended: Attended) -> None:
        """End a stream whose model has cancelled its own task before the first item; that is not served."""
        self._end()
        self._item, self.result.started, self.result.first_item_s = None, False, None
        model, self._model = self._model, None
        await attended.settle(self.result)
        with suppress(Exception):
            await model.aclose()
