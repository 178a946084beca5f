"""Rewards of decisions, recorded and pending, and their sums by arm."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

from attrs import define, field, frozen

from rollout_sdk import RecordedEvent, RoutedEvent

__all__ = ["ArmSums", "Ledger", "Totals", "added", "read_totals", "written_totals"]

_SLOTS = 20
_MOST_SEEN = 200_000


@frozen
class ArmSums:
    """Rewards of one arm.

    Attributes:
        count: Number of decisions whose reward is known.
        total: Sum of their rewards.
        squares: Sum of the squares of their rewards.
    """

    count: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float:
        """Mean reward; NaN without decisions."""
        return self.total / self.count if self.count else math.nan

    @property
    def variance(self) -> float:
        """Variance of a reward; NaN for fewer than two decisions."""
        if self.count <= 1:
            return math.nan
        return max(0.0, self.squares - self.total**2 / self.count) / (self.count - 1)

    def plus(self, count: float, total: float, squares: float) -> ArmSums:
        """Return the sums with further decisions added."""
        return ArmSums(self.count + count, self.total + total, self.squares + squares)


Totals = dict[str, ArmSums]


def added(parts: Iterable[Mapping[str, ArmSums]]) -> Totals:
    """Return the sums over all parts."""
    whole: defaultdict[str, ArmSums] = defaultdict(ArmSums)
    for part in parts:
        for arm, sums in part.items():
            whole[arm] = whole[arm].plus(sums.count, sums.total, sums.squares)
    return dict(whole)


def written_totals(totals: Mapping[str, ArmSums]) -> str:
    """Return sums as text for a store."""
    return json.dumps({arm: [each.count, each.total, each.squares] for arm, each in sorted(totals.items())})


def read_totals(text: str) -> Totals:
    """Return sums from a store's text.

    Raises:
        ValueError: The text does not hold sums.
    """
    try:
        totals = {str(arm): _arm_sums(*map(float, numbers)) for arm, numbers in json.loads(text).items()}
    except (AttributeError, TypeError) as error:
        raise ValueError("These are not the sums of a bandit.") from error
    return totals


def _arm_sums(count: float, total: float, squares: float) -> ArmSums:
    if not (all(map(math.isfinite, (count, total, squares))) and count >= 0 and squares >= 0):
        raise ValueError("These are not the sums of an arm.")
    return ArmSums(count, total, squares)


@define(eq=False)
class _Slot:
    """Decisions of a short period, kept until the window of all their rewards has passed."""

    counts: defaultdict[str, float] = field(factory=lambda: defaultdict(float))
    rewards: defaultdict[str, list[tuple[float, float]]] = field(factory=lambda: defaultdict(list))


@define(eq=False)
class Ledger:
    """The rewards of one rollout that one process has seen, under one fingerprint.

    With a window, a decision counts once it is older than the window, with the reward recorded within it, or with 0, so an arm
    whose rewards come later has no disadvantage. Without a window, a decision counts when its reward is recorded. Only the
    first reward of a decision counts.

    Attributes:
        metric: Name of the outcome that is the reward.
        window_s: Seconds that a reward may take; None: decisions without one do not count.
        limits: The lowest and the highest reward; others do not count, because one of them would decide for its arm.
        totals: Sums of the decisions that count.
        refused: Number of rewards that were late or repeated.
        impossible: The last reward beyond the limits; None if there was none.
    """

    metric: str
    window_s: float | None
    limits: tuple[float, float]
    totals: Totals = field(factory=dict)
    refused: int = 0
    impossible: float | None = None
    _slots: dict[int, _Slot] = field(factory=dict)
    _seen: dict[int, set[str]] = field(factory=dict)
    _seen_without_window: dict[str, None] = field(factory=dict)
    _now_s: float = 0.0

    def routed(self, event: RoutedEvent) -> None:
        """Add a decision."""
        self._now_s = max(self._now_s, event.decision.time_s)
        if self.window_s is not None and not event.excluded:
            slot = self._slot_of(event.decision.time_s)
            if slot is not None:
                slot.counts[event.decision.variant] += 1 / event.rate
        self._mature()

    def recorded(self, event: RecordedEvent) -> None:
        """Add an outcome; one of another metric, of a unit, or of a call that is not analysed is ignored."""
        if event.metric != self.metric or event.variant is None or event.decided_s is None or event.excluded:
            return
        self._now_s = max(self._now_s, event.time_s)
        if not self.limits[0] <= event.value <= self.limits[1]:
            self.impossible = event.value
            return
        weight = 1 / event.rate
        if not self._is_first(event):
            self.refused += 1
        elif self.window_s is None:
            self._add(event.variant, weight, [(weight, event.value)])
        elif event.time_s > event.decided_s + self.window_s or (slot := self._slot_of(event.decided_s)) is None:
            self.refused += 1
        else:
            slot.rewards[event.variant].append((weight, event.value))
        self._mature()

    def _number(self, time_s: float) -> int:
        return math.floor(time_s / self._width_s)

    @property
    def _width_s(self) -> float:
        return (3600.0 if self.window_s is None else self.window_s) / _SLOTS

    def _slot_of(self, time_s: float) -> _Slot | None:
        """Return the slot of a decision; None if it has already been counted."""
        number = self._number(time_s)
        return None if self._is_over(number) else self._slots.setdefault(number, _Slot())

    def _is_over(self, number: int) -> bool:
        window_s = _SLOTS * self._width_s
        return (number + 1) * self._width_s + window_s <= self._now_s

    def _is_first(self, event: RecordedEvent) -> bool:
        assert event.decided_s is not None
        if self.window_s is None:
            known, number = self._seen_without_window, len(self._seen_without_window)
            known.setdefault(event.label)
            is_first = len(known) > number
            if len(known) > _MOST_SEEN:
                del known[next(iter(known))]
            return is_first
        seen = self._seen.setdefault(self._number(event.decided_s), set())
        is_first = event.label not in seen
        seen.add(event.label)
        return is_first

    def _mature(self) -> None:
        for number in [each for each in self._slots if self._is_over(each)]:
            slot = self._slots.pop(number)
            for arm in slot.counts.keys() | slot.rewards.keys():
                self._add(arm, slot.counts[arm], slot.rewards[arm])
        for number in [each for each in self._seen if self._is_over(each)]:
            del self._seen[number]

    def _add(self, arm: str, count: float, rewards: list[tuple[float, float]]) -> None:
        total = math.fsum(weight * value for weight, value in rewards)
        squares = math.fsum(weight * value**2 for weight, value in rewards)
        self.totals[arm] = self.totals.get(arm, ArmSums()).plus(count, total, squares)
