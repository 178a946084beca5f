"""How what a candidate does to its arguments is kept from the control: undone, or done to copies.

A candidate that answers alone works on the caller's own objects, and what it changed is put back when it fails. Where that
cannot be (it runs beside the control, may outlive its call, or the application copies), it works on copies; when its answer
stands, the caller gets that with its own objects, changed as the copies were.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from rollout_sdk.engine.copies.copying import Copies
from rollout_sdk.engine.copies.survey import Survey, changeable
from rollout_sdk.engine.copies.undo import Undo
from rollout_sdk.resilience.interruptions import is_fault

if TYPE_CHECKING:
    from rollout_sdk.engine.rollout import Rollout
    from rollout_sdk.engine.steps import Invoke

__all__ = ["Protection", "copied", "protect", "put_back", "stands"]

Protection: TypeAlias = Undo | Copies


def protect(rollout: Rollout, step: Invoke, survey: Survey | None = None, *, is_alone: bool = True) -> None:
    """Keep what a step does to its arguments from the control that may run in its place; never raises.

    Args:
        rollout: The rollout.
        step: The candidate's step.
        survey: What was seen of these very arguments already, if anything was.
        is_alone: Whether nothing else runs on them meanwhile.
    """
    if rollout.isolate == "none":
        return
    values = changeable(step.args, step.kwargs, rollout.shared)
    if not values:
        return
    try:
        if rollout.isolate == "auto" and step.deadline_s is None and is_alone:
            seen = Survey(values) if survey is None else survey
            # With something that is read once: an override, or a strategy of the application's own.
            if seen.once is None and not seen.needs_copies:
                step.protection = Undo(seen.found)
                _note(rollout, seen.notes)
                return
        step.protection, (step.args, step.kwargs) = copied(rollout, step.args, step.kwargs)
    # What two read by turns, neither reads whole; but such a call does not come here.
    except BaseException as error:
        if not is_fault(error):
            raise
        rollout.failed("engine.arguments", error)


def copied(
    rollout: Rollout, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Copies, tuple[tuple[Any, ...], Mapping[str, Any]]]:
    """Copies of the arguments, as the rollout says; what cannot be copied is shared, and noted once.

    Raises:
        OneShot: There is something among them that can be read only once.
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
    """What the caller gets of a step whose answer stands; never raises."""
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
    """Undo what a failed step did to its arguments; never raises."""
    if step.protection is not None:
        for error in step.protection.failed():
            rollout.failed("engine.arguments", error)


def _note(rollout: Rollout, notes: Mapping[str, str]) -> None:
    for name, why in notes.items():
        rollout.note(
            f"Calls of {rollout.key!r} share an object of type {name!r} with candidates: {why}. What a candidate does to it "
            "before it fails, the control finds done. Register a copying function with @rollout_sdk.copier, or say "
            "isolate='none' if no candidate changes it."
        )
