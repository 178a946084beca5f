"""Exceptions of models are touched past their classes, and leave us as if we had not been there.

A frozen exception (a frozen data class, any `__setattr__` that refuses) raises at `error.__context__ = ...`. Python itself sets
these attributes without asking the class, and so do we.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from types import TracebackType
from typing import Any

__all__ = ["cause_of", "context_of", "frames_of", "has_come_out", "is_ours", "set_context", "shorten"]

_CAUSE, _CONTEXT, _TRACEBACK = (vars(BaseException)[f"__{name}__"] for name in ("cause", "context", "traceback"))

_RUNNING = frozenset(
    f"rollout_sdk.engine.{name}" for name in ("execute", "returned.streams", "deadline", "attended", "blend", "returned.forms")
)
"""The modules between a driver and the model that it runs."""

_MOST_CAUSES = 16


def cause_of(error: BaseException) -> BaseException | None:
    """What an exception was raised from."""
    return _CAUSE.__get__(error)  # type: ignore[no-any-return]


def context_of(error: BaseException) -> BaseException | None:
    """What was handled when an exception was raised."""
    return _CONTEXT.__get__(error)  # type: ignore[no-any-return]


def set_context(error: BaseException, context: BaseException | None) -> None:
    """Have an exception be raised while `context` was handled."""
    _CONTEXT.__set__(error, context)


def frames_of(error: BaseException) -> Iterator[dict[str, Any]]:
    """The globals of the frames that an exception has passed, the outermost first."""
    found: TracebackType | None = _TRACEBACK.__get__(error)
    while found is not None:
        yield found.tb_frame.f_globals
        found = found.tb_next


def is_ours(names: dict[str, Any]) -> bool:
    """Whether a frame with these globals is the engine's."""
    return str(names.get("__name__")).startswith("rollout_sdk.engine.")


def shorten(error: BaseException) -> bool:
    """Take our frames off the top of an exception's traceback; whether a model's frame is left, in which it was raised."""
    found: TracebackType | None = _TRACEBACK.__get__(error)
    while found is not None and found.tb_frame.f_globals.get("__name__") in _RUNNING:
        found = found.tb_next
    _TRACEBACK.__set__(error, found)
    return found is not None


def has_come_out(noted: Collection[int], error: BaseException) -> bool:
    """Whether an exception, or what it was raised from, is among those noted by id in a driver; of a group, each one."""
    found: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if found is None:
            return False
        # Another exception may have got the address of one that is gone: it has not passed a driver.
        if id(found) in noted and any(map(is_ours, frames_of(found))):
            return True
        if isinstance(found, BaseExceptionGroup):
            return all(has_come_out(noted, each) for each in found.exceptions)
        found = cause_of(found)
    return False
