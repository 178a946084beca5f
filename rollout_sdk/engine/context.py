"""Context marks that follow a call through threads and tasks: shadow, fallback, or call made by an observer."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import Any, ParamSpec, Protocol, TypeVar

from rollout_sdk.concurrency.context_vars import alone
from rollout_sdk.exceptions import ShadowEffectError

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
    "shadow_guard",
]

P = ParamSpec("P")
R = TypeVar("R")


class UnderWay(Protocol):
    """What nested code sees of an enclosing call: its arguments, which are released when it ends."""

    kwargs: Mapping[str, Any]


class Aside:
    """Marks calls made by code that looks at other calls: observers, log handlers and comparators."""

    kwargs: Mapping[str, Any] = MappingProxyType({})
    """A mapping of its own, as a call in progress has."""


COMPARING = Aside()
"""Calls made in a comparison are answered by their control: a shadow would be compared in turn, without end."""
OBSERVING = Aside()
"""As `COMPARING`; such calls are counted and written to the journal, but observers and log handlers do not receive them."""

in_shadow: ContextVar[bool | UnderWay] = ContextVar("rollout_sdk_shadow", default=False)
"""True inside a shadow; the fallback's call inside a fallback; an `Aside` inside observing code; else False.

One variable for all three, so that a call reads it once.
"""


def _stay(_: object) -> None:
    """Ignore a token that cannot be reset: the call is not in the context, or garbage is being collected."""


# A shadow has a context of its own.
set_shadow = in_shadow.set


_step_aside = alone(in_shadow.set, _stay)
_step_back = alone(in_shadow.reset, _stay)


@contextmanager
def aside(who: Aside) -> Iterator[None]:
    """Mark the code inside as looking at calls."""
    token = _step_aside(who)
    try:
        yield
    finally:
        if token is not None:
            _step_back(token)


def _enter_fallback(call: UnderWay) -> Token[bool | UnderWay] | None:
    return None if in_shadow.get() is True else in_shadow.set(call)


def _leave_fallback(token: Token[bool | UnderWay] | None) -> None:
    # A coroutine can be closed from another context, where there is nothing to reset.
    if token is not None:
        with suppress(ValueError):
            in_shadow.reset(token)


enter_fallback = alone(_enter_fallback, _stay)
leave_fallback = alone(_leave_fallback, _stay)
"""Leave a run of the control that replaces a failed candidate."""


def is_shadow() -> bool:
    """Whether this code runs as a shadow. Its output is discarded, so it should not write anything."""
    return in_shadow.get() is True


def shadow_guard(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function refuse to run inside a shadow. Put it on functions that write, send or charge.

    Works on functions and coroutine functions, also in threads that a shadow starts with a copy of its context
    (`asyncio.to_thread` does; `Thread` and `ThreadPoolExecutor` do not). Elsewhere it changes nothing.

    Raises:
        ShadowEffectError: From the returned function, if a shadow calls it. The shadow then ends with an error, and the caller
            is not affected.
    """
    name = getattr(function, "__qualname__", repr(function))

    def refuse() -> None:
        if is_shadow():
            raise ShadowEffectError(
                f"A shadow called {name!r}, which has side effects. A shadow's output is discarded, but its side effects would "
                "happen twice. Skip the call when rollout_sdk.is_shadow(), or do not shadow this model."
            )

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def guarded_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
            refuse()
            return await function(*args, **kwargs)

        return guarded_coroutine  # type: ignore[return-value]

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        refuse()
        return function(*args, **kwargs)

    return guarded
