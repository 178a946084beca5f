"""A rollout as it runs now: what its report says, and what of its operation is of processes that are still there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from attrs import frozen

from rollout_sdk.analysis.operations import Breaker, Operations
from rollout_sdk.analysis.report import RolloutReport
from rollout_sdk.doctor.writers import Source

__all__ = ["Operated", "operated"]


@frozen
class Operated:
    """One rollout.

    Attributes:
        sums: What the journal says of its operation.
        sets: Its reports, one for each fingerprint, in order of their first calls.
        places: Where it stands in processes that may still be there: number of them by (status, phase).
        fingerprints: Such processes by fingerprint.
        now: The time, in seconds since 1970.
        newest_s: Time of the newest record of every process; None for those that are still there.
    """

    sums: Operations
    sets: tuple[RolloutReport, ...]
    places: Mapping[tuple[str, str], int]
    fingerprints: Mapping[str, int]
    now: float
    newest_s: Mapping[str, float | None]

    @property
    def _current(self) -> RolloutReport | None:
        return next((each for each in reversed(self.sets) if each.status != "replaced"), self.sets[-1] if self.sets else None)

    @property
    def status(self) -> str:
        """Status of its newest set of arms."""
        return self._current.status if self._current is not None else "running"

    @property
    def control(self) -> str:
        """Name of the control."""
        return self._current.control if self._current is not None else "control"

    @property
    def excluded(self) -> Counter[str]:
        """Calls that are not analysed, by reason."""
        return sum((Counter(each.excluded) for each in self.sets), Counter())

    def opened(self, breaker: Breaker) -> tuple[int, float]:
        """In how many processes a breaker is open now, and the seconds that it was open, summed over the processes."""
        is_open, open_s = 0, breaker.open_s
        for process, since in breaker.open_since.items():
            newest_s = self.newest_s.get(process, since)
            is_open += newest_s is None
            open_s += max(0.0, (self.now if newest_s is None else newest_s) - since)
        return is_open, open_s


def operated(
    operations: Mapping[str, Operations], reports: Iterable[RolloutReport], files: Iterable[Source], now: float
) -> dict[str, Operated]:
    """The rollouts of a journal, by key, in order.

    Args:
        operations: Their sums, by key.
        reports: Their reports.
        files: The files of the journal.
        now: The time, in seconds since 1970.
    """
    newest_s: dict[str, float | None] = {}
    for source in files:
        known = newest_s.get(source.writer, 0.0)
        newest_s[source.writer] = None if source.active or known is None else max(known, source.newest_s or 0.0)
    sets: dict[str, list[RolloutReport]] = {}
    for report in reports:
        sets.setdefault(report.rollout, []).append(report)
    found = {}
    for key, sums in sorted(operations.items()):
        living = [place for process, place in sums.places.items() if newest_s.get(process, 0.0) is None]
        found[key] = Operated(
            sums=sums,
            sets=tuple(sets.get(key, ())),
            places=Counter((place.status, place.phase) for place in living),
            fingerprints=Counter(place.fingerprint for place in living if place.fingerprint),
            now=now,
            newest_s=newest_s,
        )
    return found
