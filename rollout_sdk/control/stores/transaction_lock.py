"""A lock with a timeout that also blocks `os.fork()`, so that no child starts in the middle of a transaction."""

from __future__ import annotations

import os
import weakref
from _queue import Empty, SimpleQueue
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.concurrency.forking import notice_fork, renew_after_fork, same_process
from rollout_sdk.concurrency.threads import Lock

__all__ = ["TransactionLock"]


class TransactionLock:
    """A fair lock with a timeout that also blocks `os.fork()`.

    A fork copies memory while other threads may be in the middle of a change. So a fork first acquires all these locks, for a
    bounded time; then the child renews what belongs to one process.

    Attributes:
        longest_s: How long a fork waits for the lock, in seconds.
        was_torn: Whether this process was forked while another thread held the lock after all.
    """

    def __init__(self, longest_s: float, renew: Callable[[], None]) -> None:
        """Create the lock, released.

        Args:
            longest_s: How long a fork waits for the lock, in seconds.
            renew: A bound method that is called in every forked child; its object is not kept alive.
        """
        self.longest_s = longest_s
        self.was_torn = False
        self._renew = weakref.WeakMethod(renew)
        self._forking = False
        self._token, self._next = _token(), _token()
        _forks.add(self)

    @contextmanager
    def acquired(self, timeout_s: float) -> Iterator[bool]:
        """Hold the lock; yields False if it could not be acquired in time."""
        if not same_process[0]:
            notice_fork()
        token = self._token
        if not self._acquire(timeout_s):
            yield False
            return
        try:
            yield True
        finally:
            token.put(None)

    def before_fork(self) -> None:
        """Acquire the lock for a fork, if that is possible in time."""
        self._forking = self._acquire(self.longest_s)

    def after_fork_in_parent(self) -> None:
        """Release the lock."""
        if self._forking:
            self._forking = False
            self._token.put(None)

    def after_fork_in_child(self) -> None:
        """Replace the lock by a released one: the thread that held it does not exist here."""
        self.was_torn = self.was_torn or (not self._forking and self._token.empty())
        self._forking = False
        self._token, self._next = _token(), _token()
        renew = self._renew()
        if renew is not None:
            renew()

    def _acquire(self, timeout_s: float) -> bool:
        deadline = monotonic() + timeout_s
        following = self._next
        # One thread waits for the lock, the others to be next: else the last holder could reacquire it before they wake up.
        try:
            following.get(timeout=max(timeout_s, 0.0))
        except Empty:
            return False
        try:
            self._token.get(timeout=max(deadline - monotonic(), 0.0))
        except Empty:
            return False
        finally:
            following.put(None)
        return True


def _token() -> SimpleQueue[None]:
    """Return a lock made of a queue of one, because it is written in C: gevent's locks do not work between real threads."""
    queue: SimpleQueue[None] = SimpleQueue()
    queue.put(None)
    return queue


class _Forks:
    """Handles all transaction locks around a fork."""

    def __init__(self) -> None:
        self._known: weakref.WeakSet[TransactionLock] = weakref.WeakSet()
        # Also held during a fork: two threads may fork at once.
        self._lock = Lock()
        renew_after_fork(self)

    def add(self, lock: TransactionLock) -> None:
        if not same_process[0]:
            notice_fork()
        with self._lock:
            self._known.add(lock)

    def before(self) -> None:
        self._lock.acquire()
        for lock in list(self._known):
            lock.before_fork()

    def in_parent(self) -> None:
        for lock in list(self._known):
            lock.after_fork_in_parent()
        self._lock.release()

    def renew(self) -> None:
        # A fork by C code (uWSGI's) may be noticed only here, or not at all: then another thread may have held it.
        self._lock = Lock()
        for lock in list(self._known):
            lock.after_fork_in_child()


_forks = _Forks()
# One hook for all: a hook cannot be removed, and would outlive its lock. Windows does not fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forks.before, after_in_parent=_forks.in_parent)
