"""What a journal says about one rollout in operation, whatever its fingerprint: runs, failures, breakers, and its processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import Factory, define, frozen

from rollout_sdk.analysis.bounded import Counts, at, kept_name, shortened

__all__ = ["Breaker", "Operations", "Place", "Ran"]

_MOST = 10**15
_MOST_OPEN = 1_000


def _clamped(value: float | None) -> float | None:
    """A number that sums and formats can take, whatever a line holds."""
    return None if value is None else max(-_MOST, min(_MOST, value))


@define
class Ran:
    """Runs of one variant that callers waited for, also in calls that are not analysed.

    Attributes:
        runs: Runs.
        errors: Failed runs, by type.
    """

    runs: int = 0
    errors: Counts = Factory(Counts)


@define
class Breaker:
    """A candidate's circuit breaker, over all processes.

    Attributes:
        opened: How often it opened, also again after a probe that failed.
        closed: How often it closed.
        open_s: Seconds between opening and closing, summed over the processes.
        open_since: When it opened, by process, where it has not closed since.
        failures: Failed runs at the last opening.
        runs: Runs that were counted at the last opening.
        cooldown_s: Seconds of the last cooldown.
        last_s: Time of its last event.
    """

    opened: int = 0
    closed: int = 0
    open_s: float = 0.0
    open_since: dict[str, float] = Factory(dict)
    failures: int = 0
    runs: int = 0
    cooldown_s: float | None = None
    last_s: float | None = None


@frozen
class Place:
    """Where a rollout stands in one process: the status and phase of its last line, and its fingerprint."""

    status: str
    phase: str
    fingerprint: str | None = None


@define
class Operations:
    """One rollout in operation. Of calls drawn under overload, each stands for many.

    Attributes:
        calls: Calls, with those that are not analysed.
        outcomes: Recorded outcomes, without duplicates.
        failed: Calls whose callers got an exception, by type.
        ran: Runs, by variant.
        not_copied: Why arguments could not be copied for shadows, by variant.
        breakers: Circuit breakers, by variant.
        places: Where it stands, by process (`writer_of`).
    """

    calls: int = 0
    outcomes: int = 0
    failed: Counts = Factory(Counts)
    ran: dict[str, Ran] = Factory(dict)
    not_copied: dict[str, Counts] = Factory(dict)
    breakers: dict[str, Breaker] = Factory(dict)
    places: dict[str, Place] = Factory(dict)

    def decided(self, record: Mapping[str, Any], stands_for: int) -> None:
        """Add a call, as so many."""
        self.calls += stands_for
        if "error" in record:
            self.failed.add(record["error"], stands_for)
        for run in record.get("runs", ()):
            ran = self.ran.get(run[0]) or at(self.ran, run[0], Ran)
            ran.runs += stands_for
            if run[2] is not None:
                ran.errors.add(run[2], stands_for)

    def shadowed(self, record: Mapping[str, Any], stands_for: int) -> None:
        """Add the end of a shadow run, as that of so many."""
        if record["end"] == "dropped_snapshot" and "error" in record:
            at(self.not_copied, record["variant"], Counts).add(record["error"], stands_for)

    def stands(self, process: str, record: Mapping[str, Any], phase: str) -> None:
        """Take note of where a process says that the rollout stands."""
        known = self.places.get(process)
        fingerprint = record.get("fingerprint", None if known is None else known.fingerprint)
        # A transition may be of the version before.
        if known is not None and record["event"] == "transition":
            fingerprint = known.fingerprint
        status = record.get("status") or "running"
        self.places[process] = Place(shortened(status), shortened(phase), fingerprint and shortened(fingerprint))

    def tripped(self, process: str, record: Mapping[str, Any]) -> None:
        """Add an event of a breaker."""
        breaker, time_s = at(self.breakers, record["variant"], Breaker), record.get("t")
        if record["action"] == "open":
            breaker.opened += 1
            breaker.failures, breaker.runs = (int(_clamped(record[name]) or 0) for name in ("failures", "runs"))
            breaker.cooldown_s = _clamped(record.get("cooldown_s"))
            if time_s is not None and len(breaker.open_since) < _MOST_OPEN:
                breaker.open_since.setdefault(process, time_s)
        else:
            breaker.closed += 1
            began_s = breaker.open_since.pop(process, None)
            if began_s is not None and time_s is not None:
                breaker.open_s += _clamped(max(0.0, time_s - began_s)) or 0.0
        breaker.last_s = breaker.last_s if time_s is None else time_s

    def breaker(self, variant: str) -> Breaker | None:
        """The breaker of a variant; None when it never moved."""
        return self.breakers.get(kept_name(self.breakers, variant))
