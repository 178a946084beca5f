"""Which exceptions of a run are the caller's will, and not a failure of the model.

The list is short and fixed: Ctrl-C, the end of the process, the closing of a stream, a real cancellation, and a time limit that
interrupts the call from outside (a signal handler, a worker's timer). Everything else is a failure, whatever it derives from: a
panic of a Rust extension (`pyo3_runtime.PanicException`) and the limit of `func_timeout` are no `Exception`.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed does not have it
import asyncio
import functools
import signal
import sys
from inspect import CO_VARARGS
from threading import get_ident, main_thread
from types import CodeType, MethodType
from typing import Any

__all__ = ["handler_of", "is_fault", "is_interrupted_by_signal", "is_interruption"]

_ALWAYS = (KeyboardInterrupt, SystemExit)

# By the module that has the class: a library whose exception is raised has been imported, and none is imported for our sake.
_ELSEWHERE = (
    ("trio", "Cancelled"),
    ("greenlet", "GreenletExit"),
    ("gevent", "Timeout"),
    ("eventlet", "Timeout"),
    # The time limits of workers. Some are an `Exception`.
    ("billiard.exceptions", "SoftTimeLimitExceeded"),
    ("celery.exceptions", "SoftTimeLimitExceeded"),
    ("rq.timeouts", "BaseTimeoutException"),
    ("dramatiq.middleware", "Interrupt"),
    ("airflow.exceptions", "AirflowTaskTimeout"),
)

_NAME = type.__dict__["__name__"]
"""As type itself has it: a class of exception classes may have its own idea of a name, and raise."""
_NAMES = frozenset(name for _, name in _ELSEWHERE)

_INTERRUPTING = tuple(
    getattr(signal, name)
    for name in ("SIGALRM", "SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGUSR1", "SIGUSR2", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
    if hasattr(signal, name)
)
"""The signals whose handlers raise exceptions to interrupt what runs; Windows has few of them."""

_NEVER_BEGUN = object()

# Past the exception's class, which can hide its own.
_TRACEBACK = vars(BaseException)["__traceback__"]


def is_interruption(error: BaseException, *, awaited: bool) -> bool:
    """Whether a run ended because its caller wanted it to: cancelled, out of time, or the process is to end.

    The GeneratorExit of a stream or coroutine that is closed is not known here: its driver knows what was thrown into it.

    Args:
        error: What the run raised.
        awaited: Whether the run was awaited, so that an event loop can have cancelled it.
    """
    # Nearly every exception is an ordinary one.
    is_named = _is_named(type(error))  # type: ignore[arg-type] # a class is hashable
    if isinstance(error, Exception) and not is_named:
        return is_interrupted_by_signal(error)
    if isinstance(error, _ALWAYS):
        return True
    if isinstance(error, asyncio.CancelledError):
        return _was_asked_for(awaited=awaited)
    if isinstance(error, BaseExceptionGroup):
        # A cancellation must reach its scope, whatever failed beside it.
        return any(is_interruption(each, awaited=awaited) for each in error.exceptions)
    if is_named and any(_is_of(error, *each) for each in _ELSEWHERE):
        return not _is_own_timeout(error)
    return is_interrupted_by_signal(error)


def is_fault(error: BaseException) -> bool:
    """Whether an exception of a function that we ask something (never of a model) is that function's fault.

    SystemExit is one, too: such a function must not end the process, but a signal that comes meanwhile may. What is not a fault
    has to be raised again.
    """
    if isinstance(error, SystemExit):
        return not is_interrupted_by_signal(error)
    return not is_interruption(error, awaited=False)


def is_interrupted_by_signal(error: BaseException) -> bool:
    """Whether a signal handler raised this that is installed now, as a worker's is; a model takes its own away at its end.

    Python runs such a handler in the midst of what the main thread does, so that its frame is in the traceback.
    """
    if get_ident() != main_thread().ident:
        return False
    handlers = None
    found = _TRACEBACK.__get__(error)
    while found is not None:
        code = found.tb_frame.f_code
        # A handler is called with a number and a frame, and perhaps with the object whose method it is.
        if 2 <= code.co_argcount <= 3 or code.co_flags & CO_VARARGS:
            handlers = _handlers() if handlers is None else handlers
            if code in handlers:
                return True
        found = found.tb_next
    return False


def _handlers() -> set[CodeType]:
    """The code of the signal handlers that are written in Python."""
    return {code for number in _INTERRUPTING if (code := _code_of(handler_of(number))) is not None}


def handler_of(number: int) -> Any:
    """The handler of a signal. `signal.getsignal` makes text of it on the way, and so of what it holds."""
    return _signal.getsignal(number)


def _code_of(handler: Any) -> CodeType | None:
    # SIG_DFL and SIG_IGN are numbers here.
    if handler is None or handler.__class__ is int:
        return None
    while isinstance(handler, functools.partial | MethodType):
        handler = handler.func if isinstance(handler, functools.partial) else handler.__func__
    called = handler if hasattr(handler, "__code__") else vars(type(handler)).get("__call__")
    code = getattr(called, "__code__", None)
    return code if isinstance(code, CodeType) else None


def _was_asked_for(*, awaited: bool) -> bool:
    """Whether the current task was cancelled from outside: the model may have made up its CancelledError."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    if task is None:
        # Without a task, a plain function cannot have been cancelled; what drives a coroutine by other means, can cancel it.
        return awaited
    # A task cancels what it awaits. A plain function is not awaited, but where a greenlet awaits for it.
    return (awaited or _is_in_greenlet()) and getattr(task, "cancelling", lambda: 1)() > 0


def _is_in_greenlet() -> bool:
    getcurrent = getattr(sys.modules.get("greenlet"), "getcurrent", None)
    return getcurrent is not None and getcurrent().parent is not None


@functools.lru_cache(maxsize=256)
def _is_named(kind: type[BaseException]) -> bool:
    """Whether a class or a base of it has a name that makes it worth a look."""
    return not _NAMES.isdisjoint([_NAME.__get__(each) for each in kind.__mro__])


def _is_of(error: BaseException, module: str, name: str) -> bool:
    found = getattr(sys.modules.get(module), name, None)
    return isinstance(found, type) and isinstance(error, found)


def _is_own_timeout(error: BaseException) -> bool:
    """Whether a timeout of gevent or eventlet is the model's own: its timer has been closed, as at the end of its `with`.

    The caller's timer is still open while its exception passes here.
    """
    timer = getattr(error, "timer", _NEVER_BEGUN)
    return timer is None or type(timer).__name__ == "_FakeTimer"
