"""Resets state in forked children: threads that do not exist there, the parent's queue, a shared file.

Python runs hooks only for forks that it makes itself. A fork in C code (uWSGI, or libc called through ctypes) runs none, and
the child continues as if nothing had happened. So the process is checked as well, whenever a call starts and whenever a fact, a
lock or the store is taken. The check costs as much as reading an attribute.
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

# Imported by name: a test that replaces os.getpid does not fork.
from _thread import RLock
from contextlib import suppress
from os import getpid
from typing import Any, Protocol

__all__ = [
    "ForkSafeLock",
    "ForkSafeRandom",
    "Renewable",
    "fresh_bits",
    "fresh_random",
    "notice_fork",
    "renew_after_fork",
    "same_process",
    "was_announced",
]

_WIPE_ON_FORK = 18
"""Linux's MADV_WIPEONFORK, which the mmap module does not define."""


class Renewable(Protocol):
    """An object with state that belongs to one process."""

    def renew(self) -> None:
        """Reset in a forked child: only assign attributes; take no lock, start no thread, log nothing."""
        ...


class _ProcessId:
    """Detects a fork by the process id, where the kernel cannot mark memory."""

    def __init__(self) -> None:
        self._pid = 0

    def __getitem__(self, _: int) -> bool:
        return self._pid == getpid()

    def __setitem__(self, _: int, value: int) -> None:
        self._pid = getpid()


def _mark() -> Any:
    """Return an object whose first item is true, and false in a forked child.

    Where possible, it is memory that the kernel wipes in the child, because reading the process id is ten times slower.
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
"""`same_process[0]` is false in a forked child until all its state has been renewed."""
same_process[0] = 1

_order = itertools.count()
_survivors: weakref.WeakValueDictionary[int, Renewable] = weakref.WeakValueDictionary()
_locks: dict[int, Any] = {}
_handles_of_parents: list[Any] = []
"""Threads that are not in this child, also ones that had ended: since Python 3.13, freeing one detaches it, which crashes."""
_renewing_in = 0
_is_announced = True


def renew_after_fork(target: Renewable) -> None:
    """Call `target.renew()` in every forked child while `target` is alive, in the order of registration."""
    _survivors[next(_order)] = target


def was_announced() -> bool:
    """Whether Python's hooks announced the last fork; if not, it may have happened hours before it was noticed."""
    return _is_announced


def notice_fork() -> None:
    """Renew all state in a child whose fork was not announced. Called where `same_process[0]` is false.

    Runs once; other threads wait for it.
    """
    _renew(announced=False)


def _renew(*, announced: bool) -> None:
    global _is_announced, _renewing_in  # noqa: PLW0603 - of the process
    pid = getpid()
    # One lock per process: the parent's may be held by a thread that does not exist here.
    with _locks.setdefault(pid, RLock()):
        # Renewal may take a lock that makes the same check, and a signal handler may interrupt it.
        if same_process[0] or _renewing_in == pid:
            return
        _renewing_in, _is_announced = pid, announced
        if not announced and sys.version_info >= (3, 13):
            threads = (each for each in gc.get_objects() if issubclass(type(each), threading.Thread))
            # The attribute's name in Python 3.13, and since 3.14.
            names = ("_handle", "_os_thread_handle")
            _handles_of_parents.extend(getattr(thread, name, None) for thread in threads for name in names)
        try:
            for _, target in sorted(_survivors.items()):
                # A failure must not leave the other targets in the parent's state.
                with suppress(Exception):
                    target.renew()
            same_process[0] = 1
        finally:
            _renewing_in = 0


class ForkSafeLock:
    """A lock that is free in a forked child, where the thread that held it does not exist and cannot release it."""

    __slots__ = ("__weakref__", "_held", "_lock")

    def __init__(self) -> None:
        """Create the lock, released."""
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Replace the lock by a released one."""
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        """Acquire the lock."""
        if not same_process[0]:
            notice_fork()
        lock = self._lock
        lock.acquire()
        self._held = lock

    def __exit__(self, *_: object) -> None:
        """Release the acquired lock, which after a fork is no longer the current one."""
        self._held.release()


class ForkSafeRandom(random.Random):
    """The SDK's own random numbers, which leave the application's generator untouched; they differ in every process."""

    def __init__(self) -> None:
        """Seed from the operating system."""
        super().__init__(os.urandom(16))
        renew_after_fork(self)

    def renew(self) -> None:
        """Reseed in a forked child."""
        self.seed(os.urandom(16))


_random = ForkSafeRandom()


def fresh_random() -> float:
    """Return a random number in [0, 1) from the SDK's own generator."""
    return _random.random()


def fresh_bits() -> int:
    """Return 64 random bits from the same generator: the digest of a call that is its own unit."""
    return _random.getrandbits(64)


# A single hook for all targets, because hooks cannot be unregistered and would outlive their targets.
# Windows has no fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _renew(announced=True))
