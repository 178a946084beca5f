"""A thread that watches: a store, or a control file."""

from __future__ import annotations

import weakref
from collections.abc import Callable

from rollout_sdk.concurrency.threads import Lock, Thread, native_sleep

__all__ = ["WatchThread"]

_POLL_S = 0.5


class WatchThread:
    """Calls a method again and again, once it is started and until it is ended: twice a second, or as soon as its wait returns.
    The method must not raise.

    Its object lives no longer for that, and the thread ends when it is gone.
    """

    def __init__(
        self,
        watch: Callable[[], None],
        name: str,
        *,
        every_s: float = _POLL_S,
        at_once: bool = False,
        wait: Callable[[float], object] = native_sleep,
    ) -> None:
        """Start nothing yet.

        Args:
            watch: A bound method, which must not raise.
            name: Name of the thread.
            every_s: Seconds between two calls.
            at_once: Call it when started, and not only `every_s` later.
            wait: Waits for so many seconds at most; must not raise, and must not hold the object of `watch`.
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
        """Whether it was started."""
        return self._thread is not None

    @property
    def has_ended(self) -> bool:
        """Whether it was ended, for good."""
        return self._ended

    def start(self) -> bool:
        """Have it run; whoever comes second changes nothing. False when no thread is to be had."""
        if self._thread is not None or not self._starting.acquire(blocking=False):
            return True
        try:
            if self._thread is None:
                thread = Thread(self._run, self._name)
                thread.start()
                self._thread = thread
        # No thread to be had now: the next fact tries again.
        except RuntimeError:
            self._at_once = True
            return False
        finally:
            self._starting.release()
        return True

    def end(self) -> None:
        """Have it end within half a second, or when the function returns."""
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
