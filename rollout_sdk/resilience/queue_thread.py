"""A thread with a bounded queue of its own, for code that may hang: an observer, a log handler, a disk, a store.

A hang there does not delay anything else. When the queue is full, the newest item is refused; callers never wait.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.concurrency.forking import notice_fork, renew_after_fork, same_process
from rollout_sdk.concurrency.queues import Empty, SimpleQueue
from rollout_sdk.concurrency.threads import Flag, Lock, Thread, native_sleep
from rollout_sdk.resilience.faults import HangError

__all__ = ["QueueThread"]

_MOST_WAITING = 10_000
_HANGS_AFTER_S = 5.0
_ROOM_POLL_S = 0.001


class QueueThread:
    """Processes items one at a time, in order, in a daemon thread.

    The thread starts with the first item in each process, and again after a fork. It references this object only while there
    are items, and ends when nothing else does.
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
        """Create the queue without starting the thread.

        Args:
            name: Name of the thread.
            take: Processes an item, in the thread.
            failed: Called with exceptions of `take`, and when an item hangs.
            called: Returns the name of an item in faults.
            most_waiting: Maximum total size of waiting items.
            hangs_after_s: Seconds after which an item counts as hanging.
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
        """Reset in a forked child: no thread, and an empty queue."""
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._thread: Thread | None = None
        self._starting = Lock()
        self._closed = False
        self._taken = self._done = 0
        self._item: Any = None
        self._since: float | None = None
        self._reported: float | None = None

    @property
    def waiting(self) -> int:
        """Total size of items not yet processed."""
        return self._taken - self._done

    @property
    def busy_s(self) -> float:
        """Seconds spent on the current item; 0 if there is none."""
        since = self._since
        return 0.0 if since is None else monotonic() - since

    @property
    def hangs(self) -> bool:
        """Whether the current item takes too long."""
        return self.busy_s > self._hangs_after_s

    @property
    def is_current(self) -> bool:
        """Whether the calling code runs in this thread."""
        return self._thread is not None and self._thread.is_current

    def put(self, item: Any, size: int = 1) -> bool:
        """Queue an item; return False if there is no room. With a bound, use it from one thread at a time.

        Never waits and never raises. If no thread can be started, as during interpreter shutdown, the item is processed here.
        """
        self._notice_fork()
        if self._closed or self.waiting >= self._most_waiting:
            return False
        self._taken += size
        # Queued together with this object, to keep it alive until the item is processed.
        self._queue.put((self, item, size))
        if not self._has_thread():
            with suppress(Empty):
                while True:
                    _, waited, its_size = self._queue.get_nowait()
                    self._serve(waited, its_size)
        return True

    def wait_for_room(self, most: int) -> bool:
        """Wait until less than this waits, while the thread does not hang; return whether it does. For the thread that puts."""
        while self.waiting >= most and not self._closed and not self.hangs and self._thread is not None:
            native_sleep(_ROOM_POLL_S)
        return self.waiting < most

    def can_start(self) -> bool:
        """Whether the thread is running or can be started now."""
        self._notice_fork()
        return self._has_thread()

    def beat(self) -> None:
        """Restart the hang timer within an item of many parts, each of which may hang."""
        self._since = monotonic()

    def mark(self, flag: Flag | None = None) -> Flag:
        """Return a flag, or the given one, that is set once everything queued so far has been processed."""
        self._notice_fork()
        flag = Flag() if flag is None else flag
        if not self.waiting:
            flag.set()
        elif not self._closed:
            self._queue.put((self, flag, 0))
            self._has_thread()
        return flag

    def wait(self, flag: Flag, timeout_s: float) -> bool:
        """Wait for a flag from `mark`; returns at once in the thread itself, or if there is no thread."""
        is_in_vain = self.is_current or self._closed or self._thread is None
        return flag.wait(0.0 if is_in_vain else max(0.0, timeout_s))

    def watch(self) -> None:
        """Report an item that hangs, once; called periodically from another thread."""
        since, item = self._since, self._item
        if since is not None and since != self._reported and monotonic() - since > self._hangs_after_s:
            self._reported = since
            name = self._called(item)
            self._failed(
                name,
                HangError(
                    f"{name} has not returned for {self._hangs_after_s:g} s. Nothing else waits for it: further items are "
                    "kept, and dropped and counted when there are too many. Give it a timeout, or find out what it waits for."
                ),
            )

    def close(self) -> list[tuple[Any, int]]:
        """Refuse new items, and end the thread after the current one; return the waiting items with their sizes."""
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
        """End the thread once it has processed all waiting items; the next item starts another.

        Works even after finalization: the recorder of a runtime that no longer exists still delivers waiting items.
        """
        queue, self._queue, self._thread = self._queue, SimpleQueue(), None
        queue.put(None)

    def __del__(self) -> None:
        """End the thread; no items are waiting, because they would reference this object."""
        with suppress(Exception, SystemExit):  # __init__ failed, or the interpreter is shutting down
            if same_process[0]:
                self.end()

    def _notice_fork(self) -> None:
        # A fork in C code (uWSGI) skips Python's hooks.
        if not same_process[0]:
            notice_fork()

    def _has_thread(self) -> bool:
        # Only tried, never waited for: a signal handler may interrupt this thread while it holds the lock.
        if self._thread is not None or not self._starting.acquire(blocking=False):
            return True
        try:
            if self._thread is None:
                # Set before the start: the thread may immediately ask whether it is the current one.
                self._thread = thread = Thread(partial(_run, weakref.ref(self), self._queue), self._name)
                try:
                    thread.start()
                finally:
                    # It may run although its start was interrupted.
                    if not thread.is_alive():
                        self._thread = None
        # No thread available now, or the interpreter is shutting down.
        except RuntimeError:
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
        # Catches everything: this thread is never cancelled or interrupted, and must survive any exception.
        except BaseException as error:
            self._failed(self._called(item), error)
        finally:
            self._since = None
            self._item = None
            self._done += size

    def _broke(self, queue: SimpleQueue[Any]) -> None:
        # If the thread ended too early, the next item starts another.
        if self._queue is queue and not self._closed:
            self._thread = None


def _run(reference: weakref.ref[QueueThread], queue: SimpleQueue[Any]) -> None:
    """Main function of the thread; it references its object while there are items, and only the queue while it waits."""
    found: Any = None
    owner: QueueThread | None = None
    item: Any = None
    try:
        while (found := queue.get()) is not None:
            owner, item, size = found
            owner._serve(item, size)  # noqa: SLF001 - its own module
            found = owner = item = None
    # The queue or a part of the interpreter failed, and there is no way to report it.
    except BaseException:
        if (owner := owner or reference()) is not None:
            owner._broke(queue)  # noqa: SLF001
