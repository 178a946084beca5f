"""What is known of a value by its type: whether it can change, what it holds, and how that is read, put back and copied.

A kind is looked up once for each type. Only `type(value)` is asked, never the value's own `__class__`: what is lazy (Django's
`request.user`, werkzeug's proxies) stays unevaluated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

__all__ = ["BOUND", "FIXED", "LAZY", "ONCE", "PLAIN", "Into", "Kind", "NotCopied", "OneShot", "SharedKind"]

_CONTAINERS = frozenset({list, dict, set, deque, bytearray})

PLAIN = frozenset({str, int, float, bool, bytes, type(None)})
"""The commonest types that cannot change, looked up first."""


class Into(Protocol):
    """Gives what stands for a part in a copy."""

    def __call__(self, part: Any) -> Any:
        """What stands for one part."""
        ...

    def each(self, parts: list[Any]) -> list[Any]:
        """What stands for each of many."""
        ...


class NotCopied(Exception):  # noqa: N818 - a reason to share or to skip, not a fault
    """A value was not copied; the message says why."""


class OneShot(NotCopied):
    """A value can be read only once."""


class Kind:
    """A way to treat values of one sort. This one: they cannot change, or are shared by their nature."""

    remembers = False
    """Whether `state` says all that such a value holds, so that it can be put back."""

    holds = False
    """Whether such a value is made of parts that can be anything."""

    in_order = False
    """Whether such a value is what it holds (a list, an array), more than a thing of its own (an item, a request)."""

    def weight(self, value: Any) -> tuple[int, int]:  # noqa: ARG002
        """How many parts and bytes it takes to copy the value itself."""
        return 1, 0

    def children(self, value: Any) -> Iterable[Any]:  # noqa: ARG002
        """What it holds that may change by itself."""
        return ()

    def state(self, value: Any) -> Any:
        """What the value holds now."""
        raise NotImplementedError

    def is_same(self, value: Any, state: Any) -> bool:
        """Whether the value holds the very same now."""
        raise NotImplementedError

    def restore(self, value: Any, state: Any) -> None:
        """Make the value hold this again."""
        raise NotImplementedError

    def mapped(self, state: Any, into: Into) -> Any:  # noqa: ARG002
        """The state with other parts in the place of its own."""
        return state

    def blank(self, value: Any) -> Any:
        """A value of the same type to be filled."""
        raise NotImplementedError

    def copy(self, value: Any, into: Into, begun: Callable[[Any], None]) -> Any:
        """A copy with `into(part)` in the place of each part; `begun` takes the copy before it has any.

        Raises:
            NotCopied: This value cannot be copied.
        """
        twin = self.blank(value)
        # Before its parts: they may hold the value itself.
        begun(twin)
        self.restore(twin, self.mapped(self.state(value), into))
        return twin


class Bound(Kind):
    """Methods of containers (`results.append`): of the container's copy."""

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
        """Whether it is a method of something that a candidate could change with it."""
        return type(value.__self__) in _CONTAINERS


class SharedKind(Kind):
    """Values that are left as they are, because a copy would be another thing: sessions, locks, what is not known."""

    def __init__(self, why: str, *, is_noted: bool = True) -> None:
        """Say why; `is_noted`: whether people should read of it."""
        self.why = why
        self.is_noted = is_noted

    def copy(self, value: Any, into: Into, begun: Callable[[Any], None]) -> Any:  # noqa: ARG002
        """Refuse.

        Raises:
            NotCopied: Always.
        """
        raise NotCopied(self.why)


FIXED = Kind()
BOUND = Bound()
ONCE = SharedKind("one-shot iterator")
LAZY = SharedKind("a lazy object", is_noted=False)
