"""Faults of collaborators: counted one by one, told now and then, and never raised."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from attrs import define, field, frozen

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.exceptions import RolloutError
from rollout_sdk.formatting import class_name

__all__ = [
    "BATCH",
    "CONTROL_FILE",
    "JOURNAL",
    "STORE",
    "THREADS",
    "Count",
    "DroppedError",
    "Fault",
    "Faults",
    "HangError",
    "Notice",
]

CONTROL_FILE = "control file"
JOURNAL = "journal"
STORE = "store"
THREADS = "threads"
"""What their faults are called; they say why, because they hold paths and settings, and no data of users."""

BATCH = "engine.batch"
"""What is wrong with the answers for a batch; said with why, because it names types and never a value."""

_EXPLAINED = frozenset({BATCH, CONTROL_FILE, JOURNAL, STORE, THREADS})
_LOGIN = re.compile(r"//[^/@\s]*@")
_LONGEST_WHY = 500
_TELL_EVERY_S = 60.0
_MOST_KINDS = 1_000


@frozen
class Fault:
    """A collaborator failed: what, with which class of exception, how often so far, and why where that tells nobody's data."""

    what: str
    error: str
    count: int = 1
    why: str | None = None


@frozen
class Notice:
    """Something that people should know of the calls of a rollout: what, by which rule, and the cure."""

    rollout: str
    text: str


class HangError(RuntimeError):
    """Something that is called in the background has not returned for a long time."""


class DroppedError(RuntimeError):
    """What was to be handed over was not, because too much waited already; counted once for each that is lost."""


def _explained(error: BaseException) -> str:
    """What went wrong and what cures it, without the login that an address may hold."""
    return _LOGIN.sub("//", str(error))[:_LONGEST_WHY]


class Count:
    """A count that is exact from every thread and in signal handlers, and takes no lock."""

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self._numbers = itertools.count()

    def add(self, number: int = 1) -> None:
        """Count one, or so many."""
        for _ in range(number):
            next(self._numbers)

    def __int__(self) -> int:
        """How many so far."""
        # `next` would count the look itself, and from Python 3.14 on a count cannot be pickled: its repr is what is left.
        return int(repr(self._numbers)[len("count(") : -1])


@define
class _Told:
    """How often something failed in one way, and when that was last told."""

    count: Count = field(factory=Count)
    told_s: float = float("-inf")


class Faults:
    """What failed so far, and how often."""

    def __init__(self, tell: Callable[[Fault], None]) -> None:
        """Nothing has failed yet.

        Args:
            tell: Takes what people should hear of; must not block.
        """
        self._tell = tell
        self._kinds: dict[tuple[str, str], _Told] = {}
        self._owned: dict[tuple[str, str, str], Count] = {}

    def note(self, what: str, error: BaseException, number: int = 1, *, rollout: str | None = None) -> None:
        """Count a fault, or so many of it, and have it told at most once a minute; never raises.

        Args:
            what: What failed.
            error: What it raised.
            number: How often.
            rollout: Key of the rollout that it happened in; None for what all rollouts share, such as the journal.
        """
        # Whoever calls this is handling a fault: there is nobody left to tell of another.
        with suppress(Exception, SystemExit):
            self._note(what, error, number, rollout)

    def _note(self, what: str, error: BaseException, number: int, rollout: str | None) -> None:
        kind = class_name(error)
        known = self._kinds.get((what, kind))
        if known is None:
            # Classes can be made at run time: what is remembered of them stays bounded.
            kind = kind if len(self._kinds) < _MOST_KINDS else "_OTHER"
            known = self._kinds.setdefault((what, kind), _Told())
        known.count.add(number)
        if rollout is not None and ((owned := (rollout, what, kind)) in self._owned or len(self._owned) < _MOST_KINDS):
            self._owned.setdefault(owned, Count()).add(number)
        now = monotonic()
        # Told now and then only, because what fails on every call would crowd out the calls themselves. And the logger may
        # be what fails: its faults are counted only.
        if now - known.told_s >= _TELL_EVERY_S and what != "telemetry.logs":
            known.told_s = now
            is_ours = isinstance(error, HangError | DroppedError) or (what in _EXPLAINED and isinstance(error, RolloutError))
            why = _explained(error) if is_ours else None
            self._tell(Fault(what, kind, int(known.count), why))

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """Faults so far, by (what failed, class of exception)."""
        return {fault: int(known.count) for fault, known in list(self._kinds.items())}

    def of(self, rollout: str) -> dict[tuple[str, str], int]:
        """The same without those of other rollouts."""
        counts = Counter(self.counts)
        for (owner, *fault), count in list(self._owned.items()):
            if owner != rollout:
                counts[fault[0], fault[1]] -= int(count)
        return dict(+counts)

    def clear(self) -> None:
        """Forget all: in a forked child, nothing has failed yet."""
        self._kinds.clear()
        self._owned.clear()
