"""What the recorder takes from callers: a bounded queue of facts, and which calls are kept when it fills up.

A caller pays one `deque.append`, and does not wait. From 10,000 facts on, fewer and fewer calls are kept, drawn by a hash of
their ids (see `sampling`), and at 15,000 none. What is not kept is counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from rollout_sdk.concurrency.forking import notice_fork, same_process
from rollout_sdk.records.sampling import HIGHEST_LEVEL, Load, level_of, rate_of
from rollout_sdk.resilience.faults import Count, Fault, Notice

__all__ = ["MOST_AT_ONCE", "Intake"]

MOST_AT_ONCE = 1_000
"""Facts in one delivery; rows count one by one."""

_MOST_WAITING = 10_000
_MOST_ROWS_WAITING = 2_000_000


class Intake:
    """The queue of a recorder; never blocks and never raises."""

    def __init__(self, load: Load) -> None:
        """Start with an empty queue once `renew` is called.

        Args:
            load: Where calls that begin read how full the queue is.
        """
        self._load = load

    def renew(self) -> None:
        """Start afresh: an empty queue, nothing dropped."""
        self._queue: deque[Any] = deque()
        self._rests = True
        self._dropped = Count()
        self._drawn_out = Count()
        self._load.level = 0
        self._rows_waiting: dict[int, int] = {}
        self._closed = False

    def _wake(self) -> None:
        """Called with the first fact after a rest: have the queue emptied."""
        raise NotImplementedError

    @property
    def dropped(self) -> int:
        """Facts that were lost because the queue was full or the recorder closed."""
        return int(self._dropped)

    @property
    def drawn_out(self) -> int:
        """How many of these were of calls that were not drawn: what is kept of other calls stands for them."""
        return int(self._drawn_out)

    def draw_out(self, number: int = 1) -> None:
        """Count facts of calls that were not drawn."""
        self._dropped.add(number)
        self._drawn_out.add(number)

    @property
    def waiting(self) -> int:
        """Facts not yet delivered."""
        return len(self._queue)

    @property
    def is_closed(self) -> bool:
        """Whether it takes nothing more."""
        return self._closed

    def put(self, fact: Any) -> None:
        """Take a fact; never blocks and never raises.

        A fact of many rows says how many it stands for by its `weight`, and gives some of them as `part(start, stop)`. It is
        delivered in parts. A fact of a call has the `level` at which the call began, and `drawn(rate)` gives what is kept of
        it; other facts are dropped as soon as the queue is full.
        """
        if not same_process[0]:
            notice_fork()
        weight = getattr(fact, "weight", 1)
        waiting = len(self._queue)
        level = 0 if waiting < _MOST_WAITING else level_of(waiting, _MOST_WAITING)
        if weight > 1:
            level = max(level, self._level_of_rows(weight))
        if level != self._load.level:
            self._load.level = min(level, HIGHEST_LEVEL)
        if self._closed or level > HIGHEST_LEVEL:
            self._dropped.add(weight)
            return
        if level or getattr(fact, "level", 0):
            fact = self._drawn(fact, level, weight)
            if fact is None:
                return
        if weight > 1:
            self._rows_waiting[id(fact)] = weight
        self._queue.append(fact)
        if self._rests:
            self._wake()

    def take(self, call: Any) -> None:
        """Take a single call that began while there was room: the same as `put`, in a quarter of the time."""
        queue = self._queue
        # As one condition: nearly always, nothing of it holds.
        if len(queue) >= _MOST_WAITING or self._rests or self._load.level or self._closed or not same_process[0]:
            self.put(call)
        else:
            queue.append(call)

    def _level_of_rows(self, weight: int) -> int:
        """The level of so many more rows; one fact alone always has room."""
        waiting = list(self._rows_waiting.values())
        return level_of(sum(waiting) + weight - 1, _MOST_ROWS_WAITING) if waiting else 0

    def _drawn(self, fact: Any, level: int, weight: int) -> Any:
        """What is kept of a fact at a level; None for nothing, which is then counted."""
        draw = getattr(fact, "drawn", None)
        if draw is None:
            self._dropped.add(weight)
            return None
        kept = draw(rate_of(level))
        if kept is None:
            self.draw_out(weight)
        return kept

    def tell(self, fault: Fault | Notice) -> None:
        """Take a message for people, or drop it if the queue is full: it is not a fact. Never blocks and never raises."""
        if not self._closed and len(self._queue) < _MOST_WAITING:
            self._queue.append(fault)
            if self._rests:
                self._wake()

    def _lower_level(self) -> None:
        """Follow a queue that has become shorter, so that no call begins as if it were still full."""
        self._load.level = min(level_of(len(self._queue), _MOST_WAITING), HIGHEST_LEVEL)

    def _portions(self, facts: list[Any]) -> Iterator[list[Any]]:
        """The facts in portions, none of which stands for many more than are delivered at once."""
        portion: list[Any] = []
        room = MOST_AT_ONCE
        for fact in facts:
            weight = getattr(fact, "weight", 1)
            if weight > 1:
                self._rows_waiting.pop(id(fact), None)
            if weight > room and portion:
                yield portion
                portion, room = [], MOST_AT_ONCE
            if weight > room:
                for start in range(0, weight, MOST_AT_ONCE):
                    yield [fact.part(start, start + MOST_AT_ONCE)]
            else:
                portion.append(fact)
                room -= weight
        yield portion
