"""Which answers of plain functions are streams: one-shot iterators, whose work begins when their consumer asks for an item."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from inspect import CO_ITERABLE_COROUTINE, getattr_static
from types import FunctionType, GeneratorType, NoneType
from typing import Any

__all__ = ["EAGER", "closing_stream", "each", "is_given", "is_iterable", "is_stream"]

EAGER: frozenset[type] = frozenset({str, bytes, int, float, bool, list, tuple, dict, set, frozenset, NoneType})
"""The commonest types of answers, none of which is a stream: looked up first, on the path of every call."""

_NO_STREAMS = ("__len__", "__await__", "__aiter__", "__anext__", "read", "readline")
"""What containers, awaitables, asynchronous streams and files have: how their consumers use them is not known."""

_OF_GENERATORS = frozenset({"send", "throw", "close"})


def is_stream(value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether an answer of a plain function is a stream that another object can stand in for.

    Generators, iterators of classes written in Python, and iterators written in C that offer nothing but iteration. Not: an
    argument that is handed back (it is the caller's own), containers, files, generator-based coroutines, and objects written
    in C with more to them (cursors, readers), because other C code may insist on the very type.
    """
    kind = type(value)
    if not hasattr(kind, "__next__"):
        return False
    if is_given(value, args, kwargs):
        return False
    if kind is GeneratorType:
        return not value.gi_code.co_flags & CO_ITERABLE_COROUTINE
    if not hasattr(kind, "__iter__") or any(hasattr(kind, name) for name in _NO_STREAMS):
        return False
    if isinstance(getattr_static(kind, "__next__"), FunctionType):
        return True
    return not any(not name.startswith("_") and name not in _OF_GENERATORS for name in dir(kind))


def is_given(value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether an answer is an argument that is handed back."""
    return any(value is given for given in (*args, *kwargs.values()))


def is_iterable(value: Any) -> bool:
    """Whether `for` accepts it."""
    return hasattr(type(value), "__iter__") or hasattr(type(value), "__getitem__")


def each(iterable: Any) -> Generator[Any, Any, Any]:
    """A generator of its items."""
    return (yield from iterable)


def closing_stream(stream: Any) -> AbstractContextManager[Any]:
    """A `with` block for a stream, which is closed at the end if it can be."""
    return closing(stream) if hasattr(stream, "close") else nullcontext(stream)
