"""Outcomes that are read before their calls: another process recorded them, and files of two processes are read by turns.

A journal does not say in which order the lines of two processes were written, but an outcome is always of an earlier call. The
judge needs that order: before the first line of a rollout, it does not know what was declared, and it does not know
what a list had before its click.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Container, Iterator
from typing import Any

from attrs import Factory, define, field

__all__ = ["Early"]

_MOST_CALLS = 20_000
_MOST_WAITING = 10_000
_READINGS = 3
_LONGEST_AHEAD_S = 60.0
"""Seconds by which the clock of a call may be ahead of that of its outcome; a time further ahead is not trusted."""


@define
class Early:
    """The calls that were read last, and the outcomes that wait for theirs; kept from one reading of a journal to the next.

    Attributes:
        waiting: Lines by the id of their call, and the reading in which the first of them came.
    """

    waiting: OrderedDict[str, tuple[int, list[dict[str, Any]]]] = Factory(OrderedDict)
    _count: int = 0
    _reading: int = 0
    # Hashes of ids, in two halves: when the second is full, the first is forgotten.
    _former: set[int] = field(factory=set)
    _latest: set[int] = field(factory=set)
    _former_s: float = -math.inf
    _latest_s: float = -math.inf

    @staticmethod
    def not_before(record: dict[str, Any]) -> float:
        """The time of its call, which is the earliest at which an outcome was written; -inf where it is not known."""
        decided: float | None = record.get("decided")
        return -math.inf if decided is None or decided > record["t"] + _LONGEST_AHEAD_S else decided

    def kept(self, record: dict[str, Any]) -> bool:
        """Keep an outcome until its call has come; False if its call was read, or was made before those that are known here."""
        decided, call = record.get("decided"), record.get("id")
        if call is None or decided is None or decided < self._former_s:
            return False
        known = hash(call)
        if known in self._latest or known in self._former:
            return False
        self.waiting.setdefault(call, (self._reading, []))[1].append(record)
        self._count += 1
        return True

    def too_many(self) -> list[dict[str, Any]]:
        """The outcomes that have waited for the longest, where more of them wait than may."""
        return self._left(next(iter(self.waiting))) if self._count > _MOST_WAITING else []

    def came(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        """See a call; returns the outcomes that have waited for it."""
        latest, call = self._latest, record["id"]
        if len(latest) >= _MOST_CALLS:
            self._former, self._former_s = latest, self._latest_s
            latest, self._latest_s = set(), record["seen_s"]
            self._latest = latest
        latest.add(hash(call))
        if not self.waiting:
            return []
        return self._left(call, record["seen_s"]) if call in self.waiting else []

    def _left(self, call: str, seen_s: float = -math.inf) -> list[dict[str, Any]]:
        """The outcomes of a call, which wait no more."""
        _, found = self.waiting.pop(call)
        self._count -= len(found)
        for each in found:
            each["seen_s"] = max(seen_s, each["seen_s"])
        return found

    def end(self, *, is_followed: bool, served: Container[str] = ()) -> Iterator[dict[str, Any]]:
        """End a reading: the outcomes whose calls are not there.

        Args:
            is_followed: Whether the journal is read again, with what is written until then: calls may still come.
            served: Rollouts of which calls were read: what was declared for one comes before its calls.
        """
        self._reading += 1
        lost = [
            call
            for call, (since, found) in self.waiting.items()
            if not is_followed or (since <= self._reading - _READINGS and found[0]["rollout"] in served)
        ]
        for call in lost:
            yield from self._left(call)
