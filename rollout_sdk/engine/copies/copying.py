"""What shields the control's arguments from a candidate: copies, or the recorded state of the originals.

Copies share one memo: shared parts stay shared, and copies can be mapped back to their originals. They are used where two
variants run on the same input: shadows, blended rankers, and candidates that may outlive their call. A candidate that answers
alone works on the originals, whose state is recorded and restored if it fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from rollout_sdk.engine.copies.containers import Fields
from rollout_sdk.engine.copies.copiers import Registered
from rollout_sdk.engine.copies.kinds import FIXED, ONCE, PLAIN, Kind, NotCopied, OneShot, SharedKind
from rollout_sdk.engine.copies.one_shot import is_read_already
from rollout_sdk.engine.copies.survey import MOST_BYTES, MOST_PARTS
from rollout_sdk.engine.copies.types import kind_of_type
from rollout_sdk.resilience.interruptions import is_fault

__all__ = ["Copies", "Copying", "Protection", "Undo"]

_DEEPEST = 100

Twin: TypeAlias = tuple[Kind, Any, Any, Any]
"""Kind, original, copy, and the copy's state when it was created."""


class _Into:
    """Copies the parts of a value."""

    __slots__ = ("_copying", "_depth")

    def __init__(self, copying: Copying, depth: int) -> None:
        self._copying = copying
        self._depth = depth

    def __call__(self, part: Any) -> Any:
        return self._copying.copy(part, self._depth)

    def each(self, parts: list[Any]) -> list[Any]:
        if PLAIN.issuperset(map(type, parts)):
            self._copying.charge_plain(parts)
            return parts
        return [self._copying.copy(part, self._depth) for part in parts]


class Copying:
    """A copying operation: the memo of copied objects, and the remaining budget."""

    def __init__(self, *, most_bytes: float, most_parts: float) -> None:
        self.bytes = 0
        self.parts = 0
        self._most_bytes, self._most_parts = most_bytes, most_parts
        self._memo: dict[int, Any] = {}
        # Keeps the originals alive, so that their ids are not reused.
        self._kept: list[Any] = []

    def copy(self, value: Any, depth: int = 0) -> Any:
        """Return a copy that shares nothing mutable.

        Raises:
            NotCopied: The value is of an unknown kind, too deep, or over the budget.
        """
        kind = FIXED if type(value) in PLAIN else kind_of_type(type(value))
        if kind is FIXED:
            self.charge_plain((value,))
            return value
        known = self._memo.get(id(value), self)
        if known is not self:
            return known
        if depth > _DEEPEST:
            raise NotCopied("too deep")
        if isinstance(kind, SharedKind) or (isinstance(kind, Fields) and kind.is_service(value)):
            return self.refused(value, kind)
        self.charge(value, *kind.weight(value))
        twin = kind.copy(value, _Into(self, depth + 1), lambda begun: self._begun(value, begun))
        self.made(kind, value, twin)
        return twin

    def refused(self, value: Any, kind: Kind) -> Any:
        """Return the stand-in for a value that is not copied."""
        raise NotImplementedError

    def made(self, kind: Kind, value: Any, twin: Any) -> None:
        """Register a finished copy."""

    def charge_plain(self, values: Sequence[Any]) -> None:
        """Charge values that are kept without being copied."""

    def _begun(self, value: Any, twin: Any) -> None:
        self._memo[id(value)] = twin
        self._kept.append(value)

    def charge(self, value: Any, parts: int, size: int) -> None:  # noqa: ARG002
        """Charge the budget.

        Raises:
            NotCopied: The budget is exhausted.
        """
        self.bytes += size
        self.parts += parts
        if self.bytes > self._most_bytes:
            raise NotCopied(f"over {self._most_bytes / (1 << 20):.3g} MiB")
        if self.parts > self._most_parts:
            raise NotCopied(f"over {self._most_parts:,} parts")


