"""One thread at a time, and no fork in the midst of something."""

from __future__ import annotations

import os
import weakref
from _queue import Empty, SimpleQueue
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.concurrency.forking import notice_fork, renew_after_fork, same_process
from rollout_sdk.concurrency.threads import Lock

__all__ = ["Turns"]


class Turns:
    """A lock with a time-out that forks wait for.

    A fork copies what one thread sees, with whatever the other threads are at half done. So a fork takes all turns first, and
    waits for them for a bounded time; then the child renews what belongs to one process.
    """

    def __init__(self, longest_s: float, renew: Callable[[], None]) -> None:
        """Nobody has the turn.

        Args:
            longest_s: How long a fork waits for a turn to end, in seconds.
            renew: Called in every forked child; must be a bound method, and its object lives no longer for it.
        """
        self.longest_s = longest_s
        self.was_torn = False
        """Whether this process was forked while another thread had the turn after all."""
        self._renew = weakref.WeakMethod(renew)
        self._forking = False
        self._token, self._next = _token(), _token()
        _forks.add(self)

    @contextmanager
    def taken(self, timeout_s: float) -> Iterator[bool]:
        """Have the turn; False when it was not to be had in time."""
        if not same_process[0]:
            notice_fork()
        token = self._token
        if not self._take(timeout_s):
            yield False
            return
        try:
            yield True
        finally:
            token.put(None)

    def before_fork(self) -> None:
        """Take the turn, if it ends in time."""
        self._forking = self._take(self.longest_s)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._forking:
            self._forking = False
            self._token.put(None)

    def after_fork_in_child(self) -> None:
        """Begin with a turn that nobody has: who had it is not here."""
        self.was_torn = self.was_torn or (not self._forking and self._token.empty())
        self._forking = False
        self._token, self._next = _token(), _token()
        renew = self._renew()
        if renew is not None:
            renew()

    def _take(self, timeout_s: float) -> bool:
        deadline = monotonic() + timeout_s
        following = self._next
        # One waits for the turn, and the others for being next: or who has had it would have it again before anybody wakes.
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
    """A lock: a queue of one, because it is written in C. A lock of gevent's is not for threads of the operating system."""
    queue: SimpleQueue[None] = SimpleQueue()
    queue.put(None)
    return queue


class _Forks:
    """What is done with all turns around a fork."""

    def __init__(self) -> None:
        self._known: weakref.WeakSet[Turns] = weakref.WeakSet()
        # Held while a fork lasts, too: two threads may fork at once.
        self._lock = Lock()
        renew_after_fork(self)

    def add(self, turns: Turns) -> None:
        if not same_process[0]:
            notice_fork()
        with self._lock:
            self._known.add(turns)

    def before(self) -> None:
        self._lock.acquire()
        for turns in list(self._known):
            turns.before_fork()

    def in_parent(self) -> None:
        for turns in list(self._known):
            turns.after_fork_in_parent()
        self._lock.release()

    def renew(self) -> None:
        # A fork by C code (uWSGI's) may announce itself only here, or not at all: then another thread may have had it.
        self._lock = Lock()
        for turns in list(self._known):
            turns.after_fork_in_child()


_forks = _Forks()
# One hook for all: a hook cannot be taken back, and would outlive what it was for.
# Windows does not fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forks.before, after_in_parent=_forks.in_parent)
