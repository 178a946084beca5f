"""Where shadows run: daemon threads for plain functions, tasks on the caller's loop for coroutines.

Both are bounded, both drop the newest when full, and neither is ever waited for. Threads start at the first use in a
process, so that a server may fork after importing; a forked child starts with nothing (what waits in the queue belongs
to the parent).
"""

from __future__ import annotations

import contextlib
import weakref
from collections import deque

from rollout_sdk.concurrency.clocks import monotonic, thread_time
from rollout_sdk.concurrency.forking import renew_after_fork
from rollout_sdk.concurrency.threads import Empty, Flag, Lock, SimpleQueue, Thread, caller_sleep
from rollout_sdk.engine.rollout import ShadowLimits
from rollout_sdk.engine.shadows.shadow import ShadowRun, break_off, finish
from rollout_sdk.engine.shadows.tasks import Tasks

__all__ = ["ShadowPool"]

_WATCH_EVERY_S = 0.1
_SHORTEST_REST_S = 1e-3


class ShadowPool:
    """Runs shadows, by threads or tasks, and gives up those that do not come back."""

    def __init__(self, limits: ShadowLimits) -> None:
        """Start nothing yet."""
        self.limits = limits
        self.renew()
        renew_after_fork(self)

    def is_full(self, run: ShadowRun) -> bool:
        """Whether a run would be dropped as things stand, so that its arguments need not be copied."""
        return not run.rollout.is_async and self._threads.is_full()

    def submit(self, run: ShadowRun) -> None:
        """Run it in the background, or end it as dropped; never blocks."""
        if run.in_task:
            self._tasks.submit(run, self._threads.submit)
        else:
            self._threads.submit(run)

    def watch(self) -> None:
        """Give up runs that are over their time; called now and then from the background."""
        self._threads.watch()
        self._tasks.watch()

    def wait(self, timeout_s: float) -> bool:
        """Wait until no run is under way in threads; False when the time was not enough."""
        deadline = monotonic() + timeout_s
        while self._threads.jobs:
            self._threads.watch()
            if monotonic() > deadline:
                return False
            caller_sleep(0.002)
        return True

    def close(self, timeout_s: float) -> None:
        """Take nothing more, give what waits in threads so many seconds to finish, and end the rest as abandoned."""
        self._tasks.close()
        self._threads.close(timeout_s)

    def renew(self) -> None:
        """Start afresh in a forked child: only names are set, no lock is taken, no thread started."""
        self._threads = _Threads(self.limits)
        self._tasks = Tasks(self.limits)


class _Worker(Thread):
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
        self._starting = Lock()
        self._watched = 0.0
        self._closing = Flag()

    def is_full(self) -> bool:
        """Whether there is no token left; looks after hung threads now and then, because nobody submits while it is full."""
        if self._tokens:
            return False
        if monotonic() - self._watched > _WATCH_EVERY_S:
            self.watch()
        return not self._tokens

    def submit(self, run: ShadowRun) -> None:
        if self._closing.is_set():
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
        if self._closing.is_set():
            # It was closed in between: nobody may be left to take this one.
            run.end("dropped_closed")
            self._release(run)

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
                    reference, queue = weakref.ref(self), self._queue
                    worker = _Worker(lambda: _work(reference, queue, worker), "rollout-shadow")
                    worker.start()
                    self._workers.append(worker)
            # No thread to be had, or the interpreter is ending: the shadow is dropped, and another will try again.
            except RuntimeError:
                pass
            finally:
                self._starting.release()
        return bool(self._workers)

    def serve(self, worker: _Worker, run: ShadowRun) -> float | None:
        """Carry a run out; the CPU seconds that it took, None when there is nothing more to do for this thread."""
        cpu = thread_time()
        try:
            self._execute(worker, run)
        # A fault of ours, or of a plugin: the model's own are results. It must not end the thread.
        except BaseException as error:
            break_off(run, error)
        worker.run_now = None
        self._release(run)
        if worker.abandoned and not self._taken_back(worker):
            return None
        return thread_time() - cpu

    def lose(self, worker: _Worker) -> None:
        """Have the next run start another thread in the place of one that broke."""
        with contextlib.suppress(ValueError):
            self._workers.remove(worker)

    def __del__(self) -> None:
        """End the threads: nothing can submit any more. Each finishes what it is busy with."""
        with contextlib.suppress(Exception, SystemExit):  # not even begun; the interpreter is ending; or a part of it is broken
            for _ in self._workers:
                self._queue.put(None)

    def _execute(self, worker: _Worker, run: ShadowRun) -> None:
        if run.ended:
            return
        if monotonic() - run.submitted > self.limits.max_age_s:
            run.end("dropped_stale")
            return
        if not run.may_start():
            return
        worker.began, worker.run_now = monotonic(), run
        finish(run, run.run())

    def _taken_back(self, worker: _Worker) -> bool:
        """A thread that was given up and came back works on, unless others have taken its place."""
        with contextlib.suppress(ValueError):
            self._abandoned.remove(worker)
        if len(self._workers) >= self.limits.workers:
            return False
        worker.abandoned = False
        self._workers.append(worker)
        return True

    def rest(self, cpu_s: float) -> None:
        """Sleep so long that all threads together keep to their share of one core."""
        share = self.limits.cpu_share / self.limits.workers
        until = monotonic() + cpu_s * (1 - share) / share
        if (rest := until - monotonic()) > _SHORTEST_REST_S:
            self._closing.wait(rest, inside=True)

    def watch(self) -> None:
        """Give up what runs too long, and whoever runs it; and what waits too long while nobody is left to run it."""
        now = self._watched = monotonic()
        for worker in list(self._workers):
            run = worker.run_now
            if run is not None and now - worker.began > self.limits.timeout_s:
                self._give_up(worker)
                run.end("timeout")
                if len(self._abandoned) >= self.limits.max_abandoned:
                    run.trip()
                self._release(run)
        if self.jobs and not self._closing.is_set() and not self._has_workers():
            for run in list(self.jobs.values()):
                if now - run.submitted > self.limits.max_age_s:
                    run.end("dropped_stale")
                    self._release(run)

    def _give_up(self, worker: _Worker) -> None:
        try:
            self._workers.remove(worker)
        except ValueError:
            # Another thread that watches was faster.
            return
        # In this order: a worker that comes back now must find itself in the list that it takes itself from.
        self._abandoned.append(worker)
        worker.abandoned = True

    def close(self, timeout_s: float) -> None:
        self._closing.set()
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


def _work(reference: weakref.ref[_Threads], queue: SimpleQueue[ShadowRun | None], worker: _Worker) -> None:
    """A thread: it holds the pool while it has a run, and only the queue while it waits for one."""
    try:
        while _serve_next(reference, queue, worker):
            pass
    # The queue or a clock broke. Its place is free, so that the next run starts another thread.
    except BaseException:
        if (threads := reference()) is not None:
            threads.lose(worker)


def _serve_next(reference: weakref.ref[_Threads], queue: SimpleQueue[ShadowRun | None], worker: _Worker) -> bool:
    """Take a run and carry it out; False when there is nothing more to do for this thread."""
    run = queue.get()
    threads = None if run is None else reference()
    if run is None or threads is None:
        return False
    cpu_s = threads.serve(worker, run)
    del run
    if cpu_s is None:
        return False
    threads.rest(cpu_s)
    return True
