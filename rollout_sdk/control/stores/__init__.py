"""Stores: the shared state of rollouts, for threads, processes and machines."""

from rollout_sdk.control.stores.guarded import GuardedStore, UnavailableStore
from rollout_sdk.control.stores.memory import MemoryStore
from rollout_sdk.control.stores.opening import open_store
from rollout_sdk.control.stores.sqlite import SQLiteStore
from rollout_sdk.control.stores.validation import checked_document, checked_name, checked_number, checked_text, parsed, plain
from rollout_sdk.plugins.store_protocol import Gathered, NotifyingStore, StateStore, Stored

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
    "open_store",
    "parsed",
    "plain",
]
