"""A budget for all processes that share a store: each announces what it reserves there before it spends it."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import blake2b
from json import dumps, loads
from typing import Literal

from attrs import frozen

from rollout_sdk.concurrency.threads import Lock
from rollout_sdk.control.stores import StateStore
from rollout_sdk.control.stores.guarded import INTERNAL
from rollout_sdk.engine.judges.judge import Money
from rollout_sdk.exceptions import StoreError
from rollout_sdk.resilience.faults import STORE

__all__ = ["SharedSpending"]

_PART = "spent"
_MOST_TRIES = 3
_LATE_S = 60.0
_AGAIN_AFTER_S, _AGAIN_AFTER_FAILURE_S = 0.1, 1.0


@frozen
class _Others:
    """What the other processes have spent and reserved in a period, how many judgements run there, and the dearest so far.

    `has_ended`: whether any of their judgements has ended.
    """

    spent: float
    reserved: float
    running: int
    largest: float
    has_ended: bool


class SharedSpending:
    """The costs of all processes of a rollout, for one period after another; otherwise as `Spending`.

    A reservation is written to the store first, and then compared with what all others have written. Of two processes that
    reserve at the same time, at least one sees the other, so that together they never start what only one of them may; both may
    have to try again. Called by the judge's threads only, because it waits for the store.

    The sums are parts of a document of their own, whose epoch is the period: the store forgets them with the next one.
    """

    scope = "in all processes together"

    def __init__(
        self,
        budget: Money,
        price: float | None,
        *,
        store: StateStore,
        rollout: str,
        timeout_s: float,
        failed: Callable[[str, BaseException], None],
    ) -> None:
        """Ask the store for nothing yet.

        Args:
            budget: The budget.
            price: The most that a judgement costs, if that is known.
            store: The store of the processes.
            rollout: Key of the rollout.
            timeout_s: Seconds that a judgement may take: a process that has announced nothing for longer has died in one.
            failed: Called with every failure of the store.
        """
        self._budget, self._store, self._failed = budget, store, failed
        self._key = INTERNAL + "budget " + blake2b(rollout.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        self._writer = f"{os.getpid():x}-{os.urandom(6).hex()}"
        self._patience_s = timeout_s + _LATE_S
        self._price = price
        self._has_ended = False
        self._lock = Lock()
        self.largest = price or 0.0
        self.spent = 0.0
        self._reserved = 0.0
        self._running = 0
        self._period = -1
        self._now_s = 0.0
        self.poll_s = _AGAIN_AFTER_S

    def reserve(self, now_s: float) -> float | Literal["spent", "wait"]:
        """Reserve the cost of a judgement; see `Spending.reserve`. While the store does not answer, nothing is reserved."""
        with self._lock:
            self._now_s = now_s
            try:
                return self._reserve()
            except StoreError as error:
                self._failed(STORE, error)
                self.poll_s = _AGAIN_AFTER_FAILURE_S
                return "wait"

    def _reserve(self) -> float | Literal["spent", "wait"]:
        self.poll_s = _AGAIN_AFTER_S
        self._enter_period()
        others, reserved, running = self._others(), self._reserved, self._running
        amount = max(self.largest, others.largest)
        if (why := self._refusal(amount, others, reserved, running)) is not None:
            return why
        self._reserved, self._running = reserved + amount, running + 1
        is_reserved = False
        try:
            self._publish()
            # Other processes may have published in the meantime, without having seen this.
            why = self._refusal(amount, self._others(), reserved, running)
            is_reserved = why is None
        finally:
            if not is_reserved:
                # If the store fails now, the next publication corrects what it has.
                self._reserved, self._running = reserved, running
        if why is None:
            return amount
        self._publish()
        return why

    def _refusal(self, amount: float, others: _Others, reserved: float, running: int) -> Literal["spent", "wait"] | None:
        """Return why a judgement of this amount may not start beside what is reserved and runs here and elsewhere."""
        limit, spent = self._budget.amount, self.spent + others.spent
        if spent >= limit or spent + amount > limit:
            return "spent"
        factor = 1.0 if amount == self._price else 2.0
        has_ended = self._has_ended or others.has_ended
        has_room = has_ended and amount > 0 and spent + factor * (reserved + others.reserved + amount) <= limit
        return "wait" if running + others.running and not has_room else None

    def settle(self, reserved: float, cost: float | None) -> None:
        """Replace a reservation by the cost; see `Spending.settle`."""
        with self._lock:
            self._has_ended = True
            self._running -= 1
            self._reserved -= reserved
            self.spent += reserved if cost is None else cost
            self.largest = max(self.largest, cost or 0.0)
            self._tell()

    def exhaust(self) -> None:
        """Spend the rest of the period's budget, because the cost of judgements is unknown."""
        with self._lock:
            self.spent = max(self.spent, self._budget.amount)
            self._tell()

    def _tell(self) -> None:
        """Announce what has changed; if the store does not answer, the next reservation announces it."""
        try:
            self._publish()
        except StoreError as error:
            self._failed(STORE, error)

    def _enter_period(self) -> None:
        """Begin a period with nothing spent, and make its document the store's.

        Raises:
            StoreError: The store did not answer, or others keep changing it.
        """
        period = int(self._now_s // self._budget.period_s)
        for _ in range(_MOST_TRIES):
            # A process whose clock is ahead may have begun the next one.
            period = max(period, self._period)
            if period != self._period:
                self._period, self.spent = period, 0.0
            stored = self._store.load(self._key)
            if stored is not None and int(stored.document["epoch"]) > period:
                period = int(stored.document["epoch"])
                continue
            if stored is not None and int(stored.document["epoch"]) == period:
                return
            revision = 0 if stored is None else stored.revision + 1
            document = {"revision": revision, "epoch": period}
            self._store.swap(self._key, None if stored is None else stored.revision, document, {"action": "period"})
        raise StoreError("Other processes keep changing the period of the judge's budget. It is read again.")

    def _publish(self) -> None:
        """Announce the sums of this process.

        Raises:
            StoreError: The store did not answer, or another process has begun the next period.
        """
        part = {
            "spent": self.spent,
            "reserved": self._reserved,
            "running": self._running,
            "largest": self.largest,
            "ended": self._has_ended,
            "t": self._now_s,
        }
        if not self._store.publish(self._key, self._period, self._writer, {_PART: dumps(part)}):
            raise StoreError("The period of the judge's budget has ended meanwhile. It is read again.")

    def _others(self) -> _Others:
        """Read the sums of the other processes.

        Raises:
            StoreError: The store did not answer.
        """
        parts = self._store.gather(self._key, self._period).parts
        published = [loads(text) for (writer, name), text in parts.items() if name == _PART and writer != self._writer]
        late = [each for each in published if self._now_s - each["t"] > self._patience_s]
        alive = [each for each in published if self._now_s - each["t"] <= self._patience_s]
        return _Others(
            # What a process had reserved when it died, it may have spent.
            spent=sum(each["spent"] for each in published) + sum(each["reserved"] for each in late),
            reserved=sum(each["reserved"] for each in alive),
            running=sum(each["running"] for each in alive),
            largest=max((each["largest"] for each in published), default=0.0),
            # Processes of an earlier version do not announce it.
            has_ended=any(each.get("ended", each["spent"] > 0) for each in published),
        )
