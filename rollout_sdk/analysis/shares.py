"""Whether units arrived in the configured shares: each of them once in a rollout, where it was first seen."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
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

    _first: dict[str, tuple[float, str, str]] = Factory(dict)

    def add(self, unit: str, time_s: float, phase: str, variant: str) -> None:
        """See a unit, perhaps again: files are not read in order of time."""
        known = self._first.get(unit)
        if known is None or time_s < known[0]:
            self._first[unit] = (time_s, phase, variant)

    def looks(self) -> Iterator[dict[str, Counter[str]]]:
        """Number of units by variant, for every phase, after more and more of them in order of time."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        look = _FIRST_LOOK
        # Those of one moment in an order that has nothing to do with their arms, nor with the order in which they were read.
        order = sorted((first[0], crc32(unit.encode(errors="surrogatepass")), first) for unit, first in self._first.items())
        for number, (_, _, (_, phase, variant)) in enumerate(order, 1):
            found[phase][variant] += 1
            if number == look:
                look = math.ceil(look * _LOOK_AGAIN)
                yield found
        yield found


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
