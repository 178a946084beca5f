"""Judges the evidence of all processes, in one process at a time, and acts on the verdict."""

from __future__ import annotations

from json import dumps
from math import inf

from attrs import evolve

from rollout_sdk.concurrency.clocks import monotonic
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

_TURN = "judge"
_PACE = "pace"
_SHARE_OF_TIME = 0.1
_LONGEST_PACE_S = 600.0
_STALLS_AFTER = 3


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
        self._published: dict[str, float] = {}
        self._judged: dict[str, float] = {}
        self._last_seen: dict[str, tuple[tuple[int, float | None], float]] = {}
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
        now_s, pace_s, revision = self._plane.now_s, self._pace_s(managed.key), managed.state.revision
        if not self._publish_in_time(managed, now_s, pace_s):
            return
        last = self._last(managed)
        if last is not None and last.revision != revision:
            last = None
        # The process that has judged last has the others' evidence; another takes its place when it is late.
        is_mine = last is not None and self._judged.get(managed.key) == last.time_s
        fresh_s = pace_s + (0.0 if is_mine else self.every_s)
        if (last is not None and 0 <= now_s - last.time_s < fresh_s) or not self._has_turn(managed, last, now_s, pace_s):
            with self._one_at_a_time:
                if last is not None:
                    managed.verdict = last
                    managed.clock.judged(idle=last.idle)
                if not is_mine:
                    managed.release()
            return
        began_s = monotonic()
        verdict = self.judge(managed)
        if verdict is not None:
            self._judged[managed.key] = verdict.time_s
        self._set_pace(managed.key, pace_s, monotonic() - began_s)

    def _has_turn(self, managed: ManagedRollout, last: Verdict | None, now_s: float, pace_s: float) -> bool:
        """Whether this process judges now: of those that find the last verdict too old at the same time, one does."""
        revision = managed.state.revision
        about = revision, None if last is None else last.time_s
        known, since_s = self._last_seen.get(managed.key, (None, 0.0))
        if known != about:
            since_s = monotonic()
            self._last_seen[managed.key] = about, since_s
        missed = int((monotonic() - since_s) // pace_s)
        # No verdict has come for long, by this process's own clock: a process whose clock is ahead had these turns, and died.
        turn = f"{int(now_s // pace_s)}" if missed < _STALLS_AFTER else f"{about[1]} {missed}"
        name = f"{_TURN} {revision} {turn}"
        return name in self._store.claim(managed.key, managed.state.epoch, self._writer, [name])

    def _publish_in_time(self, managed: ManagedRollout, now_s: float, pace_s: float) -> bool:
        """Publish what the next verdict needs; False if the epoch is over, or if it is too early."""
        if monotonic() - self._published.get(managed.key, -inf) < pace_s / 4 and pace_s > self.every_s:
            return False
        self._published[managed.key] = monotonic()
        return managed.publish(self._store, self._writer, now_s)

    def _pace_s(self, key: str) -> float:
        """Seconds between two verdicts: as configured, or more where a verdict on so many processes takes long."""
        try:
            return max(self.every_s, float(self._store.noted(key, _PACE) or 0.0))
        except ValueError:
            return self.every_s

    def _set_pace(self, key: str, pace_s: float, took_s: float) -> None:
        """Have verdicts take a tenth of the time of a thread at the most, or as often again as configured."""
        wanted_s = min(max(self.every_s, took_s / _SHARE_OF_TIME), _LONGEST_PACE_S)
        if wanted_s > 1.5 * pace_s or wanted_s < pace_s / 1.5:
            self._store.note(key, _PACE, f"{wanted_s:.1f}")

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
        local_state = managed.local_state
        is_served = managed.state.is_open and not local_state.closed and not local_state.replaced
        if managed.evidence is None or managed.criteria is None or not is_served:
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
