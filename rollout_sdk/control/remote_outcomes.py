"""Outcomes of rollouts that this process does not serve: a job that joins labels days later records them by decision id.

How a metric is counted (its window, its bounds, the denominator of its mean) is part of the plan, which only the serving
processes have; the process that judges notes it in the store.
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
_NOTED = ("metric", "per", "window", "clip", "audit")
_MOST_WAITING = 100_000
_MOST_ROLLOUTS = 1_000


def metrics_noted(criteria: Criteria) -> str:
    """Return the note by which a process without the plan counts recorded metrics."""
    recorded = [each for each in criteria.all if not is_measured(each.metric)]
    return dumps([{name: getattr(each, name) for name in _NOTED} for each in recorded])


@define(eq=False)
class RemoteOutcomes:
    """Evidence about rollouts that other processes serve.

    Attributes:
        writer: Name under which it is published; different from the name for rollouts that this process serves.
        failed: Notified of every fault.
    """

    writer: str
    failed: Failed
    _waiting: dict[str, deque[Callable[[Evidence], None]]] = field(factory=dict)
    _managed: dict[str, ManagedRollout] = field(factory=dict)
    _lock: threading.Lock = field(factory=Lock)

    def add(self, key: str, additions: Iterable[Callable[[Evidence], None]]) -> None:
        """Keep the facts of a rollout until `publish`, which reads the store.

        Without a secret key, decision ids, and so keys of rollouts, can be forged: the facts of all unknown rollouts together
        are limited to the number for one known rollout, and the latest are kept.
        """
        with self._lock:
            self._waiting.setdefault(key, deque(maxlen=_MOST_WAITING)).extend(additions)
            unknown = [each for each in self._waiting if each not in self._managed]
            waiting = sum(len(self._waiting[each]) for each in unknown)
            while len(unknown) > 1 and (len(unknown) > _MOST_ROLLOUTS or waiting > _MOST_WAITING):
                waiting -= len(self._waiting.pop(unknown.pop(0)))

    def publish(self, now_s: float, store: StateStore) -> None:
        """Write the evidence to the store, for the processes that judge; what cannot be written yet waits.

        Raises:
            StoreError: The store did not answer.
        """
        for key in list(self._waiting):
            try:
                self._publish(key, now_s, store)
            except StoreError:
                raise
            # The stored state cannot be read: go on with the others.
            except Exception as error:
                self.failed(STORE, error)

    def _publish(self, key: str, now_s: float, store: StateStore) -> None:
        managed = self._current(key, store)
        if managed is None:
            return
        with self._lock:
            additions = self._waiting.pop(key, ())
        for error in managed.add(additions):
            self.failed("judge", error)
        try:
            managed.publish(store, self.writer, now_s)
        except BaseException:
            # Nothing is lost: the evidence is published with the next facts.
            self.add(key, ())
            raise

    def _current(self, key: str, store: StateStore) -> ManagedRollout | None:
        """Return the rollout in its current state; None if the store has no note on how its metrics are counted."""
        stored, noted = store.load(key), store.noted(key, METRICS)
        if stored is None or noted is None:
            return None
        state, criteria = from_document(stored.document), Criteria(gates=[_metric(each) for each in loads(noted)])
        managed = self._managed.get(key)
        if managed is None:
            # Epochs start at 0: `follow` sets the epoch of the stored state.
            local = LocalState(state, {})
            managed = self._managed[key] = ManagedRollout(key, local, "", criteria=criteria, claims=True, epoch=-1)
        managed.judge_by(criteria)
        managed.local_state.enter(state)
        managed.follow()
        return managed


def _metric(table: dict[str, Any]) -> Gate:
    return Gate(**{name: table[name] for name in _NOTED if name in table})
