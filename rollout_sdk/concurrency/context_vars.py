"""Changes to a thread's context, none of which is made by code that the garbage collector runs.

Before Python 3.12, an allocation can trigger a garbage collection, even within `ContextVar.set`. Code that then runs in the
same thread (a finaliser, the end of an abandoned stream, a collector callback, the handler of a pending signal) and sets a
variable frees memory that the interrupted `set` goes on to read: wrong values, a MemoryError, or a segmentation fault
(https://github.com/python/cpython/issues/148891). Whether a collection interrupts a `set` cannot be known: that of the
application or of its event loop looks like any other call. So code of this package that runs while garbage is collected in its
thread changes no context but copies of its own.
"""

from __future__ import annotations

import contextvars
import dis
import gc
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

import structlog
from opentelemetry import context as telemetry

from rollout_sdk.concurrency.threads import original

__all__ = [
    "CallerContext",
    "Surroundings",
    "alone",
    "alone_with",
    "attach",
    "collected",
    "detach",
]

P = ParamSpec("P")
A = TypeVar("A")
T = TypeVar("T")
U = TypeVar("U")


class _Collected:
    """The collection under way: one at a time in a process, in the thread whose allocation began it.

    Attributes:
        inside: Whether garbage is being collected, in any thread.
    """

    __slots__ = ("_calls", "_mine", "inside")

    def __init__(self) -> None:
        self.inside = False
        self._calls: tuple[Any, ...] = ()
        self._mine = original("_thread", "_local")()

    def here(self) -> bool:
        """Whether garbage is being collected in this thread."""
        return getattr(self._mine, "inside", False) is True

    def calls(self) -> tuple[Any, ...]:
        """Return the calls under way in code that the collector runs in this thread, outermost first."""
        return self._calls if self.here() else ()

    def add(self, call: Any) -> None:
        """Add a call that began in code that the collector runs in this thread."""
        self._calls = (*self._calls, call)

    def watch(self) -> None:
        """Notice when garbage is collected, from before all other callbacks of the collector until after them."""
        callbacks, mine = gc.callbacks, self._mine

        # Both make no calls in a usual collection: see _without_handlers.
        def first(phase: str, _: dict[str, int]) -> None:
            try:
                if phase == "start":
                    mine.inside = self.inside = True
                    self._calls = ()
                    if callbacks[0] is not first or callbacks[-1] is not last:
                        surround()
            # At the last level of recursion, even a comparison fails; but code that is collected there cannot call
            # `ContextVar.set` either, so that nothing need be noticed.
            except RecursionError:
                pass

        def last(phase: str, _: dict[str, int]) -> None:
            if self.inside and phase == "stop":
                # What it frees may run code: the flags come last.
                self._calls = ()
                self.inside = mine.inside = False

        def surround() -> None:
            """Take both ends again: other callbacks were added."""
            for callback in (first, last):
                if callback in callbacks:
                    callbacks.remove(callback)
            callbacks.insert(0, first)
            callbacks.append(last)

        _without_handlers(first)
        _without_handlers(last)
        surround()


def _without_handlers(function: Callable[..., None]) -> None:
    """Have no signal handler run within a function, as long as it makes no call: for CPython 3.11.

    A handler would run in the middle of what the collection has interrupted, and handlers of the application change the context
    as they like. A function runs those of pending signals where it begins, at its RESUME 0, and after each call. A RESUME 3, by
    which a coroutine continues after an `await`, does the same but for the handlers.
    """
    code = function.__code__
    [begin] = [each.offset for each in dis.get_instructions(code) if (each.opname, each.arg) == ("RESUME", 0)]
    raw = bytearray(code.co_code)
    raw[begin + 1] = 3
    function.__code__ = code.replace(co_code=bytes(raw))


collected = _Collected()

if sys.version_info < (3, 12) and sys.implementation.name == "cpython":
    collected.watch()


def alone(change: Callable[P, T], otherwise: Callable[P, U]) -> Callable[P, T | U]:
    """Make a change of the context, or run `otherwise` while garbage is collected in this thread."""
    if sys.version_info >= (3, 12):
        return change

    def changed(*args: P.args, **kwargs: P.kwargs) -> T | U:
        if collected.inside and collected.here():
            return otherwise(*args, **kwargs)
        return change(*args, **kwargs)

    return changed


def alone_with(change: Callable[[A], T], otherwise: Callable[[A], U]) -> Callable[[A], T | U]:
    """As `alone`, for a change with one argument, which is made in every call."""
    if sys.version_info >= (3, 12):
        return change

    def changed(argument: A) -> T | U:
        if collected.inside and collected.here():
            return otherwise(argument)
        return change(argument)

    return changed


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


attach = alone(_attach, _nothing)
detach = alone(_detach, _nothing)
