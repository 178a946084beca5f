"""What the statistics need of an arm's units, without each of them: how many have each count, and the values of those."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from attrs import Factory, define

from rollout_sdk.stats.clusters import Kind, kinds_of

__all__ = ["MetricSums", "UnitSums", "metric_sums"]

_NOTHING = (0.0, 0.0)


@define
class MetricSums:
    """One recorded metric of an arm.

    Attributes:
        per_call: Its units by number of calls, with the sums of their values; those without a value are among them.
        per_outcome: The units with a value, by number of outcomes.
        is_single: Whether no unit has more outcomes than calls.
    """

    per_call: list[Kind] = Factory(list)
    per_outcome: list[Kind] = Factory(list)
    is_single: bool = True

    @property
    def labelled(self) -> int:
        """How many units have a value."""
        return sum(kind.many for kind in self.per_outcome)

    @property
    def outcomes(self) -> int:
        """How many values there are."""
        return int(sum(kind.many * kind.count for kind in self.per_outcome))

    @property
    def units(self) -> dict[float, int]:
        """How many units have each number of outcomes."""
        return {kind.count: kind.many for kind in self.per_outcome}


@define
class UnitSums:
    """The units of an arm.

    Attributes:
        calls: How many units have each number of calls.
        metrics: The recorded metrics.
    """

    calls: dict[float, int] = Factory(dict)
    metrics: dict[str, MetricSums] = Factory(dict)

    @property
    def units(self) -> int:
        """How many there are."""
        return sum(self.calls.values())

    @property
    def total(self) -> int:
        """Calls of all of them."""
        return int(sum(calls * units for calls, units in self.calls.items()))

    def of(self, metric: str) -> MetricSums:
        """The sums of a metric, which no unit may have a value of."""
        found = self.metrics.get(metric)
        return MetricSums([_without_value(*each) for each in self.calls.items()]) if found is None else found

    def complete(self) -> None:
        """Add the units without a value to each metric's units, where only those with one are there."""
        for sums in self.metrics.values():
            labelled: Counter[float] = Counter()
            for kind in sums.per_call:
                labelled[kind.count] += kind.many
            for calls, units in self.calls.items():
                if without := units - labelled[calls]:
                    sums.per_call.append(_without_value(calls, without))


def _without_value(calls: float, units: int) -> Kind:
    return Kind(calls, units, 0.0, 0.0, 0.0, 0.0, units, 0 if calls else units)


def metric_sums(calls: Mapping[str, int], pairs: Mapping[str, Iterable[float]]) -> MetricSums:
    """The sums of a metric.

    Args:
        calls: The calls of each unit of the arm.
        pairs: For each unit with a value, their sum, and how many there are.
    """
    sums = {unit: (total, count) for unit, (total, count) in pairs.items()}
    return MetricSums(
        kinds_of(((sums.get(unit, _NOTHING)[0], many) for unit, many in calls.items()), 1.0),
        kinds_of(sums.values(), 1.0),
        all(count <= calls[unit] for unit, (_, count) in sums.items()),
    )
