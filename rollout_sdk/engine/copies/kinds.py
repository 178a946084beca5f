"""Treatment of values by type: whether they can change, what they hold, and how to read, restore and copy them.

A kind is looked up once per type. Only `type(value)` is read, never the value's `__class__`, so that lazy objects (Django's
`request.user`, werkzeug's proxies) stay unevaluated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

__all__ = ["BOUND", "FIXED", "LAZY", "ONCE", "PLAIN", "Into", "Kind", "NotCopied", "OneShot", "SharedKind"]

_CONTAINERS = frozenset({list, dict, set, deque, bytearray})

PLAIN = frozenset({str, int, float, bool, bytes, type(None)})
"""The most common immutable types, checked first."""


class Into(Protocol):
    """Maps a part of a value to its counterpart in the copy."""

    def __call__(self, part: Any) -> Any:
        """Return the counterpart of one part."""
        ...

    def each(self, parts: list[Any]) -> list[Any]:
        """Return the counterparts of several parts."""
        ...


class NotCopied(Exception):  # noqa: N818 - a reason to share or to skip, not a fault
    """A value was not copied; the message says why."""


class OneShot(NotCopied):
    """A value can be read only once."""


class Kind:
    """How values of one kind are treated. The base class is for values that cannot change, or are meant to be shared."""

    remembers = False
    """Whether `state` covers everything such a value holds, so that it can be restored."""

    holds = False
    """Whether such a value consists of parts of any type."""

    in_order = False
    """Whether such a value is defined by its content (a list, an array) rather than its identity (an item, a request)."""

    def weight(self, value: Any) -> tuple[int, int]:  # noqa: ARG002
        """Return the number of parts and bytes that copying the value itself takes."""
        return 1, 0

    def children(self, value: Any) -> Iterable[Any]:  # noqa: ARG002
        """Return the parts that may change on their own."""
        return ()

    def state(self, value: Any) -> Any:
        """Return the value's current content."""
        raise NotImplementedError

    def is_same(self, value: Any, state: Any) -> bool:
        """Whether the value still has this content, by identity."""
        raise NotImplementedError

    def restore(self, value: Any, state: Any) -> None:
        """Restore this content."""
        raise NotImplementedError

    def mapped(self, state: Any, into: Into) -> Any:  # noqa: ARG002
        """Return the state with its parts mapped."""
        return state

    def blank(self, value: Any) -> Any:
        """Return an empty value of the same type, to be filled."""
        raise NotImplementedError

    def copy(self, value: Any, into: Into, begun: Callable[[Any], None]) -> Any:
        """Return a copy with `into(part)` in place of each part; `begun` receives the copy before it is filled.

        Raises:
            NotCopied: This value cannot be copied.
        """
        twin = self.blank(value)
        # Registered before its parts are copied: they may refer to the value itself.
        begun(twin)
        self.restore(twin, self.mapped(self.state(value), into))
        return twin


class Bound(Kind):
    """Bound methods of containers (`results.append`), rebound to the container's copy."""

    holds = True

    def children(self, value: Any) -> Iterable[Any]:
        return (value.__self__,) if self.is_bound(value) else ()

    def copy(self, value: Any, into: Into, begun: Callable[[Any], None]) -> Any:
        owner = into(value.__self__) if self.is_bound(value) else None
        twin = value if owner is None or owner is value.__self__ else getattr(owner, value.__name__)
        begun(twin)
        return twin

    @staticmethod
    def is_bound(value: Any) -> bool:
        """Whether the method belongs to a mutable container, which a candidate could change through it."""
        return type(value.__self__) in _CONTAINERS


class SharedKind(Kind):
    """Values that are shared, because a copy would be a different thing: sessions, locks, unknown types."""

    def __init__(self, why: str, *, is_noted: bool = True) -> None:
        """Set the reason; `is_noted`: whether sharing is reported."""
        self.why = why
        self.is_noted = is_noted

    def copy(self, value: Any, into: Into, begun: Callable[[Any], None]) -> Any:  # noqa: ARG002
        """Refuse to copy.

        Raises:
            NotCopied: Always.
        """
        raise NotCopied(self.why)


FIXED = Kind()
BOUND = Bound()
ONCE = SharedKind("one-shot iterator")
LAZY = SharedKind("a lazy object", is_noted=False)
