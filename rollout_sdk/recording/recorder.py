"""The recorder: one background thread that takes facts from callers and hands them on in batches.

What it takes, and what it drops when it cannot keep up, is in `intake`; here is the thread.
The thread starts with the first fact of a process and again after a fork; that fact is delivered at once (after 5 ms), those
that follow in batches: every 20 ms, the thread looks by itself. It rests after half a second without facts, and the next one
rings for it.
"""

from __future__ import annotations

import atexit
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.concurrency.forking import notice_fork, renew_after_fork, same_process
from rollout_sdk.concurrency.queues import Empty, SimpleQueue
from rollout_sdk.concurrency.threads import Flag, Lock, Thread, imported
from rollout_sdk.plugins.manager import Failed
from rollout_sdk.recording.intake import MOST_AT_ONCE, Intake
from rollout_sdk.records.sampling import Load
from rollout_sdk.resilience.faults import Fault, Notice
from rollout_sdk.resilience.interruptions import is_fault

__all__ = ["Recorder"]

_GATHER_S = 0.02
_FIRST_S = 0.005
_IDLE_S = 0.5
_LONGEST_WAIT_S = 1.0


_RESTS_AFTER_S = 0.5
"""After that long without a fact, the thread waits to be woken; until then, it looks by itself, and no caller wakes it."""

_NOW = object()
"""The bell's signal from a caller that waits for the queue."""


class _Flush:
    """A mark in the queue: everything before it has been delivered when it is set, or passed on when `then` is called."""

    def __init__(self, then: Callable[[Flag], None] | None = None) -> None:
        self.done = Flag()
        self._then = then

    def reached(self) -> None:
        """Everything before it has been delivered."""
        if self._then is None:
            self.done.set()
        else:
            self._then(self.done)


