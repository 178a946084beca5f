"""Objects of classes written in Python, by their attributes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from rollout_sdk.engine.containers import own_attributes, same_parts
from rollout_sdk.engine.kinds import Into, Kind, SharedKind

__all__ = ["SYSTEM", "Fields", "is_of_the_process"]

_OBJECT = 16

SYSTEM = frozenset(
    {
        *("_asyncio", "_multiprocessing", "_queue", "_socket", "_sqlite3", "_ssl", "_thread", "asyncio", "concurrent"),
        *("multiprocessing", "queue", "select", "selectors", "socket", "sqlite3", "ssl", "subprocess", "threading"),
    }
)
"""Packages whose objects are of the process: what holds one (a session, a pool, a client) is a service, not data."""

# Of each module, its values by id; looked through anew when it has more or fewer names.
_globals: dict[str, tuple[int, dict[int, str]]] = {}


def is_of_the_process(value: Any) -> bool:
    """Whether a value is a lock, a socket, a thread or the like."""
    return type(value).__module__.partition(".")[0] in SYSTEM


def _is_constant(value: Any) -> bool:
    """Whether an object is a global of the module of its class: code then asks whether it has this very one."""
    module = sys.modules.get(type(value).__module__)
    if module is None:
        return False
    names = vars(module)
    known = _globals.get(module.__name__)
    if known is None or known[0] != len(names):
        known = _globals[module.__name__] = len(names), {id(each): name for name, each in list(names.items())}
    name = known[1].get(id(value))
    return name is not None and names.get(name) is value


class Fields(Kind):
    """Objects of classes written in Python, by their attributes; no method of theirs runs."""

    remembers = holds = True

    def __init__(self, kind: type, *, is_declared: bool) -> None:
        """Find the slots. `is_declared`: the class says itself that it holds data (a data class, a model of pydantic)."""
        self.is_declared = is_declared
        # By their descriptors: an attribute of that name may do anything.
        self._slots = [
            each
            for base in kind.__mro__
            for name, each in vars(base).items()
            if name not in ("__dict__", "__weakref__") and type(each).__name__ == "member_descriptor"
        ]

    def weight(self, value: Any) -> tuple[int, int]:
        return _OBJECT + len(self._slots) + len(own_attributes(value)), 0

    def is_service(self, value: Any) -> bool:
        """Whether the object holds something of the process and does not say that it is data: then it is left alone."""
        return not self.is_declared and any(map(is_of_the_process, self.children(value)))

    def children(self, value: Any) -> Iterable[Any]:
        return (
            (*own_attributes(value).values(), *self._slotted(value).values()) if self._slots else own_attributes(value).values()
        )

    def _slotted(self, value: Any) -> dict[int, Any]:
        found = {}
        for number, slot in enumerate(self._slots):
            # A field that was never set stays so.
            with suppress(AttributeError):
                found[number] = slot.__get__(value)
        return found

    def state(self, value: Any) -> Any:
        return dict(own_attributes(value)), self._slotted(value)

    def is_same(self, value: Any, state: Any) -> bool:
        return all(
            same_parts([*now, *now.values()], [*then, *then.values()])
            for now, then in zip(self.state(value), state, strict=True)
        )

    def mapped(self, state: Any, into: Into) -> Any:
        return tuple({name: into(part) for name, part in each.items()} for each in state)

    def restore(self, value: Any, state: Any) -> None:
        named, slotted = state
        own = own_attributes(value)
        for name in own.keys() - named.keys():
            del own[name]
        if named:
            value.__dict__.update(named)
        for number, slot in enumerate(self._slots):
            if number in slotted:
                slot.__set__(value, slotted[number])
            else:
                with suppress(AttributeError):
                    slot.__delete__(value)

    def blank(self, value: Any) -> Any:
        new: Any = type(value).__new__
        return new(type(value))

    def copy(self, value: Any, into: Into, begun: Callable[[Any], None]) -> Any:
        if self.is_service(value):
            return SharedKind(f"unknown type {type(value).__qualname__}").copy(value, into, begun)
        # A thing without attributes says what it says by being itself, as a constant does: a sentinel.
        is_itself = not (any(self.state(value)) or type(value) is SimpleNamespace) or _is_constant(value)
        return value if is_itself else super().copy(value, into, begun)
