"""Marks that travel with a call through threads and tasks: that it is a shadow, a fallback, or made by an observer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import Any, Protocol

from rollout_sdk.concurrency.context_vars import alone

__all__ = [
    "COMPARING",
    "OBSERVING",
    "Aside",
    "UnderWay",
    "aside",
    "enter_fallback",
    "in_shadow",
    "is_shadow",
    "leave_fallback",
    "set_shadow",
]


class UnderWay(Protocol):
    """What is told of a call by those inside it: whether it has ended."""

    kwargs: Mapping[str, Any]


class Aside:
    """Stands for whoever looks at calls and may make some: an observer, a log handler, a comparator."""

    kwargs: Mapping[str, Any] = MappingProxyType({})
    """Of its own, as those of a call that has not ended."""


COMPARING = Aside()
"""A call made here is answered by its control: its shadow would be compared in turn, and so on without end."""
OBSERVING = Aside()
"""The same, and the call is counted and journalled, but no observer and no log handler hears of it."""

in_shadow: ContextVar[bool | UnderWay] = ContextVar("rollout_sdk_shadow", default=False)
"""True inside a shadow; a call inside its control that runs in the place of a failed candidate; or who looks at calls.

One look tells of all of them.
"""


def _stay(_: object) -> None:
    """A token of a call that is not in the context, or of a stream that is closed in the midst of a change."""


# A shadow has a context of its own, which nothing that it could interrupt is changing.
set_shadow = alone(in_shadow.set, in_shadow.set)


_step_aside = alone(in_shadow.set, _stay)
_step_back = alone(in_shadow.reset, _stay)


@contextmanager
def aside(who: Aside) -> Iterator[None]:
    """Around what looks at calls, in the background."""
    token = _step_aside(who)
    try:
        yield
    finally:
        if token is not None:
            _step_back(token)


def _enter_fallback(call: UnderWay) -> Token[bool | UnderWay] | None:
    return None if in_shadow.get() is True else in_shadow.set(call)


def _leave_fallback(token: Token[bool | UnderWay] | None) -> None:
    # A coroutine can be closed from another context, which has nothing of ours to put back.
    if token is not None:
        with suppress(ValueError):
            in_shadow.reset(token)


enter_fallback = alone(_enter_fallback, _stay)
leave_fallback = alone(_leave_fallback, _stay)
"""Around a run of the control in the place of a candidate that failed."""


def is_shadow() -> bool:
    """Whether this code runs as a shadow: nobody will see its output, so it should write nothing."""
    return in_shadow.get() is True
