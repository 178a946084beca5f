"""Where shadows of coroutine functions run: detached tasks, bounded, each with a timer.

A loop that is made for one request (`asyncio.run` in a view of Flask, a handler of Lambda) ends with it, and would cut every
shadow short. Once three loops have done that, shadows get a loop of their own, in a thread, for as long as loops come and go.
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
    """Detached tasks on the loop of whoever calls, each with a timer. A task that does not end when it is cancelled goes on
    counting, so that there are never more than so many.
    """

    def __init__(self, limits: ShadowLimits) -> None:
        """Run nothing yet."""
        self.limits = limits
        # The loop itself holds tasks weakly: without this, a shadow could be collected while it runs.
        self._of_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _OnLoop] = weakref.WeakKeyDictionary()
        self._closed = False
        # Loops on which a shadow was cancelled; how many of them were closed then; and since when each loop is known.
        self._cut: set[asyncio.AbstractEventLoop] = set()
        self._loops_cut = 0
        self._known_since: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, float] = weakref.WeakKeyDictionary()

    def submit(self, run: ShadowRun, to_thread: Callable[[ShadowRun], None]) -> None:
        """Run it in a task, or end it as dropped.

        `to_thread` takes a run that has a result to be compared, and one that needs a loop which outlives the caller's.
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
            # A loop can have a task factory of its own, which fails.
            later.close()
            raise
        tasks[task] = run
        timer = loop.call_later(self.limits.timeout_s, self._give_up, task, run)
        task.add_done_callback(lambda task: self._done(tasks, task, timer, to_thread))

    def _know(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin with a new loop, and see which of those before it have ended under their shadows."""
        cut, self._cut = self._cut, set()
        self._loops_cut += sum(each.is_closed() for each in cut)
        self._known_since[loop] = monotonic()

    def _may_end_with_its_call(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether a loop is so young that it may be the loop of one request."""
        return monotonic() - self._known_since.get(loop, 0.0) < self.limits.timeout_s

    @staticmethod
    async def _later(run: ShadowRun) -> Result:
        # The caller goes first, even where tasks start eagerly.
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
                # Whether the loop ends, or only this task was cancelled, is known when the loop has closed.
                self._cut.add(task.get_loop())
                run.end("cancelled")
            elif run.has_to_be_compared(task.result()):
                # A comparison may take its time, and the loop is the caller's.
                compare(run)
            else:
                finish(run, task.result())
        # A fault of ours, or of a plugin: it must not end the loop.
        except BaseException as error:
            break_off(run, error)

    def watch(self) -> None:
        """End what waits on loops that were closed: nobody will ever go on with it."""
        for loop, tasks in list(self._of_loop.items()):
            if loop.is_closed():
                if tasks:
                    self._cut.add(loop)
                for task, run in list(tasks.items()):
                    # They are ours: the application need not read of them in its log.
                    task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - as asyncio.gather does
                    run.end("cancelled")
                    tasks.pop(task, None)

    def close(self) -> None:
        """Take nothing more, and end what there is as abandoned: waiting here would hold the very loop that it needs."""
        self._closed = True
        for tasks in list(self._of_loop.values()):
            for run in list(tasks.values()):
                run.end("abandoned")
