"""Kinds of byte arrays, and of generators of random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rollout_sdk.engine.kinds import Kind

__all__ = ["Buffer", "Generator"]

_STATE_BYTES = 4_096


class Buffer(Kind):
    """Byte arrays and arrays of the standard library."""

    remembers = in_order = True

    def weight(self, value: Any) -> tuple[int, int]:
        return 1, len(value) * getattr(value, "itemsize", 1)

    def state(self, value: Any) -> Any:
        return value[:]

    def is_same(self, value: Any, state: Any) -> bool:
        return memoryview(value).tobytes() == memoryview(state).tobytes()

    def restore(self, value: Any, state: Any) -> None:
        value[:] = state

    def blank(self, value: Any) -> Any:
        return value[:0] if type(value) is not bytearray else bytearray()


class Generator(Kind):
    """Generators of random numbers: what a failed candidate has drawn, the control draws again.

    Args:
        get: Reads the state.
        put: Sets it.
        new: Makes another of the same sort.
    """

    remembers = True

    def __init__(self, get: Callable[[Any], Any], put: Callable[[Any, Any], None], new: Callable[[Any], Any]) -> None:
        self._get, self._put, self._new = get, put, new

    def weight(self, value: Any) -> tuple[int, int]:  # noqa: ARG002
        return 1, _STATE_BYTES

    def state(self, value: Any) -> Any:
        return self._get(value)

    def is_same(self, value: Any, state: Any) -> bool:
        return repr(self._get(value)) == repr(state)

    def restore(self, value: Any, state: Any) -> None:
        self._put(value, state)

    def blank(self, value: Any) -> Any:
        return self._new(value)
