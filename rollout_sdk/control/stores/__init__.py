"""Stores: the shared state of rollouts, for threads, processes and machines."""

from rollout_sdk.control.stores.answering import AnsweringStore
from rollout_sdk.control.stores.memory import MemoryStore
from rollout_sdk.control.stores.opening import open_store
from rollout_sdk.control.stores.protocol import Gathered, StateStore, Stored
from rollout_sdk.control.stores.sqlite import SQLiteStore
from rollout_sdk.control.stores.unavailable import UnavailableStore

__all__ = [
    "AnsweringStore",
    "Gathered",
    "MemoryStore",
    "SQLiteStore",
    "StateStore",
    "Stored",
    "UnavailableStore",
    "open_store",
]
