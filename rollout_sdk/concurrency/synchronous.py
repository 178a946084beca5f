"""Functions that are called and must answer at once: nothing awaits what they return.

What is seen to be asynchronous is refused when it is passed; what turns out to be so is a fault of that function, and the
coroutine is closed, so that Python does not warn of one that was never awaited.
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
"""The commonest answers: looked up first."""

_AWAITABLE = re.compile(r"[\w.]*\b(Awaitable|Coroutine|Future|Task)\b(\[|$)")
"""An annotation that is still a text."""

_MARK = getattr(coroutines, "_is_coroutine", object())
"""What `asgiref` and others put on a function that returns a coroutine, before Python 3.12."""


def must_answer_at_once(subject: str, function: object, cure: str) -> None:
    """Refuse a function whose answer would have to be awaited, also behind partials, methods and callable objects.

    Args:
        subject: What it was passed as: "unit= of 'app.rank'".
        function: The function; what cannot be called is not looked at.
        cure: What to do instead.

    Raises:
        ConfigurationError: It is asynchronous, a generator function, or says that it returns an awaitable.
    """
    if callable(function) and (kind := _asynchrony(function)) is not None:
        raise ConfigurationError(f"{subject} is {kind}. It is called, and must answer at once: nothing awaits it. {cure}")


def _asynchrony(function: Any) -> str | None:
    """Why a function does not answer at once; None where it may."""
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
    """Whether a function is annotated to return what must be awaited."""
    try:
        said = getattr(function, "__annotations__", {}).get("return")
        origin = get_origin(said) or said
        return (
            issubclass(origin, Awaitable)
            if isinstance(origin, type)
            else isinstance(said, str) and bool(_AWAITABLE.match(said))
        )
    # Annotations are evaluated when they are looked at, from Python 3.14 on, and may be anything.
    except Exception:
        return False


def answered(what: str, value: T, given: Iterable[object] = ()) -> T:
    """What a function answered.

    Args:
        what: What it was passed as: "unit=".
        value: Its answer.
        given: What it was called with: an awaitable that it hands back is the caller's own, and stays open.

    Raises:
        TypeError: The answer would have to be awaited.
    """
    if value.__class__ in _AT_ONCE or not inspect.isawaitable(value):
        return value
    unread = not isinstance(value, CoroutineType) or inspect.getcoroutinestate(value) == inspect.CORO_CREATED
    if isinstance(value, Coroutine) and unread and not any(value is each for each in given):
        value.close()
    raise TypeError(f"{what} gave an awaitable, and nothing awaits it")


def answering(what: str, function: Callable[..., T]) -> Callable[..., T]:
    """The function, with a TypeError in the place of an answer that would have to be awaited."""

    def answer(*args: Any, **kwargs: Any) -> T:
        return answered(what, function(*args, **kwargs), (*args, *kwargs.values()))

    return answer
