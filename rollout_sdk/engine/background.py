"""Where shadows run: daemon threads for plain functions, tasks on the caller's loop for coroutines.

Both are bounded, both drop the newest when full, and neither is ever waited for. Threads start at the first use in a
process, so that a server may fork after importing; a forked child starts with nothing (what waits in the queue belongs
to the parent).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from collections import deque
from queue import Empty, SimpleQueue
from time import monotonic, sleep, thread_time
from typing import TYPE_CHECKING

from rollout_sdk.engine.rollout import ShadowLimits
from rollout_sdk.engine.shadow import ShadowRun, finish
from rollout_sdk.forking import renew_after_fork

if TYPE_CHECKING:
    from rollout_sdk.engine.call import Result

__all__ = ["Background"]

_WATCH_EVERY_S = 0.1
_SHORTEST_REST_S = 1e-3


class Background:
    """Runs shadows, by threads or tasks, and gives up those that do not come back."""

    def __init__(self, limits: ShadowLimits) -> None:
        """Start nothing yet."""
        self.limits = limits
        self._threads = _Threads(limits)
        self._tasks = _Tasks(limits)
        renew_after_fork(self)

    def submit(self, run: ShadowRun) -> None:
        """Run it in the background, or end it as dropped; never blocks."""
        if run.rollout.kind in ("coroutine", "async generator"):
            self._tasks.submit(run)
        else:
            self._threads.submit(run)

    def watch(self) -> None:
        """Give up runs that are over their time; called now and then from the background."""
        self._threads.watch()

    def wait(self, timeout_s: float) -> bool:
        """Wait until no run is under way in threads; False when the time was not enough."""
        deadline = monotonic() + timeout_s
        while self._threads.jobs:
            self._threads.watch()
            if monotonic() > deadline:
                return False
            sleep(0.002)
        return True

    def close(self, timeout_s: float) -> None:
        """Take nothing more, give what waits so many seconds to finish, and end the rest as abandoned."""
        self._threads.close(timeout_s)

    def renew(self) -> None:
        """Start afresh in a forked child: only names are set, no lock is taken, no thread started."""
        self._threads = _Threads(self.limits)
        self._tasks = _Tasks(self.limits)


class _Worker(threading.Thread):
    """A thread, and the run that it is busy with."""

    run_now: ShadowRun | None = None
    began = 0.0
    abandoned = False


class _Threads:
    """A bounded pool of daemon threads.

    No lock is shared with callers: a token from a deque is the permit to wait in the queue, and the lock around starting
    a thread is only ever tried.
    """

    def __init__(self, limits: ShadowLimits) -> None:
        self.limits = limits
        self.jobs: dict[int, ShadowRun] = {}
        self._queue: SimpleQueue[ShadowRun | None] = SimpleQueue()
        self._tokens = deque([None] * limits.max_jobs)
        self._workers: list[_Worker] = []
        self._abandoned: list[_Worker] = []
        self._starting = threading.Lock()
        self._watched = 0.0
        self._closed = False
        self._pid = os.getpid()

    def submit(self, run: ShadowRun) -> None:
        if self._pid != os.getpid():
            # uWSGI forks without Python's hooks: the threads are gone, and the queue is the parent's.
            self.__init__(self.limits)  # type: ignore[misc]
        if self._closed:
            run.end("dropped_closed")
            return
        if run.size + sum([job.size for job in list(self.jobs.values())]) > self.limits.max_bytes:
            run.end("dropped_too_large")
            return
        if monotonic() - self._watched > _WATCH_EVERY_S:
            self.watch()
        try:
            self._tokens.pop()
        except IndexError:
            run.end("dropped_full")
            return
        self.jobs[id(run)] = run
        if not self._has_workers():
            self._release(run)
            run.end("dropped_start")
            return
        self._queue.put(run)

    def _release(self, run: ShadowRun) -> None:
        if self.jobs.pop(id(run), None) is not None:
            self._tokens.append(None)

    def _has_workers(self) -> bool:
        """Whether some thread will take a run; starts one when one is missing."""
        if len(self._workers) < self.limits.workers:
            if not self._starting.acquire(blocking=False):
                # Somebody is starting one this very moment.
                return True
            try:
                missing = self.limits.workers - len(self._workers)
                # Each abandoned thread may be replaced, until there are too many of them.
                allowed = self.limits.workers + self.limits.max_abandoned - len(self._workers) - len(self._abandoned)
                if min(missing, allowed) > 0:
                    worker = _Worker(target=self._work, name="rollout-shadow", daemon=True)
                    worker.start()
                    self._workers.append(worker)
            # No thread to be had, or the interpreter is ending: the shadow is dropped, and another will try again.
            except RuntimeError:
                pass
            finally:
                self._starting.release()
        return bool(self._workers)

    def _work(self) -> None:
        worker = threading.current_thread()
        assert isinstance(worker, _Worker)
        while (run := self._queue.get()) is not None:
            if monotonic() - run.submitted > self.limits.max_age_s:
                run.end("dropped_stale")
                self._release(run)
                continue
            cpu = thread_time()
            worker.began, worker.run_now = monotonic(), run
            try:
                finish(run, run.run())
            # A fault of ours, or of a plugin: the model's own are results. It must not end the thread.
            except BaseException as error:
                run.rollout.failed("engine.background", error)
            worker.run_now = None
            self._release(run)
            del run
            if worker.abandoned and not self._taken_back(worker):
                return
            self._rest(thread_time() - cpu)

    def _taken_back(self, worker: _Worker) -> bool:
        """A thread that was given up and came back works on, unless others have taken its place."""
        with contextlib.suppress(ValueError):
            self._abandoned.remove(worker)
        if len(self._workers) >= self.limits.workers:
            return False
        worker.abandoned = False
        self._workers.append(worker)
        return True

    def _rest(self, cpu_s: float) -> None:
        """Sleep so long that all threads together keep to their share of one core."""
        share = self.limits.cpu_share / self.limits.workers
        until = monotonic() + cpu_s * (1 - share) / share
        while not self._closed and (rest := until - monotonic()) > _SHORTEST_REST_S:
            sleep(min(rest, _WATCH_EVERY_S))

    def watch(self) -> None:
        """Give up what runs too long, and whoever runs it."""
        now = self._watched = monotonic()
        for worker in list(self._workers):
            run = worker.run_now
            if run is None or now - worker.began <= self.limits.timeout_s:
                continue
            worker.abandoned = True
            with contextlib.suppress(ValueError):
                self._workers.remove(worker)
                self._abandoned.append(worker)
            run.end("timeout")
            self._release(run)
        if self.jobs and not self._closed:
            self._has_workers()

    def close(self, timeout_s: float) -> None:
        self._closed = True
        deadline = monotonic() + timeout_s
        for _ in self._workers:
            self._queue.put(None)
        for worker in list(self._workers):
            worker.join(max(0.0, deadline - monotonic()))
        with contextlib.suppress(Empty):
            while True:
                self._queue.get_nowait()
        for run in list(self.jobs.values()):
            run.end("abandoned")
            self._release(run)


class _Tasks:
    """Detached tasks on the loop of whoever calls."""

    def __init__(self, limits: ShadowLimits) -> None:
        self.limits = limits
        self._of_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, set[asyncio.Task[None]]] = (
            weakref.WeakKeyDictionary()
        )

    def submit(self, run: ShadowRun) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            run.end("dropped_start", error="no running loop")
            return
        tasks = self._of_loop.setdefault(loop, set())
        if len(tasks) >= self.limits.max_tasks:
            run.end("dropped_full")
            return
        task = loop.create_task(self._supervise(run), context=run.context, name="rollout-shadow")
        # The loop itself holds tasks weakly: without this, a shadow could be collected while it runs.
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _supervise(self, run: ShadowRun) -> None:
        inner: asyncio.Task[Result] = asyncio.create_task(run.run_async())
        try:
            # Never wait_for: it waits for a task that swallows its cancellation.
            await asyncio.wait([inner], timeout=self.limits.timeout_s)
            if inner.done():
                finish(run, inner.result())
                return
            run.end("timeout")
            inner.cancel()
            await asyncio.wait([inner], timeout=self.limits.cancel_grace_s)
        # A fault of ours, or of a plugin: it must not end the loop.
        except (Exception, SystemExit) as error:
            run.rollout.failed("engine.background", error)
        except asyncio.CancelledError:
            run.end("cancelled")
            inner.cancel()
            raise
