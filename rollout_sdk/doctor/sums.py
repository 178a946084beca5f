"""What a journal says of one rollout, summed up record by record in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from attrs import Factory, define

from rollout_sdk.doctor.bounded_counts import add, at, few
from rollout_sdk.doctor.units import Arrived, UnitSums

__all__ = ["BreakerSums", "FingerprintSums", "PhaseSums", "RolloutSums", "VariantSums", "clamped"]

_MOST_PHASES = 40
_LAST_TRANSITIONS = 5
_MOST = 10**15
_MOST_PARTS, _LONGEST_PART = 20, 40
"""A fingerprint has eleven parts."""


def clamped(value: float | None) -> float | None:
    """A number that sums and formats can take, whatever somebody wrote."""
    return None if value is None else max(-_MOST, min(_MOST, value))


def _count(value: int | None) -> int:
    return int(clamped(value) or 0)


@define
class PhaseSums:
    """One phase: configured shares, and analysed calls by variant."""

    shares: dict[str, float] = Factory(dict)
    calls: dict[str, int] = Factory(dict)


@define
class FingerprintSums:
    """What makes calls comparable; those of two fingerprints are not.

    Attributes:
        version: Version of the candidates.
        made_of: What it is made of, as short texts.
        processes: Living processes that have it.
    """

    version: str = ""
    made_of: Mapping[str, str] = Factory(dict)
    processes: int = 0


@define
class BreakerSums:
    """A candidate's circuit breaker, over all processes.

    Attributes:
        opened: How often it opened, also again after a probe that failed.
        closed: How often it closed.
        open_s: Seconds that it was open, summed over the processes.
        open_now: Processes in which it is open now.
        failures: Failed runs at the last opening.
        runs: Runs that were counted at the last opening.
        cooldown_s: Seconds of the last cooldown.
        last_s: Time of its last event.
    """

    opened: int = 0
    closed: int = 0
    open_s: float = 0.0
    open_now: int = 0
    failures: int = 0
    runs: int = 0
    cooldown_s: float | None = None
    last_s: float | None = None


@define
class VariantSums:
    """One variant, over all phases.

    Attributes:
        assigned: Calls that were assigned to it.
        fallbacks: Of these, the calls that the control answered because it failed.
        withheld: Of these, the calls in which it was not run, by why.
        runs: Its runs on the path of callers, also as the control of others.
        errors: Failed runs, by type.
        planned: Shadow runs that decisions asked for.
        ends: How shadow runs ended.
        shadow_errors: Failed shadow runs, by type.
        not_copied: Why arguments could not be copied for shadows.
        breaker: Its circuit breaker; None when that never moved.
    """

    assigned: int = 0
    fallbacks: int = 0
    withheld: dict[str, int] = Factory(dict)
    runs: int = 0
    errors: dict[str, int] = Factory(dict)
    planned: int = 0
    ends: dict[str, int] = Factory(dict)
    shadow_errors: dict[str, int] = Factory(dict)
    not_copied: dict[str, int] = Factory(dict)
    breaker: BreakerSums | None = None


@define
class RolloutSums:
    """One rollout.

    Attributes:
        strategy: Name of the strategy, as last seen.
        control: Name of the control.
        status: Status, as last seen.
        phase: Phase, as last seen.
        standing_s: When that was.
        calls: Calls, with those that are not analysed.
        excluded: Calls that are not analysed, by reason.
        failed: Calls whose callers got an exception, by type.
        outcomes: Recorded outcomes.
        first_s: Time of the first call.
        last_s: Time of the last call.
        fingerprints: Those of its processes.
        phases: By name, with the fingerprint.
        variants: By name.
        transitions: The last ones, in order of time.
        standings: Where living processes stand: number of them by (status, phase).
        units: Units of the analysed calls.
    """

    strategy: str = ""
    control: str = ""
    status: str = "running"
    phase: str = ""
    standing_s: float | None = None
    calls: int = 0
    excluded: dict[str, int] = Factory(dict)
    failed: dict[str, int] = Factory(dict)
    outcomes: int = 0
    first_s: float | None = None
    last_s: float | None = None
    fingerprints: dict[str, FingerprintSums] = Factory(dict)
    phases: dict[str, PhaseSums] = Factory(dict)
    variants: dict[str, VariantSums] = Factory(dict)
    transitions: list[Mapping[str, Any]] = Factory(list)
    standings: dict[tuple[str, str], int] = Factory(dict)
    units: UnitSums = Factory(UnitSums)

    def variant(self, name: str) -> VariantSums:
        """The sums of a variant."""
        return at(self.variants, name, VariantSums)

    def breaker(self, name: str) -> BreakerSums:
        """The sums of a candidate's breaker."""
        variant = self.variant(name)
        if variant.breaker is None:
            variant.breaker = BreakerSums()
        return variant.breaker

    def stands(self, status: str | None, phase: str, time_s: float | None) -> None:
        """Take note of where it stood."""
        if time_s is not None and (self.standing_s is None or time_s >= self.standing_s):
            self.standing_s = time_s
            self.status, self.phase = _short(status or self.status), few(self.phases, phase, _MOST_PHASES)

    def described(self, record: Mapping[str, Any], time_s: float | None) -> None:
        """Take in a rollout's own line."""
        self.strategy, self.control = _short(record["strategy"]), _short(record["control"])
        if (fingerprint := record.get("fingerprint")) is not None:
            sums = at(self.fingerprints, fingerprint, FingerprintSums)
            sums.version, sums.made_of = _short(record.get("version", "")), _told(record.get("made_of", {}))
        phase = _phase_of(record)
        self._configured(phase, record.get("shares", {}))
        self.stands(record.get("status"), phase, time_s)

    def _configured(self, phase: str, shares: Mapping[str, float]) -> None:
        sums = at(self.phases, phase, PhaseSums, _MOST_PHASES)
        for variant, share in shares.items():
            sums.shares[few(sums.shares, variant)] = float(clamped(share) or 0.0)

    def decided(self, record: Mapping[str, Any], time_s: float | None) -> None:
        """Take in a call."""
        self.calls += 1
        if not self.strategy:
            # The rollout's own line is missing, or in a file that is read later.
            self.strategy = _short(record["strategy"])
        assigned, served = record["variant"], record["served"]
        variant = self.variants.get(assigned) or self.variant(assigned)
        variant.assigned += 1
        if record.get("excluded"):
            add(self.excluded, record["reason"])
        else:
            phase = _phase_of(record)
            sums = self.phases.get(phase) or at(self.phases, phase, PhaseSums, _MOST_PHASES)
            add(sums.calls, assigned)
            self.units.add(
                record.get("unit"), time_s, few(self.phases, phase, _MOST_PHASES), few(self.variants, assigned)
            )  # fmt: skip
        if "withheld" in record:
            add(variant.withheld, record["withheld"])
        elif served != assigned and not record.get("blend"):
            variant.fallbacks += 1
        if "error" in record:
            add(self.failed, record["error"])
        for run in record.get("runs", ()):
            ran = variant if run[0] == assigned else self.variant(run[0])
            ran.runs += 1
            if run[2] is not None:
                add(ran.errors, run[2])
        for shadow in record.get("shadows", ()):
            self.variant(shadow).planned += 1
        if time_s is not None:
            self.first_s = time_s if self.first_s is None or time_s < self.first_s else self.first_s
            self.last_s = time_s if self.last_s is None or time_s > self.last_s else self.last_s

    def arrived(self) -> Arrived:
        """Whether units arrived in the configured shares."""
        return self.units.arrived({name: phase.shares for name, phase in self.phases.items()})

    def shadowed(self, record: Mapping[str, Any]) -> None:
        """Take in the end of a shadow run."""
        name, end = record["variant"], record["end"]
        variant = self.variants.get(name) or self.variant(name)
        add(variant.ends, end)
        if "error" in record:
            if end == "error":
                add(variant.shadow_errors, record["error"])
            elif end == "dropped_snapshot":
                add(variant.not_copied, record["error"])

    def tripped(self, record: Mapping[str, Any], time_s: float | None) -> None:
        """Take in an event of a breaker."""
        breaker = self.breaker(record["variant"])
        if record["action"] == "open":
            breaker.opened += 1
            breaker.failures, breaker.runs = _count(record["failures"]), _count(record["runs"])
            breaker.cooldown_s = clamped(record.get("cooldown_s"))
        else:
            breaker.closed += 1
        breaker.last_s = time_s if time_s is not None else breaker.last_s

    def moved(self, record: Mapping[str, Any], time_s: float | None, seen_s: float | None) -> None:
        """Take in a transition, which was made at one time and seen by its process at another, not before it.

        Every process that follows it has written of it: it is counted once.
        """
        phase = _phase_of(record, "to_phase")
        self._configured(phase, record.get("shares", {}))
        self.stands(record.get("status"), phase, seen_s)
        change = record.get("id")
        if change is not None and any(each["id"] == _short(change) for each in self.transitions):
            return
        kept = ("action", "status", "from_phase", "to_phase", "actor", "reason", "id")
        said = {name: _short(record[name]) if name in record else None for name in kept}
        self.transitions.append({"time_s": time_s, "revision": clamped(record.get("revision")), **said})
        self.transitions.sort(key=lambda transition: (transition["time_s"] or 0.0, transition["revision"] or 0))
        del self.transitions[:-_LAST_TRANSITIONS]


def _phase_of(record: Mapping[str, Any], name: str = "phase") -> str:
    """The phase of a record: two fingerprints have different ones, whatever they are called."""
    return f"{record[name]} of {record['fingerprint']}" if "fingerprint" in record else record[name]


def _told(made_of: Mapping[str, Any]) -> dict[str, str]:
    """What a fingerprint is made of, whatever somebody wrote: names of the parts, and short texts."""
    return {name[:_LONGEST_PART]: _short(_as_text(value)) for name, value in islice(made_of.items(), _MOST_PARTS)}


def _as_text(value: Any) -> str:
    if isinstance(value, dict | list):
        return ", ".join(f"{each!s:.60}" for each in islice(value, _MOST_PARTS) if not isinstance(each, dict | list))
    return "" if value is None else str(value)


def _short(text: str) -> str:
    return text if len(text) <= 200 else text[:198] + ".."