class _Last:
    """The recorder itself, in its own queue: the last reference to it went, and its thread brings everything to an end."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder


class Recorder(Intake):
    """Delivers facts in the background.

    Its thread holds it only while there is something to deliver. When the last reference goes, what waits is delivered, and
    the thread ends.
    """

    on_close: Callable[[float], None] | None = None
    """Called first when closing, with the seconds it may take: ends what still produces facts."""

    on_closed: Callable[[float], None] | None = None
    """Called last when closing, once everything is delivered, with the seconds that are left: puts away what came of it."""

    def __init__(
        self,
        deliver: Callable[[list[Any]], None],
        *,
        failed: Failed,
        tick: Callable[[], None],
        exit_deadline_s: float = 1.0,
        gather_s: float = _GATHER_S,
        load: Load | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            deliver: Takes a batch of facts, in order, in the recorder's thread.
            failed: Notified of every fault; must not call the recorder again endlessly from this thread.
            tick: Called about twice a second while the thread runs, and once at its end.
            exit_deadline_s: Seconds that closing may take.
            gather_s: Seconds to wait for more facts after one has come; 0 where callers wait for theirs.
            load: Where calls that begin read how full the queue is.
        """
        super().__init__(Load() if load is None else load)
        self._hand_over = deliver
        self._failed = failed
        self._tick = tick
        self._exit_deadline_s = exit_deadline_s
        self._gather_s = gather_s
        self._close_at_exit: Callable[[], object] = _closing(weakref.ref(self))
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Start afresh: no thread, an empty queue, nothing dropped."""
        super().renew()
        self._bell: SimpleQueue[Any] = SimpleQueue()
        self._has_gathered = False
        self._last_fact = 0.0
        self._thread: Thread | None = None
        self._starting = Lock()
        self._has_worked = False

    @property
    def is_current(self) -> bool:
        """Whether this is the recorder's own thread."""
        return self._thread is not None and self._thread.is_current

    def _wake(self) -> None:
        """Have the thread look at the queue; start it if there is none."""
        if self._thread is None:
            self._start()
        else:
            self._rests = False
            self._bell.put(None)

    def put_and_wait(self, fact: Any, then: Callable[[Flag], None] | None = None) -> None:
        """Take a fact, and return when it has been delivered, or after a second; never raises.

        Others that wait are delivered in the same batch. In the recorder's own thread, it does not wait. With `then`, it
        returns when the flag is set that `then` is called with, in the recorder's thread and after the fact is delivered.
        """
        self.put(fact)
        self.flush(_LONGEST_WAIT_S, then)

    def _start(self) -> None:
        # Only tried, never waited for: a signal handler may call us while this very thread holds it.
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self._thread is None:
                # In this order: a thread that has nothing but an end to make asks at once whether it is this one.
                self._thread = thread = Thread(partial(_run, weakref.ref(self), self._queue, self._bell), "rollout-recorder")
                self._rests = False
                try:
                    thread.start()
                finally:
                    # Without one, the facts wait, and the next one tries again. It may run although its start was interrupted.
                    if not thread.is_alive():
                        self._thread, self._rests = None, True
                self.close_at_exit()
        # No thread can be started now.
        except RuntimeError:
            pass
        finally:
            self._starting.release()

    def close_at_exit(self) -> None:
        """Close when the process ends, before what was set up earlier ends: hooks of the exit run last in, first out.

        A telemetry SDK that has shut down takes no more spans. So it is done at the first use, and again when an SDK has come.
        """
        atexit.unregister(self._close_at_exit)
        atexit.register(self._close_at_exit)
        # A process of multiprocessing ends without atexit (before Python 3.14), but not without its own finalizers.
        util, process = imported("multiprocessing.util"), imported("multiprocessing.process")
        if util is not None and process is not None and process.parent_process() is not None:
            util.Finalize(None, self._close_at_exit, exitpriority=0)

    def _work(self, queue: deque[Any], rang: object, last_tick: float) -> tuple[float, float] | None:
        """Deliver what has come.

        Args:
            queue: The queue that the thread was started for.
            rang: What the thread was woken with: `_NOW`, or nothing in particular.
            last_tick: When the last tick was.

        Returns:
            The seconds until the next look, and when the last tick was; None at the end.
        """
        if self._queue is not queue:
            return None
        waiting, is_awaited = len(queue), rang is _NOW or self._closed or not self._gather_s
        # Callers ring only for a thread that rests: waking one costs a caller more than all else.
        self._rests = False
        if waiting and not (self._has_gathered or is_awaited or waiting >= MOST_AT_ONCE):
            # One delivery for many facts: each costs the callers the interpreter lock. Soon for the first of a process, which
            # may have no more: a worker that ends by os._exit after its one job.
            self._has_gathered = True
            return (self._gather_s if self._has_worked else min(self._gather_s, _FIRST_S)), last_tick
        batch = [queue.popleft() for _ in range(min(waiting, MOST_AT_ONCE))]
        self._has_worked = self._has_worked or any(not isinstance(fact, _Flush | Fault | Notice) for fact in batch)
        self._deliver(batch)
        now = monotonic()
        if batch:
            self._last_fact = now
        if self._load.level:
            self._lower_level()
        if now - last_tick >= _IDLE_S:
            last_tick = now
            self._guarded("tick", self._tick)
        if self._closed and not queue:
            self._guarded("tick", self._tick)
            return None
        if len(queue) >= MOST_AT_ONCE or (queue and is_awaited):
            return 0.0, last_tick
        self._has_gathered = bool(self._gather_s) and now - self._last_fact < _RESTS_AFTER_S
        if self._has_gathered:
            return self._gather_s, last_tick
        self._rests = True
        # In this order: a fact that came before the line above has not rung.
        return (0.0 if queue else _IDLE_S), last_tick

    def _ended(self, queue: deque[Any]) -> None:
        # Whatever ended the work too early: the next fact starts another thread.
        if not self._closed and self._queue is queue:
            self._thread, self._rests = None, True

    def __del__(self) -> None:
        """Have the thread deliver what waits and end, now that nothing else refers to this."""
        with suppress(Exception, SystemExit):  # not even begun; the interpreter is ending; or a part of it is broken
            if not self._closed and same_process[0] and (self._thread is not None or self._queue):
                # The weak reference is cut. Until the thread is done, the end of the process has to know.
                atexit.unregister(self._close_at_exit)
                self._close_at_exit = self.close
                atexit.register(self._close_at_exit)
                if self._thread is None:
                    self._start()
                self._bell.put(_Last(self))

    def _end(self) -> None:
        """In the thread: come to an end, because nothing refers to this any more, and everything is delivered."""
        deadline = monotonic() + self._exit_deadline_s
        self._guarded("close", partial(self._close, deadline))
        while self._queue:
            self._deliver([self._queue.popleft()])
        self._guarded("tick", self._tick)
        self._guarded("close", partial(self._closing, deadline))
        # Until here, the end of the process waits for it.
        atexit.unregister(self._close_at_exit)

    def _deliver(self, batch: list[Any]) -> None:
        facts = [fact for fact in batch if not isinstance(fact, _Flush)]
        for portion in self._portions(facts) if self._rows_waiting else (facts,):
            if portion:
                self._guarded("recorder", partial(self._hand_over, portion))
        for fact in batch:
            if isinstance(fact, _Flush):
                self._guarded("recorder", fact.reached)

    def _guarded(self, name: str, action: Callable[[], Any]) -> None:
        try:
            action()
        # Of any kind: this thread is never cancelled or interrupted, and must not end because other code raised.
        except BaseException as error:
            self._failed(name, error)

    def flush(self, timeout_s: float, then: Callable[[Flag], None] | None = None) -> bool:
        """Wait until everything put so far has been delivered (`then`: see above); False when the time was not enough.

        In the recorder's own thread, it does not wait.
        """
        if not same_process[0]:
            notice_fork()
        if self._thread is None and self._queue:
            self._start()
        thread = self._thread
        if thread is None or not thread.is_alive() or self.is_current:
            return not self._queue
        mark = _Flush(then)
        self._queue.append(mark)
        self._bell.put(_NOW)
        return mark.done.wait(timeout_s)

    def close(self, timeout_s: float | None = None) -> bool:
        """Take nothing more, and deliver what waits within so many seconds (the exit deadline); whether all of it was.

        Never raises: it is called when the process ends, and must not be what is seen of it.
        """
        done = False
        try:
            if not same_process[0]:
                # The end of a child that has done nothing: what waits is its parent's.
                notice_fork()
            deadline = monotonic() + (self._exit_deadline_s if timeout_s is None else timeout_s)
            atexit.unregister(self._close_at_exit)
            done = self._close(deadline)
            self._closing(deadline)
        except BaseException as error:
            if not is_fault(error):
                raise
            self._failed("close", error)
        return done

    def _closing(self, deadline: float) -> None:
        if self.on_closed is not None:
            self.on_closed(max(0.0, deadline - monotonic()))

    def _close(self, deadline: float) -> bool:
        if self.on_close is not None:
            try:
                self.on_close((deadline - monotonic()) / 2)
            except BaseException as error:
                if not is_fault(error):
                    raise
                self._failed("close", error)
        self._closed = True
        thread = self._thread
        if self.is_current:
            return False
        if thread is not None:
            self._bell.put(_NOW)
            thread.join(max(0.0, deadline - monotonic()))
            if thread.is_alive():
                return False
        # What came in the moment of closing, or while no thread was to be had, is lost; and said to be.
        while self._queue:
            fact = self._queue.popleft()
            if not isinstance(fact, _Flush):
                self._dropped.add(getattr(fact, "weight", 1))
        return True


