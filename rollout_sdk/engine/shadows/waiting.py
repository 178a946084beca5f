"""The queue between callers and the threads that run shadows: putting something into it hardly ever wakes a thread.

Waking a thread costs a caller more than the rest of a hand-over. A thread that finds the queue empty looks again after a
millisecond before it rests until a caller wakes it; while one is about to look, no caller does. A burst of calls, and calls
that come faster than a thousand a second, so pay for a single wake-up; each call of a slower sequence pays for its own.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from rollout_sdk.concurrency.queues import SimpleQueue
from rollout_sdk.concurrency.threads import native_sleep

if TYPE_CHECKING:
    from rollout_sdk.engine.shadows.shadow import ShadowRun

__all__ = ["Waiting"]

_LOOKS_AGAIN_AFTER_S = 1e-3


class Waiting:
    """What waits for a thread, in order: runs, and None for a thread that is to end. Shared without a lock."""

    __slots__ = ("_about_to_look", "_resting", "_runs")

    def __init__(self) -> None:
        """Start empty."""
        self._runs: deque[ShadowRun | None] = deque()
        self._resting: deque[SimpleQueue[None]] = deque()
        # As many marks as there are threads that look again within a millisecond.
        self._about_to_look: deque[None] = deque()

    def put(self, run: ShadowRun | None) -> None:
        """Add a run, or an end; never waits."""
        self._runs.append(run)
        if self._resting and not self._about_to_look:
            self._ring()

    def clear(self) -> None:
        """Forget what waits."""
        self._runs.clear()

    def take(self, bell: SimpleQueue[None]) -> ShadowRun | None:
        """Wait for the next run, or the thread's end; `bell` is the thread's own."""
        has_looked_again = False
        while True:
            try:
                run = self._runs.popleft()
            except IndexError:
                if has_looked_again:
                    self._rest(bell)
                else:
                    self._look_again()
                has_looked_again = not has_looked_again
                continue
            if self._runs and self._resting:
                # This thread may take long, and callers did not ring because it was about to look.
                self._ring()
            return run

    def _ring(self) -> None:
        """Wake a thread, if one rests."""
        try:
            bell = self._resting.pop()
        except IndexError:
            return
        bell.put(None)

    def _look_again(self) -> None:
        self._about_to_look.append(None)
        try:
            native_sleep(_LOOKS_AGAIN_AFTER_S)
        finally:
            # Before it looks: a caller that sees no mark rings.
            self._about_to_look.pop()

    def _rest(self, bell: SimpleQueue[None]) -> None:
        """Wait until a caller rings."""
        self._resting.append(bell)
        # In this order: what came before the line above has not rung.
        if self._runs:
            try:
                self._resting.remove(bell)
            except ValueError:
                # A caller has taken it, and rings.
                pass
            else:
                return
        bell.get()
