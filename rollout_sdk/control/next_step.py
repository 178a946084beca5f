"""What a verdict asks for: an alarm, the next step, the way back, a pause, or nothing. Pure, but for asking the approval."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from rollout_sdk.control.state import RolloutState
from rollout_sdk.control.stored_state import Change
from rollout_sdk.judging import Verdict
from rollout_sdk.plan import Criteria

__all__ = ["NextStep", "latch", "next_step"]

_Approved = Callable[[Callable[[Any], bool], Verdict], bool]


@frozen
class NextStep:
    """What is to be done.

    Attributes:
        action: The transition's name; empty when there is none.
        change: The transition; None when there is none.
        reason: Why.
        held: What holds a step that the verdict would take; None when nothing does.
    """

    action: str = ""
    change: Change | None = None
    reason: str = ""
    held: str | None = None


def latch(state: RolloutState, verdict: Verdict) -> NextStep | None:
    """The alarm that a verdict raises: it holds every step until a person clears it, because by Ville its first crossing is the
    rejection, whatever later looks say; None where there is none, or it is raised already.
    """
    if verdict.valid or state.invalid or not state.is_open:
        return None
    found = (each.reason for each in verdict.findings if each.kind == "assignment" and each.outcome == "ERROR")
    reason = next(found, verdict.reason)
    return NextStep("invalidate", lambda state: state.invalidate(reason), reason)


def next_step(state: RolloutState, criteria: Criteria, verdict: Verdict, approved: _Approved, waited_s: float) -> NextStep:
    """What a verdict asks for.

    Args:
        state: Where the rollout stands.
        criteria: What it is judged by.
        verdict: The verdict.
        approved: Asks the plan's approval, which may fail in any way.
        waited_s: How long the step's verdict has been waited for.
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
    """Going on after a pause that the judge made for checks that hold again; every other pause is a person's to end."""
    # Of what could not be judged, it is not known whether it has recovered.
    if not state.paused_by or verdict.pauses or verdict.outcome == "ERROR":
        return NextStep()
    return NextStep("resume", RolloutState.resume, f"recovered: {', '.join(state.paused_by)}")


def _given_up(state: RolloutState, criteria: Criteria, verdict: Verdict, waited_s: float) -> NextStep:
    """A pause in which a person decides, because no verdict can be expected, or none came in time."""
    if verdict.outcome == "FUTILE" and not (verdict.futile and set(verdict.futile) <= set(state.futile)):
        reason = f"it cannot be expected to pass, so a person decides: {verdict.reason}"
        return NextStep("pause", lambda state: state.pause(futile=verdict.futile), reason)
    step = criteria.step(state.step) if state.is_planned else None
    if step is not None and step.max_time is not None and waited_s >= step.max_time and not verdict.idle:
        reason = f"no verdict within the step's time, so a person decides: {verdict.reason}"
        return NextStep("pause", RolloutState.pause, reason)
    return NextStep()


def _held(state: RolloutState, criteria: Criteria, verdict: Verdict, approved: _Approved) -> str | None:
    """What holds the next step, which never holds a rollback; None when nothing does."""
    if (freeze := criteria.frozen_by(verdict.time_s)) is not None:
        return f"held by the freeze window {freeze}"
    if state.is_last and len(verdict.passed) != 1:
        return f"{', '.join(verdict.passed)} have passed: which one everybody gets is a person's choice, promote(candidate)"
    if criteria.approve is not None and not approved(criteria.approve, verdict):
        return "held until it is approved"
    return None
