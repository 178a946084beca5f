"""Records the state of mutable arguments before a candidate runs on the caller's own objects, and restores it on failure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from rollout_sdk.engine.copies.copying import Copies
from rollout_sdk.engine.copies.kinds import Kind
from rollout_sdk.resilience.interruptions import is_fault

__all__ = ["Protection", "Undo"]


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
