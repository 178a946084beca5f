"""Faults of collaborators: each is counted, some are reported, and none is raised."""

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
"""Names of collaborators whose faults include a reason: it contains paths and settings, but no user data."""

BATCH = "engine.batch"
"""Name for wrong answers of a batch; reported with a reason, which contains types but no values."""

_EXPLAINED = frozenset({BATCH, CONTROL_FILE, JOURNAL, STORE, THREADS})
_LOGIN = re.compile(r"//[^/@\s]*@")
_LONGEST_WHY = 500
_TELL_EVERY_S = 60.0
_MOST_KINDS = 1_000


@frozen
class Fault:
    """A collaborator failed: which one, its exception class, the count so far, and a reason if it contains no user data."""

    what: str
    error: str
    count: int = 1
    why: str | None = None


@frozen
class Notice:
    """A note about the calls of a rollout for its operators: subject, rule, and cure.

    It is an error if the rollout cannot do its work.
    """

    rollout: str
    text: str
    is_error: bool = False


class HangError(RuntimeError):
    """A background callback has not returned for a long time."""


class DroppedError(RuntimeError):
    """An item was dropped because too many were waiting; counted once per lost item."""


def _explained(error: BaseException) -> str:
    """Return the message with its cure, without credentials that a URL may contain."""
    return _LOGIN.sub("//", str(error))[:_LONGEST_WHY]


class Count:
    """A counter that is exact across threads and signal handlers, without a lock."""

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        """Start at 0."""
        self._numbers = itertools.count()

    def add(self, number: int = 1) -> None:
        """Add `number` to the count."""
        for _ in range(number):
            next(self._numbers)

    def __int__(self) -> int:
        """Return the count."""
        # `next` would change the count, and from Python 3.14 on counts cannot be pickled, so read it from the repr.
        return int(repr(self._numbers)[len("count(") : -1])


@define
class _Reported:
    """Count of one kind of fault, and the time of its last report."""

    count: Count = field(factory=Count)
    reported_s: float = float("-inf")


class Faults:
    """Counts faults by kind."""

    def __init__(self, tell: Callable[[Fault], None]) -> None:
        """Start without faults.

        Args:
            tell: Reports a fault; must not block.
        """
        self._tell = tell
        self._kinds: dict[tuple[str, str], _Reported] = {}
        self._owned: dict[tuple[str, str, str], Count] = {}

    def note(self, what: str, error: BaseException, number: int = 1, *, rollout: str | None = None) -> None:
        """Count faults, and report them at most once a minute; never raises.

        Args:
            what: What failed.
            error: What it raised.
            number: How often.
            rollout: Key of the rollout in which it happened; None for what all rollouts share, such as the journal.
        """
        # The caller is already handling a fault; another one cannot be reported.
        with suppress(Exception, SystemExit):
            self._note(what, error, number, rollout)

    def _note(self, what: str, error: BaseException, number: int, rollout: str | None) -> None:
        kind = class_name(error)
        known = self._kinds.get((what, kind))
        if known is None:
            # Classes can be created at run time; this bounds the table.
            kind = kind if len(self._kinds) < _MOST_KINDS else "_OTHER"
            known = self._kinds.setdefault((what, kind), _Reported())
        known.count.add(number)
        if rollout is not None and ((owned := (rollout, what, kind)) in self._owned or len(self._owned) < _MOST_KINDS):
            self._owned.setdefault(owned, Count()).add(number)
        now = monotonic()
        # Reports are rate-limited, because a fault on every call would crowd out the calls themselves. Faults of the logger
        # are only counted, since reporting needs it.
        if now - known.reported_s >= _TELL_EVERY_S and what != "telemetry.logs":
            known.reported_s = now
            is_ours = isinstance(error, HangError | DroppedError) or (what in _EXPLAINED and isinstance(error, RolloutError))
            why = _explained(error) if is_ours else None
            self._tell(Fault(what, kind, int(known.count), why))

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """Number of faults by (name, class of exception)."""
        return {fault: int(known.count) for fault, known in list(self._kinds.items())}

    def of(self, rollout: str) -> dict[tuple[str, str], int]:
        """The same without those of other rollouts."""
        counts = Counter(self.counts)
        for (owner, *fault), count in list(self._owned.items()):
            if owner != rollout:
                counts[fault[0], fault[1]] -= int(count)
        return dict(+counts)

    def clear(self) -> None:
        """Forget all faults, in a forked child."""
        self._kinds.clear()
        self._owned.clear()
