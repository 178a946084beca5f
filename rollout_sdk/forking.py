"""What a forked child must forget: threads that are not there, a queue that is the parent's, a file that is shared."""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from typing import Protocol

__all__ = ["ForkSafeLock", "Renewable", "renew_after_fork"]


class Renewable(Protocol):
    """Something that holds what belongs to one process."""

    def renew(self) -> None:
        """Start afresh in a forked child: set names, take no lock, start no thread, log nothing."""
        ...


_order = itertools.count()
_survivors: weakref.WeakValueDictionary[int, Renewable] = weakref.WeakValueDictionary()


def renew_after_fork(target: Renewable) -> None:
    """Have `target.renew()` called in every forked child, for as long as it lives; the first told is the first called."""
    _survivors[next(_order)] = target


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
        lock = self._lock
        lock.acquire()
        self._held = lock

    def __exit__(self, *_: object) -> None:
        """Release it; a thread that forked while it held it releases the one that it held."""
        self._held.release()


def _renew() -> None:
    for _, target in sorted(_survivors.items()):
        target.renew()


# One hook for all: a hook cannot be taken back, and would outlive what it was for.
# Windows does not fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
