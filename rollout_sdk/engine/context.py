"""What travels with a call through threads and tasks: its decision, and whether it is a shadow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar, Token, copy_context
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rollout_sdk.concurrency.context_vars import alone, here

if TYPE_CHECKING:
    from rollout_sdk.engine.call import Call
    from rollout_sdk.records import Decision

__all__ = [
    "COMPARING",
    "OBSERVING",
    "Aside",
    "aside",
    "be_current",
    "current_call",
    "current_decision",
    "enter_fallback",
    "in_shadow",
    "is_shadow",
    "leave_fallback",
    "reset_call",
    "set_call",
    "set_call_and_copy",
    "set_shadow",
]

current_call: ContextVar[Call | None] = ContextVar("rollout_sdk_call", default=None)


class Aside:
    """Stands for whoever looks at calls and may make some: an observer, a log handler, a comparator."""

    kwargs: Mapping[str, Any] = MappingProxyType({})
    """Of its own, as those of a call that has not ended."""


COMPARING = Aside()
"""A call made here is answered by its control: its shadow would be compared in turn, and so on without end."""
OBSERVING = Aside()
"""The same, and the call is counted and journalled, but no observer and no log handler hears of it."""

in_shadow: ContextVar[bool | Call | Aside] = ContextVar("rollout_sdk_shadow", default=False)
"""True inside a shadow; a call inside its control that runs in the place of a failed candidate; or who looks at calls.

One look tells of all of them.
"""


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
# A shadow has a context of its own, which nothing that it could interrupt is changing.
set_shadow = alone(in_shadow.set, in_shadow.set)


_step_aside = alone(in_shadow.set, _stay)
_step_back = alone(in_shadow.reset, _stay)


def be_current(call: Call) -> None:
    """Make a call the current one again: a model that ran in the same context may have called another rollout."""
    if current_call.get() is not call:
        set_call(call)


@contextmanager
def aside(who: Aside) -> Iterator[None]:
    """Around what looks at calls, in the background."""
    token = _step_aside(who)
    try:
        yield
    finally:
        if token is not None:
            _step_back(token)


def _enter_fallback(call: Call) -> Token[bool | Call | Aside] | None:
    return None if in_shadow.get() is True else in_shadow.set(call)


def _leave_fallback(token: Token[bool | Call | Aside] | None) -> None:
    # A coroutine can be closed from another context, which has nothing of ours to put back.
    if token is not None:
        with suppress(ValueError):
            in_shadow.reset(token)


enter_fallback = alone(_enter_fallback, _stay)
leave_fallback = alone(_leave_fallback, _stay)
"""Around a run of the control in the place of a candidate that failed."""


def current_decision() -> Decision | None:
    """The decision of the innermost rollout call under way in this context, or of the last one that ended; None before any.

    Works inside a model, in the caller after the call, and in a shadow (where it is the decision of the shadowed call).
    For a batch, use `controller.route(...)`, which returns the decision of every row.
    """
    call = here.inside[-1] if here.inside else current_call.get()
    return None if call is None else call.full_decision()


def is_shadow() -> bool:
    """Whether this code runs as a shadow: nobody will see its output, so it should write nothing."""
    return in_shadow.get() is True
