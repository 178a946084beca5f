"""What a candidate could change, remembered before it runs on the caller's own objects, and put back when it fails.

A candidate that answers alone works on what the caller gave, as the control would: identities, views, and what it changes in
place are the caller's. Only when it fails are all containers, arrays and objects made to hold again what they held before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rollout_sdk.engine.copies.kinds import Kind
from rollout_sdk.resilience.interruptions import is_fault

__all__ = ["Undo"]


class Undo:
    """What values held at one moment."""

    __slots__ = ("_before",)

    def __init__(self, found: Iterable[tuple[Kind, Any]]) -> None:
        """Remember it.

        Raises:
            Exception: Whatever a value raises that is read.
        """
        self._before = [(kind, value, kind.state(value)) for kind, value in found]

    def started(self) -> bool:
        """Let go: the consumer has an item, and there is no way back any more. Whether anything is left to do."""
        self._before = []
        return False

    def item(self, value: Any) -> Any:
        """What the consumer of a stream gets."""
        return value

    def answered(self, value: Any) -> Any:
        """What the caller gets of an answer that stands."""
        self._before = []
        return value

    def failed(self) -> list[BaseException]:
        """Put everything back; gives what was raised where that did not work."""
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
