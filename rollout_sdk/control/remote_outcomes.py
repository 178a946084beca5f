"""Outcomes of rollouts that this process does not serve: a job that joins labels days later records them by decision id.

What is counted of a metric (its window, its bounds, what its mean is taken over) stands in the plan, which only the serving
processes have; the one that judges leaves it in the store as a note.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from json import dumps, loads
from typing import Any

from attrs import define, field

from rollout_sdk.concurrency.threads import Lock
from rollout_sdk.control.local_state import LocalState
from rollout_sdk.control.managed import ManagedRollout
from rollout_sdk.control.state_document import from_document
from rollout_sdk.control.stores import StateStore
from rollout_sdk.exceptions import StoreError
from rollout_sdk.judging import Evidence
from rollout_sdk.plan import Criteria, Gate, is_measured
from rollout_sdk.plugins.manager import Failed
from rollout_sdk.resilience.faults import STORE

__all__ = ["METRICS", "RemoteOutcomes", "metrics_noted"]

METRICS = "metrics"
_MOST_WAITING = 100_000
_MOST_ROLLOUTS = 1_000


def metrics_noted(criteria: Criteria) -> str:
    """What a process that does not have the plan must know of the metrics that are recorded."""
    recorded = [each for each in criteria.all if not is_measured(each.metric)]
    return dumps([{"metric": each.metric, "per": each.per, "window": each.window, "clip": each.clip} for each in recorded])


@define(eq=False)
class RemoteOutcomes:
    """Evidence about the rollouts of other processes.

    Attributes:
        writer: In whose name it is published; another than that of what this process serves.
        failed: Told of every fault.
    """

    writer: str
    failed: Failed
    _waiting: dict[str, deque[Callable[[Evidence], None]]] = field(factory=dict)
    _kept: dict[str, ManagedRollout] = field(factory=dict)
    _lock: threading.Lock = field(factory=Lock)

    def hear(self, key: str, testimonies: Iterable[Callable[[Evidence], None]]) -> None:
        """Take what facts add to the evidence about a rollout; the store is not asked now.

        Without a key, anybody can make ids, and so names of rollouts: of those that the store has not been found to know, so
        many wait, the last ones, and for all of them together no more than for one that it knows.
        """
        with self._lock:
            self._waiting.setdefault(key, deque(maxlen=_MOST_WAITING)).extend(testimonies)
            unknown = [each for each in self._waiting if each not in self._kept]
            waiting = sum(len(self._waiting[each]) for each in unknown)
            while len(unknown) > 1 and (len(unknown) > _MOST_ROLLOUTS or waiting > _MOST_WAITING):
                waiting -= len(self._waiting.pop(unknown.pop(0)))

    def publish(self, now_s: float, store: StateStore) -> None:
        """Put what was heard where those see it who judge; what cannot be put there yet waits.

        Raises:
            StoreError: The store did not answer.
        """
        for key in list(self._waiting):
            try:
                self._publish(key, now_s, store)
            except StoreError:
                raise
            # What is stored cannot be read: the others are waiting.
            except Exception as error:
                self.failed(STORE, error)

    def _publish(self, key: str, now_s: float, store: StateStore) -> None:
        managed = self._at_hand(key, store)
        if managed is None:
            return
        with self._lock:
            heard = self._waiting.pop(key, ())
        for error in managed.hear(heard):
            self.failed("judge", error)
        try:
            managed.publish(store, self.writer, now_s)
        except BaseException:
            # Nothing is lost: what was added is sent with whatever comes next.
            self.hear(key, ())
            raise

    def _at_hand(self, key: str, store: StateStore) -> ManagedRollout | None:
        """The rollout where it stands now; None when the store does not say how its metrics are counted."""
        stored, noted = store.load(key), store.noted(key, METRICS)
        if stored is None or noted is None:
            return None
        state, criteria = from_document(stored.document), Criteria(gates=[_metric(each) for each in loads(noted)])
        managed = self._kept.get(key)
        if managed is None:
            # Epochs begin at 0: what follows makes the evidence that of the stored one.
            local = LocalState(state, {})
            managed = self._kept[key] = ManagedRollout(key, local, "", criteria=criteria, claims=True, epoch=-1)
        managed.judge_by(criteria)
        managed.local_state.enter(state)
        managed.follow()
        return managed


def _metric(table: dict[str, Any]) -> Gate:
    return Gate(table["metric"], per=table["per"], window=table["window"], clip=table["clip"])
