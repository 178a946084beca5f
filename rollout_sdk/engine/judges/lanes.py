"""The lanes of all judges of a process, by rollout."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.control.stores import GuardedStore
from rollout_sdk.engine.judges.judge import Judge
from rollout_sdk.engine.judges.lane import JudgeLane
from rollout_sdk.engine.judges.shared_spending import SharedSpending

__all__ = ["JudgeLanes"]


class JudgeLanes:
    """One lane for each rollout with a judge; it stays when the rollout is decorated again with the same judge."""

    def __init__(self, store: GuardedStore, *, time_ns: Callable[[], int], failed: Callable[..., None]) -> None:
        """Start without judges.

        Args:
            store: The store, in which processes that share it share their budgets.
            time_ns: Wall clock, in nanoseconds since 1970.
            failed: Called with every failure of the store.
        """
        self._store, self._time_ns, self._failed = store, time_ns, failed
        self._lanes: dict[str, JudgeLane] = {}

    def lane(self, key: str, judge: Judge, failed: Callable[..., None], note: Callable[[str], None]) -> JudgeLane:
        """The lane of a rollout's judge; the money that an earlier one of the same budget has spent stays spent.

        Args:
            key: Key of the rollout.
            judge: The judge.
            failed: Called with every fault of the judge.
            note: Called with what a person should know about it.
        """
        known = self._lanes.get(key)
        if known is not None and known.judge == judge:
            return known
        account = None
        if judge.budget is not None and self._store.is_shared:
            account = partial(
                SharedSpending,
                judge.budget,
                judge.price,
                store=self._store,
                rollout=key,
                timeout_s=judge.timeout_s,
                failed=self._failed,
            )
        lane = self._lanes[key] = JudgeLane(judge, failed=failed, note=note, time_ns=self._time_ns, spending=account)
        if known is not None and (known.judge.budget, known.judge.price) == (judge.budget, judge.price):
            lane.spending = known.spending
        return lane

    def wait(self, deadline: float) -> bool:
        """Wait until all pairs are judged, until a time of the monotonic clock; return whether they are."""
        return all(lane.wait(max(0.0, deadline - monotonic())) for lane in list(self._lanes.values()))

    def close(self) -> None:
        """Judge nothing more."""
        for lane in list(self._lanes.values()):
            lane.close()
