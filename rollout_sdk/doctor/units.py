"""The units of a rollout in bounded memory: whether they are in the configured shares, and how active the heaviest is."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import Factory, define

from rollout_sdk.stats import MISMATCH, arrivals_log_e

__all__ = ["Arrived", "Room", "UnitSums"]

_UNTIMED = float("inf")


@define
class Room:
    """How many more units can be told apart, in all rollouts of a journal together."""

    left: int = 100_000


@define
class Arrived:
    """Whether units arrived in the configured shares.

    Attributes:
        units: Units that were checked.
        log_e: Evidence of a sample ratio mismatch; None where there is nothing to check.
    """

    units: int
    log_e: float | None

    @property
    def is_mismatch(self) -> bool:
        """Whether it is one."""
        return self.log_e is not None and self.log_e >= MISMATCH


@define
class UnitSums:
    """The units of one rollout.

    The first units that are read are told apart, as long as there is room; which units those are has nothing to do with their
    arm, and the evidence may be looked at after any number of them. Ids are kept as hashes of this process.

    Attributes:
        room: What is left for all rollouts.
    """

    room: Room = Factory(Room)
    _first: dict[int, tuple[float, str, str]] = Factory(dict)
    _calls: dict[str, dict[int, int]] = Factory(dict)
    _alone: dict[tuple[str, str], int] = Factory(dict)
    _totals: dict[str, int] = Factory(dict)

    def add(self, unit: str | None, time_s: float | None, phase: str, variant: str) -> None:
        """See a call that is analysed; one without a unit is its own."""
        self._totals[variant] = self._totals.get(variant, 0) + 1
        if unit is None:
            self._alone[phase, variant] = self._alone.get((phase, variant), 0) + 1
            return
        digest, known_s = hash(unit), _UNTIMED if time_s is None else time_s
        known = self._first.get(digest)
        if known is None:
            if self.room.left <= 0:
                return
            self.room.left -= 1
        if known is None or known_s < known[0]:
            self._first[digest] = (known_s, phase, variant)
        calls = self._calls.setdefault(variant, {})
        calls[digest] = calls.get(digest, 0) + 1

    def heaviest(self, variant: str) -> tuple[int, int]:
        """Calls of the variant's most active unit, and all of its calls."""
        return max(self._calls.get(variant, {}).values(), default=0), self._totals.get(variant, 0)

    def arrived(self, configured: Mapping[str, Mapping[str, float]]) -> Arrived:
        """Whether units arrived in these shares, by phase and variant: each where it was first seen."""
        counts: dict[str, dict[str, int]] = {}
        for (phase, variant), number in self._alone.items():
            counts.setdefault(phase, {})[variant] = number
        for _, phase, variant in self._first.values():
            arms = counts.setdefault(phase, {})
            arms[variant] = arms.get(variant, 0) + 1
        log_e = arrivals_log_e((counts.get(phase, {}), shares) for phase, shares in configured.items())
        return Arrived(sum(sum(arms.values()) for arms in counts.values()), log_e)
