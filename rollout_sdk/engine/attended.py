"""A candidate's coroutine, awaited by hand: it may cancel the very task that it runs in, and that is its failure.

asyncio does not say who cancelled a task. While a task runs, nothing else of its loop does: what asks for its cancellation
meanwhile is inside, and what asks for it while it waits is outside.
"""

from __future__ import annotations

import asyncio
import functools
import signal
from asyncio import current_task
from collections.abc import Generator
from typing import Any

from rollout_sdk.engine.steps import Result
from rollout_sdk.engine.tracebacks import context_of, shorten
from rollout_sdk.resilience.interruptions import handler_of, is_interruption

__all__ = ["Attended"]


class Attended:
    """A coroutine (or an async generator's next item), run step by step; how often it has its own task cancelled is counted.

    Attributes:
        waits: Whether it has begun and not ended yet, so that it has to be awaited.
        own: Cancellations of the task that were asked for inside, and not taken back there.
        closed: Whether it was closed while it waited.
    """

    # Defaults live on the class: what is not set costs nothing.
    waits = False
    own = 0
    closed = False
    _model: Any = None
    _task: Any = None
    _waits_for: Any = None
    _before = 0

    def begin(self, model: Any) -> Any:
        """Run it up to where it waits, and give what it returns if it has ended. Where there is no task, only await it."""
        try:
            task: Any = current_task()
        except RuntimeError:
            task = None
        count = getattr(task, "cancelling", None)
        self._model = model
        # A task factory can make tasks of its own, and a model can give an awaitable that is not a coroutine.
        if count is None or not hasattr(model, "throw"):
            self.waits = True
            return None
        self._task = task
        before = count()
        # What was asked for and not delivered yet is delivered inside. What nobody took back counts forever.
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
        """Go on as `await` does."""
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
        """The result of a run that raised.

        A cancellation from outside reaches the caller, also where the candidate made another exception of it: time limits
        around the call rest on it. But for a TimeoutError: some libraries cancel the task to keep a limit of their own.
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
        """Take back what was asked for inside, so that the caller's task goes on; to ask for it is a failure.

        Python before 3.13 delivers a cancellation that was taken back, and it has to be awaited.
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
    """Whether `asyncio.run` has cancelled its task because of a Ctrl-C: its handler runs in the midst of the task."""
    handler = handler_of(signal.SIGINT)
    runner = getattr(handler.func, "__self__", None) if isinstance(handler, functools.partial) else None
    return bool(getattr(runner, "_interrupt_count", 0))
