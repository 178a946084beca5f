"""What a forked child must forget: threads that are not there, a queue that is the parent's, a file that is shared."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["Renewable", "renew_after_fork"]


class Renewable(Protocol):
    """Something that holds what belongs to one process."""

    def renew(self) -> None:
        """Start afresh in a forked child: set names, take no lock, start no thread, log nothing."""
        ...


def renew_after_fork(target: Renewable) -> None:
    """Have `target.renew()` called in every forked child, for as long as it lives."""
    reference = weakref.ref(target)

    def renew() -> None:
        survivor = reference()
        if survivor is not None:
            survivor.renew()

    os.register_at_fork(after_in_child=renew)
