"""Runs shadows: in daemon threads for plain functions, as tasks on the caller's loop for coroutines.

Both are bounded, drop the newest run when full, and are never waited for. Threads start at first use in each process, so a
server may fork after importing; a forked child starts empty (queued runs belong to the parent).
"""

from __future__ import annotations

import contextlib
import weakref
from collections import deque

from rollout_sdk.concurrency.clocks import monotonic, thread_time
from rollout_sdk.concurrency.forking import renew_after_fork
from rollout_sdk.concurrency.queues import SimpleQueue
from rollout_sdk.concurrency.threads import Flag, Lock, Thread, caller_sleep
from rollout_sdk.engine.rollout import ShadowLimits
from rollout_sdk.engine.shadows.processes import ProcessLane
from rollout_sdk.engine.shadows.shadow import ShadowRun, break_off, finish
from rollout_sdk.engine.shadows.tasks import Tasks
from rollout_sdk.engine.shadows.waiting import Waiting

__all__ = ["ShadowPool"]

_WATCH_EVERY_S = 0.1
_SHORTEST_REST_S = 1e-3


class ShadowPool:
    """Runs shadows in threads or tasks, and abandons those that hang."""

    def __init__(self, limits: ShadowLimits) -> None:
        """Create the pool without starting a thread."""
        self.limits = limits
        # Of rollouts that are gone, the workers are gone as well.
        self.lanes: weakref.WeakSet[ProcessLane] = weakref.WeakSet()
        self.renew()
        renew_after_fork(self)

    def is_full(self, run: ShadowRun) -> bool:
        """Whether a run would be dropped now, so that its arguments need not be copied."""
        threads = self._threads
        # Nearly always, there is room.
        return not threads._tokens and not run.in_task and threads.is_full()  # noqa: SLF001 - its own module

    def submit(self, run: ShadowRun) -> None:
        """Run it in the background, or end it as dropped; never blocks."""
        if run.in_task:
            self._tasks.submit(run, self._threads.submit)
        else:
            self._threads.submit(run)

    def watch(self) -> None:
        """Abandon runs that exceed their time; called periodically from the background."""
        self._threads.watch()
        self._tasks.watch()

    def wait(self, timeout_s: float) -> bool:
        """Wait until no run is in progress in threads; return False on a timeout."""
        deadline = monotonic() + timeout_s
        while self._threads.jobs:
            self._threads.watch()
            if monotonic() > deadline:
                return False
            caller_sleep(0.002)
        return True

    def close(self, timeout_s: float) -> None:
        """Refuse new runs, wait up to `timeout_s` for runs in threads, and end the rest as abandoned."""
        self._tasks.close()
        self._threads.close(timeout_s)
        for lane in list(self.lanes):
            lane.close()

    def renew(self) -> None:
        """Start empty in a forked child; only assigns attributes, takes no lock and starts no thread."""
        self._threads = _Threads(self.limits)
        self._tasks = Tasks(self.limits)


class _Worker(Thread):
    """A thread, and the run that it executes."""

    run_now: ShadowRun | None = None
    began = 0.0
    abandoned = False


