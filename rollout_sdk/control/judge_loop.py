"""Judging what every process has seen, one process at a time, and acting on the verdict."""

from __future__ import annotations

import json
from collections.abc import Callable

from attrs import evolve

from rollout_sdk.concurrency.threads import Lock
from rollout_sdk.control.approvals import Approvals
from rollout_sdk.control.managed import ManagedRollout
from rollout_sdk.control.next_step import NextStep, latch, next_step
from rollout_sdk.control.remote_outcomes import METRICS, RemoteOutcomes, metrics_noted
from rollout_sdk.control.step_clock import STEP_CLOCK
from rollout_sdk.control.stores import StateStore
from rollout_sdk.exceptions import ConflictError, StateError
from rollout_sdk.judging import Evidence, Verdict, judge
from rollout_sdk.plugins.manager import Failed

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
        take_time: Callable[[ManagedRollout], None],
        failed: Failed,
    ) -> None:
        """Judge nothing yet.

        Args:
            store: The shared state.
            is_shared: Whether other processes see the store, too.
            every_s: Seconds between two looks, of all processes together.
            now_s: The time, in seconds since 1970.
            change: Makes a transition: `Reconciler.change`.
            take_time: Has a rollout's clock look at the time.
            failed: Told of every fault.
        """
        self.every_s = every_s
        self._store = store
        self._is_shared = is_shared
        self._now_s = now_s
        self._change = change
        self._take_time = take_time
        self._failed = failed
        self.renew("")

    def renew(self, writer: str) -> None:
        """Judge in the name of another process from now on."""
        self._writer = writer
        self._said: dict[str, str] = {}
        self.remote_outcomes = RemoteOutcomes(f"{writer}-guest", self._failed)
        self._approvals = Approvals(self._failed)
        self._one_at_a_time = Lock()

    def hear_guests(self, store: StateStore | None = None) -> None:
        """Publish what was heard of rollouts that other processes serve; `store` is the same for those in a hurry.

        Raises:
            StoreError: The store did not answer: it waits.
        """
        self.remote_outcomes.publish(self._now_s(), self._store if store is None else store)

    def _say_metrics(self, kept: ManagedRollout) -> None:
        """Leave in the store how outcomes are counted, for processes that do not have the plan."""
        assert kept.criteria is not None
        text = metrics_noted(kept.criteria)
        if self._said.get(kept.key) != text:
            self._store.note(kept.key, METRICS, text)
            self._said[kept.key] = text

    def judge_in_turn(self, kept: ManagedRollout) -> None:
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
        last = self._last(kept)
        if last is not None and last.revision == kept.state.revision and 0 <= now_s - last.time_s < self.every_s:
            with self._one_at_a_time:
                kept.verdict = last
                kept.clock.judged(idle=last.idle)
            return
        self.judge(kept)

    def _last(self, kept: ManagedRollout) -> Verdict | None:
        """The last verdict of any process about this version; None before the first."""
        if not self._is_shared:
            return kept.verdict
        text = self._store.noted(kept.key, _VERDICT)
        if text is None:
            return None
        try:
            last = Verdict.from_dict(json.loads(text))
            number = int(last.phase.partition(":")[0])
        # Of another SDK, or damaged: the next one takes its place, and judging goes on.
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            self._failed(JUDGE, error)
            return None
        # Phases before are those of another version, or of other candidates.
        return last if number >= kept.state.since else None

    def judge(self, kept: ManagedRollout) -> Verdict | None:
        """Judge a rollout now, on what every process has seen, and act on the verdict; None when nobody judges it.

        Raises:
            StoreError: The store did not answer: nothing was judged, and nothing changed.
        """
        if kept.evidence is None or kept.criteria is None or not kept.state.is_open or kept.local_state.closed:
            return kept.verdict
        with self._one_at_a_time:
            evidence, last = self._evidence(kept), self._last(kept)
            self._take_time(kept)
            now_s = self._now_s()
            if self._is_shared:
                self._say_metrics(kept)
                verdict = judge(evidence, kept.criteria, kept.situation(), now_s, last)
                kept.clock.judged(idle=verdict.idle)
                self._store.note(kept.key, _VERDICT, json.dumps(verdict.as_dict(), allow_nan=False))
                self._store.note(kept.key, STEP_CLOCK, kept.clock.note(now_s))
            else:
                with kept.adding:
                    evidence.fold(now_s)
                    verdict = judge(evidence, kept.criteria, kept.situation(), now_s, last)
                kept.clock.judged(idle=verdict.idle)
            kept.verdict = verdict
            waited_s = kept.clock.waited_s
        self._act(kept, verdict, waited_s)
        return verdict

    def _evidence(self, kept: ManagedRollout) -> Evidence:
        assert kept.evidence is not None
        if not self._is_shared:
            return kept.evidence
        kept.publish(self._store, self._writer, self._now_s())
        return kept.gather(self._store, self._failed)

    def _act(self, kept: ManagedRollout, verdict: Verdict, waited_s: float) -> None:
        """Do what the verdict says, if the rollout still stands where it was judged."""
        assert kept.criteria is not None
        revision = verdict.revision
        try:
            if (alarm := latch(kept.state, verdict)) is not None:
                self._make(kept, alarm, verdict, revision)
                revision = kept.state.revision
            step = next_step(kept.state, kept.criteria, verdict, self._approvals.ask, waited_s)
            if step.held is not None:
                kept.verdict = evolve(verdict, reason=f"{verdict.reason} {step.held}.")
            self._make(kept, step, verdict, revision)
        # Another was faster: it had this verdict, too, or knew better.
        except ConflictError:
            pass
        # Another version has taken this one's place since the last look: the verdict is about nothing that is there.
        except StateError as error:
            self._failed(JUDGE, error)

    def _make(self, kept: ManagedRollout, step: NextStep, verdict: Verdict, revision: int) -> None:
        if step.change is not None:
            evidence = verdict.as_dict()
            self._change(
                kept.key, step.action, step.change, actor=JUDGE, reason=step.reason, revision=revision, evidence=evidence
            )
