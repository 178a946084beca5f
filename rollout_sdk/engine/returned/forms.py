"""What form an answer has, by its type: an answer as it is, or one whose work begins or goes on after it is returned."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, closing, nullcontext
from inspect import CO_ITERABLE_COROUTINE, getattr_static
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType, NoneType
from typing import Any, Literal, TypeAlias

__all__ = [
    "ANSWER",
    "ASYNCHRONOUS",
    "EAGER",
    "Form",
    "closing_stream",
    "discard",
    "each",
    "each_async",
    "form_of",
    "is_async_iterable",
    "is_awaitable",
    "is_given",
    "is_iterable",
    "raising",
    "raising_async",
]

EAGER: frozenset[type] = frozenset({str, bytes, int, float, bool, list, tuple, dict, set, frozenset, NoneType})
"""The commonest types of answers, none of which has work to come: looked up first, on the path of every call."""

Form: TypeAlias = Literal[
    "answer",
    "generator",
    "iterator",
    "stream",
    "coroutine",
    "async generator",
    "async stream",
    "either",
    "awaitable",
    "future",
    "response",
    "unmeasured",
]
"""The forms of answers. A "stream" is iterable without being an iterator, an "async stream" what `async for` reads, "either"
both, and a "response" one of HTTP whose body is still to be read. What is "unmeasured" has work to come, and nothing can take
its place."""

ANSWER: Form = "answer"
ASYNCHRONOUS: frozenset[Form] = frozenset({"coroutine", "async generator", "async stream", "awaitable"})
"""Forms that an event loop carries out."""

# Containers, files and HTTP responses with their body: how their consumers use them is not known.
_NO_STREAMS = ("__len__", "__getitem__", "__contains__", "read", "readline", "write", "add", "json", "content", "text")
_NO_ITERATORS = ("__len__", "__await__", "__aiter__", "__anext__", "read", "readline")
_OF_GENERATORS = frozenset({"send", "throw", "close"})
# Managers made of generators: what they guard begins inside `with`.
_MANAGERS = (contextlib._GeneratorContextManager, contextlib._AsyncGeneratorContextManager)  # noqa: SLF001 - no other name
# Their body is read by the server, after the call.
_STREAMING = frozenset({"StreamingResponse", "StreamingHttpResponse", "EventSourceResponse"})
_RESPONSES = frozenset({"requests", "httpx", "httpx2"})

_MOST_TYPES = 1_000
_forms: dict[type, Form] = {}


def form_of(value: Any) -> Form:
    """The form of an answer."""
    kind = type(value)
    form = _forms.get(kind)
    if form is None:
        # Classes can be made for each call: what is remembered of them stays bounded.
        if len(_forms) >= _MOST_TYPES:
            _forms.clear()
        form = _forms[kind] = _look_at(kind)
    if form == ANSWER or form == "coroutine":  # noqa: PLR1714 - the path of most answers that are not of an eager type
        return form
    if form == "generator" and value.gi_code.co_flags & CO_ITERABLE_COROUTINE:
        return "unmeasured"
    if form == "stream" and hasattr(value, "read"):
        # A wrapper of a file has it from the file.
        return ANSWER
    return ANSWER if form == "response" and not _is_open(value) else form


_BUILT_IN: Mapping[type, Form] = {
    GeneratorType: "generator",
    CoroutineType: "coroutine",
    AsyncGeneratorType: "async generator",
}


def _look_at(kind: type) -> Form:
    if kind in _BUILT_IN:
        return _BUILT_IN[kind]
    if issubclass(kind, Future) or hasattr(kind, "_asyncio_future_blocking"):
        return "future"
    if _is_response(kind):
        return "response"
    if issubclass(kind, _MANAGERS) or any(each.__name__ in _STREAMING for each in kind.__mro__):
        return "unmeasured"
    if hasattr(kind, "__await__"):
        # A handle with a result to ask for (Ray, Dask) is what its own library insists on.
        return "awaitable" if _is_python(kind, "__await__") and not hasattr(kind, "result") else "unmeasured"
    if hasattr(kind, "__aiter__"):
        return _look_at_async(kind)
    return _look_at_iterable(kind)


def _look_at_async(kind: type) -> Form:
    if any(hasattr(kind, name) for name in _NO_STREAMS):
        return ANSWER
    if not _is_python(kind, "__aiter__"):
        return "unmeasured"
    if not hasattr(kind, "__iter__"):
        return "async stream"
    # An iterator of both kinds would be read by turns.
    return "unmeasured" if hasattr(kind, "__next__") or hasattr(kind, "__anext__") else "either"


def _look_at_iterable(kind: type) -> Form:
    """An iterator, unless another object cannot stand in for it; or a stream: closed or entered, and nothing to look up."""
    if not hasattr(kind, "__iter__"):
        return ANSWER
    if hasattr(kind, "__next__"):
        if any(hasattr(kind, name) for name in _NO_ITERATORS):
            return ANSWER
        # Written in C, and with more to it than iteration (cursors, readers): other C code may insist on the very type.
        plain = not any(not name.startswith("_") and name not in _OF_GENERATORS for name in dir(kind))
        return "iterator" if plain or _is_python(kind, "__next__") else "unmeasured"
    ends = hasattr(kind, "close") or hasattr(kind, "__exit__")
    return (
        "stream" if ends and _is_python(kind, "__iter__") and not any(hasattr(kind, name) for name in _NO_STREAMS) else ANSWER
    )


def _is_python(kind: type, name: str) -> bool:
    """Whether a method is written in Python."""
    return isinstance(getattr_static(kind, name), FunctionType)


def _is_response(kind: type) -> bool:
    """Whether it is a response of a well-known HTTP client."""
    return any(each.__name__ == "Response" and each.__module__.partition(".")[0] in _RESPONSES for each in kind.__mro__)


def _is_open(response: Any) -> bool:
    """Whether the body of a response is still to be read."""
    if hasattr(response, "is_closed"):
        return not response.is_closed
    return getattr(response, "_content", None) is False


def is_given(value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether an answer is an argument that is handed back."""
    return any(value is given for given in (*args, *kwargs.values()))


