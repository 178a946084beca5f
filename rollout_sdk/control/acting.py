"""What a verdict asks for: the next step, the way back, a pause, or nothing. Pure, but for asking the approval."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from rollout_sdk.control.changing import Change
from rollout_sdk.control.state import RolloutState
from rollout_sdk.judging import Verdict
from rollout_sdk.plan import Criteria

__all__ = ["NextStep", "next_step"]


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


def next_step(
    state: RolloutState, criteria: Criteria, verdict: Verdict, approved: Callable[[Callable[[Any], bool], Verdict], bool]
) -> NextStep:
    """What a verdict asks for.

    Args:
        state: Where the rollout stands.
        criteria: What it is judged by.
        verdict: The verdict.
        approved: Asks the plan's approval, which may fail in any way.
    """
    if verdict.outcome == "FAIL":
        name = verdict.failed[0]
        return NextStep("roll_back", lambda state: state.roll_back(name), verdict.reason)
    if state.status not in ("shadowing", "running"):
        return NextStep()
    if verdict.outcome == "PASS":
        held = _held(state, criteria, verdict, approved)
        return NextStep("promote", lambda state: state.promote(), verdict.reason) if held is None else NextStep(held=held)
    step = criteria.step(state.step) if state.is_planned else None
    since_s = max(state.entered_s, state.resumed_s)
    if step is not None and step.max_time is not None and verdict.time_s - since_s >= step.max_time:
        reason = f"no verdict within the step's time, so a person decides: {verdict.reason}"
        return NextStep("pause", RolloutState.pause, reason)
    return NextStep()


def _held(
    state: RolloutState, criteria: Criteria, verdict: Verdict, approved: Callable[[Callable[[Any], bool], Verdict], bool]
) -> str | None:
    """What holds the next step, which never holds a rollback; None when nothing does."""
    if (freeze := criteria.frozen_by(verdict.time_s)) is not None:
        return f"held by the freeze window {freeze}"
    if state.is_last and len(verdict.passed) != 1:
        return f"{', '.join(verdict.passed)} have passed: which one everybody gets is a person's choice, promote(candidate)"
    if criteria.approve is not None and not approved(criteria.approve, verdict):
        return "held until it is approved"
    return None
