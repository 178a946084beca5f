"""Changes to a thread's context that are safe against interruption by code running in the same thread.

Before Python 3.12, an allocation can trigger a garbage collection, even within `ContextVar.set`. Code that then runs in the
same thread (a finaliser, a collector callback, the handler of a pending signal) and sets a variable frees memory that the
interrupted `set` goes on to read: a segmentation fault (https://github.com/python/cpython/issues/148891). So code of this
package that runs during one of its own changes makes no further change.

A mark of every change would cost as much as the change. Instead, a callback of the collector looks, each time that garbage is
collected, whether it interrupts one.
"""

from __future__ import annotations

import contextvars
import gc
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import CodeType, FrameType
from typing import Any, ParamSpec, TypeVar

import structlog
from opentelemetry import context as telemetry

__all__ = [
    "CallerContext",
    "Surroundings",
    "alone",
    "alone_with",
    "attach",
    "changes",
    "collected",
    "copy_context",
    "detach",
    "here",
]

P = ParamSpec("P")
A = TypeVar("A")
T = TypeVar("T")
U = TypeVar("U")


class _Mark:
    """Of one thread.

    Attributes:
        inside: None, except while garbage is collected within a change of the context; then what code that runs there uses.
    """

    __slots__ = ("inside",)

    def __init__(self) -> None:
        self.inside: tuple[Any, ...] | None = None


class _Here(threading.local):
    def __init__(self) -> None:
        # Reading an attribute of a thread's own is cheap, writing one is not.
        self.mark = _Mark()


here = _Here()


class _Collected:
    """Of the process.

    Attributes:
        inside: Whether, in any thread, garbage is being collected within a change of a context.
    """

    __slots__ = ("inside",)

    def __init__(self) -> None:
        self.inside = False


collected = _Collected()
_CHANGING: set[CodeType] = set()
"""Code that changes a context, directly or by what it calls."""
_MOST_FRAMES = 8
"""How deep a change calls: OpenTelemetry's and structlog's own functions lie between."""


def changes(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that changes a context itself; it has to do it by `alone` where `collected.inside` is true."""
    _CHANGING.add(function.__code__)
    return function


def _watch() -> None:
    """Notice when garbage is collected within a change. The functions have all they need: they run until the very end."""
    callbacks, changing, mine, everywhere = gc.callbacks, _CHANGING, here, collected
    frame_of, depth = sys._getframe, _MOST_FRAMES  # noqa: SLF001 - there is no other way to ask

    def first(phase: str, _: dict[str, int]) -> None:
        if phase != "start":
            return
        if callbacks[-1] is not last:
            # A callback that was added since runs before the end of the collection, too.
            callbacks.remove(last)
            callbacks.append(last)
        frame: FrameType | None = frame_of().f_back
        for _step in range(depth):
            if frame is None:
                return
            if frame.f_code in changing:
                mine.mark.inside = ()
                everywhere.inside = True
                return
            frame = frame.f_back

    def last(phase: str, _: dict[str, int]) -> None:
        if phase == "stop" and everywhere.inside:
            everywhere.inside = False
            mine.mark.inside = None

    callbacks.insert(0, first)
    callbacks.append(last)


if sys.version_info < (3, 12):
    _watch()


def alone(change: Callable[P, T], otherwise: Callable[P, U]) -> Callable[P, T | U]:
    """Protect a change of the context from interruption by this package; during another change, run `otherwise` instead."""
    if sys.version_info >= (3, 12):
        return change

    def changed(*args: P.args, **kwargs: P.kwargs) -> T | U:
        if collected.inside and here.mark.inside is not None:
            return otherwise(*args, **kwargs)
        return change(*args, **kwargs)

    return changes(changed)


def alone_with(change: Callable[[A], T], otherwise: Callable[[A], U]) -> Callable[[A], T | U]:
    """As `alone`, for a change with one argument, which is made in every call."""
    if sys.version_info >= (3, 12):
        return change

    def changed(argument: A) -> T | U:
        if collected.inside and here.mark.inside is not None:
            return otherwise(argument)
        return change(argument)

    return changes(changed)


def _nothing(_: Any) -> None:
    """Skip the change."""


class Surroundings(telemetry.Context):
    """A span context that also holds fields for log lines written inside it."""

    logged: dict[str, str]

    @classmethod
    def of(cls, context: telemetry.Context, logged: dict[str, str]) -> Surroundings:
        """Copy a context and add fields for log lines."""
        made = cls(context)
        made.logged = logged
        return made


def _attach(context: telemetry.Context) -> Any:
    if context.__class__ is Surroundings:
        return telemetry.attach(context), structlog.contextvars.bind_contextvars(**context.logged)
    return telemetry.attach(context)


def _detach(token: Any) -> None:
    # A coroutine closed from another context (by the garbage collector, or at the end of a loop) has nothing to reset there.
    # Its caller must not notice, but OpenTelemetry would log an error.
    if token.__class__ is tuple:
        token, bound = token
        with suppress(ValueError):
            structlog.contextvars.reset_contextvars(**bound)
    if token.__class__ is not contextvars.Token:
        # The token belongs to a runtime context of the application.
        telemetry.detach(token)
        return
    try:  # noqa: SIM105 - runs on every call
        token.var.reset(token)
    except ValueError:
        pass


class CallerContext:
    """A caller's context variables. Copies of an event share them; pickled events lose them."""

    __slots__ = ("_context",)

    def __init__(self, context: contextvars.Context) -> None:
        """Store the context."""
        self._context = context

    def run(self, function: Callable[[], Any]) -> Any:
        """Call a function in the caller's context."""
        # In a copy, since several threads may do this at once.
        return self._context.copy().run(function)

    def __deepcopy__(self, _: dict[int, Any]) -> CallerContext:
        """Return the same object: context variables cannot be deep-copied."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as None: context variables belong to one process."""
        return type(None), ()


copy_context = alone(contextvars.copy_context, contextvars.copy_context)
attach = alone(_attach, _nothing)
detach = alone(_detach, _nothing)
