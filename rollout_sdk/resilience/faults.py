"""Faults of collaborators: counted one by one, told now and then, and never raised."""

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
STORE = "store"
THREADS = "threads"
"""What their faults are called; they say why, because they hold paths and settings, and no data of users."""

BATCH = "engine.batch"
"""What is wrong with the answers for a batch; said with why, because it names types and never a value."""

STRATEGY = "strategy"
"""A decision that cannot be carried out; said with why, because it names variants and shares, and no data."""

OPTIONS: Mapping[str, str] = {
    "unit": "Such a call has no unit, and missing_unit= says what it gets. Name what every call has.",
    "override": "Such a call is decided without it. Have it return None or the name of a variant.",
    "failed_if": "Such an answer counts as no failure. Have it return True or False for every answer.",
    "covariate": "Such a call is judged without it. Name a number that every call has.",
    "isolate": "Have it return a copy of every argument.",
}
"""Options of the decorator that read a call: what becomes of a call where one fails, and the cure."""

_EXPLAINED = frozenset({BATCH, CONTROL_FILE, JOURNAL, STORE, THREADS})
_LOGIN = re.compile(r"//[^/@\s]*@")
_LONGEST_WHY = 500
_TELL_EVERY_S = 60.0
_MOST_KINDS = 1_000


@frozen
class Fault:
    """A collaborator failed: what, with which class of exception, how often so far, why where that tells nobody's data, and of
    which rollout, where it is of one.
    """

    what: str
    error: str
    count: int = 1
    why: str | None = None
    rollout: str | None = None


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
    """What failed so far, and how often: of each rollout, and of what rollouts share."""

    def __init__(self, tell: Callable[[Fault], None]) -> None:
        """Nothing has failed yet.

        Args:
            tell: Takes what people should hear of; must not block.
        """
        self._tell = tell
        self._kinds: dict[str | None, dict[tuple[str, str], _Told]] = {}

    def of(self, rollout: str, said: Mapping[str, str] | None = None) -> Callable[..., None]:
        """Notes faults of a rollout; `said` is how its options were written, by name, for what people hear."""

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
        """Count a fault, or so many of it, and have it told at most once a minute; never raises.

        Args:
            what: What failed.
            error: How.
            number: How often.
            rollout: Of which rollout; None for what rollouts share.
            said: How the rollout's options were written, by name.
            detail: What people may hear of it besides, because it tells nobody's data.
        """
        # Whoever calls this is handling a fault: there is nobody left to tell of another.
        with suppress(Exception, SystemExit):
            self._note(what, error, number, rollout, lambda kind: _why(what, error, kind, rollout, said or {}, detail))

    def _note(
        self, what: str, error: BaseException, number: int, rollout: str | None, why: Callable[[str], str | None]
    ) -> None:
        kind, kinds = class_name(error), self._kinds.setdefault(rollout, {})
        known = kinds.get((what, kind))
        if known is None:
            # Classes can be made at run time: what is remembered of them stays bounded.
            kind = kind if len(kinds) < _MOST_KINDS else "_OTHER"
            known = kinds.setdefault((what, kind), _Told())
        known.count.add(number)
        now = monotonic()
        # Told now and then only, because what fails on every call would crowd out the calls themselves. And the logger may
        # be what fails: its faults are counted only.
        if now - known.told_s >= _TELL_EVERY_S and what != "telemetry.logs":
            known.told_s = now
            self._tell(Fault(what, kind, int(known.count), why(kind), rollout))

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """Faults so far, by (what failed, class of exception)."""
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
        """Forget all: in a forked child, nothing has failed yet."""
        self._kinds.clear()


def _why(what: str, error: BaseException, kind: str, rollout: str | None, said: Mapping[str, str], detail: str) -> str | None:
    """What people may hear of a fault: names of the application's code, and no data."""
    if what in said:
        return f"{what}={said[what]} of {rollout!r} failed: {detail or kind}. {OPTIONS[what]}"[:_LONGEST_WHY]
    is_ours = isinstance(error, HangError | DroppedError) or what == STRATEGY
    return _explained(error) if is_ours or (what in _EXPLAINED and isinstance(error, RolloutError)) else None
