"""Whether units arrived in the configured shares: each of them once in a rollout, where it was first seen."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from zlib import crc32

from attrs import Factory, define

from rollout_sdk.analysis.report import PhaseShares, SharesReport
from rollout_sdk.stats import MISMATCH, arrivals_log_e

__all__ = ["Arrivals", "shares_of"]

_FIRST_LOOK, _LOOK_AGAIN = 100, 1.1
"""The evidence is looked at after so many units, and whenever there are so many times as many."""


@define
class Arrivals:
    """Where every unit of a rollout was first seen."""

    _times_s: dict[str, float] = Factory(dict)
    _arms: dict[str, tuple[str, str]] = Factory(dict)

    def add(self, unit: str, time_s: float, arm: tuple[str, str]) -> None:
        """See a unit in an arm (phase, variant), perhaps again: files are not read in order of time."""
        known_s = self._times_s.get(unit)
        if known_s is None or time_s < known_s:
            self._times_s[unit] = time_s
            self._arms[unit] = arm

    def add_all(self, units: Sequence[str], times_s: Sequence[float], arm: tuple[str, str]) -> None:
        """See units in an arm."""
        if self._arms.keys().isdisjoint(units):
            self._times_s.update(zip(units, times_s, strict=True))
            self._arms.update(zip(units, repeat(arm)))
        else:
            for unit, time_s in zip(units, times_s, strict=True):
                self.add(unit, time_s, arm)

    def looks(self) -> Iterator[dict[str, Counter[str]]]:
        """Number of units by variant, for every phase, after more and more of them in order of time."""
        # Those of one moment in an order that has nothing to do with their arms, nor with the order in which they were read.
        order = sorted(sorted(self._arms, key=_scrambled), key=self._times_s.__getitem__)
        arms = [self._arms[unit] for unit in order]
        seen: Counter[tuple[str, str]] = Counter()
        begin, look = 0, _FIRST_LOOK
        while look <= len(arms):
            seen.update(arms[begin:look])
            begin, look = look, math.ceil(look * _LOOK_AGAIN)
            yield _by_phase(seen)
        seen.update(arms[begin:])
        yield _by_phase(seen)


def _scrambled(unit: str) -> tuple[int, str]:
    return crc32(unit.encode(errors="surrogatepass")), unit


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
