"""Shields the control from changes that a candidate makes to its arguments, by undoing them or by passing copies.

A candidate that answers alone works on the caller's own objects, and its changes are undone if it fails. Where that is not
possible (it runs beside the control, may outlive its call, or the application supplies the copier), it works on copies; if its
answer is served, it refers to the caller's own objects, to which the changes are applied.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rollout_sdk.engine.copies.copying import Copies, Undo
from rollout_sdk.engine.copies.survey import Survey, changeable
from rollout_sdk.resilience.interruptions import is_fault

if TYPE_CHECKING:
    from rollout_sdk.engine.rollout import Rollout
    from rollout_sdk.engine.steps import Invoke

__all__ = ["copied", "protect", "put_back", "stands"]


def protect(rollout: Rollout, step: Invoke, survey: Survey | None = None, *, is_alone: bool = True) -> None:
    """Shield the control that may replace a step from the step's changes to its arguments; never raises.

    Args:
        rollout: The rollout.
        step: The candidate's step.
        survey: A survey of these arguments, if one exists.
        is_alone: Whether nothing else runs on them at the same time.
    """
    if rollout.isolate == "none":
        return
    values = changeable(step.args, step.kwargs, rollout.shared)
    if not values:
        return
    try:
        if rollout.isolate == "auto" and step.deadline_s is None and is_alone:
            seen = Survey(values) if survey is None else survey
            # One-shot arguments reach this only by an override or a custom strategy.
            if seen.once is None and not seen.needs_copies:
                step.protection = Undo(seen.found)
                _note(rollout, seen.notes)
                return
        step.protection, (step.args, step.kwargs) = copied(rollout, step.args, step.kwargs)
    # Raised for arguments that can be read only once, which are normally routed to the control before.
    except BaseException as error:
        if not is_fault(error):
            raise
        rollout.failed("engine.arguments", error)


def copied(
    rollout: Rollout, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Copies, tuple[tuple[Any, ...], Mapping[str, Any]]]:
    """Copy the arguments with the rollout's `isolate`; share what cannot be copied, and note it once.

    Raises:
        OneShot: One of them can be read only once.
    """
    copies, isolate = Copies(), rollout.isolate
    if isolate == "none":
        return copies, (args, kwargs)
    if isolate == "auto":
        taken = copies.arguments(args, kwargs, rollout.shared)
    elif isolate == "deepcopy":
        memo: dict[int, Any] = {}
        taken = copies.arguments(args, kwargs, rollout.shared, lambda value: copy.deepcopy(value, memo))
        for value in memo.get(id(memo), ()):
            copies.adopt(value, memo[id(value)])
    else:
        taken = copies.arguments(args, kwargs, rollout.shared, isolate)
    _note(rollout, copies.notes)
    return copies, taken


def stands(rollout: Rollout, step: Invoke, value: Any) -> Any:
    """Return the answer to serve, with the caller's own objects in it; never raises."""
    if step.protection is None:
        return value
    try:
        return step.protection.answered(value)
    except BaseException as error:
        if not is_fault(error):
            raise
        rollout.failed("engine.arguments", error)
        return value


def put_back(rollout: Rollout, step: Invoke) -> None:
    """Undo a failed step's changes to its arguments; never raises."""
    if step.protection is not None:
        for error in step.protection.failed():
            rollout.failed("engine.arguments", error)


def _note(rollout: Rollout, notes: Mapping[str, str]) -> None:
    for name, why in notes.items():
        rollout.note(
            f"Calls of {rollout.key!r} share an object of type {name!r} with candidates: {why}. If a candidate changes it and "
            "then fails, the control sees the change. Register a copying function with @rollout_sdk.copier, or pass "
            "isolate='none' if no candidate changes it."
        )
