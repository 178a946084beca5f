"""Around a verdict: the situation that is judged; the alarm, step, rollback or pause that follows; the approval of a step.

All of it is pure except `Approvals`, which asks the plan's `approve` without waiting for the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen

from rollout_sdk.concurrency.synchronous import answered
from rollout_sdk.concurrency.threads import Thread
from rollout_sdk.control.state import RolloutState
from rollout_sdk.control.stored_state import Change
from rollout_sdk.judging import Situation, Verdict
from rollout_sdk.plan import Criteria
from rollout_sdk.plugins.manager import Failed

__all__ = ["Approvals", "NextStep", "latch", "next_step", "situation_of"]

_PATIENCE_S = 0.5

_Approve = Callable[[Any], bool]


@frozen
class NextStep:
    """What to do next.

    Attributes:
        action: Name of the transition; empty if there is none.
        change: The transition; None if there is none.
        reason: Reason for the transition.
        held: What holds back a step that the verdict would take; None if nothing does.
    """

    action: str = ""
    change: Change | None = None
    reason: str = ""
    held: str | None = None


def situation_of(state: RolloutState, criteria: Criteria, *, elapsed_s: float) -> Situation:
    """Return a state as the judge needs it.

    Args:
        state: The state.
        criteria: The criteria of its plan.
        elapsed_s: How long the current step has lasted, in seconds.
    """
    return Situation(
        rollout=state.key,
        phase=state.phase.name,
        revision=state.revision,
        control=state.phase.control,
        candidates=state.candidates,
        step=criteria.step(state.step) if state.is_planned else None,
        entered_s=state.entered_s,
        is_last=state.is_last,
        shadowing=state.phase.is_shadow,
        invalid=state.invalid,
        valid_from=state.valid_from,
        elapsed_s=elapsed_s,
    )


def latch(state: RolloutState, verdict: Verdict) -> NextStep | None:
    """Return the alarm that a verdict raises; None if there is none, or it is raised already.

    It holds every step until a person clears it: by Ville's inequality the first crossing is the rejection, whatever later
    looks say.
    """
    if verdict.valid or state.invalid or not state.is_open:
        return None
    found = (each.reason for each in verdict.findings if each.kind == "assignment" and each.outcome == "ERROR")
    reason = next(found, verdict.reason)
    return NextStep("invalidate", lambda state: state.invalidate(reason), reason)


def next_step(
    state: RolloutState, criteria: Criteria, verdict: Verdict, approved: Callable[[_Approve, Verdict], bool], waited_s: float
) -> NextStep:
    """Return what follows from a verdict.

    Args:
        state: The state of the rollout.
        criteria: The criteria of its plan.
        verdict: The verdict.
        approved: Asks the plan's approval, which may fail in any way.
        waited_s: How long the step has waited for its verdict.
    """
    if not criteria.acts:
        return NextStep()
    if verdict.outcome == "FAIL":
        name = verdict.failed[0]
        return NextStep("roll_back", lambda state: state.roll_back(name), verdict.reason)
    if state.invalid:
        return NextStep(held="held as invalid until a person clears it" if verdict.outcome == "PASS" else None)
    if state.status == "paused":
        return _recovered(state, verdict)
    if state.status not in ("shadowing", "running"):
        return NextStep()
    if verdict.pauses:
        reason = f"paused until {', '.join(verdict.pauses)} has recovered: {verdict.reason}"
        return NextStep("pause", lambda state: state.pause(by=verdict.pauses), reason)
    if verdict.outcome == "PASS":
        held = _held(state, criteria, verdict, approved)
        return NextStep("promote", lambda state: state.promote(), verdict.reason) if held is None else NextStep(held=held)
    return _given_up(state, criteria, verdict, waited_s)


def _recovered(state: RolloutState, verdict: Verdict) -> NextStep:
    """Resume after a pause that the judge made, once its checks hold again; a person ends all other pauses."""
    # Checks that could not be evaluated may not have recovered.
    if not state.paused_by or verdict.pauses or verdict.outcome == "ERROR":
        return NextStep()
    return NextStep("resume", RolloutState.resume, f"recovered: {', '.join(state.paused_by)}")


def _given_up(state: RolloutState, criteria: Criteria, verdict: Verdict, waited_s: float) -> NextStep:
    """Pause for a person's decision, because no verdict can be expected, or none came in time."""
    if verdict.outcome == "FUTILE" and not (verdict.futile and set(verdict.futile) <= set(state.futile)):
        reason = f"it cannot be expected to pass, so a person decides: {verdict.reason}"
        return NextStep("pause", lambda state: state.pause(futile=verdict.futile), reason)
    step = criteria.step(state.step) if state.is_planned else None
    if step is not None and step.max_time is not None and waited_s >= step.max_time and not verdict.idle:
        reason = f"no verdict within the step's time, so a person decides: {verdict.reason}"
        return NextStep("pause", RolloutState.pause, reason)
    return NextStep()


def _held(
    state: RolloutState, criteria: Criteria, verdict: Verdict, approved: Callable[[_Approve, Verdict], bool]
) -> str | None:
    """What holds back the next step, but never a rollback; None if nothing does."""
    if (freeze := criteria.frozen_by(verdict.time_s)) is not None:
        return f"held by the freeze window {freeze}"
    if state.is_last and len(verdict.passed) != 1:
        return f"{', '.join(verdict.passed)} have passed: which one everybody gets is a person's choice, promote(candidate)"
    if criteria.approve is not None and not approved(criteria.approve, verdict):
        return "held until it is approved"
    return None


@define(eq=False)
class _Question:
    """A request for approval: its revision, its thread, and the answer so far."""

    revision: int
    thread: Thread | None = None
    is_approved: bool = False


@define(eq=False)
class Approvals:
    """Open requests for approval, one for each rollout.

    `approve` may open a dashboard or ask a person, and may never answer. The thread that asks also watches the store and
    judges, and must be free to stop a rollout meanwhile.

    Attributes:
        failed_of: Returns the callback for the faults of one rollout, by its key.
    """

    failed_of: Callable[[str], Failed]
    _open: dict[str, _Question] = field(factory=dict)

    def ask(self, approve: _Approve, verdict: Verdict) -> bool:
        """Whether the step after this verdict is approved by now; False while there is no answer.

        Waits up to half a second, once. A later answer is used at the next look, if the rollout is still at this revision;
        until then, `approve` is not called again.
        """
        question, patience_s = self._open.get(verdict.rollout), 0.0
        if question is None or question.revision != verdict.revision:
            question, patience_s = self._asked(approve, verdict), _PATIENCE_S
            self._open[verdict.rollout] = question
        if question.thread is not None:
            question.thread.join(patience_s)
            if question.thread.is_alive():
                return False
        self._open.pop(verdict.rollout, None)
        return question.is_approved

    def _asked(self, approve: _Approve, verdict: Verdict) -> _Question:
        question = _Question(verdict.revision)

        def answer() -> None:
            try:
                question.is_approved = answered("approve=", approve(verdict)) is True
            except BaseException as error:
                self.failed_of(verdict.rollout)("approve", error)

        thread = Thread(answer, "rollout-approval")
        try:
            thread.start()
        # No thread can be started now: the next look asks.
        except RuntimeError as error:
            self.failed_of(verdict.rollout)("approve", error)
        else:
            question.thread = thread
        return question
