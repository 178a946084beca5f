"""The store of a service whose settings cannot be used: it never answers, so that every call gets its control."""

from __future__ import annotations

from typing import Any, NoReturn

from rollout_sdk.exceptions import StoreError

__all__ = ["UnavailableStore"]


class UnavailableStore:
    """Fails in every method of `StateStore`, and says why."""

    def __init__(self, why: str) -> None:
        """Never answer.

        Args:
            why: The message of every error.
        """
        self._why = why

    def _fail(self, *_: Any, **__: Any) -> NoReturn:
        raise StoreError(self._why)

    load = swap = publish = gather = claim = note = noted = history = keys = _fail

    def close(self) -> None:
        """Nothing is open."""
