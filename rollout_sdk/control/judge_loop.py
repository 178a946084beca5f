"""Judges the evidence of all processes, in one process at a time, and acts on the verdict."""

from __future__ import annotations

from json import dumps

from attrs import evolve

from rollout_sdk.concurrency.threads import Lock
from rollout_sdk.control.managed import ManagedRollout
from rollout_sdk.control.next_step import Approvals, NextStep, latch, next_step
from rollout_sdk.control.plane import ControlPlane
from rollout_sdk.control.remote_outcomes import METRICS, RemoteOutcomes, metrics_noted
from rollout_sdk.control.roles import JUDGE
from rollout_sdk.control.state_sync import StateSync
from rollout_sdk.control.step_clock import STEP_CLOCK
from rollout_sdk.control.stored_status import VERDICT, phase_number, verdict_from_note
from rollout_sdk.control.stores import StateStore
from rollout_sdk.control.transitions import Transitions
from rollout_sdk.exceptions import ConflictError, StateError
from rollout_sdk.judging import Evidence, Verdict, judge

__all__ = ["JUDGE", "Judging"]


class Judging:
    """Reaches verdicts on behalf of one process, and makes the transitions that follow from them."""

    def __init__(self, plane: ControlPlane, sync: StateSync, transitions: Transitions, *, every_s: float) -> None:
        """Judge nothing yet.

        Args:
            plane: The store, the clocks and the callbacks.
            sync: Updates the clocks of rollouts.
            transitions: Makes the transitions.
            every_s: Seconds between two looks at the evidence, over all processes.
        """
        self.every_s = every_s
        self._plane = plane
        self._store = plane.store
        self._sync = sync
        self._transitions = transitions
        self.renew("")

    def renew(self, writer: str) -> None:
        """Judge on behalf of another process from now on."""
        self._writer = writer
        self._noted: dict[str, str] = {}
        self.remote_outcomes = RemoteOutcomes(f"{writer}-guest", self._plane.failed)
        self._approvals = Approvals(self._plane.failed_of)
        self._one_at_a_time = Lock()

    def publish_remote_outcomes(self, store: StateStore | None = None) -> None:
        """Publish outcomes of rollouts that other processes serve; `store` is the same store with a shorter timeout.

        Raises:
            StoreError: The store did not answer: the outcomes wait.
        """
        self.remote_outcomes.publish(self._plane.now_s, self._store if store is None else store)

    def _note_metrics(self, managed: ManagedRollout) -> None:
        """Note in the store how outcomes are counted, for processes that do not have the plan."""
        assert managed.criteria is not None
        text = metrics_noted(managed.criteria)
        if self._noted.get(managed.key) != text:
            self._store.note(managed.key, METRICS, text)
            self._noted[managed.key] = text

    def judge_in_turn(self, managed: ManagedRollout) -> None:
        """Publish the evidence of this process, and judge unless another process has just done so.

        Raises:
            StoreError: The store did not answer.
        """
        if not self._plane.is_shared:
            self.judge(managed)
            return
        now_s = self._plane.now_s
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
        """Return the last verdict of any process about this version; None before the first."""
        if not self._plane.is_shared:
            return managed.verdict
        text = self._store.noted(managed.key, VERDICT)
        if text is None:
            return None
        try:
            last = verdict_from_note(text)
        # Of another SDK version, or damaged: the next verdict replaces it.
        except ValueError as error:
            self._plane.failed_of(managed.key)(JUDGE, error)
            return None
        # Earlier phases belong to another version, or to other candidates.
        return last if phase_number(last) >= managed.state.since else None

    def judge(self, managed: ManagedRollout) -> Verdict | None:
        """Judge a rollout now, on the evidence of all processes, and act on the verdict; None if nothing judges it.

        Raises:
            StoreError: The store did not answer: nothing was judged, and nothing changed.
        """
        if managed.evidence is None or managed.criteria is None or not managed.state.is_open or managed.local_state.closed:
            return managed.verdict
        with self._one_at_a_time:
            evidence, last = self._evidence(managed), self._last(managed)
            self._sync.take_time(managed)
            now_s = self._plane.now_s
            if self._plane.is_shared:
                self._note_metrics(managed)
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
        if not self._plane.is_shared:
            return managed.evidence
        managed.publish(self._store, self._writer, self._plane.now_s)
        return managed.gather(self._store, self._plane.failed_of(managed.key))

    def _act(self, managed: ManagedRollout, verdict: Verdict, waited_s: float) -> None:
        """Make the transitions that follow from the verdict, if the state is still the judged one."""
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
        # Another change came first, by a process with the same verdict or by an operator.
        except ConflictError:
            pass
        # Another version has replaced this one since the last look.
        except StateError as error:
            self._plane.failed_of(managed.key)(JUDGE, error)

    def _make(self, managed: ManagedRollout, step: NextStep, verdict: Verdict, revision: int) -> None:
        if step.change is not None:
            evidence = verdict.as_dict()
            self._transitions.change(
                managed.key, step.action, step.change, actor=JUDGE, reason=step.reason, revision=revision, evidence=evidence
            )