def _closing(recorder: weakref.ref[Recorder]) -> Callable[[], None]:
    """What the end of the process calls: it does not keep a recorder that is not used any more."""

    def close() -> None:
        if (found := recorder()) is not None:
            found.close()

    return close


def _run(reference: weakref.ref[Recorder], queue: deque[Any], bell: SimpleQueue[Any]) -> None:
    """The thread: it holds the recorder while it has something to do, and only the queue while it waits."""
    recorder: Recorder | None = None
    # The first call has just looked at what a tick looks at.
    last_tick, rounds_alone, wait_s = monotonic(), 0, 0.0
    try:
        while True:
            rang = _heard(bell, wait_s)
            if isinstance(rang, _Last):
                recorder = rang.recorder
                recorder._end()  # noqa: SLF001 - its own module
                return
            recorder = reference()
            if recorder is None:
                # The weak reference is cut before the recorder rings for the last time.
                if (rounds_alone := rounds_alone + 1) > 2:
                    return
                wait_s = _IDLE_S
                continue
            looked = recorder._work(queue, rang, last_tick)  # noqa: SLF001
            if looked is None:
                return
            (wait_s, last_tick), recorder = looked, None
    finally:
        if (recorder := recorder or reference()) is not None:
            recorder._ended(queue)  # noqa: SLF001


def _heard(bell: SimpleQueue[Any], wait_s: float) -> object:
    """Wait for the bell, for so many seconds; return the weightiest of what it was rung with."""
    heard: object = None
    with suppress(Empty):
        heard = bell.get(timeout=wait_s) if wait_s else bell.get_nowait()
        while not isinstance(heard, _Last):
            another = bell.get_nowait()
            heard = heard if another is None else another
    return heard
