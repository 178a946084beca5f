"""Measures how long a step has lasted, and has waited for its verdict, independently of jumps of the wall clock.

The store has one time for all processes: the wall clock of the process that began the step. A wall clock jumps when it is set
or synchronised; a monotonic clock does not, but has no meaning in another process. So each process counts with its monotonic
clock from when it first sees a step, and uses the wall clock only for the time before: at most the time since it last read the
store, and at most what the wall clock shows at any later look. A process that joins continues from the note that the others
keep in the store. So no jump ends a step early, and no process waits for a whole step again.

While a machine is suspended, its monotonic clock may stand still: that time is not counted, and the step lasts longer.
"""

from __future__ import annotations

import math
from json import dumps, loads
from typing import Any

from attrs import define, field

from rollout_sdk.control.state import RolloutState

__all__ = ["STEP_CLOCK", "StepClock", "Stopwatch"]

STEP_CLOCK = "step clock"
"""Name of the store's note from which a joining process continues to count."""


@define
class Stopwatch:
    """Seconds since an instant of the wall clock, counted by a monotonic clock from the first look.

    Attributes:
        anchor_s: The instant, in seconds since 1970.
        began_s: The monotonic clock at the first look.
        before_s: Upper limit of the time between the two.
        passed_s: Time that had passed by the instant.
        read_s: The seconds at the last reading.
    """

    anchor_s: float
    began_s: float
    before_s: float = math.inf
    passed_s: float = 0.0
    read_s: float = 0.0

    def read(self, now_s: float, mono_s: float) -> float:
        """Return the seconds so far, given the wall clock and the monotonic clock."""
        counted_s = max(0.0, mono_s - self.began_s)
        # If the wall clock is set back, it was fast at the first look.
        self.before_s = max(0.0, min(self.before_s, now_s - self.anchor_s - counted_s))
        self.read_s = self.passed_s + self.before_s + counted_s
        return self.read_s


@define(eq=False)
class StepClock:
    """The clock of a rollout's current step, in one process."""

    _phase: str | None = None
    _resumed_s: float = 0.0
    _looked_s: float = 0.0
    _step: Stopwatch = field(factory=lambda: Stopwatch(0.0, 0.0))
    _wait: Stopwatch = field(factory=lambda: Stopwatch(0.0, 0.0))
    _idle_s: float = 0.0
    _judged_s: float = 0.0

    @property
    def elapsed_s(self) -> float:
        """How long the step had lasted at the last look, in seconds."""
        return self._step.read_s

    @property
    def waited_s(self) -> float:
        """How long the step had waited for its verdict at the last look, since it began or was resumed, in seconds.

        Time without traffic is not counted.
        """
        return max(0.0, self._wait.read_s - self._idle_s)

    def look(self, state: RolloutState, now_s: float, mono_s: float, note: str | None = None) -> None:
        """Read the clocks.

        Args:
            state: The current state, according to the store.
            now_s: The wall clock, in seconds since 1970.
            mono_s: The monotonic clock of this process, in seconds.
            note: The count of another process, for a process that joins.
        """
        # A step seen first now began after the last look.
        before_s = math.inf if self._phase is None else max(0.0, mono_s - self._looked_s)
        is_entered, is_resumed = state.phase.name != self._phase, state.resumed_s != self._resumed_s
        counted = _counted(note, state) if self._phase is None else {}
        if is_entered:
            self._step = Stopwatch(state.entered_s, mono_s, before_s)
            _go_on(self._step, counted, "elapsed_s")
        if is_entered or is_resumed:
            self._wait = Stopwatch(max(state.entered_s, state.resumed_s), mono_s, before_s)
            _go_on(self._wait, counted, "waited_s")
            self._idle_s = self._judged_s = 0.0
        self._phase, self._resumed_s, self._looked_s = state.phase.name, state.resumed_s, mono_s
        self._step.read(now_s, mono_s)
        self._wait.read(now_s, mono_s)
        if is_entered or is_resumed:
            self._judged_s = self._wait.read_s

    def judged(self, *, idle: bool) -> None:
        """Register a verdict, reached here or elsewhere; the time before an idle one does not count."""
        if idle:
            self._idle_s += max(0.0, self._wait.read_s - self._judged_s)
        self._judged_s = self._wait.read_s

    def note(self, now_s: float) -> str:
        """Return the count so far, for processes that join."""
        return dumps(
            {
                "phase": self._phase,
                "resumed_s": self._resumed_s,
                "time_s": now_s,
                "elapsed_s": self.elapsed_s,
                "waited_s": self.waited_s,
            }
        )


def _go_on(watch: Stopwatch, counted: dict[str, float], name: str) -> None:
    """Continue a stopwatch from the count of another process, if there is one."""
    if name in counted:
        watch.anchor_s, watch.passed_s = counted["time_s"], counted[name]


def _counted(note: str | None, state: RolloutState) -> dict[str, float]:
    """Return the counts in a note about the current phase; without the wait if the step was resumed since."""
    try:
        table: dict[str, Any] = {} if note is None else loads(note)
        if table.get("phase") != state.phase.name:
            return {}
        names = ("time_s", "elapsed_s", "waited_s") if table["resumed_s"] == state.resumed_s else ("time_s", "elapsed_s")
        counted = {name: float(table[name]) for name in names}
    # A note of another SDK version: the wall clock suffices.
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return counted if all(math.isfinite(each) and each >= 0 for each in counted.values()) else {}
