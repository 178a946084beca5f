"""Reads and writes attributes of models' exceptions without going through their classes, and removes the SDK's frames.

Assigning `error.__context__` raises for a frozen exception (a frozen data class, or any `__setattr__` that refuses). Python
itself sets these attributes without asking the class, and so does this module.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from types import TracebackType
from typing import Any

__all__ = ["cause_of", "context_of", "drop_frame", "frames_of", "has_come_out", "is_ours", "set_context", "shorten"]

_CAUSE, _CONTEXT, _TRACEBACK = (vars(BaseException)[f"__{name}__"] for name in ("cause", "context", "traceback"))

_RUNNING = frozenset(
    f"rollout_sdk.engine.{name}"
    for name in ("execute", "returned.streams", "returned.reading", "deadline", "attended", "blend", "returned.forms")
)
"""The modules between a driver and the model that it runs."""

_MOST_CAUSES = 16


def cause_of(error: BaseException) -> BaseException | None:
    """Return an exception's `__cause__`."""
    return _CAUSE.__get__(error)  # type: ignore[no-any-return]


def context_of(error: BaseException) -> BaseException | None:
    """Return an exception's `__context__`."""
    return _CONTEXT.__get__(error)  # type: ignore[no-any-return]


def set_context(error: BaseException, context: BaseException | None) -> None:
    """Set an exception's `__context__`."""
    _CONTEXT.__set__(error, context)


def frames_of(error: BaseException) -> Iterator[dict[str, Any]]:
    """Yield the globals of an exception's traceback frames, outermost first."""
    found: TracebackType | None = _TRACEBACK.__get__(error)
    while found is not None:
        yield found.tb_frame.f_globals
        found = found.tb_next


def is_ours(names: dict[str, Any]) -> bool:
    """Whether these are the globals of an engine module."""
    return str(names.get("__name__")).startswith("rollout_sdk.engine.")


def drop_frame(error: BaseException) -> None:
    """Drop the frame that caught an exception from the top of its traceback."""
    found: TracebackType | None = _TRACEBACK.__get__(error)
    _TRACEBACK.__set__(error, None if found is None else found.tb_next)


def shorten(error: BaseException) -> bool:
    """Drop the SDK's frames from the top of a traceback; return whether the model's raising frame remains."""
    found: TracebackType | None = _TRACEBACK.__get__(error)
    while found is not None and found.tb_frame.f_globals.get("__name__") in _RUNNING:
        found = found.tb_next
    _TRACEBACK.__set__(error, found)
    return found is not None


def has_come_out(noted: Collection[int], error: BaseException) -> bool:
    """Whether an exception or one of its causes was noted, by id, in a driver; for a group, every member must be."""
    found: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if found is None:
            return False
        # Ids can be reused: an unrelated exception at the same address has not passed a driver.
        if id(found) in noted and any(map(is_ours, frames_of(found))):
            return True
        if isinstance(found, BaseExceptionGroup):
            return all(has_come_out(noted, each) for each in found.exceptions)
        found = cause_of(found)
    return False
