"""Whether units arrived in the configured shares: each of them once in a rollout, where it was first seen."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise

from attrs import Factory, define

from rollout_sdk.analysis.report import PhaseShares, SharesReport
from rollout_sdk.stats import MISMATCH, arrivals_log_e

__all__ = ["Arrivals", "looks_at", "shares_of"]

_FIRST_LOOK, _LOOK_AGAIN = 100, 1.1
"""The evidence is looked at after so many units, and whenever there are so many times as many."""


@define
class Arrivals:
    """Where every unit of a rollout was first seen."""

    _times_s: dict[str, float] = Factory(dict)
    _arms: dict[str, tuple[str, str]] = Factory(dict)
    _buckets: dict[str, int] = Factory(dict)
    _seen: Mapping[int, Mapping[tuple[str, str], int]] | None = None

    def add(self, unit: str, time_s: float, arm: tuple[str, str], bucket: int) -> None:
        """See a unit in an arm (phase, variant), perhaps again: files are not read in order of time."""
        known_s = self._times_s.get(unit)
        if known_s is None:
            self._times_s[unit], self._arms[unit], self._buckets[unit] = time_s, arm, bucket
            return
        if time_s < known_s or (time_s == known_s and arm < self._arms[unit]):
            self._times_s[unit], self._arms[unit] = time_s, arm
        self._buckets[unit] = min(self._buckets[unit], bucket)

    def at(self, unit: str, arm: tuple[str, str]) -> tuple[float, int]:
        """When a unit was first seen, if it was in this arm (infinite if it was in another), and its bucket."""
        return self._times_s[unit] if self._arms[unit] == arm else math.inf, self._buckets[unit]

    def _first(self) -> Iterator[tuple[float, int, tuple[str, str]]]:
        """For each unit, when it was first seen, its bucket, and where that was."""
        for unit, arm in self._arms.items():
            yield self._times_s[unit], self._buckets[unit], arm

    def counted(self, seen: Mapping[int, Mapping[tuple[str, str], int]]) -> None:
        """Take what a database has counted in place of the units: by look, how many came in each arm since the one before."""
        self._seen = seen
        for units in self._times_s, self._arms, self._buckets:
            units.clear()

    def looks(self) -> Iterator[dict[str, Counter[str]]]:
        """Number of units by variant, for every phase, after more and more of them in order of time."""
        if self._seen is None:
            # Those of one moment in an order that has nothing to do with their arms, nor with that in which they were read.
            arms = [arm for *_, arm in sorted(self._first())]
            bounds = [0, *looks_at(len(arms)), len(arms)]
            steps = [Counter(arms[begin:end]) for begin, end in pairwise(bounds)]
        else:
            steps = [Counter(self._seen.get(look, {})) for look in range(max(self._seen, default=-1) + 1)]
        seen: Counter[tuple[str, str]] = Counter()
        for step in steps or [seen]:
            seen.update(step)
            yield _by_phase(seen)


def looks_at(units: int) -> list[int]:
    """After how many units their shares are looked at, of so many; and once more in the end."""
    found, look = [], _FIRST_LOOK
    while look <= units:
        found.append(look)
        look = math.ceil(look * _LOOK_AGAIN)
    return found


def _by_phase(seen: Mapping[tuple[str, str], int]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for (phase, variant), units in seen.items():
        found[phase][variant] = units
    return found


def shares_of(arrivals: Arrivals, configured: Mapping[str, Mapping[str, float]]) -> SharesReport:
    """What a report says about the shares of a rollout.

    The first alarm counts: its error probability is bounded, however the evidence goes on.

    Args:
        arrivals: Where its units were first seen.
        configured: Configured shares of every variant, by phase.
    """
    units: dict[str, Counter[str]] = {}
    log_e, highest = None, -math.inf
    for units in arrivals.looks():
        log_e = arrivals_log_e((units.get(phase, {}), shares) for phase, shares in configured.items())
        highest = highest if log_e is None else max(highest, log_e)
    phases = []
    for phase, shares in configured.items():
        arms = {variant: share for variant, share in shares.items() if share > 0}
        if len(arms) > 1 and phase in units:
            phases.append(PhaseShares(phase, {variant: units[phase][variant] for variant in arms}, arms))
    return SharesReport(tuple(phases), log_e, None if log_e is None else highest, MISMATCH, highest >= MISMATCH)
