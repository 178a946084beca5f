"""A store that answers in time, or raises `StoreError`: whatever another store raises, returns or waits for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any, NoReturn

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.concurrency.threads import Flag, native_sleep
from rollout_sdk.control.stores.memory import MemoryStore
from rollout_sdk.exceptions import StoreError
from rollout_sdk.plugins.store_protocol import Gathered, StateStore, Stored
from rollout_sdk.resilience.interruptions import is_fault
from rollout_sdk.resilience.queue_thread import QueueThread

__all__ = ["GuardedStore", "UnavailableStore"]

INTERNAL = "\x1f"
"""Begins the keys of documents that are not rollouts, whose names are printable. `GuardedStore.keys` leaves these out."""

_PATIENCE_S = 5.0
_GRACE_S = 1.0
_GIVE_UP_AFTER_S = 30.0
_MOST_GIVEN_UP = 3


class UnavailableStore:
    """A store whose methods all raise `StoreError` with the same message."""

    def __init__(self, why: str) -> None:
        """Create the store.

        Args:
            why: The message of every error.
        """
        self._why = why

    def _fail(self, *_: Any, **__: Any) -> NoReturn:
        raise StoreError(self._why)

    load = swap = publish = gather = claim = note = noted = history = keys = _fail

    def close(self) -> None:
        """Do nothing: nothing is open."""


class GuardedStore:
    """Wraps a store so that every failure is a `StoreError`, and every answer has the promised type.

    The store is called in a separate thread: if it does not answer within 5 s (or its own `timeout_s`, if longer, and a
    second), the call has failed, and until it answers, other calls do not wait again.

    Attributes:
        is_shared: Whether other processes see the store.
        cannot_wait: Why the last wait for a change has failed; None if it has not.
    """

    def __init__(self, store: StateStore, address: str = "") -> None:
        """Wrap a store.

        Args:
            store: The store.
            address: Its name in errors; by default its class.
        """
        self._store = store
        self._name = f"The store {_without_login(address)!r}" if address else f"The store ({type(store).__qualname__})"
        self.is_shared = not isinstance(store, MemoryStore)
        timeout_s = getattr(store, "timeout_s", None)
        own_s = timeout_s + _GRACE_S if isinstance(timeout_s, int | float) else 0.0
        self._patience_s = max(_PATIENCE_S, own_s)
        self._until = float("inf")
        # These two never wait for anything outside the SDK.
        self._threads = None if type(store) in (MemoryStore, UnavailableStore) else _Threads()
        # A separate thread, so that other calls do not wait for a change.
        self._waiting = _Threads() if callable(getattr(store, "wait_for_change", None)) else None
        self.cannot_wait: StoreError | None = None

    def within(self, seconds: float) -> GuardedStore:
        """Return the same store with a deadline, in seconds from now, for all calls together."""
        if self._threads is None:
            return self
        hurried = copy(self)
        hurried._until = monotonic() + seconds  # noqa: SLF001 - its own class
        return hurried

    def rest(self) -> None:
        """End the threads until the next use."""
        for threads in (self._threads, self._waiting):
            if threads is not None:
                threads.end()

    def wait_for_change(self, timeout_s: float) -> None:
        """Wait until a document may have changed, or for `timeout_s` seconds if the store cannot report it, or fails.

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
        return [key for key in found if not key.startswith(INTERNAL)]

    def close(self) -> None:
        """See `StateStore`."""
        self._asked(object, "close")

    def _asked(self, kind: Any, method: str, *arguments: Any, threads: _Threads | None = None) -> Any:
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
                "Fix the store, or test it with rollout_sdk.testing.StoreContract."
            ) from error
        if not is_answer:
            raise StoreError(
                f"{self._name} answered {method} with a {type(answer).__qualname__}. StateStore defines what it must return. "
                "Fix the store, or test it with rollout_sdk.testing.StoreContract."
            )
        return answer


def _without_login(address: str) -> str:
    """Return an address without its login and options."""
    scheme, separator, rest = address.partition("://")
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


class _Question:
    """A call of the store, and its result."""

    __slots__ = ("_answer", "_ask", "_error", "answered", "is_withdrawn")

    def __init__(self, ask: Callable[[], Any]) -> None:
        self._ask = ask
        self._answer: Any = None
        self._error: BaseException | None = None
        self.answered = Flag()
        self.is_withdrawn = False

    def put(self) -> None:
        """Make the call, in the thread, unless its caller has given up: a write must not happen long after it has failed."""
        if not self.is_withdrawn:
            try:
                self._answer = self._ask()
            # Raised again in the caller's thread.
            except BaseException as error:
                self._error = error
        self.answered.set()

    def answer(self) -> Any:
        """Return the result, or raise the exception."""
        try:
            if self._error is not None:
                raise self._error
            return self._answer
        finally:
            # Its traceback holds this frame.
            self._error = None


class _Threads:
    """Makes one call at a time, each for a bounded time.

    A thread that has waited 30 s for an answer is abandoned, and another makes the next call: a connection whose other end is
    gone never answers, but a new one may. At most three threads are abandoned at a time.
    """

    def __init__(self) -> None:
        self._thread = self._begun()
        self._left: list[QueueThread] = []

    @staticmethod
    def _begun() -> QueueThread:
        def lost(_what: str, _error: BaseException) -> None:
            """Do nothing: a question keeps its exception."""

        return QueueThread("rollout-store", _Question.put, failed=lost, called=str, most_waiting=float("inf"))

    def ask(self, ask: Callable[[], Any], name: str, patience_s: float) -> Any:
        """Return the result of a call.

        Args:
            ask: The call.
            name: Start of the error message: "The store ... has not answered load".
            patience_s: Seconds to wait for the answer; no wait at all if another call has waited for so long.

        Raises:
            StoreError: There is no answer in time.
            BaseException: The exception of the call.
        """
        thread = self._in_use()
        if not thread.can_start():
            # At the end of the interpreter, it can only be made in this thread.
            return ask()
        busy_s = thread.busy_s
        if busy_s and busy_s >= patience_s:
            raise _silent(name, busy_s)
        question = _Question(ask)
        thread.put(question)
        if not question.answered.wait(patience_s):
            question.is_withdrawn = True
            raise _silent(name, patience_s)
        return question.answer()

    def end(self) -> None:
        """End the thread; the next call starts another."""
        self._thread.end()

    def _in_use(self) -> QueueThread:
        thread = self._thread
        if thread.busy_s > _GIVE_UP_AFTER_S:
            self._left = [each for each in self._left if each.busy_s]
            if len(self._left) < _MOST_GIVEN_UP:
                self._left.append(thread)
                thread = self._thread = self._begun()
        return thread


def _silent(name: str, waited_s: float) -> StoreError:
    return StoreError(
        f"{name} for {waited_s:.1f} s. A store answers, or raises StoreError, within its own timeout. "
        "Check its server or disk, and set a timeout in its client; it is asked again twice a second."
    )
