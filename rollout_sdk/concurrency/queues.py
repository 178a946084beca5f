"""The queue of the background's threads, which also works in children that C code forks.

It is the standard library's `SimpleQueue` before Python 3.13. Since then, that one keeps its waiting threads in a table of the
whole process, as addresses on their stacks, and only the hooks of `os.fork` empty the table. In a child that C code has forked
without these hooks, the threads are gone and the addresses are not: putting something into any queue of the child may follow
one of them, and crash the child (seen with 3.13.0).
"""

from __future__ import annotations

import sys
from _queue import Empty
from collections import deque
from contextlib import suppress
from typing import Any, Generic, TypeVar

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.concurrency.threads import Lock

__all__ = ["Empty", "SimpleQueue"]

V = TypeVar("V")


class ForkedQueue(Generic[V]):
    """A queue without bound, as far as the SDK uses one; each thread that waits has a lock of its own.

    Putting never waits, and may happen in a signal handler or a finalizer that interrupts another `put` or `get`.
    """

    __slots__ = ("_items", "_waiting")

    def __init__(self) -> None:
        """Start empty."""
        self._items: deque[V] = deque()
        self._waiting: deque[Any] = deque()

    def put(self, item: V) -> None:
        """Add an item, and wake a thread that waits for one."""
        self._items.append(item)
        self._wake()

    def get(self, timeout: float | None = None) -> V:
        """Take the first item, waiting for it if there is none.

        Args:
            timeout: How long to wait, in seconds; None: as long as it takes.

        Raises:
            Empty: None has come.
        """
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            with suppress(IndexError):
                return self._items.popleft()
            if not self._has_waited(-1.0 if deadline is None else max(0.0, deadline - monotonic())):
                return self.get_nowait()

    def get_nowait(self) -> V:
        """Take the first item.

        Raises:
            Empty: There is none.
        """
        try:
            return self._items.popleft()
        except IndexError:
            raise Empty from None

    def _wake(self) -> None:
        with suppress(IndexError):
            self._waiting.popleft().release()

    def _has_waited(self, timeout_s: float) -> bool:
        """Wait until there may be an item; return False if the time was up first."""
        lock = Lock()
        lock.acquire()
        self._waiting.append(lock)
        # In this order: an item that came before the line above woke no thread.
        has_come = bool(self._items)
        if not has_come and lock.acquire(timeout=timeout_s):
            return True
        try:
            self._waiting.remove(lock)
        except ValueError:
            # `put` has taken the lock to wake this thread, so there was an item, which another thread may have taken since.
            return True
        return has_come


if sys.version_info >= (3, 13):
    SimpleQueue = ForkedQueue
else:
    from _queue import SimpleQueue
