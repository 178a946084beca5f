"""What tests of a store work with: how it is made, opened again and refused, and threads that use it at once."""

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
        rounds: How many rounds threads fight over one document; more find rarer races.
    """

    rounds = 25

    def make(self) -> StateStore:
        """A new store with nothing in it. Let it wait long enough for eight threads on a slow machine."""
        raise NotImplementedError

    def reopen(self, store: StateStore) -> StateStore | None:
        """Another handle on the same state, as another process would open it; None when nobody else can."""
        _ = store
        return None

    @contextmanager
    def made(self) -> Iterator[StateStore]:
        """A store that is closed at the end."""
        store = self.make()
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def reopened(self, store: StateStore) -> Iterator[StateStore]:
        """Another handle on the same state, closed at the end; the test is skipped where there is none."""
        other = self.reopen(store)
        if other is None:
            raise SkipTest("reopen() gives None: the store is of one process")
        try:
            yield other
        finally:
            other.close()


def document_of(revision: int, epoch: int = 0, **more: Any) -> dict[str, Any]:
    """A document with a revision and an epoch."""
    return {"revision": revision, "epoch": epoch, **more}


def refuses(what: str, call: Callable[[], object]) -> None:
    """Fail unless the call is a StoreError."""
    try:
        call()
    except StoreError:
        return
    raise AssertionError(f"{what} is no StoreError")


def at_once(work: Callable[[int], T], barrier: threading.Barrier | None = None) -> list[T]:
    """What eight threads came to; the first error of one of them is raised here."""

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
    # The others only say that the first has left them waiting.
    for error in sorted(errors, key=lambda each: isinstance(each, threading.BrokenBarrierError)):
        raise error
    return [each.result() for each in running]
