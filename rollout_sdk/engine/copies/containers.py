"""Kinds of containers of the standard library, and of subclasses of theirs with attributes."""

from __future__ import annotations

import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from operator import is_
from types import MappingProxyType, SimpleNamespace
from typing import Any

from rollout_sdk.engine.copies.kinds import PLAIN, Into, Kind, SharedKind

__all__ = ["SYSTEM", "Entries", "Fields", "Frozen", "Items", "Members", "is_of_the_process", "own_attributes", "same_parts"]

_CONTAINER = 16
_BARE = frozenset({list, dict, set, tuple, frozenset, deque})
"""Types whose instances have no attributes."""


def same_parts(one: list[Any], other: list[Any]) -> bool:
    """Whether two lists hold the very same objects."""
    return len(one) == len(other) and all(map(is_, one, other))


def _changeable(parts: Any) -> Any:
    """The parts, or nothing where none of them can change."""
    return () if PLAIN.issuperset(map(type, parts)) else parts


def own_attributes(value: Any) -> dict[str, Any]:
    """Attributes of an instance of a subclass."""
    return {} if type(value) in _BARE else getattr(value, "__dict__", None) or {}


class _Held(Kind):
    """A container with attributes besides: the state is (parts, attributes)."""

    remembers = holds = in_order = True

    def weight(self, value: Any) -> tuple[int, int]:
        return _CONTAINER + len(value), 0

    def children(self, value: Any) -> Iterable[Any]:
        own = own_attributes(value)
        return (*self._parts(value), *own.values()) if own else _changeable(self._parts(value))

    def _parts(self, value: Any) -> Any:
        return value

    def state(self, value: Any) -> Any:
        return list(self._parts(value)), dict(own_attributes(value))

    def is_same(self, value: Any, state: Any) -> bool:
        own = own_attributes(value)
        return same_parts(self.state(value)[0], state[0]) and same_parts([*own, *own.values()], [*state[1], *state[1].values()])

    def mapped(self, state: Any, into: Into) -> Any:
        parts, own = state
        return into.each(parts), {name: into(each) for name, each in own.items()} if own else own

    def restore(self, value: Any, state: Any) -> None:
        parts, own = state
        self._fill(value, parts)
        if own or own_attributes(value):
            own_attributes(value).clear()
            value.__dict__.update(own)

    def _fill(self, value: Any, parts: list[Any]) -> None:
        raise NotImplementedError


class Items(_Held):
    """Lists and deques, by the methods of their base: a subclass may have rules of its own about what is added."""

    def __init__(self, base: type[list[Any] | deque[Any]]) -> None:
        self._base: Any = base

    def _fill(self, value: Any, parts: list[Any]) -> None:
        self._base.clear(value)
        self._base.extend(value, parts)

    def blank(self, value: Any) -> Any:
        twin = self._base.__new__(type(value))
        if self._base is deque:
            deque.__init__(twin, (), value.maxlen)
        return twin


class Members(_Held):
    """Sets."""

    def _fill(self, value: Any, parts: list[Any]) -> None:
        set.clear(value)
        set.update(value, parts)

    def is_same(self, value: Any, state: Any) -> bool:
        # A set that was filled anew may have another order.
        return {id(part) for part in value} == {id(part) for part in state[0]} and dict(own_attributes(value)) == state[1]

    def blank(self, value: Any) -> Any:
        return set.__new__(type(value))


class Entries(_Held):
    """Dictionaries of all sorts; the parts are the keys and then the values."""

    def __init__(self, base: type[dict[Any, Any]]) -> None:
        self._base: Any = base

    def weight(self, value: Any) -> tuple[int, int]:
        return _CONTAINER + 2 * len(value), 0

    def children(self, value: Any) -> Iterable[Any]:
        return (*_changeable(value), *_changeable(dict.values(value)), *own_attributes(value).values())

    def state(self, value: Any) -> Any:
        if type(value) is dict:
            return [*value, *value.values()], {}
        # In the order of the class, which may be another one than that of its base.
        return [*value, *(dict.__getitem__(value, key) for key in value)], dict(own_attributes(value))

    def _fill(self, value: Any, parts: list[Any]) -> None:
        half = len(parts) // 2
        self._base.clear(value)
        for key, part in zip(parts[:half], parts[half:], strict=True):
            self._base.__setitem__(value, key, part)

    def blank(self, value: Any) -> Any:
        twin = self._base.__new__(type(value))
        if isinstance(twin, defaultdict):
            twin.default_factory = value.default_factory
        return twin


class Frozen(Kind):
    """Tuples, frozen sets and read-only views of mappings: made anew where a part is, else themselves."""

    holds = in_order = True

    def weight(self, value: Any) -> tuple[int, int]:
        return _CONTAINER + len(value), 0

    def children(self, value: Any) -> Iterable[Any]:
        return (
            (*value.values(), *own_attributes(value).values())
            if isinstance(value, MappingProxyType)
            else (*value, *own_attributes(value).values())
        )

    def copy(self, value: Any, into: Into, begun: Callable[[Any], None]) -> Any:
        kind, own = type(value), own_attributes(value)
        if isinstance(value, MappingProxyType):
            entries = {into(key): into(part) for key, part in value.items()}
            # The mapping behind it may still change, and nobody can tell.
            twin: Any = MappingProxyType(entries)
        else:
            parts = into.each(list(value))
            if all(map(is_, parts, value)) and not own:
                return value
            twin = tuple.__new__(kind, parts) if isinstance(value, tuple) else frozenset.__new__(kind, parts)
            if own:
                twin.__dict__.update({name: into(part) for name, part in own.items()})
        begun(twin)
        return twin


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
