"""The actor that keeps the state of rollouts on a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias
from uuid import uuid4

from rollout_sdk import StoreError
from rollout_sdk.control.stores import MemoryStore, StateStore
from rollout_sdk.extending import store_at

__all__ = ["EMPTY", "StoreActor", "Version"]

Version: TypeAlias = tuple[str, int]
"""An incarnation of the actor, and its number of changes."""

EMPTY: Mapping[str, Any] = {"load": None, "publish": False, "claim": frozenset(), "history": [], "noted": None, "keys": []}
"""The answers of an empty store, by method."""


class StoreActor:
    """Keeps rollouts in its memory, or in the store at an address, and notifies processes that wait for a change.

    Ray runs its methods on one event loop. A restarted actor loses what it had in memory.
    """

    def __init__(self, keep: str) -> None:
        """Open the store at the address `keep`; "" is the actor's memory."""
        self._store: StateStore = store_at(keep) if keep else MemoryStore()
        self._is_quick = not keep
        self._incarnation, self._changes = uuid4().hex, 0
        self._changed = asyncio.Event()

    async def ask(self, method: str, *arguments: Any) -> Any:
        """Return the store's answer, or its `StoreError`, because Ray would wrap a raised one."""
        ask = partial(getattr(self._store, method), *arguments)
        try:
            # Memory answers at once; another store may take its time-out, while other processes call.
            answer = ask() if self._is_quick else await asyncio.to_thread(ask)
        except StoreError as error:
            return error
        if method == "swap" and answer:
            self._changes += 1
            self._changed.set()
            self._changed = asyncio.Event()
        return answer

    async def wait(self, seen: Version | None, timeout_s: float) -> Version:
        """Return the version as soon as it differs from `seen`, or after the time-out; at once if `seen` is None."""
        if seen == (self._incarnation, self._changes):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), timeout_s)
        return self._incarnation, self._changes
