"""Operating system threads, even if gevent or eventlet has replaced Python's.

After `gevent.monkey.patch_all()` or `eventlet.monkey_patch()`, a thread is a greenlet: a shadow that computes or blocks would
stall the serving loop, and greenlets of a master process live on in its forked children. So the background uses real threads,
which share with the caller only what works between threads of any kind: queues (`concurrency.queues`), and flags.

The original functions are bound when this module is imported; later patches, even with threads running, do not affect them.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import TIMEOUT_MAX
from threading import Thread as PythonThread
from typing import Any, TypeVar

from rollout_sdk.concurrency.clocks import monotonic, sleep

__all__ = [
    "Flag",
    "Lock",
    "ReentrantLock",
    "Thread",
    "WatchThread",
    "caller_sleep",
    "imported",
    "living",
    "missing_threads",
    "native_ident",
    "native_sleep",
    "original",
]

V = TypeVar("V")

_POLL_S = 0.005
_BEGINS_WITHIN_S = 0.1
_PATCHERS = ("gevent.monkey", "eventlet.patcher")

start_thread = PythonThread.start
"""Bound at import, like the classes: a test that replaces threads means those of its application."""


def imported(name: str) -> Any:
    """Return a module that the application has imported; None if it has not, or a thread is still importing it."""
    module = sys.modules.get(name)
    # Until then, it lacks functions that it will have.
    return None if getattr(getattr(module, "__spec__", None), "_initializing", False) else module


def original(module: str, name: str) -> Any:
    """Return a standard library function as it was before gevent or eventlet patched it."""
    monkey = imported("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    patcher = imported("eventlet.patcher")
    return getattr(sys.modules[module] if patcher is None else patcher.original(module), name)


def _is_green() -> bool:
    """Whether threads are currently greenlets."""
    monkey, patcher = imported("gevent.monkey"), imported("eventlet.patcher")
    return (monkey is not None and bool(monkey.is_module_patched("threading"))) or (
        patcher is not None and bool(patcher.is_monkey_patched("thread"))
    )


_get_ident: Callable[[], int] = original("_thread", "get_ident")
_start: Callable[..., int] = original("_thread", "start_new_thread")
Lock: Callable[[], Any] = original("_thread", "allocate_lock")
"""A lock between the SDK's own threads. A greenlet must not switch while it holds one."""
ReentrantLock: Callable[[], Any] = original("_thread", "RLock")
"""The same, for code that a signal handler may enter while its own thread holds it."""


def missing_threads() -> str | None:
    """Explain why threads of this process rarely run, with the cure; None if they run normally.

    uWSGI provides a module of this name in its processes. By default, it releases the interpreter only within requests.
    """
    if getattr(sys.modules.get("uwsgi"), "has_threads", True):
        return None
    return (
        "uWSGI runs without threads: an abort, the control file and the journal are processed only while a request is served. "
        "The SDK works in the background. Start uWSGI with --enable-threads."
    )


def _is_forked_blindly() -> bool:
    """Whether this is a uWSGI process that forks workers without telling Python.

    A worker forked while a thread holds the interpreter's lock hangs forever, so the SDK starts no threads in such a process.
    """
    uwsgi: Any = sys.modules.get("uwsgi")
    if uwsgi is None:
        return False
    try:
        has_hooks = "py-call-uwsgi-fork-hooks" in uwsgi.opt and uwsgi.has_threads
        is_child = uwsgi.worker_id() or uwsgi.mule_id() or uwsgi.i_am_the_spooler()
        return not has_hooks and not is_child and (uwsgi.masterpid() != 0 or uwsgi.numproc > 1)
    # A different module with the same name.
    except (AttributeError, TypeError):
        return False


native_sleep = sleep
"""Sleeps in one of the SDK's threads: never cooperatively, and never with a test's replacement of `time.sleep`."""


def caller_sleep(seconds: float) -> None:
    """Sleep in a caller's thread; under gevent and eventlet, other greenlets run meanwhile."""
    green = imported("gevent" if "gevent.monkey" in sys.modules else "eventlet") if _is_green() else None
    (sleep if green is None else green.sleep)(seconds)


def native_ident() -> int:
    """Return the operating system's id of this thread."""
    return _get_ident()


_ours: set[int] = set()
"""Ids of the SDK's running threads: waiting in one must not yield to greenlets."""


class Flag:
    """A flag that is set once, and can be waited for in the caller's thread or greenlet, or in one of the SDK's threads.

    An `Event` would make its locks when it is waited for. If gevent has patched them by then, or is doing so right now, one of
    the SDK's threads gets an event loop of its own, and setting that up can deadlock with the patching thread's imports.
    """

    __slots__ = ("_set", "_waiting")

    def __init__(self) -> None:
        """Create the flag, not set."""
        self._set = False
        self._waiting: deque[Any] = deque()

    def set(self) -> None:
        """Set the flag permanently."""
        self._set = True
        while self._waiting:
            with suppress(IndexError):  # another thread was faster
                self._waiting.popleft().release()

    def is_set(self) -> bool:
        """Whether the flag is set."""
        return self._set

    def wait(self, timeout_s: float, *, inside: bool = False) -> bool:
        """Wait until the flag is set; return False on a timeout. `inside`: this is one of the SDK's threads."""
        if self._set or timeout_s <= 0:
            return self._set
        if not (inside or native_ident() in _ours) and _is_green():
            deadline = monotonic() + timeout_s
            while not self._set and monotonic() < deadline:
                caller_sleep(_POLL_S)
            return self._set
        lock = Lock()
        lock.acquire()
        self._waiting.append(lock)
        # In this order: who sets the flag later finds the lock.
        if not self._set:
            lock.acquire(timeout=min(timeout_s, TIMEOUT_MAX))
        with suppress(ValueError):  # released, so no longer there
            self._waiting.remove(lock)
        return self._set