class Copies(Copying):
    """Copies for a run beside the control, argument by argument, and the mapping back to the caller's own objects.

    Attributes:
        notes: Types that are shared, and why.
    """

    def __init__(self) -> None:
        super().__init__(most_bytes=MOST_BYTES, most_parts=MOST_PARTS)
        self.notes: dict[str, str] = {}
        self._twins: dict[int, Twin] = {}
        self._is_carried = False

    def arguments(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], shared: int, copy: Callable[[Any], Any] | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Copy the arguments where possible, by `copy` or by their kinds.

        Raises:
            OneShot: An argument can be read only once.
        """
        taken = tuple(self._argument(value, copy) for value in args[shared:])
        return args[:shared] + taken, {name: self._argument(value, copy) for name, value in kwargs.items()}

    def _argument(self, value: Any, copy: Callable[[Any], Any] | None) -> Any:
        if type(value) in PLAIN:
            return value
        spent = self.bytes, self.parts
        try:
            if copy is None:
                return self.copy(value)
            twin = copy(value)
            if twin is not value:
                self._twins[id(twin)] = Registered(copy), value, twin, None
                self._kept.append(value)
        except OneShot:
            raise
        # The application's copier failed, or the object cannot be inspected.
        except BaseException as error:
            if not is_fault(error):
                raise
            why = "it is too large" if type(error) is NotCopied else f"copying it raised {type(error).__qualname__}"
            self.notes.setdefault(type(value).__qualname__, why)
            self.bytes, self.parts = spent
            return value
        return twin

    def refused(self, value: Any, kind: Kind) -> Any:
        """Return the value itself.

        Raises:
            OneShot: It can be read only once.
        """
        if kind is ONCE and not is_read_already(value):
            raise OneShot(type(value).__qualname__)
        if isinstance(kind, SharedKind) and not kind.is_noted:
            return value
        self.notes.setdefault(type(value).__qualname__, "it cannot be copied")
        return value

    def made(self, kind: Kind, value: Any, twin: Any) -> None:
        """Register the copy's original and state."""
        if twin is not value:
            self._twins[id(twin)] = kind, value, twin, kind.state(twin) if kind.remembers else None

    def adopt(self, value: Any, twin: Any) -> None:
        """Register a copy made elsewhere."""
        self._kept.append(value)
        self.made(kind_of_type(type(value)), value, twin)

    def started(self) -> bool:
        """A stream's consumer has received the first item; return True, because each item must still be mapped back."""
        return True

    def item(self, value: Any) -> Any:
        """Return an item of a stream with the caller's own objects in it."""
        # Fast path: most items are strings, which refer to nothing in the input.
        return value if type(value) in PLAIN and self._is_carried else self.answered(value)

    def answered(self, value: Any) -> Any:
        """Apply the copies' changes to the caller's objects, and return the served answer with those objects in it."""
        self._is_carried = True
        back = _Back(self)
        for kind, original, twin, state in list(self._twins.values()):
            if kind.remembers and type(original) is type(twin) and not kind.is_same(twin, state):
                now = kind.state(twin)
                kind.restore(original, kind.mapped(now, back))
                self._twins[id(twin)] = kind, original, twin, now
        return self.back(value)

    def failed(self) -> list[BaseException]:
        """Return no faults: a failed run leaves nothing to undo."""
        return []

    def back(self, value: Any) -> Any:
        """Replace copies in a value by the caller's own objects.

        Containers that hold copies are rebuilt; others are returned as they are. Order is part of a list or an array: a sorted
        copy does not map back to the caller's own.
        """
        return _Back(self)(value) if self._twins else value

    def original(self, value: Any) -> Any:
        """Return the caller's object that a value is a copy of, or the value itself."""
        found = self._twins.get(id(value))
        if found is None:
            return value
        kind, original, twin, state = found
        changed = kind.in_order and kind.remembers and not self._is_carried and not kind.is_same(twin, state)
        return value if changed else original


class _Back:
    """Maps one value back to the caller's objects."""

    def __init__(self, copies: Copies) -> None:
        self._copies = copies
        self._known: dict[int, tuple[Any, Any]] = {}
        self._parts = 0

    def __call__(self, part: Any) -> Any:
        if type(part) in PLAIN:
            return part
        original = self._copies.original(part)
        if original is not part:
            return original
        kind = kind_of_type(type(part))
        if not kind.holds or (isinstance(kind, Fields) and kind.is_service(part)):
            return part
        known = self._known.get(id(part))
        if known is not None:
            return known[1]
        self._parts += kind.weight(part)[0]
        if self._parts > MOST_PARTS:
            # Stop here: large answers are not searched to the end.
            return part
        self._known[id(part)] = part, part
        if any(self(child) is not child for child in kind.children(part)):
            return kind.copy(part, self, lambda begun: self._known.__setitem__(id(part), (part, begun)))
        return part

    def each(self, parts: list[Any]) -> list[Any]:
        return [self(part) for part in parts]


class Undo:
    """The recorded state of a set of values."""

    __slots__ = ("_before",)

    def __init__(self, found: Iterable[tuple[Kind, Any]]) -> None:
        """Record the state.

        Raises:
            Exception: Any exception raised by reading a value.
        """
        self._before = [(kind, value, kind.state(value)) for kind, value in found]

    def started(self) -> bool:
        """Forget the state, since the consumer has an item; return False, because items need no mapping."""
        self._before = []
        return False

    def item(self, value: Any) -> Any:
        """Return a stream's item unchanged."""
        return value

    def answered(self, value: Any) -> Any:
        """Forget the state, and return the served answer unchanged."""
        self._before = []
        return value

    def failed(self) -> list[BaseException]:
        """Restore everything; return the exceptions of values that could not be restored."""
        faults: list[BaseException] = []
        for kind, value, state in self._before:
            try:
                if not kind.is_same(value, state):
                    kind.restore(value, state)
            except BaseException as error:
                if not is_fault(error):
                    raise
                faults.append(error)
        self._before = []
        return faults


Protection: TypeAlias = Undo | Copies
"""Shields the control from a candidate's changes to its arguments."""
