"""Callbacks that must return their result directly, because nothing awaits it.

A function that is recognisably asynchronous is refused when it is passed; one that turns out to be so when called is a fault,
and its coroutine is closed, so that Python does not warn that it was never awaited.
"""

from __future__ import annotations

import functools
import inspect
import re
from asyncio import coroutines
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from types import CoroutineType
from typing import Any, TypeVar, get_origin

from rollout_sdk.exceptions import ConfigurationError

__all__ = ["answered", "answering", "must_answer_at_once"]

T = TypeVar("T")

_AT_ONCE = frozenset({str, int, float, bool, bytes, list, tuple, dict, type(None)})
"""The most common result types, checked first."""

_AWAITABLE = re.compile(r"[\w.]*\b(Awaitable|Coroutine|Future|Task)\b(\[|$)")
"""Matches annotations in string form."""

_MARK = getattr(coroutines, "_is_coroutine", object())
"""Marker that `asgiref` and others put on functions that return a coroutine, before Python 3.12."""


def must_answer_at_once(subject: str, function: object, cure: str) -> None:
    """Refuse a function whose result would have to be awaited, looking through partials, methods and callable objects.

    Args:
        subject: How it was passed: "unit= of 'app.rank'".
        function: The function; objects that are not callable are ignored.
        cure: What to do instead.

    Raises:
        ConfigurationError: It is asynchronous, a generator function, or annotated to return an awaitable.
    """
    if callable(function) and (kind := _asynchrony(function)) is not None:
        raise ConfigurationError(f"{subject} is {kind}. It must return its result directly: nothing awaits it. {cure}")


def _asynchrony(function: Any) -> str | None:
    """Return what kind of asynchronous function it is; None if it is not recognisably one."""
    while isinstance(function, functools.partial):
        function = function.func
    looked_at = function if inspect.isroutine(function) or inspect.isclass(function) else type(function).__call__
    if any(
        inspect.iscoroutinefunction(each) or getattr(each, "_is_coroutine", None) is _MARK for each in (looked_at, function)
    ):
        return "a coroutine function"
    if inspect.isasyncgenfunction(looked_at):
        return "an async generator function"
    if inspect.isgeneratorfunction(looked_at):
        return "a generator function"
    return "a function that returns an awaitable" if _says_awaitable(looked_at) else None


def _says_awaitable(function: Any) -> bool:
    """Whether a function is annotated to return an awaitable."""
    try:
        annotation = getattr(function, "__annotations__", {}).get("return")
        origin = get_origin(annotation) or annotation
        return (
            issubclass(origin, Awaitable)
            if isinstance(origin, type)
            else isinstance(annotation, str) and bool(_AWAITABLE.match(annotation))
        )
    # From Python 3.14 on, annotations are evaluated on access, and may raise anything.
    except Exception:
        return False


def answered(what: str, value: T, given: Iterable[object] = ()) -> T:
    """Return a function's result, unless it would have to be awaited.

    Args:
        what: How the function was passed: "unit=".
        value: Its result.
        given: Its arguments: an awaitable among them belongs to the caller, and is not closed if returned.

    Raises:
        TypeError: The result is an awaitable.
    """
    if value.__class__ in _AT_ONCE or not inspect.isawaitable(value):
        return value
    unread = not isinstance(value, CoroutineType) or inspect.getcoroutinestate(value) == inspect.CORO_CREATED
    if isinstance(value, Coroutine) and unread and not any(value is each for each in given):
        value.close()
    raise TypeError(f"{what} gave an awaitable, and nothing awaits it")


def answering(what: str, function: Callable[..., T]) -> Callable[..., T]:
    """Wrap a function to raise a TypeError instead of returning an awaitable."""

    def answer(*args: Any, **kwargs: Any) -> T:
        return answered(what, function(*args, **kwargs), (*args, *kwargs.values()))

    return answer