class Thread:
    """A daemon thread of the operating system."""

    def __init__(self, target: Callable[[], None], name: str) -> None:
        """Create the thread without starting it."""
        self._target = target
        self._over = Flag()
        self._ident: int | None = None
        self._name = name
        self._thread: PythonThread | None = None
        self._has_started = False

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: No thread can be started.
        """
        if _is_forked_blindly():
            raise RuntimeError("This process forks workers without telling Python: threads start in the workers.")
        try:
            self._begin()
        except RuntimeError:
            raise
        # Ctrl-C, or a signal handler that raises: then the thread runs, or it never will, and `is_alive` has to be right.
        except BaseException:
            deadline = monotonic() + _BEGINS_WITHIN_S
            while not self._has_started and monotonic() < deadline:
                native_sleep(_POLL_S)
            raise
        self._has_started = True

    def _begin(self) -> None:
        if sys.modules.keys().isdisjoint(_PATCHERS):
            self._thread = PythonThread(target=self._run, name=self._name, daemon=True)
            start_thread(self._thread)
        else:
            # Even if nothing is patched yet: another thread may be doing so. Half patched, a `PythonThread` becomes a greenlet
            # of the thread that starts it, and rarely runs.
            _start(self._run, ())

    def _run(self) -> None:
        self._has_started = True
        self._ident = native_ident()
        _ours.add(self._ident)
        try:
            self._target()
        finally:
            _ours.discard(self._ident)
            self._over.set()
            if self._thread is not None and _is_green():
                # It started before the patch. At its end, Python looks it up by its ident, which has changed.
                with suppress(AttributeError):
                    threading._active[threading.get_ident()] = self._thread  # type: ignore[attr-defined]  # noqa: SLF001

    @property
    def is_current(self) -> bool:
        """Whether the calling code runs in this thread."""
        return self._ident == native_ident()

    def is_alive(self) -> bool:
        """Whether the thread has started, and not ended."""
        if not self._has_started:
            return False
        return not self._over.is_set() if self._thread is None else self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` seconds for the thread to end."""
        if self._thread is None:
            self._over.wait(timeout_s)
        else:
            self._thread.join(timeout_s)


class WatchThread:
    """Calls a method periodically, from `start` to `end`: after a fixed time, or as soon as its wait returns.

    It holds no reference to the method's object, and ends when that object is collected.
    """

    def __init__(
        self,
        watch: Callable[[], None],
        name: str,
        *,
        every_s: float = 0.5,
        at_once: bool = False,
        wait: Callable[[float], object] = native_sleep,
    ) -> None:
        """Create the thread without starting it.

        Args:
            watch: A bound method, which must not raise.
            name: Name of the thread.
            every_s: Seconds between two calls.
            at_once: Whether the first call happens at the start, not `every_s` later.
            wait: Waits for so many seconds at most; must not raise, and must not reference the object of `watch`.
        """
        self._wait = wait
        self._name = name
        self._every_s = every_s
        self._watch = weakref.WeakMethod(watch)
        self._at_once = at_once
        self._thread: Thread | None = None
        self._starting = Lock()
        self._ended = False

    @property
    def is_running(self) -> bool:
        """Whether the thread was started."""
        return self._thread is not None

    @property
    def has_ended(self) -> bool:
        """Whether the thread was ended, which is final."""
        return self._ended

    def start(self) -> bool:
        """Start the thread unless it runs already; return False if no thread can be started now."""
        if self._thread is not None or not self._starting.acquire(blocking=False):
            return True
        try:
            if self._thread is None:
                thread = Thread(self._run, self._name)
                try:
                    thread.start()
                finally:
                    # It may run although its start was interrupted.
                    if thread.is_alive():
                        self._thread = thread
        # No thread can be started now: the next fact tries again.
        except RuntimeError:
            self._at_once = True
            return False
        finally:
            self._starting.release()
        return True

    def end(self) -> None:
        """End the thread, within `every_s` or when the current call returns."""
        self._ended = True

    def _run(self) -> None:
        while not self._ended:
            if not self._at_once:
                self._wait(self._every_s)
            self._at_once = False
            watch = self._watch()
            if watch is None:
                return
            if not self._ended:
                watch()
            del watch


def living(values: Mapping[Any, V]) -> list[V]:
    """Return the values of a dictionary that other threads add to: those that are still there, if it is a weak one."""
    if isinstance(values, weakref.WeakValueDictionary):
        # Its `values()` is a loop in Python, which fails when another thread adds one.
        return [value for each in values.valuerefs() if (value := each()) is not None]
    return list(values.values())
