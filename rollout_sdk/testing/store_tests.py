"""The base of the store contract: makes and reopens stores, checks refusals, and runs threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import SkipTest

from rollout_sdk.control.stores import StateStore
from rollout_sdk.exceptions import StoreError

__all__ = ["KEY", "OTHER", "PATIENCE_S", "THREADS", "StoreTests", "at_once", "document_of", "refuses"]

T = TypeVar("T")

THREADS = 8
PATIENCE_S = 60.0
KEY = "shop.rank"
OTHER = "shop.search"


class StoreTests:
    """Tests that make stores; `StoreContract` is all of them.

    Attributes:
        rounds: Rounds in which threads compete for one document; more rounds find rarer races.
    """

    rounds = 25

    def make(self) -> StateStore:
        """Return a new, empty store, with a timeout that suffices for eight threads on a slow machine."""
        raise NotImplementedError

    def reopen(self, store: StateStore) -> StateStore | None:
        """Return another handle on the same state, as another process would open it; None if the state cannot be shared."""
        _ = store
        return None

    @contextmanager
    def made(self) -> Iterator[StateStore]:
        """Provide a store that is closed at the end."""
        store = self.make()
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def reopened(self, store: StateStore) -> Iterator[StateStore]:
        """Provide another handle on the same state, closed at the end; skip the test if there is none."""
        other = self.reopen(store)
        if other is None:
            raise SkipTest("reopen() returns None: the store belongs to one process")
        try:
            yield other
        finally:
            other.close()


def document_of(revision: int, epoch: int = 0, **more: Any) -> dict[str, Any]:
    """Return a document with a revision and an epoch."""
    return {"revision": revision, "epoch": epoch, **more}


def refuses(what: str, call: Callable[[], object]) -> None:
    """Fail unless the call raises StoreError."""
    try:
        call()
    except StoreError:
        return
    raise AssertionError(f"{what} does not raise StoreError")


def at_once(work: Callable[[int], T], barrier: threading.Barrier | None = None) -> list[T]:
    """Run work in eight threads and return the results; raise the first error."""

    def run(thread: int) -> T:
        try:
            return work(thread)
        except BaseException:
            if barrier is not None:
                barrier.abort()
            raise

    with ThreadPoolExecutor(THREADS) as pool:
        running = [pool.submit(run, thread) for thread in range(THREADS)]
    errors = [error for each in running if (error := each.exception()) is not None]
    # The others only report a broken barrier after the first error.
    for error in sorted(errors, key=lambda each: isinstance(each, threading.BrokenBarrierError)):
        raise error
    return [each.result() for each in running]
