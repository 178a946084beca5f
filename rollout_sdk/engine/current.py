"""The call that is current in a context, and the calls that it is inside of.

What the control of an inner rollout raises goes to the caller, and is not tried again further out: each level would else double
the work of a call that fails anyway. An exception is recognised by its identity and by its traceback, in which the inner driver
stands: nothing is written on it, and nothing keeps it or its frames alive.
"""

from __future__ import annotations

from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING

from rollout_sdk.concurrency.context_vars import alone, here
from rollout_sdk.engine.steps import NO_KWARGS, Result

if TYPE_CHECKING:
    from rollout_sdk.engine.call import Call
    from rollout_sdk.records import Decision

__all__ = [
    "be_current",
    "current_call",
    "current_decision",
    "enclosing",
    "hand_up",
    "reset_call",
    "set_call",
    "set_call_and_copy",
]

_MOST_NOTED = 16

current_call: ContextVar[Call | None] = ContextVar("rollout_sdk_call", default=None)


def _set_inside(call: Call) -> None:
    if here.inside is not None:
        here.inside.append(call)


def _set_and_copy(call: Call) -> Context:
    current_call.set(call)
    return copy_context()


def _copy_inside(call: Call) -> Context:
    _set_inside(call)
    return copy_context()


def _stay(_: object) -> None:
    """A token of a call that is not in the context, or of a stream that is closed in the midst of a change."""


set_call = alone(current_call.set, _set_inside)
# In one, because to be alone costs more than both together.
set_call_and_copy = alone(_set_and_copy, _copy_inside)
reset_call = alone(current_call.reset, _stay)


def be_current(call: Call) -> None:
    """Make a call the current one again: a model that ran in the same context may have called another rollout."""
    if current_call.get() is not call:
        set_call(call)


def current_decision() -> Decision | None:
    """The decision of the innermost rollout call under way in this context, or of the last one that ended; None before any.

    Works inside a model, in the caller after the call, and in a shadow (where it is the decision of the shadowed call).
    For a batch, use `controller.route(...)`, which returns the decision of every row.
    """
    call = here.inside[-1] if here.inside else current_call.get()
    return None if call is None else call.full_decision()


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
