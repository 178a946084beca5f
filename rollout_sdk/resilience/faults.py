"""Faults of collaborators: each is counted, some are reported, and none is raised."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from contextlib import suppress

from attrs import define, field, frozen

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.exceptions import RolloutError
from rollout_sdk.formatting import class_name

__all__ = [
    "BATCH",
    "CONTROL_FILE",
    "JOURNAL",
    "OPTIONS",
    "STORE",
    "STRATEGY",
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
OUTCOME = "outcome"
STORE = "store"
THREADS = "threads"
"""Names of collaborators whose faults include a reason: it contains paths, settings and names of metrics, but no user data."""

BATCH = "engine.batch"
"""Name for wrong answers of a batch; reported with a reason, which contains types but no values."""

STRATEGY = "strategy"
"""A decision that cannot be carried out; said with why, because it names variants and shares, and no data."""

OPTIONS: Mapping[str, str] = {
    "unit": "Such a call has no unit, and missing_unit= says what it gets. Name what every call has.",
    "override": "Such a call is decided without it. Have it return None or the name of a variant.",
    "failed_if": "Such an answer does not count as a failure. Have it return True or False for every answer.",
    "measure": "Nothing is measured of such an answer. Have it return a mapping of names to finite numbers.",
    "covariate": "Such a call is judged without it. Name a number that every call has.",
    "segments": "Such a call is in no segment of the report. Name a value that every call has.",
    "isolate": "Have it return a copy of every argument.",
}
"""Options of the decorator that read a call: what becomes of a call where one fails, and the cure."""

_EXPLAINED = frozenset({BATCH, CONTROL_FILE, JOURNAL, OUTCOME, STORE, THREADS})
_LOGIN = re.compile(r"//[^/@\s]*@")
_LONGEST_WHY = 500
_TELL_EVERY_S = 60.0
_MOST_KINDS = 1_000
_MOST_ROLLOUTS = 1_000


@frozen
class Fault:
    """A collaborator failed: which one, its exception class, the count so far, a reason if it contains no user data, and the
    rollout, if it belongs to one.
    """

    what: str
    error: str
    count: int = 1
    why: str | None = None
    rollout: str | None = None


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
    """Counts faults by kind, for each rollout and for what rollouts share."""

    def __init__(self, tell: Callable[[Fault], None]) -> None:
        """Start without faults.

        Args:
            tell: Reports a fault; must not block.
        """
        self._tell = tell
        self._kinds: dict[str | None, dict[tuple[str, str], _Reported]] = {}

    def of(self, rollout: str, said: Mapping[str, str] | None = None) -> Callable[..., None]:
        """Return what notes faults of a rollout; `said` is how its options were written, by name, for the log."""

        def note(what: str, error: BaseException, number: int = 1, *, detail: str = "") -> None:
            self.note(what, error, number, rollout=rollout, said=said, detail=detail)

        return note

    def note(
        self,
        what: str,
        error: BaseException,
        number: int = 1,
        *,
        rollout: str | None = None,
        said: Mapping[str, str] | None = None,
        detail: str = "",
    ) -> None:
        """Count faults, and report them at most once a minute; never raises.

        Args:
            what: What failed.
            error: What it raised.
            number: How often.
            rollout: Key of the rollout in which it happened; None for what all rollouts share, such as the journal.
            said: How the rollout's options were written, by name.
            detail: What the log may say besides, because it contains no user data.
        """
        # The caller is already handling a fault; another one cannot be reported.
        with suppress(Exception, SystemExit):
            self._note(what, error, number, rollout, lambda kind: _why(what, error, kind, rollout, said or {}, detail))

    def _note(
        self, what: str, error: BaseException, number: int, rollout: str | None, why: Callable[[str], str | None]
    ) -> None:
        # Rollouts can be made at run time: the rest of them share one table.
        owner = rollout if rollout in self._kinds or len(self._kinds) < _MOST_ROLLOUTS else None
        kind, kinds = class_name(error), self._kinds.setdefault(owner, {})
        known = kinds.get((what, kind))
        if known is None:
            # Classes can be created at run time; this bounds the table.
            kind = kind if len(kinds) < _MOST_KINDS else "_OTHER"
            known = kinds.setdefault((what, kind), _Reported())
        known.count.add(number)
        now = monotonic()
        # Reports are rate-limited, because a fault on every call would crowd out the calls themselves. Faults of the logger
        # are only counted, since reporting needs it.
        if now - known.reported_s >= _TELL_EVERY_S and what != "telemetry.logs":
            known.reported_s = now
            self._tell(Fault(what, kind, int(known.count), why(kind), rollout))

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """Number of faults by (name, class of exception)."""
        return self._summed(list(self._kinds))

    def counts_of(self, rollout: str) -> dict[tuple[str, str], int]:
        """The same for a rollout: its own, and those of what it shares with others, such as the journal."""
        return self._summed([rollout, None])

    def _summed(self, rollouts: list[str | None]) -> dict[tuple[str, str], int]:
        counts: dict[tuple[str, str], int] = {}
        for rollout in rollouts:
            for fault, known in list(self._kinds.get(rollout, {}).items()):
                counts[fault] = counts.get(fault, 0) + int(known.count)
        return counts

    def clear(self) -> None:
        """Forget all faults, in a forked child."""
        self._kinds.clear()


def _why(what: str, error: BaseException, kind: str, rollout: str | None, said: Mapping[str, str], detail: str) -> str | None:
    """What people may hear of a fault: names of the application's code, and no data."""
    if what in said:
        return f"{what}={said[what]} of {rollout!r} failed: {detail or kind}. {OPTIONS[what]}"[:_LONGEST_WHY]
    is_ours = isinstance(error, HangError | DroppedError) or what == STRATEGY
    return _explained(error) if is_ours or (what in _EXPLAINED and isinstance(error, RolloutError)) else None
