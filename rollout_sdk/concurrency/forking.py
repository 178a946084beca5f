"""What a forked child must forget: threads that are not there, a queue that is the parent's, a file that is shared.

Python tells of forks that it makes itself. A fork by C code (uWSGI's, or that of libc called by ctypes) runs no hook, and the
child goes on as if nothing had happened. So the process is looked at as well: where a call begins, and where a fact, a lock or
the store is taken. That look costs as much as reading an attribute.
"""

from __future__ import annotations

import gc
import itertools
import mmap
import os
import random
import sys
import threading
import weakref

# By name: a test that replaces os.getpid forks nothing.
from _thread import RLock
from contextlib import suppress
from os import getpid
from typing import Any, Protocol

__all__ = ["ForkSafeLock", "ForkSafeRandom", "Renewable", "notice_fork", "renew_after_fork", "same_process", "was_announced"]

_WIPE_ON_FORK = 18
"""MADV_WIPEONFORK of Linux, which Python has no name for."""


class Renewable(Protocol):
    """Something that holds what belongs to one process."""

    def renew(self) -> None:
        """Start afresh in a forked child: set names, take no lock, start no thread, log nothing."""
        ...


class _ProcessId:
    """Says by the process id what the kernel does not say by itself."""

    def __init__(self) -> None:
        self._pid = 0

    def __getitem__(self, _: int) -> bool:
        return self._pid == getpid()

    def __setitem__(self, _: int, value: int) -> None:
        self._pid = getpid()


def _mark() -> Any:
    """Something whose first item is true, and false in a forked child.

    Where that is possible, it is memory that the kernel wipes in the child: asking for the process id is ten times slower.
    """
    if not hasattr(os, "fork"):
        return bytearray(1)
    if sys.platform == "linux":
        with suppress(OSError, ValueError):
            page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            page.madvise(_WIPE_ON_FORK)
            return page
    return _ProcessId()


same_process = _mark()
"""`same_process[0]` is false in a forked child, until everything in it was renewed."""
same_process[0] = 1

_order = itertools.count()
_survivors: weakref.WeakValueDictionary[int, Renewable] = weakref.WeakValueDictionary()
_locks: dict[int, Any] = {}
_handles_of_parents: list[Any] = []
"""Threads that are not in this child, also ones that had ended: since Python 3.13, freeing one detaches it, which crashes."""
_renewing_in = 0
_is_announced = True


def renew_after_fork(target: Renewable) -> None:
    """Have `target.renew()` called in every forked child, for as long as it lives; the first told is the first called."""
    _survivors[next(_order)] = target


def was_announced() -> bool:
    """Whether Python told of the last fork, so that it is known at once; else it may be hours ago."""
    return _is_announced


def notice_fork() -> None:
    """Renew everything in a child whose fork nobody told of. Called where `same_process[0]` is false.

    It is done once; other threads wait for it.
    """
    _renew(announced=False)


def _renew(*, announced: bool) -> None:
    global _is_announced, _renewing_in  # noqa: PLW0603 - of the process
    pid = getpid()
    # One lock for each process: the parent's can be held by a thread that is not here.
    with _locks.setdefault(pid, RLock()):
        # What is renewed may take a lock that looks itself; and a signal handler may come in between.
        if same_process[0] or _renewing_in == pid:
            return
        _renewing_in, _is_announced = pid, announced
        if not announced and sys.version_info >= (3, 13):
            threads = (each for each in gc.get_objects() if issubclass(type(each), threading.Thread))
            _handles_of_parents.extend(getattr(thread, "_handle", None) for thread in threads)
        try:
            for _, target in sorted(_survivors.items()):
                # One that fails must not leave the others in their parent's state.
                with suppress(Exception):
                    target.renew()
            same_process[0] = 1
        finally:
            _renewing_in = 0


class ForkSafeLock:
    """A lock that is free in a forked child: the thread that held it is not there, and would never release it."""

    __slots__ = ("__weakref__", "_held", "_lock")

    def __init__(self) -> None:
        """Begin free."""
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Be free."""
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        """Wait for it."""
        if not same_process[0]:
            notice_fork()
        lock = self._lock
        lock.acquire()
        self._held = lock

    def __exit__(self, *_: object) -> None:
        """Release it; a thread that forked while it held it releases the one that it held."""
        self._held.release()


class ForkSafeRandom(random.Random):
    """Random numbers of our own, so that the application's come out as they would without us; others in every process."""

    def __init__(self) -> None:
        """Begin anywhere."""
        super().__init__(os.urandom(16))
        renew_after_fork(self)

    def renew(self) -> None:
        """Go on somewhere else."""
        self.seed(os.urandom(16))


# One hook for all: a hook cannot be taken back, and would outlive what it was for.
# Windows does not fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _renew(announced=True))
