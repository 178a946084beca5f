"""The outcomes of a journal, read before its calls: each once, and addressed to a call or to a unit."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sized
from typing import Any, TypeAlias

from attrs import Factory, define, frozen

from rollout_sdk.analysis.bounded import Counts, at, kept_name
from rollout_sdk.analysis.facts import identity_in, set_of, stands_for
from rollout_sdk.interleaving.pages import item_of

__all__ = [
    "MOST_METRICS",
    "MOST_SETS",
    "OVER_THE_LIMIT",
    "Joined",
    "Outcome",
    "Outcomes",
    "Set",
    "ShadowOutcome",
    "Visit",
]

OVER_THE_LIMIT = "over the limit"
"""Why lines are skipped that would fill the memory."""

MOST_SETS = 1_000
MOST_METRICS = 1_000
_LONGEST_METRIC = 1_000

Outcome: TypeAlias = tuple[str, float, str | int | None, int, float]
"""Metric, value, the item or its position, how many outcomes it stands for, and its time."""
ShadowOutcome: TypeAlias = tuple[str, str, float]
"""The shadow's variant, metric and value."""
Visit: TypeAlias = tuple[float, str, str, str, bool, int, str, int]
"""Time, fingerprint, phase, variant, whether it is excluded, its bucket, and the call's id, or its number in a database."""
Set: TypeAlias = tuple[str, str]
"""Key of a rollout, and a fingerprint: what makes a set of arms that is pooled with no other."""


@frozen
class Joined:
    """An outcome of a unit, and the call that it goes to: the unit's last one before it."""

    rollout: str
    unit: str
    fingerprint: str
    phase: str
    variant: str
    excluded: bool
    bucket: int
    decision: str
    call: int
    metric: str
    value: float
    stands_for: int
    time_s: float


@define
class Outcomes:
    """The outcomes that are not yet with their calls.

    Attributes:
        recorded: Outcomes by rollout, each once.
        problems: Outcomes that can be used with no call, by rollout and why.
    """

    recorded: Counter[str] = Factory(Counter)
    problems: dict[str, Counts] = Factory(dict)
    _metrics: set[str] = Factory(set)
    _seen: set[int] = Factory(set)
    _by_decision: dict[str, list[Outcome]] = Factory(lambda: defaultdict(list))
    _of_shadows: dict[str, list[ShadowOutcome]] = Factory(lambda: defaultdict(list))
    _by_unit: dict[tuple[str, str], list[tuple[float, str, float, int]]] = Factory(lambda: defaultdict(list))
    _visits: dict[tuple[str, str], list[Visit]] = Factory(lambda: defaultdict(list))
    _set_of: dict[str, Set] = Factory(dict)

    def add(self, record: dict[str, Any]) -> Set | None:
        """Add an outcome; returns the set of one that was added before."""
        rollout, metric, value = record["rollout"], record["metric"], float(record["value"])
        identity = identity_in(record)
        if identity in self._seen:
            if "fingerprint" in record:
                return set_of(record)
            self.problem(rollout, "duplicate")
            return None
        self._seen.add(identity)
        if metric not in self._metrics:
            if len(self._metrics) >= MOST_METRICS or len(metric) > _LONGEST_METRIC:
                self.problem(rollout, OVER_THE_LIMIT)
                return None
            self._metrics.add(metric)
        self.recorded[kept_name(self.recorded, rollout, MOST_SETS)] += 1
        many = stands_for(record)
        if record.get("shadow") and isinstance(record.get("id"), str):
            self._of_shadows[record["id"]].append((record.get("variant", ""), metric, value))
            self._set_of[record["id"]] = set_of(record)
        elif isinstance(record.get("id"), str):
            self._by_decision[record["id"]].append((metric, value, item_of(record), many, record.get("t", 0.0)))
            self._set_of[record["id"]] = set_of(record)
        elif isinstance(record.get("unit"), str):
            self._by_unit[rollout, record["unit"]].append((record.get("t", 0.0), metric, value, many))
        else:
            self.problem(rollout, "no address")
        return None

    def keep(
        self,
        rollout: str,
        fingerprint: str,
        decision_id: str,
        metric: str,
        value: float,
        item: str | int | None,
        many: int,
        time_s: float,
    ) -> None:
        """Add an outcome of a call, of which it is known that it was not added before."""
        self.recorded[kept_name(self.recorded, rollout, MOST_SETS)] += 1
        self._by_decision[decision_id].append((metric, value, item, many, time_s))
        self._set_of[decision_id] = rollout, fingerprint

    def decisions(self) -> list[str]:
        """Ids of the calls that outcomes are of."""
        return list(self._by_decision)

    def of(self, decision_id: str) -> list[Outcome]:
        """Take the outcomes of a call."""
        return self._by_decision.pop(decision_id, [])

    def awaits(self, rollout: str, unit: str | None) -> bool:
        """Whether outcomes of a unit may go to its calls."""
        return unit is not None and (rollout, unit) in self._by_unit

    def units(self) -> list[tuple[str, str]]:
        """Rollout and unit of the outcomes of units."""
        return list(self._by_unit)

    def visited(self, rollout: str, unit: str, visit: Visit) -> None:
        """Remember a call of a unit."""
        self._visits[rollout, unit].append(visit)

    def problem(self, rollout: str, why: str, many: int = 1) -> None:
        """Count outcomes that can be used with no call."""
        at(self.problems, rollout, Counts, MOST_SETS).add(why, many)

    def of_call(self, record: dict[str, Any]) -> list[Outcome]:
        """Take the outcomes of a call, and remember the call where there are outcomes of its unit."""
        rollout, unit = record["rollout"], record.get("unit")
        if unit is not None and (rollout, unit) in self._by_unit:
            visit = record.get("t", 0.0), record.get("fingerprint", ""), record["phase"], record["variant"]
            self._visits[rollout, unit].append((*visit, bool(record.get("excluded")), record.get("bucket", 0), record["id"], 0))
        return self.of(record["id"])

    def of_shadows(self, record: dict[str, Any]) -> list[ShadowOutcome]:
        """Take the outcomes of the answers that shadows gave to a call."""
        return self._of_shadows.pop(record["id"], [])

    def joined(self) -> Iterator[Joined]:
        """Take the outcomes of units, each with the unit's last call before it."""
        by_unit, self._by_unit = self._by_unit, defaultdict(list)
        for (rollout, unit), outcomes in by_unit.items():
            visits = sorted(self._visits.get((rollout, unit), ()))
            times = [visit[0] for visit in visits]
            for time_s, metric, value, many in outcomes:
                index = bisect_right(times, time_s) - 1
                if index < 0:
                    self.problem(rollout, "unit without an earlier call")
                else:
                    yield Joined(rollout, unit, *visits[index][1:], metric, value, many, time_s)

    def unknown(self) -> Iterator[tuple[Set, int]]:
        """How many outcomes are of calls that were not read, by set."""
        lefts: tuple[Mapping[str, Sized], ...] = self._by_decision, self._of_shadows
        for left in lefts:
            for decision_id, outcomes in left.items():
                yield self._set_of[decision_id], len(outcomes)
