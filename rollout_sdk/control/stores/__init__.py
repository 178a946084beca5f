"""Stores: the shared state of rollouts, for threads, processes and machines."""

from rollout_sdk.control.stores.guarded import GuardedStore, UnavailableStore
from rollout_sdk.control.stores.memory import MemoryStore
from rollout_sdk.control.stores.opening import open_store
from rollout_sdk.control.stores.sqlite import SQLiteStore
from rollout_sdk.plugins.store_protocol import Gathered, StateStore, Stored

__all__ = [
    "Gathered",
    "GuardedStore",
    "MemoryStore",
    "SQLiteStore",
    "StateStore",
    "Stored",
    "UnavailableStore",
    "open_store",
]
