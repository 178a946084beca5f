"""A store that answers, or fails in the one way that is expected: whatever another's store raises or gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from rollout_sdk.control.stores.protocol import Gathered, StateStore, Stored
from rollout_sdk.exceptions import StoreError

__all__ = ["AnsweringStore"]

T = TypeVar("T")


class AnsweringStore:
    """Every failure of the store within is a `StoreError`, and every answer is of the promised kind."""

    def __init__(self, store: StateStore) -> None:
        """Ask this store."""
        self._store = store

    def load(self, key: str) -> Stored | None:
        """See `StateStore`."""
        return self._asked((Stored, type(None)), "load", key)

    def swap(self, key: str, expected: int | None, document: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
        """See `StateStore`."""
        return self._asked(bool, "swap", key, expected, document, record)

    def publish(self, key: str, epoch: int, writer: str, parts: Mapping[str, str]) -> bool:
        """See `StateStore`."""
        return self._asked(bool, "publish", key, epoch, writer, parts)

    def gather(self, key: str, epoch: int, after: int = 0) -> Gathered:
        """See `StateStore`."""
        return self._asked(Gathered, "gather", key, epoch, after)

    def note(self, key: str, name: str, text: str) -> None:
        """See `StateStore`."""
        self._asked(object, "note", key, name, text)

    def noted(self, key: str, name: str) -> str | None:
        """See `StateStore`."""
        return self._asked((str, type(None)), "noted", key, name)

    def history(self, key: str) -> list[Mapping[str, Any]]:
        """See `StateStore`."""
        return self._asked(list, "history", key)

    def keys(self) -> list[str]:
        """See `StateStore`."""
        return self._asked(list, "keys")

    def close(self) -> None:
        """See `StateStore`."""
        self._asked(object, "close")

    def _asked(self, kind: Any, method: str, *arguments: Any) -> Any:
        try:
            ask: Callable[..., Any] = getattr(self._store, method)
            answer = ask(*arguments)
            is_answer = isinstance(answer, kind)
        except StoreError:
            raise
        except (Exception, SystemExit) as error:
            raise StoreError(
                f"The store failed in {method}: {type(error).__qualname__}. A store raises StoreError when it cannot answer. "
                "Mend the store, or hold it against rollout_sdk.testing.StoreContract."
            ) from error
        if not is_answer:
            raise StoreError(
                f"The store answered {method} with a {type(answer).__qualname__}. StateStore says what it must give. "
                "Mend the store, or hold it against rollout_sdk.testing.StoreContract."
            )
        return answer
