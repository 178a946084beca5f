"""A store that answers in time, or fails in the one way that is expected: whatever another's raises, gives or waits for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any, NoReturn

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.concurrency.threads import native_sleep
from rollout_sdk.control.stores.asking import AskingThreads
from rollout_sdk.control.stores.memory import MemoryStore
from rollout_sdk.exceptions import StoreError
from rollout_sdk.plugins.store_protocol import Gathered, StateStore, Stored
from rollout_sdk.resilience.interruptions import is_fault

__all__ = ["GuardedStore", "UnavailableStore"]


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


_PATIENCE_S = 5.0
_GRACE_S = 1.0


class GuardedStore:
    """Every failure of the store within is a `StoreError`, and every answer is of the promised kind.

    The store is asked in a thread of its own: one that does not answer within 5 s (one that has a longer `timeout_s`: a second
    after that) has failed as well, and until it answers, those who ask do not wait again.
    """

    def __init__(self, store: StateStore, address: str = "") -> None:
        """Ask this store; `address` is what it is called in errors, its class where there is none."""
        self._store = store
        self._name = f"The store {_without_login(address)!r}" if address else f"The store ({type(store).__qualname__})"
        timeout_s = getattr(store, "timeout_s", None)
        own_s = timeout_s + _GRACE_S if isinstance(timeout_s, int | float) else 0.0
        self._patience_s = max(_PATIENCE_S, own_s)
        self._until = float("inf")
        # These wait for nothing that is not ours.
        self._threads = None if type(store) in (MemoryStore, UnavailableStore) else AskingThreads()
        # A thread of its own: what is asked meanwhile must not wait for a change.
        self._waiting = AskingThreads() if callable(getattr(store, "wait_for_change", None)) else None
        self.cannot_wait: StoreError | None = None
        """Why the last wait for a change has failed."""

    def within(self, seconds: float) -> GuardedStore:
        """The same store, for those who can wait only so many seconds from now, for all that they ask."""
        if self._threads is None:
            return self
        hurried = copy(self)
        hurried._until = monotonic() + seconds  # noqa: SLF001 - its own class
        return hurried

    def rest(self) -> None:
        """Keep no thread until the next use."""
        for threads in (self._threads, self._waiting):
            if threads is not None:
                threads.end()

    def wait_for_change(self, timeout_s: float) -> None:
        """Wait until a document may have changed, or for so many seconds: where the store cannot report it, and where it fails.

        Never raises: `cannot_wait` holds the reason of a failure.
        """
        began, has_changed, self.cannot_wait = monotonic(), False, None
        if self._waiting is not None:
            try:
                has_changed = self._asked(bool, "wait_for_change", timeout_s, threads=self._waiting)
            except StoreError as error:
                self.cannot_wait = error
        if not has_changed:
            native_sleep(max(0.0, timeout_s - (monotonic() - began)))

    def load(self, key: str) -> Stored | None:
        """See `StateStore`."""
        found: Stored | None = self._asked((Stored, type(None)), "load", key)
        return found

    def swap(self, key: str, expected: int | None, document: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
        """See `StateStore`."""
        done: bool = self._asked(bool, "swap", key, expected, document, record)
        return done

    def publish(self, key: str, epoch: int, writer: str, parts: Mapping[str, str]) -> bool:
        """See `StateStore`."""
        done: bool = self._asked(bool, "publish", key, epoch, writer, parts)
        return done

    def gather(self, key: str, epoch: int, after: int = 0) -> Gathered:
        """See `StateStore`."""
        found: Gathered = self._asked(Gathered, "gather", key, epoch, after)
        return found

    def claim(self, key: str, epoch: int, claimant: str, names: Sequence[str]) -> frozenset[str]:
        """See `StateStore`."""
        own: frozenset[str] = self._asked(frozenset, "claim", key, epoch, claimant, names)
        return own

    def note(self, key: str, name: str, text: str) -> None:
        """See `StateStore`."""
        self._asked(object, "note", key, name, text)

    def noted(self, key: str, name: str) -> str | None:
        """See `StateStore`."""
        found: str | None = self._asked((str, type(None)), "noted", key, name)
        return found

    def history(self, key: str) -> list[Mapping[str, Any]]:
        """See `StateStore`."""
        found: list[Mapping[str, Any]] = self._asked(list, "history", key)
        return found

    def keys(self) -> list[str]:
        """See `StateStore`."""
        found: list[str] = self._asked(list, "keys")
        return found

    def close(self) -> None:
        """See `StateStore`."""
        self._asked(object, "close")

    def _asked(self, kind: Any, method: str, *arguments: Any, threads: AskingThreads | None = None) -> Any:
        threads = self._threads if threads is None else threads
        try:
            ask: Callable[..., Any] = getattr(self._store, method)
            if threads is None:
                answer = ask(*arguments)
            else:
                patience_s = min(self._patience_s, max(0.0, self._until - monotonic()))
                answer = threads.ask(partial(ask, *arguments), f"{self._name} has not answered {method}", patience_s)
            is_answer = isinstance(answer, kind)
        except StoreError:
            raise
        except BaseException as error:
            if not is_fault(error):
                raise
            raise StoreError(
                f"{self._name} failed in {method}: {type(error).__qualname__}. A store raises StoreError when it cannot. "
                "Fix the store, or hold it against rollout_sdk.testing.StoreContract."
            ) from error
        if not is_answer:
            raise StoreError(
                f"{self._name} answered {method} with a {type(answer).__qualname__}. StateStore says what it must give. "
                "Fix the store, or hold it against rollout_sdk.testing.StoreContract."
            )
        return answer


def _without_login(address: str) -> str:
    """An address without the login and the options that it may have."""
    scheme, separator, rest = address.partition("://")
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"
