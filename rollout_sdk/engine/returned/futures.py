"""Futures that are returned, of asyncio and of thread pools: their work has begun already.

A future can be observed without being changed. So callers get the control's own, and a candidate's own where nothing would
take its place. For a candidate's that the control may have to answer for, they get a task or future that ends as one of the
two does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from rollout_sdk.concurrency.clocks import perf_counter
from rollout_sdk.engine.call import Call
from rollout_sdk.engine.execute import run
from rollout_sdk.engine.flow import advance
from rollout_sdk.engine.returned.awaited import Look, awaited
from rollout_sdk.engine.returned.forms import ANSWER, form_of
from rollout_sdk.engine.returned.stage import Run
from rollout_sdk.engine.steps import Flow, Invoke, Result
from rollout_sdk.formatting import class_name
from rollout_sdk.resilience.interruptions import is_fault

__all__ = ["future_stand_in"]


def future_stand_in(call: Call, flow: Flow, step: Invoke, ran: Result, run_again: Run, look: Look) -> Any:
    """What the caller gets for a future; None where it can be neither observed nor replaced from here."""
    future, rollout = ran.value, call.rollout
    is_threaded = isinstance(future, Future)
    if not is_threaded and not _is_here(future):
        return None
    may_fall_back = step.variant != rollout.control and rollout.on_error == "control"
    if may_fall_back and type(future) is Future:
        return _Chained(call, flow, step, ran)
    if may_fall_back and type(future) in (asyncio.Future, asyncio.Task):
        return asyncio.ensure_future(awaited(call, flow, step, ran, run_again, look))
    began = perf_counter() - ran.duration_s

    def note(ended: Any) -> None:
        try:
            result = _result(step, ended, began)
            # Without another object in its place, nothing is seen of a stream that it gives.
            if result.error is None and form_of(result.value) != ANSWER:
                call.unmeasured = class_name(result.value)
            advance(call, flow, result)
        except BaseException as error:
            if not is_fault(error):
                raise
            rollout.failed("engine.returned", error)

    future.add_done_callback(note)
    return future


def _is_here(future: Any) -> bool:
    """Whether a future of asyncio is one of the loop that runs here."""
    try:
        return future.get_loop() is asyncio.get_running_loop()
    except RuntimeError:
        return False


def _result(step: Invoke, future: Any, began: float) -> Result:
    """How a future ended. Its exception is not asked for: to ask is to have asyncio believe that its owner has."""
    is_cancelled = future.cancelled()
    error = asyncio.CancelledError() if is_cancelled else getattr(future, "_exception", None)
    value = None if error is not None else future.result()
    result = Result(step.variant, perf_counter() - began, value, error, interrupted=is_cancelled)
    result.awaited = isinstance(future, asyncio.Future)
    return result


class _Chained(Future[Any]):
    """A future that ends as a candidate's does; when that fails, as what the control returns in its place."""

    def __init__(self, call: Call, flow: Flow, step: Invoke, ran: Result) -> None:
        super().__init__()
        self._call = call
        self._flow = flow
        self._inner: Any = None
        self._follow(step, ran)

    def _follow(self, step: Invoke, ran: Result) -> None:
        self._inner = ran.value
        ran.value.add_done_callback(self._noting(step, perf_counter() - ran.duration_s))

    def _noting(self, step: Invoke, began: float) -> Callable[[Any], None]:
        def note(ended: Any) -> None:
            try:
                self._go_on(_result(step, ended, began))
            except BaseException as error:
                self._call.rollout.failed("engine.returned", error)
                self._end(_result(step, ended, began))

        return note

    def _go_on(self, result: Result) -> None:
        while True:
            step = advance(self._call, self._flow, result)
            if isinstance(step, Result):
                self._end(step)
                return
            assert isinstance(step, Invoke)
            result = run(step)
            if isinstance(result.value, Future):
                self._follow(step, result)
                return

    def _end(self, result: Result) -> None:
        if self.done() or (result.interrupted and super().cancel()):
            return
        self.set_running_or_notify_cancel()
        if result.error is None:
            self.set_result(result.value)
        else:
            self.set_exception(result.error)

    def cancel(self) -> bool:
        """Cancel the future that it waits for."""
        return self._inner.cancel()  # type: ignore[no-any-return]

    def running(self) -> bool:
        """Whether the future that it waits for runs."""
        return not self.done() and self._inner.running()
