"""Inspects a call's arguments before anything runs: what can be read only once, what can change, and what is too large.

Kind and size decide what is recorded or copied, never the clock, so the same call is always treated the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import FunctionType, MethodType
from typing import Any

from rollout_sdk.engine.copies.arrays import OwnCopy
from rollout_sdk.engine.copies.containers import Fields, is_of_the_process
from rollout_sdk.engine.copies.copiers import Registered
from rollout_sdk.engine.copies.kinds import FIXED, ONCE, PLAIN, Kind, OneShot, SharedKind
from rollout_sdk.engine.copies.one_shot import is_endless, is_read_already, is_receive
from rollout_sdk.engine.copies.types import kind_of_type
from rollout_sdk.resilience.interruptions import is_fault

__all__ = ["MOST_BYTES", "MOST_PARTS", "Survey", "changeable", "is_lasting"]

MOST_PARTS = 20_000
MOST_BYTES = 4 << 20
"""Limits for what a candidate could change; a container counts as 16 parts besides its content, a frame's column as 8."""

_FUNCTIONS = (FunctionType, MethodType)
_NESTED_OBJECT = 4
_CONTAINER = 16
_MOST_NOTES = 5


def changeable(args: tuple[Any, ...], kwargs: Mapping[str, Any], shared: int) -> list[Any]:
    """Return the arguments that need inspection, without the `shared` leading ones (a method's `self`)."""
    values: Iterable[Any] = (*args[shared:], *kwargs.values()) if kwargs or shared else args
    return [value for value in values if type(value) not in PLAIN]


def is_lasting(values: Iterable[Any]) -> bool:
    """Whether none of these arguments can be read only once: what a survey finds, sooner for flat containers and arrays."""
    return all(map(_is_flat, values)) or Survey(values).once is None


def _is_flat(value: Any) -> bool:
    """Whether it certainly holds nothing but numbers and texts."""
    kind = type(value)
    if kind is list or kind is tuple or kind is set:
        return PLAIN.issuperset(map(type, value))
    if kind is dict:
        return PLAIN.issuperset(map(type, value)) and PLAIN.issuperset(map(type, value.values()))
    known = kind_of_type(kind)
    return known.remembers and known.in_order and not known.children(value)


class Survey:
    """Findings about a call's arguments.

    Attributes:
        found: Everything that can change, with its kind; an argument that is too large contributes nothing.
        notes: Types left unprotected, and why.
        once: Type of an argument that can be read only once, or None. If set, nothing else was inspected.
        needs_copies: Whether some value can be copied but not restored.
    """

    __slots__ = ("_bytes", "_limits", "_parts", "_seen", "found", "needs_copies", "notes", "once")

    def __init__(self, values: Iterable[Any], *, is_limited: bool = True) -> None:
        """Inspect each argument; shared parts are inspected once. If `is_limited` is false, no size limit applies."""
        self._limits = (MOST_PARTS, MOST_BYTES) if is_limited else (float("inf"), float("inf"))
        self.once: str | None = None
        self.found: list[tuple[Kind, Any]] = []
        self.notes: dict[str, str] = {}
        self.needs_copies = False
        self._seen: set[int] = set()
        self._parts = self._bytes = 0
        for value in values:
            begin, spent = len(self.found), (self._parts, self._bytes)
            try:
                why = self._look(value)
            except OneShot as once:
                self.once = str(once)
                self.found = []
                return
            # An object that cannot be inspected.
            except BaseException as error:
                if not is_fault(error):
                    raise
                why = f"looking at it raised {type(error).__qualname__}"
            if why is not None:
                self._note(type(value), why)
                self._seen.difference_update(id(each) for _, each in self.found[begin:])
                del self.found[begin:]
                self._parts, self._bytes = spent

    def _note(self, kind: type, why: str) -> None:
        if len(self.notes) < _MOST_NOTES:
            self.notes.setdefault(kind.__qualname__, why)

    def _look(self, argument: Any) -> str | None:
        """Inspect one argument; return why it is left unprotected, or None."""
        # Each value with the number of application objects that enclose it: graphs of them can be unbounded.
        waiting, seen, found = [(argument, 0)], self._seen, self.found
        while waiting:
            value, around = waiting.pop()
            kind = kind_of_type(type(value))
            if kind is FIXED:
                if type(value) in _FUNCTIONS and is_receive(value):
                    raise OneShot("ASGI receive")
                continue
            if id(value) in seen:
                continue
            seen.add(id(value))
            # Fast path for the most common types, ten times as fast.
            if type(value) is dict or type(value) is list:
                if not self._look_into(value, around, waiting):
                    return "it is too large"
                found.append((kind, value))
                continue
            if isinstance(kind, SharedKind):
                self._leave(value, kind)
                continue
            if isinstance(kind, Fields) and not kind.is_declared:
                if kind.is_service(value):
                    self._note(type(value), "it holds locks, sockets or threads")
                    continue
                around += 1
            self.needs_copies = self.needs_copies or isinstance(kind, Registered | OwnCopy)
            parts, size = kind.weight(value)
            self._parts += parts if around < 2 else parts * _NESTED_OBJECT ** (around - 1)
            self._bytes += size
            if self._parts > self._limits[0] or self._bytes > self._limits[1]:
                return "it is too large"
            if kind.remembers:
                found.append((kind, value))
            children = kind.children(value)
            if isinstance(kind, Fields):
                # Advancing an endless counter does not consume input.
                children = [child for child in children if not is_endless(child)]
            waiting.extend((child, around) for child in children if type(child) not in PLAIN)
        return None

    def _look_into(self, value: dict[Any, Any] | list[Any], around: int, waiting: list[tuple[Any, int]]) -> bool:
        """Queue the parts of a list or dictionary for inspection; return False if it is too large."""
        self._parts += _CONTAINER + len(value) * (2 if isinstance(value, dict) else 1)
        if self._parts > self._limits[0]:
            return False
        if isinstance(value, dict):
            if not PLAIN.issuperset(map(type, value)):
                waiting.extend((part, around) for part in list(value) if type(part) not in PLAIN)
            parts = list(value.values())
        else:
            parts = value
        if not PLAIN.issuperset(map(type, parts)):
            waiting.extend((part, around) for part in parts if type(part) not in PLAIN)
        return True

    def _leave(self, value: Any, kind: SharedKind) -> None:
        """Report a value that is left unprotected.

        Raises:
            OneShot: It can be read only once, or wraps something that can (werkzeug's FileStorage).
        """
        if kind is ONCE:
            if not is_read_already(value):
                raise OneShot(type(value).__qualname__)
        elif kind.is_noted:
            parts = list((getattr(value, "__dict__", None) or {}).values())
            if not any(map(is_of_the_process, parts)):
                for part in parts:
                    if kind_of_type(type(part)) is ONCE and not is_endless(part):
                        self._leave(part, ONCE)
            self._note(type(value), kind.why)
