"""A thread with a bounded queue of its own, for what may hang: an observer, a log handler, a disk, a store.

What hangs there holds up nothing else. When the queue is full, the newest is refused, and nobody waits.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.concurrency.forking import notice_fork, renew_after_fork, same_process
from rollout_sdk.concurrency.threads import Empty, Flag, Lock, SimpleQueue, Thread, native_sleep
from rollout_sdk.resilience.faults import HangError

__all__ = ["QueueThread"]

_MOST_WAITING = 10_000
_HANGS_AFTER_S = 5.0
_ROOM_POLL_S = 0.001


class QueueThread:
    """Does one thing after another, in order, in a daemon thread.

    The thread starts with the first item of a process and again after a fork. It holds this object only while there is
    something to do, and ends when nothing else refers to it.
    """

    def __init__(
        self,
        name: str,
        take: Callable[[Any], None],
        *,
        failed: Callable[[str, BaseException], None],
        called: Callable[[Any], str],
        most_waiting: float = _MOST_WAITING,
        hangs_after_s: float = _HANGS_AFTER_S,
    ) -> None:
        """Start nothing yet.

        Args:
            name: Name of the thread.
            take: Deals with an item, in the thread.
            failed: Notified of what `take` raises, and of an item that hangs.
            called: What faults call an item.
            most_waiting: The sizes of all items that wait, at most.
            hangs_after_s: Seconds after which an item is said to hang.
        """
        self._name = name
        self._take = take
        self._failed = failed
        self._called = called
        self._most_waiting = most_waiting
        self._hangs_after_s = hangs_after_s
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Start afresh in a forked child: no thread, and an empty queue."""
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._thread: Thread | None = None
        self._starting = Lock()
        self._closed = False
        self._taken = self._done = 0
        self._item: Any = None
        self._since: float | None = None
        self._said: float | None = None

    @property
    def waiting(self) -> int:
        """The sizes of all items that are not dealt with yet."""
        return self._taken - self._done

    @property
    def busy_s(self) -> float:
        """For how many seconds it has been busy with one thing; 0 when it is not."""
        since = self._since
        return 0.0 if since is None else monotonic() - since

    @property
    def hangs(self) -> bool:
        """Whether it has been busy with one thing for too long."""
        return self.busy_s > self._hangs_after_s

    @property
    def is_current(self) -> bool:
        """Whether this code runs in the thread."""
        return self._thread is not None and self._thread.is_current

    def put(self, item: Any, size: int = 1) -> bool:
        """Take an item; False when there is no room for it. Used by one thread at a time where there is a bound.

        Never waits and never raises. Where no thread is to be had, as at the end of the interpreter, it is dealt with here.
        """
        self._notice_fork()
        if self._closed or self.waiting >= self._most_waiting:
            return False
        self._taken += size
        # With this object, so that it lives until it is dealt with.
        self._queue.put((self, item, size))
        if not self._has_thread():
            with suppress(Empty):
                while True:
                    _, waited, its_size = self._queue.get_nowait()
                    self._serve(waited, its_size)
        return True

    def wait_for_room(self) -> bool:
        """Wait until it takes more, as long as it does not hang; whether it does. For the thread that puts."""
        while self.waiting >= self._most_waiting and not self._closed and not self.hangs and self._thread is not None:
            native_sleep(_ROOM_POLL_S)
        return self.waiting < self._most_waiting

    def can_start(self) -> bool:
        """Whether the thread runs, or could be started now."""
        self._notice_fork()
        return self._has_thread()

    def beat(self) -> None:
        """Say that it goes on, in the midst of an item of many parts: what hangs is one of them."""
        self._since = monotonic()

    def mark(self, flag: Flag | None = None) -> Flag:
        """A flag, or the one given, that is set when everything put so far is dealt with."""
        self._notice_fork()
        flag = Flag() if flag is None else flag
        if not self.waiting:
            flag.set()
        elif not self._closed:
            self._queue.put((self, flag, 0))
            self._has_thread()
        return flag

    def wait(self, flag: Flag, timeout_s: float) -> bool:
        """Wait for such a flag; not in the thread itself, nor where none is to be had."""
        is_in_vain = self.is_current or self._closed or self._thread is None
        return flag.wait(0.0 if is_in_vain else max(0.0, timeout_s))

    def watch(self) -> None:
        """Notify of an item that hangs, once; called now and then from another thread."""
        since, item = self._since, self._item
        if since is not None and since != self._said and monotonic() - since > self._hangs_after_s:
            self._said = since
            name = self._called(item)
            self._failed(
                name,
                HangError(
                    f"{name} has not returned for {self._hangs_after_s:g} s. Nothing else waits for it: what comes for it is "
                    "kept, and dropped and counted when it is too much. Give it a time-out, or see what it waits for."
                ),
            )

    def close(self) -> list[tuple[Any, int]]:
        """Take nothing more, and have the thread end after what it is busy with; the items that waited, with their sizes."""
        self._closed = True
        left: list[tuple[Any, int]] = []
        with suppress(Empty):
            while True:
                found = self._queue.get_nowait()
                if found is not None and found[1].__class__ is not Flag:
                    left.append(found[1:])
        self._done += sum(size for _, size in left)
        self._queue.put(None)
        return left

    def end(self) -> None:
        """Have the thread end when it has done what waits; the next item starts another.

        Also after this was finalized: the recorder of a runtime that is gone delivers what waits all the same.
        """
        queue, self._queue, self._thread = self._queue, SimpleQueue(), None
        queue.put(None)

    def __del__(self) -> None:
        """End the thread: nothing waits, because what waits refers to this."""
        with suppress(Exception, SystemExit):  # not even begun; the interpreter is ending; or a part of it is broken
            if same_process[0]:
                self.end()

    def _notice_fork(self) -> None:
        # A fork in C code (uWSGI) skips Python's hooks.
        if not same_process[0]:
            notice_fork()

    def _has_thread(self) -> bool:
        # Only tried, never waited for: a signal handler may call us while this very thread holds it.
        if self._thread is not None or not self._starting.acquire(blocking=False):
            return True
        try:
            if self._thread is None:
                # In this order: what it does first may ask whether this is its thread.
                self._thread = Thread(partial(_run, weakref.ref(self), self._queue), self._name)
                self._thread.start()
        # No thread to be had now, or the interpreter is ending.
        except RuntimeError:
            self._thread = None
            return False
        finally:
            self._starting.release()
        return True

    def _serve(self, item: Any, size: int) -> None:
        if item.__class__ is Flag:
            item.set()
            return
        self._item = item
        try:
            self._since = monotonic()
            self._take(item)
        # Of any kind: nobody cancels or interrupts this thread, and it must not end for what somebody else raised.
        except BaseException as error:
            self._failed(self._called(item), error)
        finally:
            self._since = None
            self._item = None
            self._done += size

    def _broke(self, queue: SimpleQueue[Any]) -> None:
        # Whatever ended the thread too early: the next item starts another.
        if self._queue is queue and not self._closed:
            self._thread = None


def _run(reference: weakref.ref[QueueThread], queue: SimpleQueue[Any]) -> None:
    """The thread: it holds its object while it has something to do, and only the queue while it waits."""
    found: Any = None
    owner: QueueThread | None = None
    item: Any = None
    try:
        while (found := queue.get()) is not None:
            owner, item, size = found
            owner._serve(item, size)  # noqa: SLF001 - its own module
            found = owner = item = None
    # The queue broke, or a part of the interpreter: nobody is there to be told.
    except BaseException:
        if (owner := owner or reference()) is not None:
            owner._broke(queue)  # noqa: SLF001
