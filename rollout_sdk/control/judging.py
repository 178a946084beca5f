"""Judging what every process has seen, one process at a time, and acting on the verdict."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress

from attrs import evolve

from rollout_sdk.control.acting import next_step
from rollout_sdk.control.approving import Approvals
from rollout_sdk.control.guests import METRICS, Guests, metrics_noted
from rollout_sdk.control.kept import Kept
from rollout_sdk.control.stores import StateStore
from rollout_sdk.exceptions import ConflictError
from rollout_sdk.judging import Evidence, Verdict, judge
from rollout_sdk.plugins import Failed

__all__ = ["JUDGE", "Judging"]

JUDGE = "judge"
_VERDICT = "verdict"


class Judging:
    """Comes to verdicts in the name of one process, and has done what they ask for."""

    def __init__(
        self,
        store: StateStore,
        *,
        is_shared: bool,
        every_s: float,
        now_s: Callable[[], float],
        change: Callable[..., None],
        failed: Failed,
    ) -> None:
        """Judge nothing yet.

        Args:
            store: The shared state.
            is_shared: Whether other processes see the store, too.
            every_s: Seconds between two looks, of all processes together.
            now_s: The time, in seconds since 1970.
            change: Makes a transition: `Keeper.change`.
            failed: Told of every fault.
        """
        self.every_s = every_s
        self._store = store
        self._is_shared = is_shared
        self._now_s = now_s
        self._change = change
        self._failed = failed
        self.renew("")

    def renew(self, writer: str) -> None:
        """Judge in the name of another process from now on."""
        self._writer = writer
        self._said: dict[str, str] = {}
        self.guests = Guests(self._store, f"{writer}-guest", self._failed)
        self._approvals = Approvals(self._failed)
        self._one_at_a_time = threading.Lock()

    def hear_guests(self) -> None:
        """Publish what was heard of rollouts that other processes serve.

        Raises:
            StoreError: The store did not answer: it waits.
        """
        self.guests.publish(self._now_s())

    def _say_metrics(self, kept: Kept) -> None:
        """Leave in the store how outcomes are counted, for processes that do not have the plan."""
        assert kept.criteria is not None
        text = metrics_noted(kept.criteria)
        if self._said.get(kept.key) != text:
            self._store.note(kept.key, METRICS, text)
            self._said[kept.key] = text

    def judge_in_turn(self, kept: Kept) -> None:
        """Publish, and judge unless another process has just done so.

        Raises:
            StoreError: The store did not answer.
        """
        if not self._is_shared:
            self.judge(kept)
            return
        now_s = self._now_s()
        if not kept.publish(self._store, self._writer, now_s):
            return
        text = self._store.noted(kept.key, _VERDICT)
        if text is not None:
            last = Verdict.from_dict(json.loads(text))
            if last.revision == kept.state.revision and 0 <= now_s - last.time_s < self.every_s:
                kept.verdict = last
                return
        self.judge(kept)

    def judge(self, kept: Kept) -> Verdict | None:
        """Judge a rollout now, on what every process has seen, and act on the verdict; None when nobody judges it.

        Raises:
            StoreError: The store did not answer: nothing was judged, and nothing changed.
        """
        if kept.evidence is None or kept.criteria is None or not kept.state.is_open or kept.standing.closed:
            return kept.verdict
        with self._one_at_a_time:
            evidence = self._evidence(kept)
            now_s = self._now_s()
            if self._is_shared:
                self._say_metrics(kept)
                verdict = judge(evidence, kept.criteria, kept.situation(), now_s)
                self._store.note(kept.key, _VERDICT, json.dumps(verdict.as_dict(), allow_nan=False))
            else:
                with kept.adding:
                    verdict = judge(evidence, kept.criteria, kept.situation(), now_s)
            kept.verdict = verdict
        self._act(kept, verdict)
        return verdict

    def _evidence(self, kept: Kept) -> Evidence:
        assert kept.evidence is not None
        if not self._is_shared:
            return kept.evidence
        kept.publish(self._store, self._writer, self._now_s())
        return kept.gather(self._store)

    def _act(self, kept: Kept, verdict: Verdict) -> None:
        """Do what the verdict says, if the rollout still stands where it was judged."""
        assert kept.criteria is not None
        step = next_step(kept.state, kept.criteria, verdict, self._approvals.ask)
        if step.held is not None:
            kept.verdict = evolve(verdict, reason=f"{verdict.reason} {step.held}.")
        if step.change is None:
            return
        # Somebody was faster: they had this verdict, too, or knew better.
        with suppress(ConflictError):
            self._change(
                kept.key,
                step.action,
                step.change,
                actor=JUDGE,
                reason=step.reason,
                revision=verdict.revision,
                evidence=verdict.as_dict(),
            )
