"""Stores: the shared state of rollouts, for threads, processes and machines."""

from typing import TYPE_CHECKING, Any

from rollout_sdk.control.stores.guarded import GuardedStore, UnavailableStore
from rollout_sdk.control.stores.memory import MemoryStore
from rollout_sdk.control.stores.opening import open_store
from rollout_sdk.control.stores.validation import (
    checked_document,
    checked_name,
    checked_number,
    checked_text,
    checked_timeout,
    parsed,
    plain,
)
from rollout_sdk.plugins.store_protocol import Gathered, NotifyingStore, StateStore, Stored

if TYPE_CHECKING:
    from rollout_sdk.control.stores.sqlite import SQLiteStore

__all__ = [
    "Gathered",
    "GuardedStore",
    "MemoryStore",
    "NotifyingStore",
    "SQLiteStore",
    "StateStore",
    "Stored",
    "UnavailableStore",
    "checked_document",
    "checked_name",
    "checked_number",
    "checked_text",
    "checked_timeout",
    "open_store",
    "parsed",
    "plain",
]

# Not for type checkers, which would accept every name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import `SQLiteStore` when it is first read: only processes that use it need sqlite3."""
        if name != "SQLiteStore":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from rollout_sdk.control.stores.sqlite import SQLiteStore

        return SQLiteStore
