"""Whether units arrived in the configured shares: each of them once in a rollout, where it was first seen."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from attrs import Factory, define

from rollout_sdk.analysis.report import PhaseShares, SharesReport
from rollout_sdk.stats import MISMATCH, arrivals_log_e

__all__ = ["Arrivals", "shares_of"]


@define
class Arrivals:
    """Where every unit of a rollout was first seen."""

    _first: dict[str, tuple[float, str, str]] = Factory(dict)

    def add(self, unit: str, time_s: float, phase: str, variant: str) -> None:
        """See a unit, perhaps again: files are not read in order of time."""
        known = self._first.get(unit)
        if known is None or time_s < known[0]:
            self._first[unit] = (time_s, phase, variant)

    def by_phase(self) -> dict[str, Counter[str]]:
        """Number of units by variant, for every phase."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for _, phase, variant in self._first.values():
            found[phase][variant] += 1
        return found


def shares_of(arrivals: Arrivals, configured: Mapping[str, Mapping[str, float]]) -> SharesReport:
    """What a report says about the shares of a rollout.

    Args:
        arrivals: Where its units were first seen.
        configured: Configured shares of every variant, by phase.
    """
    units, phases = arrivals.by_phase(), []
    for phase, shares in configured.items():
        arms = {variant: share for variant, share in shares.items() if share > 0}
        if len(arms) > 1 and phase in units:
            phases.append(PhaseShares(phase, {variant: units[phase][variant] for variant in arms}, arms))
    log_e = arrivals_log_e((phase.units, phase.configured) for phase in phases)
    return SharesReport(tuple(phases), log_e, MISMATCH, log_e is not None and log_e >= MISMATCH)
