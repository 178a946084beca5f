"""Which exceptions of a run are the caller's will, and not a failure of the model.

Not every failure is an `Exception`: a panic of a Rust extension (`pyo3_runtime.PanicException`) and the time limit of
`func_timeout` derive from `BaseException`, and are failures like any other. What passes through is a short list.
"""

from __future__ import annotations

import asyncio
import sys

__all__ = ["is_fault", "is_interruption"]

_ALWAYS = (KeyboardInterrupt, SystemExit, GeneratorExit)

# By the module that has the class: a library whose exception is raised has been imported, and none is imported for our sake.
# The timeouts of gevent and eventlet are thrown into a call by a timer, which usually is the caller's.
_ELSEWHERE = {"trio": "Cancelled", "greenlet": "GreenletExit", "gevent": "Timeout", "eventlet": "Timeout"}


def is_interruption(error: BaseException, *, awaited: bool) -> bool:
    """Whether a run ended because its caller wanted it to: cancelled, closed, or the process is to end.

    Args:
        error: What the run raised.
        awaited: Whether the run was awaited, so that it can be cancelled by an event loop that is not asyncio's.
    """
    if isinstance(error, Exception):
        return False
    if isinstance(error, _ALWAYS):
        return True
    if isinstance(error, asyncio.CancelledError):
        return _was_asked_for(awaited=awaited)
    if isinstance(error, BaseExceptionGroup):
        # A cancellation must reach its scope, whatever failed beside it.
        return any(is_interruption(each, awaited=awaited) for each in error.exceptions)
    return any(_is_of(error, module, name) for module, name in _ELSEWHERE.items())


def is_fault(error: BaseException) -> bool:
    """Whether an exception of a function that we ask something (never of a model) is that function's fault.

    SystemExit is one, too: such a function must not end the process. What is not, has to be raised again.
    """
    return isinstance(error, SystemExit) or not is_interruption(error, awaited=False)


def _was_asked_for(*, awaited: bool) -> bool:
    """Whether the current task was cancelled from outside: the model may have made up its CancelledError."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    # Without a task, a plain function cannot have been cancelled; what drives a coroutine by other means, can cancel it.
    return awaited if task is None else task.cancelling() > 0


def _is_of(error: BaseException, module: str, name: str) -> bool:
    found = getattr(sys.modules.get(module), name, None)
    return isinstance(found, type) and isinstance(error, found)
