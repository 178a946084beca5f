"""Judging what every process has seen, one process at a time, and acting on the verdict."""

from __future__ import annotations

from collections.abc import Callable
from json import dumps, loads

from attrs import evolve

from rollout_sdk.concurrency.threads import Lock
from rollout_sdk.control.allowing import JUDGE
from rollout_sdk.control.approvals import Approvals
from rollout_sdk.control.last_verdict import VERDICT
from rollout_sdk.control.managed import ManagedRollout
from rollout_sdk.control.next_step import NextStep, latch, next_step
from rollout_sdk.control.remote_outcomes import METRICS, RemoteOutcomes, metrics_noted
from rollout_sdk.control.step_clock import STEP_CLOCK
from rollout_sdk.control.stores import StateStore
from rollout_sdk.exceptions import ConflictError, StateError
from rollout_sdk.judging import Evidence, Verdict, judge
from rollout_sdk.plugins.manager import Failed

__all__ = ["JUDGE", "Judging"]


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
        failed_of: Callable[[str], Failed],
    ) -> None:
        """Judge nothing yet.

        Args:
            store: The shared state.
            is_shared: Whether other processes see the store, too.
            every_s: Seconds between two looks, of all processes together.
            now_s: The time, in seconds since 1970.
            change: Makes a transition: `Reconciler.change`.
            take_time: Has a rollout's clock look at the time.
            failed: Told of every fault that is of no rollout in this process.
            failed_of: What is told of the faults of a rollout, by its key.
        """
        self.every_s = every_s
        self._store = store
        self._is_shared = is_shared
        self._now_s = now_s
        self._change = change
        self._take_time = take_time
        self._failed, self._failed_of = failed, failed_of
        self.renew("")

    def renew(self, writer: str) -> None:
        """Judge in the name of another process from now on."""
        self._writer = writer
        self._said: dict[str, str] = {}
        self.remote_outcomes = RemoteOutcomes(f"{writer}-guest", self._failed)
        self._approvals = Approvals(self._failed_of)
        self._one_at_a_time = Lock()

    def hear_guests(self, store: StateStore | None = None) -> None:
        """Publish what was heard of rollouts that other processes serve; `store` is the same for those in a hurry.

        Raises:
            StoreError: The store did not answer: it waits.
        """
        self.remote_outcomes.publish(self._now_s(), self._store if store is None else store)

    def _say_metrics(self, managed: ManagedRollout) -> None:
        """Leave in the store how outcomes are counted, for processes that do not have the plan."""
        assert managed.criteria is not None
        text = metrics_noted(managed.criteria)
        if self._said.get(managed.key) != text:
            self._store.note(managed.key, METRICS, text)
            self._said[managed.key] = text

    def judge_in_turn(self, managed: ManagedRollout) -> None:
        """Publish, and judge unless another process has just done so.

        Raises:
            StoreError: The store did not answer.
        """
        if not self._is_shared:
            self.judge(managed)
            return
        now_s = self._now_s()
        if not managed.publish(self._store, self._writer, now_s):
            return
        last = self._last(managed)
        if last is not None and last.revision == managed.state.revision and 0 <= now_s - last.time_s < self.every_s:
            with self._one_at_a_time:
                managed.verdict = last
                managed.clock.judged(idle=last.idle)
            return
        self.judge(managed)

    def _last(self, managed: ManagedRollout) -> Verdict | None:
        """The last verdict of any process about this version; None before the first."""
        if not self._is_shared:
            return managed.verdict
        text = self._store.noted(managed.key, VERDICT)
        if text is None:
            return None
        try:
            last = Verdict.from_dict(loads(text))
            number = int(last.phase.partition(":")[0])
        # Of another SDK, or damaged: the next one takes its place, and judging goes on.
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            self._failed_of(managed.key)(JUDGE, error)
            return None
        # Phases before are those of another version, or of other candidates.
        return last if number >= managed.state.since else None

    def judge(self, managed: ManagedRollout) -> Verdict | None:
        """Judge a rollout now, on what every process has seen, and act on the verdict; None when nobody judges it.

        Raises:
            StoreError: The store did not answer: nothing was judged, and nothing changed.
        """
        if managed.evidence is None or managed.criteria is None or not managed.state.is_open or managed.local_state.closed:
            return managed.verdict
        with self._one_at_a_time:
            evidence, last = self._evidence(managed), self._last(managed)
            self._take_time(managed)
            now_s = self._now_s()
            if self._is_shared:
                self._say_metrics(managed)
                verdict = judge(evidence, managed.criteria, managed.situation(), now_s, last)
                managed.clock.judged(idle=verdict.idle)
                self._store.note(managed.key, VERDICT, dumps(verdict.as_dict(), allow_nan=False))
                self._store.note(managed.key, STEP_CLOCK, managed.clock.note(now_s))
            else:
                with managed.adding:
                    evidence.fold(now_s)
                    verdict = judge(evidence, managed.criteria, managed.situation(), now_s, last)
                managed.clock.judged(idle=verdict.idle)
            managed.verdict = verdict
            waited_s = managed.clock.waited_s
        self._act(managed, verdict, waited_s)
        return verdict

    def _evidence(self, managed: ManagedRollout) -> Evidence:
        assert managed.evidence is not None
        if not self._is_shared:
            return managed.evidence
        managed.publish(self._store, self._writer, self._now_s())
        return managed.gather(self._store, self._failed_of(managed.key))

    def _act(self, managed: ManagedRollout, verdict: Verdict, waited_s: float) -> None:
        """Do what the verdict says, if the rollout still stands where it was judged."""
        assert managed.criteria is not None
        revision = verdict.revision
        try:
            if (alarm := latch(managed.state, verdict)) is not None:
                self._make(managed, alarm, verdict, revision)
                revision = managed.state.revision
            step = next_step(managed.state, managed.criteria, verdict, self._approvals.ask, waited_s)
            if step.held is not None:
                managed.verdict = evolve(verdict, reason=f"{verdict.reason} {step.held}.")
            self._make(managed, step, verdict, revision)
        # Another was faster: it had this verdict, too, or knew better.
        except ConflictError:
            pass
        # Another version has taken this one's place since the last look: the verdict is about nothing that is there.
        except StateError as error:
            self._failed_of(managed.key)(JUDGE, error)

    def _make(self, managed: ManagedRollout, step: NextStep, verdict: Verdict, revision: int) -> None:
        if step.change is not None:
            evidence = verdict.as_dict()
            self._change(
                managed.key, step.action, step.change, actor=JUDGE, reason=step.reason, revision=revision, evidence=evidence
            )
