"""Rollouts inside rollouts: what the control of an inner one raises goes to the caller, and is not tried again further out.

Each level would else double the work of a call that fails anyway. An exception is known again by its identity and by its
traceback, in which the inner driver stands: nothing is written on it, and nothing keeps it or its frames alive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rollout_sdk.engine.steps import NO_KWARGS, Result
from rollout_sdk.engine.tracebacks import cause_of, frames_of, is_ours

if TYPE_CHECKING:
    from rollout_sdk.engine.call import Call

__all__ = ["enclosing", "hand_up", "has_come_out"]

_MOST_NOTED = 16
_MOST_CAUSES = 16


def enclosing(last: Call | None) -> Call | None:
    """The innermost call under way around one that begins now; `last` is that of the context, which may have ended."""
    call = last
    while call is not None and call.kwargs is NO_KWARGS:
        call = call.outer
    return call


def hand_up(call: Call, result: Result) -> None:
    """Notify the call around this one of an exception that a control has raised, here or further in."""
    outer = call.outer
    if outer is not None and result.error is not None and (result.passes or result.variant == call.rollout.control):
        outer.came_out = (*outer.came_out[1 - _MOST_NOTED :], id(result.error))


def has_come_out(call: Call, error: BaseException) -> bool:
    """Whether an exception, or what it was raised from, has come out of a control inside this call; of a group, each one."""
    found: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if found is None:
            return False
        # Another exception may have got the address of one that is gone: it has not passed a driver.
        if id(found) in call.came_out and any(map(is_ours, frames_of(found))):
            return True
        if isinstance(found, BaseExceptionGroup):
            return all(has_come_out(call, each) for each in found.exceptions)
        found = cause_of(found)
    return False
