"""Runs shadows of coroutine functions: bounded, detached tasks, each with a timer.

A loop created for one request (`asyncio.run` in a Flask view or a Lambda handler) ends with it and would cut every shadow
short. After three loops have done so, shadows run on a loop of their own, in a thread, as long as loops are that short-lived.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.engine.deadline import asyncio_loop
from rollout_sdk.engine.rollout import ShadowLimits
from rollout_sdk.engine.shadows.shadow import ShadowRun, break_off, finish

if TYPE_CHECKING:
    from rollout_sdk.engine.steps import Result

__all__ = ["Tasks"]

_LOOPS_CUT = 3

_OnLoop: TypeAlias = dict[asyncio.Task["Result"], ShadowRun]


class Tasks:
    """Detached tasks on the caller's loop, each with a timer.

    A task that ignores its cancellation still counts towards the limit.
    """

    def __init__(self, limits: ShadowLimits) -> None:
        """Create an empty set of tasks."""
        self.limits = limits
        # The loop holds tasks weakly; without this, a shadow could be collected while it runs.
        self._of_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _OnLoop] = weakref.WeakKeyDictionary()
        self._closed = False
        # Loops on which a shadow was cancelled; how many of those have since closed; when each loop was first seen.
        self._cut: set[asyncio.AbstractEventLoop] = set()
        self._loops_cut = 0
        self._known_since: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, float] = weakref.WeakKeyDictionary()

    def submit(self, run: ShadowRun, to_thread: Callable[[ShadowRun], None]) -> None:
        """Run it in a task, or end it as dropped.

        `to_thread` takes runs whose result must be compared, and runs that need a loop which outlives the caller's.
        """
        if self._closed:
            run.end("dropped_closed")
            return
        loop = asyncio_loop()
        if loop is None:
            run.end("dropped_start", error="RuntimeError")
            return
        tasks = self._of_loop.get(loop)
        if tasks is None:
            self.watch()
            tasks = self._of_loop.setdefault(loop, {})
            self._know(loop)
        if self._loops_cut >= _LOOPS_CUT and self._may_end_with_its_call(loop):
            to_thread(run)
            return
        if len(tasks) >= self.limits.max_tasks:
            run.end("dropped_full")
            return
        if run.size + sum([each.size for each in tasks.values()]) > self.limits.max_bytes:
            run.end("dropped_too_large")
            return
        if not run.may_start():
            return
        later = self._later(run)
        try:
            task = loop.create_task(later, context=run.context, name="rollout-shadow")
        except BaseException:
            # A loop may have a task factory, which may fail.
            later.close()
            raise
        tasks[task] = run
        timer = loop.call_later(self.limits.timeout_s, self._give_up, task, run)
        task.add_done_callback(lambda task: self._done(tasks, task, timer, to_thread))

    def _know(self, loop: asyncio.AbstractEventLoop) -> None:
        """Register a new loop, and count earlier ones that closed while a shadow was running."""
        cut, self._cut = self._cut, set()
        self._loops_cut += sum(each.is_closed() for each in cut)
        self._known_since[loop] = monotonic()

    def _may_end_with_its_call(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether a loop is so new that it may belong to a single request."""
        return monotonic() - self._known_since.get(loop, 0.0) < self.limits.timeout_s

    @staticmethod
    async def _later(run: ShadowRun) -> Result:
        # Yield to the caller first, even where tasks start eagerly.
        await asyncio.sleep(0)
        return await run.run_in_task()

    @staticmethod
    def _give_up(task: asyncio.Task[Result], run: ShadowRun) -> None:
        run.end("timeout")
        task.cancel()

    def _done(
        self, tasks: _OnLoop, task: asyncio.Task[Result], timer: asyncio.TimerHandle, compare: Callable[[ShadowRun], None]
    ) -> None:
        timer.cancel()
        run = tasks.pop(task, None)
        if run is None:
            return
        try:
            if task.cancelled() or task.result().interrupted:
                # Whether the loop is ending, or only this task was cancelled, shows once the loop has closed.
                self._cut.add(task.get_loop())
                run.end("cancelled")
            elif run.has_to_be_compared(task.result()):
                # A comparison may take long, and the loop belongs to the caller.
                compare(run)
            else:
                finish(run, task.result())
        # A fault of the SDK or a plugin must not end the loop.
        except BaseException as error:
            break_off(run, error)

    def watch(self) -> None:
        """End runs on closed loops, which will never be resumed."""
        for loop, tasks in list(self._of_loop.items()):
            if loop.is_closed():
                if tasks:
                    self._cut.add(loop)
                for task, run in list(tasks.items()):
                    # These tasks are the SDK's, so suppress asyncio's log message about them.
                    task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - as asyncio.gather does
                    run.end("cancelled")
                    tasks.pop(task, None)

    def close(self) -> None:
        """Refuse new runs and end current ones as abandoned; waiting here would block the loop that they need."""
        self._closed = True
        for tasks in list(self._of_loop.values()):
            for run in list(tasks.values()):
                run.end("abandoned")
