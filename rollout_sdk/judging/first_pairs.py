"""Which units gave different answers in their first compared pair: independent draws, one per unit, for exact tests.

The pairs of one unit are alike, so they are not independent; a unit's first pair is. Evidence of several processes is merged
without counting a unit twice: a unit that two processes have seen counts by the earlier of its pairs.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field

from rollout_sdk.judging.unit_sample import UnitSample

__all__ = ["FirstPairs", "first_pairs"]


@define
class FirstPairs:
    """The first pair of every unit.

    Attributes:
        seen: Units with a compared pair, with the minute of the first.
        differing: Those of them whose first pair differs, with its minute.
    """

    seen: UnitSample = field(factory=UnitSample)
    differing: UnitSample = field(factory=UnitSample)

    def add(self, cell: int, minute: int, *, differs: bool) -> None:
        """Add a pair; later pairs of a unit change nothing."""
        if cell in self.seen.first:
            return
        self.seen.add(cell, minute)
        if differs and cell in self.seen.first:
            self.differing.add(cell, minute)


def first_pairs(phases: Iterable[FirstPairs]) -> tuple[int, int]:
    """Return the number of units whose first pair differs, and of all units, each counted once in the rollout.

    Args:
        phases: The first pairs by phase, in order.
    """
    listed = list(phases)
    level = max((sample.level for each in listed for sample in (each.seen, each.differing)), default=0)
    known: set[int] = set()
    events = 0
    for each in listed:
        seen, differing = each.seen.at(level), each.differing.at(level)
        new = seen.keys() - known
        events += sum(differing.get(cell) == seen[cell] for cell in new)
        known |= new
    return events, len(known)