class _Threads:
    """A bounded pool of daemon threads.

    No lock is shared with callers: a token from a deque permits a run to wait in the queue, and the lock around starting a
    thread is only tried, never waited for.
    """

    def __init__(self, limits: ShadowLimits) -> None:
        self.limits = limits
        self.jobs: dict[int, ShadowRun] = {}
        self._queue = Waiting()
        self._tokens = deque([None] * limits.max_jobs)
        # As long as none is larger, all runs together are within the limit.
        self._fair_share = limits.max_bytes // max(1, limits.max_jobs)
        self._is_fair = True
        self._workers: list[_Worker] = []
        self._abandoned: list[_Worker] = []
        self._starting = Lock()
        self._watched = 0.0
        self._closing = Flag()

    def is_full(self) -> bool:
        """Whether no token is left; also checks for hung threads, because `submit` is not called while the pool is full."""
        if self._tokens:
            return False
        if monotonic() - self._watched > _WATCH_EVERY_S:
            self.watch()
        return not self._tokens

    def submit(self, run: ShadowRun) -> None:
        if self._closing.is_set():
            run.end("dropped_closed")
            return
        if run.size > self._fair_share:
            self._is_fair = False
        if not self._is_fair and run.size + sum([job.size for job in list(self.jobs.values())]) > self.limits.max_bytes:
            run.end("dropped_too_large")
            return
        if run.submitted - self._watched > _WATCH_EVERY_S:
            self.watch()
        try:
            self._tokens.pop()
        except IndexError:
            run.end("dropped_full")
            return
        self.jobs[id(run)] = run
        try:
            # Nearly always, all are there.
            has_workers = len(self._workers) >= self.limits.workers or self._has_workers()
        # Ctrl-C while a thread is being started ends the call and its shadow.
        except BaseException:
            self._release(run)
            run.end("cancelled")
            raise
        if not has_workers:
            self._release(run)
            run.end("dropped_start")
            return
        self._queue.put(run)
        if self._closing.is_set():
            # Closed in between: no thread may be left to take this run.
            run.end("dropped_closed")
            self._release(run)

    def _release(self, run: ShadowRun) -> None:
        if self.jobs.pop(id(run), None) is not None:
            self._tokens.append(None)

    def _has_workers(self) -> bool:
        """Whether a thread will take a run; starts one if one is missing."""
        if len(self._workers) < self.limits.workers:
            if not self._starting.acquire(blocking=False):
                # Another caller is starting one right now.
                return True
            try:
                missing = self.limits.workers - len(self._workers)
                # Each abandoned thread may be replaced, up to the limit.
                allowed = self.limits.workers + self.limits.max_abandoned - len(self._workers) - len(self._abandoned)
                if min(missing, allowed) > 0:
                    reference, queue = weakref.ref(self), self._queue
                    worker = _Worker(lambda: _work(reference, queue, worker), "rollout-shadow")
                    self._workers.append(worker)
                    try:
                        worker.start()
                    finally:
                        # It may run although its start was interrupted.
                        if not worker.is_alive():
                            self.lose(worker)
            # No thread available, or the interpreter is shutting down: drop this shadow; the next one tries again.
            except RuntimeError:
                pass
            finally:
                self._starting.release()
        return bool(self._workers)

    def serve(self, worker: _Worker, run: ShadowRun) -> float | None:
        """Execute a run and return its CPU seconds; None if this thread should end."""
        cpu = thread_time()
        try:
            self._execute(worker, run)
        # A fault of the SDK or a plugin (the model's own errors are results). It must not end the thread.
        except BaseException as error:
            break_off(run, error)
        worker.run_now = None
        self._release(run)
        if worker.abandoned and not self._taken_back(worker):
            return None
        return thread_time() - cpu

    def lose(self, worker: _Worker) -> None:
        """Remove a broken thread, so that the next run starts another."""
        with contextlib.suppress(ValueError):
            self._workers.remove(worker)

    def __del__(self) -> None:
        """End the threads, since nothing can be submitted any more. Each finishes its current run."""
        with contextlib.suppress(Exception, SystemExit):  # __init__ failed, or the interpreter is shutting down
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
        """Readmit an abandoned thread that came back, unless others have replaced it."""
        with contextlib.suppress(ValueError):
            self._abandoned.remove(worker)
        if len(self._workers) >= self.limits.workers:
            return False
        worker.abandoned = False
        self._workers.append(worker)
        return True

    def rest(self, cpu_s: float) -> None:
        """Sleep long enough that all threads together stay within their share of one core."""
        share = self.limits.cpu_share / self.limits.workers
        until = monotonic() + cpu_s * (1 - share) / share
        if (rest := until - monotonic()) > _SHORTEST_REST_S:
            self._closing.wait(rest, inside=True)

    def watch(self) -> None:
        """Abandon runs that take too long, with their threads; drop queued runs that no thread is left to take."""
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
            # Another watching thread was faster.
            return
        # In this order: a worker that comes back now must find itself in the list of abandoned ones.
        self._abandoned.append(worker)
        worker.abandoned = True

    def close(self, timeout_s: float) -> None:
        self._closing.set()
        deadline = monotonic() + timeout_s
        for _ in self._workers:
            self._queue.put(None)
        for worker in list(self._workers):
            worker.join(max(0.0, deadline - monotonic()))
        self._queue.clear()
        for run in list(self.jobs.values()):
            run.end("abandoned")
            self._release(run)


def _work(reference: weakref.ref[_Threads], queue: Waiting, worker: _Worker) -> None:
    """Main function of a thread; it references the pool during a run, and only the queue while it waits."""
    bell: SimpleQueue[None] = SimpleQueue()
    try:
        while _serve_next(reference, queue, worker, bell):
            pass
    # The queue or a clock failed. Removing the thread lets the next run start another.
    except BaseException:
        if (threads := reference()) is not None:
            threads.lose(worker)


def _serve_next(reference: weakref.ref[_Threads], queue: Waiting, worker: _Worker, bell: SimpleQueue[None]) -> bool:
    """Take a run and execute it; return False if this thread should end."""
    run = queue.take(bell)
    threads = None if run is None else reference()
    if run is None or threads is None:
        return False
    cpu_s = threads.serve(worker, run)
    del run
    if cpu_s is None:
        return False
    threads.rest(cpu_s)
    return True
