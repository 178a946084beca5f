"""Copies of arguments for shadows: taken before the control runs, within a budget of time and memory.

A shadow must not see what the control changed, nor change what the control sees. What cannot be copied surely and cheaply is
not copied, and the shadow is skipped and counted: never a guess, never a slow request.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import decimal
import enum
import fractions
import pathlib
import sys
import types
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from time import perf_counter
from typing import Any, Literal, TypeAlias

import attrs

from rollout_sdk.interruptions import is_fault

__all__ = ["Isolate", "Kept", "NotCopied", "OneShot", "Snapshot", "candidate_copy", "copy_output", "take_snapshot"]

Isolate: TypeAlias = Literal["auto", "none", "deepcopy"] | Callable[[Any], Any]
"""How a shadow's arguments are isolated: "auto" copies what it knows, within the budget, and else skips the shadow; "none"
shares them (the candidate must not change them); "deepcopy" copies anything, however long that takes; a callable is given
each argument and returns its copy."""

_TIME_BUDGET_S = 1e-3
_BYTE_BUDGET = 1 << 20
_DEEPEST = 16
_LOOK_AT_CLOCK_EVERY = 64
_MOST_WEIGHED = 1_000

_SHARED = (
    types.NoneType,
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    enum.Enum,
    decimal.Decimal,
    fractions.Fraction,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    datetime.tzinfo,
    uuid.UUID,
    pathlib.PurePath,
    type,
    range,
    slice,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.EllipsisType,
)
"""Types whose instances cannot change (or, like functions, are shared by their nature)."""

_PLAIN = frozenset({str, int, float, bool, bytes, types.NoneType})
"""The commonest of them, looked up first."""

_ARRAYS = {"numpy": "copy", "pandas": "copy", "torch": "clone", "polars": "clone"}
"""Method that copies an array or frame, by the top package of its type. Objects inside a frame are shared."""


class NotCopied(Exception):  # noqa: N818 - a reason to skip, not a fault
    """An argument was not copied; the message says why."""


class OneShot(NotCopied):
    """An argument can be read only once."""


class Snapshot:
    """A copy under way: what it may still cost."""

    __slots__ = ("bytes", "deadline", "limited", "nodes")

    def __init__(self, *, limited: bool = True) -> None:
        """Start the clock; with `limited` false, it may cost what it costs."""
        self.limited = limited
        self.bytes = 0
        self.nodes = 0
        self.restart()

    def restart(self) -> None:
        """Start the clock again, for another value out of the same budget of bytes."""
        self.deadline = perf_counter() + _TIME_BUDGET_S

    def copy(self, value: Any, depth: int = 0) -> Any:
        """A copy that shares nothing that can change.

        Raises:
            NotCopied: The value is of an unknown kind, too deep, or over the budget.
        """
        kind = type(value)
        package = _package(value)
        if package in _ARRAYS:
            return self._copy_array(value, package, depth)
        self.charge(sys.getsizeof(value, 64))
        if isinstance(value, _SHARED):
            return value
        if depth > _DEEPEST:
            raise NotCopied("too deep")
        if kind in (list, tuple, set, frozenset):
            return kind([self.copy(item, depth + 1) for item in value])
        if kind is dict:
            return {self.copy(key, depth + 1): self.copy(item, depth + 1) for key, item in value.items()}
        if isinstance(value, bytearray):
            return kind(value)
        return self._copy_object(value, kind, depth)

    def _copy_array(self, value: Any, package: str, depth: int) -> Any:
        # Not sys.getsizeof: it counts an array twice, and asks a frame to look at every object.
        self.charge(_array_bytes(value))
        twin = getattr(value, _ARRAYS[package])()
        dtype: Any = getattr(value, "dtype", None)
        if package == "numpy" and getattr(dtype, "hasobject", False):
            if dtype.fields is not None:
                raise NotCopied("array with fields of objects")
            flat = twin.reshape(-1)
            for index, item in enumerate(flat):
                flat[index] = self.copy(item, depth + 1)
        return twin

    def _copy_object(self, value: Any, kind: type, depth: int) -> Any:
        """Containers with named fields: field by field, without running their `__init__`."""
        if isinstance(value, tuple) and hasattr(kind, "_fields"):
            return kind._make(self.copy(item, depth + 1) for item in value)  # type: ignore[attr-defined]
        names = dict.fromkeys(getattr(value, "__dict__", ()))
        if dataclasses.is_dataclass(value):
            names |= dict.fromkeys(field.name for field in dataclasses.fields(value))
        elif attrs.has(kind):
            names |= dict.fromkeys(field.name for field in attrs.fields(kind))
        elif hasattr(kind, "model_fields") and hasattr(value, "model_copy"):
            # pydantic keeps what is no field in dictionaries of its own.
            names |= dict.fromkeys(("__pydantic_extra__", "__pydantic_private__"))
        elif isinstance(value, Iterator | AsyncIterator):
            raise OneShot("one-shot iterator")
        else:
            raise NotCopied(f"unknown type {kind.__qualname__}")
        twin = copy.copy(value)
        for name in names:
            if hasattr(value, name):
                object.__setattr__(twin, name, self.copy(getattr(value, name), depth + 1))
        return twin

    def charge(self, size: int) -> None:
        """Count so many bytes against the budget."""
        self.bytes += size
        self.nodes += 1
        if not self.limited:
            return
        if self.bytes > _BYTE_BUDGET:
            raise NotCopied("over 1 MiB")
        if self.nodes % _LOOK_AT_CLOCK_EVERY == 0 and perf_counter() > self.deadline:
            raise NotCopied("over 1 ms")


def _array_bytes(value: Any) -> int:
    """Bytes behind an array, tensor, series or frame."""
    size = getattr(value, "nbytes", None)
    if size is None and callable(usage := getattr(value, "memory_usage", None)):
        size = usage()
        size = size.sum() if hasattr(size, "sum") else size
    if size is None and callable(estimate := getattr(value, "estimated_size", None)):
        size = estimate()
    return int(size or 0)


class Kept:
    """Copies of a stream's items, taken as they pass: the consumer may change them, and a stream can be long.

    `items` is None as soon as there are too many, or one cannot be copied: half a stream compares with nothing.
    """

    __slots__ = ("_isolate", "_most", "_snapshot", "items")

    def __init__(self, most: int, isolate: Isolate) -> None:
        """Keep at most so many items, and at most 1 MiB."""
        self.items: list[Any] | None = []
        self._most = most
        self._isolate = isolate
        self._snapshot = Snapshot()

    @property
    def bytes(self) -> int:
        """About how many bytes they hold."""
        return self._snapshot.bytes

    def add(self, item: Any) -> None:
        """Take an item; never raises."""
        if self.items is None:
            return
        if len(self.items) == self._most:
            self.items = None
            return
        try:
            self._snapshot.restart()
            if self._isolate in ("none", "deepcopy"):
                self._snapshot.charge(sys.getsizeof(item, 64))
            self.items.append(copy_output(item, self._isolate, self._snapshot))
        except BaseException as error:
            if not is_fault(error):
                raise
            self.items = None


def copy_output(value: Any, isolate: Isolate, snapshot: Snapshot) -> Any:
    """A copy of what the control gave, for a comparison.

    Raises:
        NotCopied: It cannot be copied within the rules.
        Exception: Whatever its own methods raise.
    """
    if isinstance(value, Iterator | AsyncIterator):
        raise OneShot("one-shot iterator")
    if isolate == "deepcopy":
        return copy.deepcopy(value)
    return value if isolate == "none" else snapshot.copy(value)


def _weight(values: Iterable[Any]) -> int:
    """About how many bytes values hold; of what has very many parts, so many as were looked at."""
    size, waiting, looked_at = 0, deque(values), 0
    while waiting and looked_at < _MOST_WEIGHED:
        value = waiting.popleft()
        looked_at += 1
        size += _array_bytes(value) if _package(value) in _ARRAYS else sys.getsizeof(value, 64)
        if isinstance(value, list | tuple | set | frozenset):
            waiting.extend(value)
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif not isinstance(value, _SHARED):
            waiting.extend(getattr(value, "__dict__", {}).values())
    return size


def _package(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def candidate_copy(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], isolate: Isolate, shared: int
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Arguments for a candidate in whose place the control may have to run: copies of what it could change.

    What cannot be copied within the rules is shared: a candidate that changes it before it fails has changed the control's
    input, too. Never raises.
    """
    if isolate == "none":
        return args, kwargs
    for value in (*args[shared:], *kwargs.values()) if kwargs or shared else args:
        if value.__class__ not in _PLAIN:
            break
    else:
        return args, kwargs
    try:
        return take_snapshot(args, kwargs, isolate, shared)[:2]
    except BaseException as error:
        if not is_fault(error):
            raise
        return args, kwargs


def take_snapshot(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], isolate: Isolate, shared: int
) -> tuple[tuple[Any, ...], dict[str, Any], int]:
    """Copies of the arguments, and about how many bytes they hold.

    Args:
        args: Positional arguments.
        kwargs: Keyword arguments.
        isolate: How.
        shared: How many of the first positional arguments are shared (a method's `self`: the model itself).

    Raises:
        NotCopied: An argument cannot be copied within the rules.
        Exception: Whatever the caller's own copier raises.
    """
    if isolate == "none":
        return args, dict(kwargs), 0
    if isolate == "auto":
        snapshot = Snapshot()
        taken = tuple(snapshot.copy(value) for value in args[shared:])
        named = {name: snapshot.copy(value) for name, value in kwargs.items()}
        return args[:shared] + taken, named, snapshot.bytes
    copier = copy.deepcopy if isolate == "deepcopy" else isolate
    taken = tuple(copier(value) for value in args[shared:])
    named = {name: copier(value) for name, value in kwargs.items()}
    return args[:shared] + taken, named, _weight((*taken, *named.values()))
