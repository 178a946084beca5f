"""What a forked child must forget: threads that are not there, a queue that is the parent's, a file that is shared."""

from __future__ import annotations

import itertools
import os
import weakref
from typing import Protocol

__all__ = ["Renewable", "renew_after_fork"]


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


def _renew() -> None:
    for _, target in sorted(_survivors.items()):
        target.renew()


# One hook for all: a hook cannot be taken back, and would outlive what it was for.
os.register_at_fork(after_in_child=_renew)
