"""Copies for shadows, which run when the caller is gone: of the arguments before the control runs, and of the control's answer.

A shadow must not see what the control changed, nor change what the control sees. What cannot be copied surely and cheaply is
not copied, and the shadow is skipped and counted: never a guess, never a slow request.
"""

from __future__ import annotations

import copy
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Literal, TypeAlias

from rollout_sdk.engine.copying import Snapshot
from rollout_sdk.engine.kinds import NotCopied, OneShot
from rollout_sdk.engine.known_types import kind_of_type

__all__ = ["Isolate", "Kept", "NotCopied", "OneShot", "Snapshot", "copy_output", "take_snapshot"]

Isolate: TypeAlias = Literal["auto", "none", "deepcopy"] | Callable[[Any], Any]
"""How the arguments of candidates are kept apart from the control's: "auto" by what is known of their types, within a budget;
"none" shares them (the candidate must not change them); "deepcopy" copies anything, however long that takes; a callable is
given each argument and returns its copy."""

_MOST_WEIGHED = 1_000


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
        self._snapshot = Snapshot(is_compared=True)

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
                self._snapshot.charge(item, 0, sys.getsizeof(item, 64))
            self.items.append(copy_output(item, self._isolate, self._snapshot))
        except (Exception, SystemExit):
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
        kind = kind_of_type(type(value))
        size += kind.weight(value)[1] or sys.getsizeof(value, 64)
        waiting.extend(kind.children(value))
    return size


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
    memo: dict[int, Any] = {}
    copier: Callable[[Any], Any] = partial(copy.deepcopy, memo=memo) if isolate == "deepcopy" else isolate
    taken = tuple(copier(value) for value in args[shared:])
    named = {name: copier(value) for name, value in kwargs.items()}
    return args[:shared] + taken, named, _weight((*taken, *named.values()))