def is_iterable(value: Any) -> bool:
    """Whether `for` accepts it."""
    return hasattr(type(value), "__iter__") or hasattr(type(value), "__getitem__")


def is_awaitable(value: Any) -> bool:
    """Whether `await` accepts it."""
    return hasattr(type(value), "__await__")


def is_async_iterable(value: Any) -> bool:
    """Whether `async for` accepts it."""
    return hasattr(type(value), "__aiter__")


def each(iterable: Any, how: Callable[[Any], Any] = iter) -> Generator[Any, Any, Any]:
    """A generator of its items, which `how` gives."""
    return (yield from how(iterable))


async def each_async(iterable: Any, how: Callable[[Any], Any] = aiter) -> AsyncGenerator[Any, Any]:
    """An async generator of its items, which `how` gives."""
    async for item in how(iterable):
        yield item


def _raised(error: BaseException) -> Sequence[Any]:
    raise error


def raising(error: BaseException) -> Generator[Any, Any, Any]:
    """An iterator that cannot be read: to fail where it is made is to fail before the first item."""
    yield from _raised(error)


async def raising_async(error: BaseException) -> AsyncGenerator[Any, Any]:
    """The same for `async for`."""
    for item in _raised(error):
        yield item


def closing_stream(stream: Any) -> AbstractContextManager[Any]:
    """A `with` block for a stream, which is closed at the end if it can be."""
    return closing(stream) if hasattr(stream, "close") else nullcontext(stream)


def discard(value: Any) -> None:
    """Let go of an answer that is not served: a coroutine is closed, so that Python does not warn of it."""
    if type(value) is CoroutineType:
        value.close()
