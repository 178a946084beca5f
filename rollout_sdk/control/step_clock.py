"""How long a step has lasted, and how long its verdict has been waited for, whatever happens to the wall clock meanwhile.

The store has one time for all processes: the wall clock of the process that began the step. A wall clock jumps when it is set
or synchronised; a monotonic clock does not, but says nothing to another process. So each process counts by its monotonic clock
from when it first sees a step, and takes from the wall clock only what had passed before: never more than the time since it
last looked at the store, and never more than the wall clock says at any later look. A process that joins goes on from the note
that the others keep in the store. So no jump ends a step early, and no process waits for a whole step again.

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
"""Name of the note in the store by which a process that joins knows what the others have counted."""


@define
class Stopwatch:
    """Seconds since an instant of the wall clock, counted by a monotonic clock from the first look.

    Attributes:
        anchor_s: The instant, in seconds since 1970.
        began_s: The monotonic clock at the first look.
        before_s: What passed between the two, at most.
        passed_s: What had passed by the instant.
        read_s: The seconds at the last reading.
    """

    anchor_s: float
    began_s: float
    before_s: float = math.inf
    passed_s: float = 0.0
    read_s: float = 0.0

    def read(self, now_s: float, mono_s: float) -> float:
        """The seconds so far, given the wall clock and the monotonic clock."""
        counted_s = max(0.0, mono_s - self.began_s)
        # A wall clock that is set back shows that it was too far ahead when it was asked first.
        self.before_s = max(0.0, min(self.before_s, now_s - self.anchor_s - counted_s))
        self.read_s = self.passed_s + self.before_s + counted_s
        return self.read_s


@define(eq=False)
class StepClock:
    """The clock of the step that a rollout is in, in one process."""

    _phase: str | None = None
    _resumed_s: float = 0.0
    _looked_s: float = 0.0
    _step: Stopwatch = field(factory=lambda: Stopwatch(0.0, 0.0))
    _wait: Stopwatch = field(factory=lambda: Stopwatch(0.0, 0.0))
    _idle_s: float = 0.0
    _judged_s: float = 0.0

    @property
    def elapsed_s(self) -> float:
        """How long the step had lasted at the last look."""
        return self._step.read_s

    @property
    def waited_s(self) -> float:
        """How long its verdict had been waited for at the last look: since the step began, or since it was resumed.

        The time in which no traffic came is not counted.
        """
        return max(0.0, self._wait.read_s - self._idle_s)

    def look(self, state: RolloutState, now_s: float, mono_s: float, note: str | None = None) -> None:
        """Take the time.

        Args:
            state: Where the rollout stands now, as the store says.
            now_s: The wall clock, in seconds since 1970.
            mono_s: The monotonic clock of this process, in seconds.
            note: What another process has noted; for one that joins.
        """
        # What began since the last look did so no longer ago than that.
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
        """Note a verdict, reached here or elsewhere; the time between the one before and an idle one does not count."""
        if idle:
            self._idle_s += max(0.0, self._wait.read_s - self._judged_s)
        self._judged_s = self._wait.read_s

    def note(self, now_s: float) -> str:
        """What was counted so far, for processes that join."""
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
    """Have a stopwatch go on from what another process has counted, if it has."""
    if name in counted:
        watch.anchor_s, watch.passed_s = counted["time_s"], counted[name]


def _counted(note: str | None, state: RolloutState) -> dict[str, float]:
    """What a note says about the phase; nothing about the wait when the step was resumed since."""
    try:
        table: dict[str, Any] = {} if note is None else loads(note)
        if table.get("phase") != state.phase.name:
            return {}
        names = ("time_s", "elapsed_s", "waited_s") if table["resumed_s"] == state.resumed_s else ("time_s", "elapsed_s")
        counted = {name: float(table[name]) for name in names}
    # A note of another SDK: the wall clock says enough to go on.
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return counted if all(math.isfinite(each) and each >= 0 for each in counted.values()) else {}
