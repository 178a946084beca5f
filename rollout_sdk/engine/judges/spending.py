"""What judgements cost: reserved before each starts, so that costs as expected exceed no budget by more than one of them."""

from __future__ import annotations

from typing import Literal

from rollout_sdk.concurrency.threads import Lock
from rollout_sdk.engine.judges.judge import Money

__all__ = ["Spending"]


class Spending:
    """The costs of one process, for one period after another.

    The `price`, or the largest cost so far if that is more, is reserved. The first judgement runs alone. Without a price, and
    once a judgement has cost more than it, there is room for twice what is reserved, or else only one judgement runs at a time:
    so the budget is exceeded by one at most, unless costs jump by more than that while several run.
    """

    scope = "in this process"
    poll_s = 0.01

    def __init__(self, budget: Money | None, price: float | None = None) -> None:
        """Start with nothing spent.

        Args:
            budget: The budget; None for none.
            price: The most that a judgement costs, if that is known.
        """
        self._budget = budget
        self._price = price
        self._has_ended = False
        self._lock = Lock()
        self.largest = price or 0.0
        self.spent = 0.0
        self._reserved = 0.0
        self._running = 0
        self._period: float | None = None

    def reserve(self, now_s: float) -> float | Literal["spent", "wait"]:
        """Reserve the cost of a judgement and return it; "spent" if the budget has no room, "wait" if it may have after others.

        Args:
            now_s: Time, in seconds since 1970.
        """
        if self._budget is None:
            return 0.0
        with self._lock:
            period = now_s // self._budget.period_s
            if period != self._period:
                self._period, self.spent = period, 0.0
            limit, amount = self._budget.amount, self.largest
            if self.spent >= limit or self.spent + amount > limit:
                return "spent"
            factor = 1.0 if amount == self._price else 2.0
            has_room = self._has_ended and amount > 0 and self.spent + factor * (self._reserved + amount) <= limit
            if self._running and not has_room:
                return "wait"
            self._running += 1
            self._reserved += amount
            return amount

    def settle(self, reserved: float, cost: float | None) -> None:
        """Replace a reservation by the cost; None if it is unknown, so that what was reserved counts as spent."""
        if self._budget is None:
            return
        with self._lock:
            self._has_ended = True
            self._running -= 1
            self._reserved -= reserved
            self.spent += reserved if cost is None else cost
            self.largest = max(self.largest, cost or 0.0)

    def exhaust(self) -> None:
        """Spend the rest of the period's budget, because the cost of judgements is unknown."""
        if self._budget is not None:
            with self._lock:
                self.spent = max(self.spent, self._budget.amount)
