"""A coroutine each of whose steps runs inside something: a context, or states that are a thread's and not a task's."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any

__all__ = ["Stepped"]


class Stepped:
    """Awaited, it gives what the coroutine gives; while the coroutine waits, nothing of it is left in the thread."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], around: Callable[..., Any]) -> None:
        """Start nothing yet.

        Args:
            coroutine: What is stepped; nothing else may await it.
            around: Called with a function and its argument for every step; runs it, and returns or raises what it does.
        """
        self._coroutine = coroutine
        self._around = around

    def __await__(self) -> Generator[Any, Any, Any]:
        """The steps."""
        step: Callable[[Any], Any] = self._coroutine.send
        given: Any = None
        while True:
            try:
                # Handed over, not kept: an exception that was thrown holds this frame.
                argument, given = given, None
                awaited = self._around(step, argument)
            except StopIteration as stop:
                return stop.value
            finally:
                argument = None
            try:
                given = yield awaited
                step = self._coroutine.send
            except BaseException as thrown:
                given, step = thrown, self._coroutine.throw
