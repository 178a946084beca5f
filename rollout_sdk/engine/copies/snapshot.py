"""Copies for shadows, which outlive the call: of the arguments before the control runs, and of the control's answer.

A shadow must not see the control's changes, and the control must not see the shadow's. Anything that cannot be copied safely
and cheaply is not copied; the shadow is skipped and counted, and the request is never slowed down.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from sys import getsizeof
from typing import Any, Literal, TypeAlias

from attrs import frozen

from rollout_sdk.concurrency.clocks import perf_counter
from rollout_sdk.engine.copies.containers import Fields
from rollout_sdk.engine.copies.copying import Copying
from rollout_sdk.engine.copies.kinds import LAZY, ONCE, PLAIN, Kind, NotCopied, OneShot, SharedKind
from rollout_sdk.engine.copies.one_shot import is_read_already
from rollout_sdk.engine.copies.survey import MOST_PARTS
from rollout_sdk.engine.copies.types import kind_of_type
from rollout_sdk.resilience.interruptions import is_fault

__all__ = [
    "CopyLimits",
    "Isolate",
    "NotCopied",
    "OneShot",
    "Snapshot",
    "StreamCopy",
    "Uncopied",
    "copy_output",
    "sized",
    "take_snapshot",
]

Isolate: TypeAlias = Literal["auto", "none", "deepcopy"] | Callable[[Any], Any]
"""How candidates' arguments are isolated from the control's: "auto" copies by type, within a budget; "none" shares them (the
candidate must not change them); "deepcopy" copies anything, however long it takes; a callable receives each argument and
returns its copy."""

_MOST_WEIGHED = 1_000
_LOOK_AT_CLOCK_EVERY = 256
_BYTES_A_PART = 1_024
_BY_IDENTITY: Any = object.__eq__


@frozen(kw_only=True)
class CopyLimits:
    """What the copies for one shadow may cost its caller: of the arguments, and as much again of the control's answer.

    Attributes:
        copy_bytes: Bytes of a copy.
        copy_s: Seconds that making it may take.
    """

    copy_bytes: int = 1 << 20
    copy_s: float = 1e-3


_USUAL = CopyLimits()


class Uncopied(Exception):  # noqa: N818 - a reason to skip a shadow, not a fault
    """An argument of a shadow was not copied.

    Attributes:
        error: Why.
        where: Which argument it is, by position or by name.
    """

    def __init__(self, error: BaseException, where: int | str) -> None:
        """See the attributes."""
        self.error = error
        self.where = where


class Snapshot(Copying):
    """Copies that share nothing with the caller, within a budget of memory and time."""

    def __init__(self, limits: CopyLimits = _USUAL, *, is_compared: bool = False) -> None:
        """Start the clock. `is_compared`: the copy is for a comparison, so values that equal only themselves are refused."""
        super().__init__(most_bytes=limits.copy_bytes, most_parts=MOST_PARTS)
        self._most_s = limits.copy_s
        self._is_compared = is_compared
        self.restart()

    def restart(self) -> None:
        """Restart the clock for another value, within the same budget of bytes."""
        self._deadline = perf_counter() + self._most_s
        self._looked_at = self.parts + self.bytes / _BYTES_A_PART
        self._memo, self._kept = {}, []

    def copy(self, value: Any, depth: int = 0) -> Any:
        """Return a copy that shares nothing mutable.

        Raises:
            NotCopied: The value is of an unknown kind, too deep, or over the budget.
        """
        if self._is_compared and getattr(type(value), "__eq__", None) is _BY_IDENTITY:
            kind = kind_of_type(type(value))
            if type(value) is object or isinstance(kind, Fields):
                raise NotCopied(f"{type(value).__qualname__} equals only itself")
        return super().copy(value, depth)

    def refused(self, value: Any, kind: Kind) -> Any:
        """Return a lazy object as it is, since nothing is known about it before its first use.

        Raises:
            OneShot: The value can be read only once.
            NotCopied: It is of any other kind that is not copied.
        """
        if kind is LAZY:
            return value
        if kind is ONCE and not is_read_already(value):
            raise OneShot("one-shot iterator")
        raise NotCopied(kind.why if isinstance(kind, SharedKind) else f"unknown type {type(value).__qualname__}")

    def charge_plain(self, values: Sequence[Any]) -> None:
        """Charge the values that the copies keep alive."""
        super().charge(values, 0, sum(map(getsizeof, values)))

    def charge(self, value: Any, parts: int, size: int) -> None:
        """Charge the budget.

        Raises:
            NotCopied: The budget is exhausted.
        """
        # An array reports the size of its data; `getsizeof` may not include it.
        super().charge(value, parts, size or getsizeof(value, 64))

    def made(self, kind: Kind, value: Any, twin: Any) -> None:  # noqa: ARG002
        """Check the clock from time to time, by the work done since the last check.

        Raises:
            NotCopied: The time is up.
        """
        done = self.parts + self.bytes / _BYTES_A_PART
        if done - self._looked_at > _LOOK_AT_CLOCK_EVERY:
            self._looked_at = done
            if perf_counter() > self._deadline:
                raise NotCopied(f"over {self._most_s * 1000:.3g} ms")


class StreamCopy:
    """Copies of a stream's items, taken as they pass, because the consumer may change them.

    `items` becomes None once there are too many or one cannot be copied: a partial stream is not comparable.
    """

    __slots__ = ("_isolate", "_limits", "_most", "_snapshot", "items")

    def __init__(self, most: int, isolate: Isolate, limits: CopyLimits = _USUAL) -> None:
        """Keep up to `most` items, within the limits of a copy."""
        self.items: list[Any] | None = []
        self._most = most
        self._isolate = isolate
        self._limits = limits
        # For most controls, only the answer itself shows that it is not a stream.
        self._snapshot: Snapshot | None = None

    @property
    def bytes(self) -> int:
        """Approximate size of the items in bytes."""
        return 0 if self._snapshot is None else self._snapshot.bytes

    def add(self, item: Any) -> None:
        """Add an item; never raises."""
        if self.items is None:
            return
        if len(self.items) == self._most:
            self.items = None
            return
        try:
            if self._snapshot is None:
                self._snapshot = Snapshot(self._limits, is_compared=True)
            self._snapshot.restart()
            if self._isolate in ("none", "deepcopy"):
                self._snapshot.charge(item, 0, getsizeof(item, 64))
            self.items.append(copy_output(item, self._isolate, self._snapshot))
        except BaseException as error:
            if not is_fault(error):
                raise
            self.items = None


def sized(values: Sequence[Any], limits: CopyLimits = _USUAL) -> int | None:
    """Return the bytes that a `Snapshot` counts for values that need no copy; None if one does, or they are over its budget."""
    size = 0
    for value in values:
        if type(value) not in PLAIN:
            return None
        # As `getsizeof`, which adds nothing for these types, in a fifth of its time.
        size += value.__sizeof__()
    return size if size <= limits.copy_bytes else None


def copy_output(value: Any, isolate: Isolate, snapshot: Snapshot) -> Any:
    """Copy the control's output for a comparison.

    Raises:
        NotCopied: It cannot be copied within the budget or the rules.
        Exception: Any exception of the value's own methods.
    """
    if isinstance(value, Iterator | AsyncIterator):
        raise OneShot("one-shot iterator")
    if isolate == "deepcopy":
        return copy.deepcopy(value)
    return value if isolate == "none" else snapshot.copy(value)


def _weight(values: Iterable[Any]) -> int:
    """Estimate the size of values in bytes, from a limited number of parts."""
    size, waiting, looked_at = 0, deque(values), 0
    while waiting and looked_at < _MOST_WEIGHED:
        value = waiting.popleft()
        looked_at += 1
        kind = kind_of_type(type(value))
        size += kind.weight(value)[1] or getsizeof(value, 64)
        waiting.extend(kind.children(value))
    return size


def take_snapshot(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], isolate: Isolate, shared: int, limits: CopyLimits = _USUAL
) -> tuple[tuple[Any, ...], dict[str, Any], int]:
    """Return copies of the arguments, and their approximate size in bytes.

    Args:
        args: Positional arguments.
        kwargs: Keyword arguments.
        isolate: How to copy them.
        shared: Number of leading positional arguments to share (a method's `self`: the model itself).
        limits: What copying them by type may cost.

    Raises:
        Uncopied: An argument cannot be copied within the rules, or its copier, or the caller's own, has failed.
    """
    if isolate == "none":
        return args, dict(kwargs), 0
    if isolate == "auto" and not shared and (plain := sized((*args, *kwargs.values()) if kwargs else args, limits)) is not None:
        return args, dict(kwargs), plain
    snapshot = Snapshot(limits)
    memo: dict[int, Any] = {}
    copier: Callable[[Any], Any] = isolate if callable(isolate) else partial(copy.deepcopy, memo=memo)
    if isolate == "auto":
        copier = snapshot.copy
    copies: list[Any] = list(args[:shared])
    by_name: dict[str, Any] = {}
    try:
        for value in args[shared:]:
            copies.append(copier(value))  # noqa: PERF401 - how many there are tells which one failed
        for name, value in kwargs.items():
            by_name[name] = copier(value)
    except BaseException as error:
        if not is_fault(error):
            raise
        raise Uncopied(error, len(copies) if len(copies) < len(args) else list(kwargs)[len(by_name)]) from error
    size = snapshot.bytes if isolate == "auto" else _weight((*copies[shared:], *by_name.values()))
    return tuple(copies), by_name, size
