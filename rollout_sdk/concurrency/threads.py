"""Threads of the operating system, also where gevent or eventlet has put its own in their place.

After `gevent.monkey.patch_all()` or `eventlet.monkey_patch()`, a thread is a greenlet: a shadow that burns or blocks would hold
the loop that serves, and greenlets of a master process live on in its forked children. So the background takes real threads,
which share with the caller only what works between threads of any kind: a queue written in C, and flags.

The originals are bound when this module is imported. A patch that comes later, even once threads run, does not reach them.
"""

from __future__ import annotations

import sys
import threading
from _queue import Empty, SimpleQueue
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from threading import Thread as PythonThread
from typing import Any

from rollout_sdk.concurrency.clocks import monotonic, sleep

__all__ = [
    "Empty",
    "Flag",
    "Lock",
    "ReentrantLock",
    "SimpleQueue",
    "Thread",
    "caller_sleep",
    "missing_threads",
    "native_ident",
    "native_sleep",
]

_POLL_S = 0.005

start_thread = PythonThread.start
"""Taken now, as the classes are: a test that replaces threads replaces its application's."""


def _original(module: str, name: str) -> Any:
    """A function of the standard library as it is without gevent and eventlet."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    patcher = sys.modules.get("eventlet.patcher")
    return getattr(sys.modules[module] if patcher is None else patcher.original(module), name)


def _is_green() -> bool:
    """Whether threads are greenlets now."""
    monkey, patcher = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    return (monkey is not None and bool(monkey.is_module_patched("threading"))) or (
        patcher is not None and bool(patcher.is_monkey_patched("thread"))
    )


_get_ident: Callable[[], int] = _original("_thread", "get_ident")
_start: Callable[..., int] = _original("_thread", "start_new_thread")
Lock: Callable[[], Any] = _original("_thread", "allocate_lock")
"""A lock between threads of ours. A greenlet must not be switched away from while it holds one."""
ReentrantLock: Callable[[], Any] = _original("_thread", "RLock")
"""The same, where a signal handler may come back to what its own thread holds."""


def missing_threads() -> str | None:
    """Why threads of this process get to run only now and then, with the cure; None when they run.

    uWSGI has a module of this name in its processes. By default, it lets go of the interpreter in requests only.
    """
    if getattr(sys.modules.get("uwsgi"), "has_threads", True):
        return None
    return (
        "uWSGI runs without threads: an abort, the control file and the journal get their turn only while a request is served. "
        "The SDK works in the background. Start uWSGI with --enable-threads."
    )


def _is_forked_blindly() -> bool:
    """Whether this is a process of uWSGI's that forks workers and does not tell Python.

    A worker that is forked while a thread has the interpreter's lock hangs for good: in such a process, no thread of ours runs.
    """
    uwsgi: Any = sys.modules.get("uwsgi")
    if uwsgi is None:
        return False
    try:
        is_told = "py-call-uwsgi-fork-hooks" in uwsgi.opt and uwsgi.has_threads
        is_child = uwsgi.worker_id() or uwsgi.mule_id() or uwsgi.i_am_the_spooler()
        return not is_told and not is_child and (uwsgi.masterpid() != 0 or uwsgi.numproc > 1)
    # Another module of that name.
    except (AttributeError, TypeError):
        return False


native_sleep = sleep
"""Sleeps in a thread of ours: never with a loop, and never by what a test has put in the place of `time.sleep`."""


def caller_sleep(seconds: float) -> None:
    """Sleep in a caller's thread: under gevent and eventlet, others are served meanwhile."""
    green = sys.modules.get("gevent" if "gevent.monkey" in sys.modules else "eventlet") if _is_green() else None
    (sleep if green is None else green.sleep)(seconds)


def native_ident() -> int:
    """The number of this thread of the operating system."""
    return _get_ident()


_ours: set[int] = set()
"""Numbers of the threads of ours that run: what waits in one must not wait as a greenlet does."""


class Flag:
    """Set once, and waited for: by a caller's thread or greenlet, or in a thread of ours."""

    __slots__ = ("_event", "_set")

    def __init__(self) -> None:
        """Not set."""
        self._set = False
        # An Event of greenlets is not for two loops.
        self._event = None if _is_green() else Event()

    def set(self) -> None:
        """Set it, for good."""
        self._set = True
        if self._event is not None:
            self._event.set()

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._set

    def wait(self, timeout_s: float, *, inside: bool = False) -> bool:
        """Wait until it is set; False when the time was not enough. `inside` says that this is a thread of ours."""
        if self._event is not None:
            return self._event.wait(timeout_s)
        deadline, inside = monotonic() + timeout_s, inside or native_ident() in _ours
        while not self._set and monotonic() < deadline:
            (native_sleep if inside else caller_sleep)(_POLL_S)
        return self._set


class Thread:
    """A daemon thread of the operating system."""

    def __init__(self, target: Callable[[], None], name: str) -> None:
        """Do not start yet."""
        self._target = target
        self._over = Flag()
        self._ident: int | None = None
        self._thread = None if _is_green() else PythonThread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start it.

        Raises:
            RuntimeError: No thread is to be had.
        """
        if _is_forked_blindly():
            raise RuntimeError("This process forks workers without telling Python: threads start in the workers.")
        if self._thread is None:
            _start(self._run, ())
        else:
            start_thread(self._thread)

    def _run(self) -> None:
        self._ident = native_ident()
        _ours.add(self._ident)
        try:
            self._target()
        finally:
            _ours.discard(self._ident)
            self._over.set()
            if self._thread is not None and _is_green():
                # It started before the patch. Python looks it up by its number at its end, which is another one now.
                with suppress(AttributeError):
                    threading._active[threading.get_ident()] = self._thread  # type: ignore[attr-defined]  # noqa: SLF001

    @property
    def is_current(self) -> bool:
        """Whether this code runs in it."""
        return self._ident == native_ident()

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return not self._over.is_set() if self._thread is None else self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        """Wait until it ends, for so many seconds at most."""
        if self._thread is None:
            self._over.wait(timeout_s)
        else:
            self._thread.join(timeout_s)
