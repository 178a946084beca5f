"""The units of a journal by a database: what the statistics need of them, without any of them in Python.

What the Python reader has read of them goes into the database first, so that each unit is counted once, however its calls were
written.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from rollout_sdk.analysis.arms import Arm, Gathered
from rollout_sdk.analysis.gather import Gatherer
from rollout_sdk.analysis.relations import Relations
from rollout_sdk.analysis.report import CrossedReport
from rollout_sdk.analysis.sets import beside_of
from rollout_sdk.analysis.shares import looks_at
from rollout_sdk.analysis.unit_sums import MetricSums, UnitSums
from rollout_sdk.stats.clusters import Kind

__all__ = ["ReducedUnits"]

_MOST_UNITS = 10**12
_PLACES = {"arm": "INTEGER", "of_set": "INTEGER", "place": "INTEGER", "phase": "STRING", "variant": "STRING"}
_UNITS = {"arm": "INTEGER", "cluster": "STRING", "calls": "BIGINT", "first_s": "DOUBLE", "bucket": "INTEGER"}
_OUTCOMES = {
    "arm": "INTEGER", "metric": "STRING", "cluster": "STRING", "total": "DOUBLE", "outcomes": "DOUBLE", "low": "DOUBLE",
    "high": "DOUBLE",
}  # fmt: skip
_LOOKS = {"look": "INTEGER", "after_units": "BIGINT", "until_units": "BIGINT"}
_BESIDE = {"of_set": "INTEGER", "other_set": "INTEGER"}


class ReducedUnits:
    """The units of every arm of a journal, counted by the database."""

    def __init__(self, relations: Relations) -> None:
        """Count none yet."""
        self._relations = relations
        self._numbers: dict[int, int] = {}
        self._named: dict[int, tuple[Arm, str]] = {}

    def add(self, number: int, arm: Arm) -> bool:
        """Take an arm that has this number in the database; False where another number has it already."""
        return self._numbers.setdefault(id(arm), number) == number

    def named(self, number: int) -> tuple[Arm, str] | None:
        """The arm with a number, and its variant; None where it was left out."""
        return self._named.get(number)

    def count(self, gatherer: Gatherer) -> None:
        """Count the units of all arms, together with those that the gatherer has."""
        gatherer.join_units()
        sets = sorted(gatherer.sets.items())
        relations = self._relations
        relations.keep("places", _PLACES, list(self._places(sets)))
        relations.keep("read_units", _UNITS, list(self._read_units(sets)))
        relations.keep("read_outcomes", _OUTCOMES, list(self._read_outcomes(sets)))
        relations.count_units()
        for arm, _ in self._named.values():
            arm.units, arm.summed = Counter(), UnitSums()
            arm.outcomes.clear()
        self._sums()
        self._arrivals(sets)
        self._crossing(sets)
        self._shared(sets)

    def _places(self, sets: list[tuple[Any, Gathered]]) -> Iterator[tuple[int, int, int, str, str]]:
        """The arms in the order of their phases and variants; those that only the Python reader has seen get other numbers."""
        following = max(self._numbers.values(), default=0) + 1
        for of_set, (_, gathered) in enumerate(sets):
            for place, ((phase, variant), arm) in enumerate(sorted(gathered.arms.items(), key=lambda each: each[0])):
                number = self._numbers.get(id(arm), following)
                following += number == following
                self._numbers[id(arm)] = number
                self._named[number] = arm, variant
                yield number, of_set, place, phase, variant

    def _read_units(self, sets: list[tuple[Any, Gathered]]) -> Iterator[tuple[int, str, int, float, int]]:
        for _, gathered in sets:
            for where, arm in gathered.arms.items():
                number = self._numbers[id(arm)]
                for unit, calls in arm.units.items():
                    yield number, unit, calls, *gathered.arrivals.at(unit, where)

    def _read_outcomes(self, sets: list[tuple[Any, Gathered]]) -> Iterator[tuple[int, str, str, float, float, float, float]]:
        for _, gathered in sets:
            for arm in gathered.arms.values():
                number = self._numbers[id(arm)]
                for metric, sums in arm.outcomes.items():
                    for unit, (total, count) in sums.items():
                        yield number, metric, unit, total, count, *arm.ranges[metric]

    def _sums(self) -> None:
        reduced = self._relations.reduced
        for number, calls, units in reduced("units"):
            if (sums := self._of(number)) is not None:
                sums.calls[calls] = units
        for number, metric, calls, *row, several in reduced("per_call"):
            if (sums := self._of(number)) is not None:
                found = sums.metrics.setdefault(metric, MetricSums())
                found.per_call.append(_kind(calls, row))
                found.is_single &= not several
        for number, metric, outcomes, *row, low, high in reduced("per_outcome"):
            if (sums := self._of(number)) is not None:
                sums.metrics.setdefault(metric, MetricSums()).per_outcome.append(_kind(outcomes, row))
                self._named[number][0].extend_range(metric, low, high)
        for arm, _ in self._named.values():
            if arm.summed is not None:
                arm.summed.complete()

    def _of(self, number: int) -> UnitSums | None:
        found = self._named.get(number)
        return None if found is None else found[0].summed

    def _arrivals(self, sets: list[tuple[Any, Gathered]]) -> None:
        bounds = [0, *looks_at(_MOST_UNITS), 1 << 62]
        self._relations.keep("looks", _LOOKS, [(look, *each) for look, each in enumerate(pairwise(bounds))])
        counted: dict[int, dict[int, dict[tuple[str, str], int]]] = defaultdict(lambda: defaultdict(dict))
        order = [sorted(gathered.arms) for _, gathered in sets]
        for of_set, look, place, units in self._relations.reduced("arrivals"):
            counted[of_set][look][order[of_set][place]] = units
        for of_set, (_, gathered) in enumerate(sets):
            gathered.arrivals.counted(counted.get(of_set, {}))

    def _crossing(self, sets: list[tuple[Any, Gathered]]) -> None:
        crossed = {of_set: (int(in_phase), int(between)) for of_set, in_phase, between in self._relations.reduced("crossed")}
        units = dict(self._relations.reduced("persons"))
        for of_set, (_, gathered) in enumerate(sets):
            gathered.crossing = CrossedReport(units.get(of_set, 0), *crossed.get(of_set, (0, 0)))

    def _shared(self, sets: list[tuple[Any, Gathered]]) -> None:
        """Count the units that sets of one rollout share, of those that a report compares."""
        rollouts: dict[str, dict[str, Gathered]] = defaultdict(dict)
        numbers = {which: of_set for of_set, (which, _) in enumerate(sets)}
        for (rollout, fingerprint), gathered in sets:
            rollouts[rollout][fingerprint] = gathered
            gathered.shared = {}
        pairs = {
            (numbers[rollout, mine], numbers[rollout, other]): (gathered, other)
            for rollout, of_rollout in rollouts.items()
            for mine, gathered in of_rollout.items()
            for other in beside_of(mine, of_rollout)
        }
        if not pairs:
            return
        self._relations.keep("beside", _BESIDE, list(pairs))
        for mine, other, units, switched in self._relations.reduced("shared"):
            gathered, fingerprint = pairs[mine, other]
            if gathered.shared is not None:
                gathered.shared[fingerprint] = units, int(switched)


def _kind(count: float, row: list[Any]) -> Kind:
    """What the database says of the units with one count."""
    units, mean, squares, low, high, zeros, full = row
    # Rounding must not count as variance, and values too large to be added have no mean.
    if low == high or mean is None or not math.isfinite(mean):
        mean, squares = low, 0.0
    return Kind(count, units, mean, float(squares), low, high, int(zeros), int(full))
