"""Tells interruptions, which the caller wants, from failures of the model.

The list is short and fixed: Ctrl-C, the end of the process, the closing of a stream, a real cancellation, and a time limit that
interrupts the call from outside (a signal handler, a worker's timer). Everything else is a failure, whatever its base class: a
panic of a Rust extension (`pyo3_runtime.PanicException`) and the limit of `func_timeout` are not an `Exception`.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed does not have it
import asyncio
import functools
import signal
import sys
from collections.abc import Callable
from inspect import CO_VARARGS
from threading import get_ident, main_thread
from types import CodeType, MethodType
from typing import Any

__all__ = ["handler_of", "is_fault", "is_interrupted_by_signal", "is_interruption", "report_fault"]

_ALWAYS = (KeyboardInterrupt, SystemExit)

# Modules and their classes: a library that raised an exception has been imported, so none needs to be.
_ELSEWHERE = (
    ("trio", "Cancelled"),
    ("greenlet", "GreenletExit"),
    ("gevent", "Timeout"),
    ("eventlet", "Timeout"),
    # Time limits of task queues. Some are subclasses of `Exception`.
    ("billiard.exceptions", "SoftTimeLimitExceeded"),
    ("celery.exceptions", "SoftTimeLimitExceeded"),
    ("rq.timeouts", "BaseTimeoutException"),
    ("dramatiq.middleware", "Interrupt"),
    ("airflow.exceptions", "AirflowTaskTimeout"),
)

_NAME = type.__dict__["__name__"]
"""The descriptor of `type`: a metaclass may override `__name__`, and raise."""
_NAMES = frozenset(name for _, name in _ELSEWHERE)

_INTERRUPTING = tuple(
    getattr(signal, name)
    for name in ("SIGALRM", "SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGUSR1", "SIGUSR2", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
    if hasattr(signal, name)
)
"""Signals whose handlers raise exceptions to interrupt code; Windows has few of them."""

_NEVER_BEGUN = object()

# Read through the base class: a subclass can hide its own attribute.
_TRACEBACK = vars(BaseException)["__traceback__"]


def is_interruption(error: BaseException, *, awaited: bool) -> bool:
    """Whether a run ended because its caller wanted it to: cancelled, out of time, or at the end of the process.

    The GeneratorExit of a closed stream or coroutine is not covered: its driver knows what was thrown into it.

    Args:
        error: The run's exception.
        awaited: Whether the run was awaited, so that an event loop may have cancelled it.
    """
    # Fast path: most exceptions are ordinary ones.
    is_named = _is_named(type(error))  # type: ignore[arg-type] # a class is hashable
    if isinstance(error, Exception) and not is_named:
        return is_interrupted_by_signal(error)
    if isinstance(error, _ALWAYS):
        return True
    if isinstance(error, asyncio.CancelledError):
        return _was_asked_for(awaited=awaited)
    if isinstance(error, BaseExceptionGroup):
        # A cancellation must reach its scope, whatever else failed.
        return any(is_interruption(each, awaited=awaited) for each in error.exceptions)
    if is_named and any(_is_of(error, *each) for each in _ELSEWHERE):
        return not _is_own_timeout(error)
    return is_interrupted_by_signal(error)


def is_fault(error: BaseException) -> bool:
    """Whether an exception of a collaborator (never of a model) is that collaborator's fault.

    SystemExit is a fault, too: a collaborator must not end the process, although a signal that arrives meanwhile may.
    Exceptions that are not faults must be raised again.
    """
    if isinstance(error, SystemExit):
        return not is_interrupted_by_signal(error)
    return not is_interruption(error, awaited=False)


def report_fault(failed: Callable[[str, BaseException], None], what: str, error: BaseException) -> None:
    """Report an exception of a collaborator as its fault; raise it again if it is not one."""
    if not is_fault(error):
        raise error
    failed(what, error)


def is_interrupted_by_signal(error: BaseException) -> bool:
    """Whether a currently installed signal handler raised this, as a worker's does; a model removes its own at its end.

    Python runs such a handler in the main thread, between instructions, so its frame is in the traceback.
    """
    if get_ident() != main_thread().ident:
        return False
    handlers = None
    found = _TRACEBACK.__get__(error)
    while found is not None:
        code = found.tb_frame.f_code
        # A handler takes a number and a frame, and as a method also `self`.
        if 2 <= code.co_argcount <= 3 or code.co_flags & CO_VARARGS:
            handlers = _handlers() if handlers is None else handlers
            if code in handlers:
                return True
        found = found.tb_next
    return False


def _handlers() -> set[CodeType]:
    """Return the code of signal handlers written in Python."""
    return {code for number in _INTERRUPTING if (code := _code_of(handler_of(number))) is not None}


def handler_of(number: int) -> Any:
    """Return the handler of a signal. `signal.getsignal` would convert it to text on the way, and with it what it holds."""
    return _signal.getsignal(number)


def _code_of(handler: Any) -> CodeType | None:
    # In `_signal`, SIG_DFL and SIG_IGN are numbers.
    if handler is None or handler.__class__ is int:
        return None
    while isinstance(handler, functools.partial | MethodType):
        handler = handler.func if isinstance(handler, functools.partial) else handler.__func__
    called = handler if hasattr(handler, "__code__") else vars(type(handler)).get("__call__")
    code = getattr(called, "__code__", None)
    return code if isinstance(code, CodeType) else None


def _was_asked_for(*, awaited: bool) -> bool:
    """Whether the current task was cancelled from outside: the model may have raised CancelledError itself."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    if task is None:
        # Without a task, a plain function cannot have been cancelled; other drivers of coroutines can cancel them.
        return awaited
    # A task cancels what it awaits. A plain function is not awaited, unless a greenlet awaits on its behalf.
    return (awaited or _is_in_greenlet()) and getattr(task, "cancelling", lambda: 1)() > 0


def _is_in_greenlet() -> bool:
    getcurrent = getattr(sys.modules.get("greenlet"), "getcurrent", None)
    return getcurrent is not None and getcurrent().parent is not None


@functools.lru_cache(maxsize=256)
def _is_named(kind: type[BaseException]) -> bool:
    """Whether the name of a class or of one of its bases calls for a closer look."""
    return not _NAMES.isdisjoint([_NAME.__get__(each) for each in kind.__mro__])


def _is_of(error: BaseException, module: str, name: str) -> bool:
    found = getattr(sys.modules.get(module), name, None)
    return isinstance(found, type) and isinstance(error, found)


def _is_own_timeout(error: BaseException) -> bool:
    """Whether a timeout of gevent or eventlet is the model's own: its timer is closed, as at the end of its `with`.

    The caller's timer is still open while its exception passes through here.
    """
    timer = getattr(error, "timer", _NEVER_BEGUN)
    return timer is None or type(timer).__name__ == "_FakeTimer"
