"""Steps a candidate's coroutine by hand, to detect a candidate that cancels its own task, which counts as its failure.

asyncio does not record who cancelled a task. But while a task runs, nothing else in its loop does: a cancellation requested
during a step comes from inside, one requested while the task waits comes from outside.
"""

from __future__ import annotations

import asyncio
import functools
import signal
from asyncio import current_task
from collections.abc import Callable, Generator
from typing import Any

from rollout_sdk.engine.steps import Result
from rollout_sdk.engine.tracebacks import context_of, shorten
from rollout_sdk.resilience.interruptions import handler_of, is_interruption

__all__ = ["Attended"]


class Attended:
    """A coroutine (or an async generator's next item) run step by step, counting how often it cancels its own task.

    Attributes:
        waits: Whether it has started and not ended, so that it has to be awaited.
        own: Cancellations of the task requested inside and not withdrawn there.
        closed: Whether it was closed while it waited.
    """

    # Class-level defaults: attributes that are never set cost nothing.
    waits = False
    own = 0
    closed = False
    _model: Any = None
    _task: Any = None
    _found: tuple[Any, Callable[[], int], int] | None = None
    _waits_for: Any = None
    _before = 0

    def __init__(self) -> None:
        """Look at the task, before the coroutine is there and its time is measured."""
        try:
            task: Any = current_task()
        except RuntimeError:
            return
        # Task factories may build tasks of their own.
        count = getattr(task, "cancelling", None)
        if count is not None:
            self._found = task, count, count()

    def begin(self, model: Any) -> Any:
        """Run up to the first suspension; return the value if it has ended. Outside a task, leave everything to `await`."""
        self._model = model
        # A model may return an awaitable that is not a coroutine.
        if self._found is None or not hasattr(model, "throw"):
            self.waits = True
            return None
        task, count, before = self._found
        self._task = task
        # A pending cancellation is delivered inside. One that was never withdrawn keeps counting, so subtract it.
        if before and not getattr(task, "_must_cancel", True):
            self._before = before
        try:
            self._waits_for = model.send(None)
        except StopIteration as stop:
            return stop.value
        finally:
            if (after := count()) != before:
                self.own = max(0, after - before)
        self.waits = True
        return None

    def __await__(self) -> Generator[Any, Any, Any]:
        """Continue as `await` does."""
        model = self._model
        if self._task is None:
            return (yield from model.__await__())
        count = self._task.cancelling
        waits_for, self._waits_for = self._waits_for, None
        resume, given, closing = model.send, None, None
        while True:
            try:
                given = yield waits_for
                resume = model.send
            except GeneratorExit as error:
                closing = error
            except BaseException as error:
                resume, given = model.throw, error
            if closing is not None:
                break
            before = count()
            try:
                waits_for = resume(given)
            except StopIteration as stop:
                return stop.value
            finally:
                # Its traceback holds this frame.
                given = None
                if (after := count()) != before:
                    self.own = max(0, self.own + after - before)
        self.closed = True
        try:
            model.close()
            raise closing
        finally:
            del closing

    @property
    def is_cancelled(self) -> bool:
        """Whether the task was cancelled from outside, or by Ctrl-C."""
        if self._task is None:
            return is_interruption(asyncio.CancelledError(), awaited=True)
        return self._task.cancelling() - self.own > self._before or _was_stopped_by_ctrl_c()

    def failed(self, variant: str, duration_s: float, error: BaseException) -> Result:
        """Return the result of a run that raised.

        An outside cancellation reaches the caller even if the candidate turned it into another exception: time limits around
        the call rely on it. TimeoutError is the exception: some libraries cancel the task to enforce a limit of their own.
        """
        interrupted = self.closed
        if isinstance(error, asyncio.CancelledError):
            interrupted |= self.is_cancelled
        elif (
            isinstance(error, Exception)
            and not isinstance(error, TimeoutError)
            and isinstance(context_of(error), asyncio.CancelledError)
            and self.is_cancelled
        ):
            return Result(variant, duration_s, None, asyncio.CancelledError(), interrupted=True)
        else:
            interrupted |= is_interruption(error, awaited=True)
        shorten(error)
        return Result(variant, duration_s, None, error, interrupted)

    async def settle(self, result: Result) -> Result:
        """Withdraw cancellations requested inside, so that the caller's task goes on; the candidate's run is a failure.

        Before 3.13, Python still delivers a cancellation that was withdrawn, so it has to be awaited.
        """
        if result.error is None:
            result.value, result.error = None, asyncio.CancelledError("The candidate cancelled the task that it ran in.")
        for _ in range(self.own):
            self._task.uncancel()
        if getattr(self._task, "_must_cancel", False):
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as error:
                if self._task.cancelling() > self._before:
                    result.error, result.interrupted = error, True
        return result


def _was_stopped_by_ctrl_c() -> bool:
    """Whether `asyncio.run` cancelled its task because of Ctrl-C: its signal handler runs during a step."""
    handler = handler_of(signal.SIGINT)
    runner = getattr(handler.func, "__self__", None) if isinstance(handler, functools.partial) else None
    return bool(getattr(runner, "_interrupt_count", 0))
