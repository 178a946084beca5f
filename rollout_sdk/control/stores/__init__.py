"""Stores: the shared state of rollouts, for threads, processes and machines."""

from rollout_sdk.control.stores.memory import MemoryStore
from rollout_sdk.control.stores.protocol import Gathered, StateStore, Stored

__all__ = ["Gathered", "MemoryStore", "StateStore", "Stored"]
