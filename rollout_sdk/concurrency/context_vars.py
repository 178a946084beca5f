"""Changes of a thread's context, and what runs in the midst of them.

Before Python 3.12, garbage is collected wherever something is allocated: within `ContextVar.set`, too. What then runs in the
same thread (a finaliser, a callback of the collector, the handler of a signal that came meanwhile) and sets a variable frees
what the interrupted `set` goes on to read: a segmentation fault (https://github.com/python/cpython/issues/148891). So what is
ours and runs in the midst of a change of ours changes nothing.
"""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

import structlog
from opentelemetry import context as telemetry

__all__ = ["CallerContext", "Surroundings", "alone", "attach", "copy_context", "detach", "here"]

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")


class _Here(threading.local):
    """What is so in this thread.

    Attributes:
        inside: None, but while the context changes; then what stands in for it, for those that run in the midst of that.
    """

    inside: list[Any] | None = None


here = _Here()


def alone(change: Callable[P, T], otherwise: Callable[P, U]) -> Callable[P, T | U]:
    """A change of the context that nothing of ours interrupts; in the midst of another one, `otherwise` takes its place."""
    if sys.version_info >= (3, 12):
        return change

    def changed(*args: P.args, **kwargs: P.kwargs) -> T | U:
        if here.inside is not None:
            return otherwise(*args, **kwargs)
        here.inside = []
        try:
            return change(*args, **kwargs)
        finally:
            here.inside = None

    return changed


def _nothing(_: Any) -> None:
    """What is left of a change."""


class Surroundings(telemetry.Context):
    """A context of spans, with what the log lines of whoever runs inside it say besides."""

    logged: dict[str, str]

    @classmethod
    def of(cls, context: telemetry.Context, logged: dict[str, str]) -> Surroundings:
        """The same context with these fields for log lines."""
        made = cls(context)
        made.logged = logged
        return made


def _attach(context: telemetry.Context) -> Any:
    if context.__class__ is Surroundings:
        return telemetry.attach(context), structlog.contextvars.bind_contextvars(**context.logged)
    return telemetry.attach(context)


def _detach(token: Any) -> None:
    # A coroutine that is closed from another context (by the garbage collector, or at the end of a loop) finds nothing of its
    # own there to put back; its caller must not hear of that, and OpenTelemetry would log it as an error.
    if token.__class__ is tuple:
        token, bound = token
        with suppress(ValueError):
            structlog.contextvars.reset_contextvars(**bound)
    if token.__class__ is not contextvars.Token:
        # Of a runtime context of the application's own.
        telemetry.detach(token)
        return
    try:  # noqa: SIM105 - on the path of every call
        token.var.reset(token)
    except ValueError:
        pass


class CallerContext:
    """The context variables of whoever called; a copy of an event has the same, and a pickled one has none."""

    __slots__ = ("_context",)

    def __init__(self, context: contextvars.Context) -> None:
        """Take them."""
        self._context = context

    def run(self, function: Callable[[], Any]) -> Any:
        """Call a function as if the caller had."""
        # In a copy: several threads may do so at once.
        return self._context.copy().run(function)

    def __deepcopy__(self, _: dict[int, Any]) -> CallerContext:
        """The same: context variables cannot be copied deeply."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Nothing: context variables are of one process."""
        return type(None), ()


copy_context = alone(contextvars.copy_context, contextvars.copy_context)
attach = alone(_attach, _nothing)
detach = alone(_detach, _nothing)
