"""Tracks the current call of a context and the calls that enclose it.

An exception raised by an inner rollout's control passes straight to the caller, without a retry at outer levels: each level
would otherwise double the work of a call that fails anyway. Exceptions are recognised by identity and by the inner driver's
frame in their traceback; they are not modified, and neither they nor their frames are kept alive.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Protocol

from rollout_sdk.concurrency.context_vars import alone, alone_with, collected
from rollout_sdk.engine.steps import NO_KWARGS, Result

if TYPE_CHECKING:
    from rollout_sdk.records import Decision

__all__ = [
    "Current",
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


class Current(Protocol):
    """What a context knows of its last call.

    Attributes:
        kwargs: Its keyword arguments; `NO_KWARGS` once it has ended.
        came_out: Identities of the last exceptions that controls raised inside it.
    """

    kwargs: Mapping[str, Any]
    came_out: tuple[int, ...]

    @property
    def outer(self) -> Current | None:
        """The call that encloses it."""

    @property
    def span(self) -> object:
        """Its span, or None."""

    def full_decision(self) -> Decision:
        """Return its decision, with its id."""


current_call: ContextVar[Current | None] = ContextVar("rollout_sdk_call", default=None)


def _set_and_copy(call: Current) -> Context:
    current_call.set(call)
    return copy_context()


def _copy_inside(call: Current) -> Context:
    collected.add(call)
    return copy_context()


def _stay(_: object) -> None:
    """Ignore a token that cannot be reset: the call is not in the context, or garbage is being collected."""


set_call = alone_with(current_call.set, collected.add)
# Combined, because `alone` costs more than both steps together.
set_call_and_copy = alone_with(_set_and_copy, _copy_inside)
reset_call = alone(current_call.reset, _stay)


def be_current(call: Current) -> None:
    """Make a call current again: a model that ran in the same context may have called another rollout."""
    if current_call.get() is not call:
        set_call(call)


def current_decision() -> Decision | None:
    """Return the decision of the innermost rollout call under way in this context, or of the last to end; None before any.

    Works inside a model, in the caller after the call, and in a shadow (where it is the decision of the shadowed call).
    For a batch, use `controller.route(...)`, which returns the decision of every row.
    """
    inside = collected.calls()
    call = inside[-1] if inside else current_call.get()
    return None if call is None else call.full_decision()


def enclosing(last: Current | None) -> Current | None:
    """Return the innermost call in progress that encloses a new one; `last` is the context's, which may have ended."""
    call = last
    while call is not None and call.kwargs is NO_KWARGS:
        call = call.outer
    return call


def hand_up(call: Current, result: Result, control: str) -> None:
    """Record in the enclosing call that a control raised this exception, here or deeper inside."""
    outer = call.outer
    if outer is not None and result.error is not None and (result.passes or result.variant == control):
        outer.came_out = (*outer.came_out[1 - _MOST_NOTED :], id(result.error))
