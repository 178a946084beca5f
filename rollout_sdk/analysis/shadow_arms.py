"""The sums of one candidate's shadow runs in one phase, and what a report says of them."""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from attrs import Factory, define, frozen

from rollout_sdk.analysis.bounded import Counts, at, kept_name
from rollout_sdk.analysis.drift import Drift, drift_of
from rollout_sdk.records import ERRORS
from rollout_sdk.stats import MeanInterval, cohens_kappa, ratio_of_sums

__all__ = ["FieldReport", "LabelTable", "PairedMetric", "ShadowArm", "Sums", "add_to", "sums"]

Sums: TypeAlias = dict[str, list[float]]
"""For every unit, [sum of values, count]."""


def sums() -> Sums:
    """Nothing yet."""
    return defaultdict(lambda: [0.0, 0.0])


def add_to(values: Sums, unit: str, value: float, stands_for: int = 1) -> None:
    """Add a value of a unit, as that of so many."""
    pair = values[unit]
    pair[0] += value * stands_for
    pair[1] += stands_for


@frozen
class FieldReport:
    """One field of the answers, as `compare=Fields(...)` compared it.

    Attributes:
        field: Its path.
        compared: Pairs.
        mismatch: Share of them that differ.
        difference: Mean difference, where the comparator gave one.
        noise: Share of second runs of the control that differ from the first; None without such runs.
        reasons: Mismatches by why.
    """

    field: str
    compared: int
    mismatch: MeanInterval
    difference: MeanInterval
    noise: float | None
    reasons: Mapping[str, int]


@frozen
class LabelTable:
    """Which class became which.

    Attributes:
        labels: The classes, the most frequent first.
        counts: Pairs: row i and column j have class i from the control and class j from the candidate.
        kappa: Cohen's kappa; None where it is undefined, because there is one class.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    kappa: float | None


@frozen
class PairedMetric:
    """A metric of which both answers to a call have a value: from `measure=`, or a label recorded for each.

    Attributes:
        metric: Its name.
        pairs: Calls with both values.
        control: Mean of the control's values.
        candidate: Mean of the candidate's values.
        difference: Mean of candidate minus control, with the unit as the cluster.
        drift: How the distributions differ.
    """

    metric: str
    pairs: int
    control: float
    candidate: float
    difference: MeanInterval
    drift: Drift


@define
class _Field:
    matches: Sums = Factory(sums)
    differences: Sums = Factory(sums)
    reasons: Counts = Factory(Counts)


@define
class _Pairs:
    """Values of both answers, and the difference by unit."""

    ours: array[float] = Factory(lambda: array("d"))
    theirs: array[float] = Factory(lambda: array("d"))
    by_unit: Sums = Factory(sums)


@define
class ShadowArm:
    """The shadow runs of one candidate in one phase."""

    planned: int = 0
    ends: Counts = Factory(Counts)
    errors: Counts = Factory(Counts)
    not_copied: Counts = Factory(Counts)
    reasons: Counts = Factory(Counts)
    comparators: Counts = Factory(Counts)
    latency_s: array[float] = Factory(lambda: array("d"))
    control_latency_s: array[float] = Factory(lambda: array("d"))
    matches: Sums = Factory(sums)
    differences: Sums = Factory(sums)
    _fields: dict[str, _Field] = Factory(dict)
    _labels: Counter[tuple[str, str]] = Factory(Counter)
    _classes: Counts = Factory(Counts)
    _pairs: dict[str, _Pairs] = Factory(dict)

    def ended(self, record: Mapping[str, Any], many: int) -> None:
        """Add the end of a run, as that of so many."""
        self.ends.add(record["end"], many)
        if record.get("error") and record["end"] == "error":
            self.errors.add(record["error"], many)
        if record.get("error") and record["end"] == "dropped_snapshot":
            self.not_copied.add(record["error"], many)
        if record["end"] in ("ok", "error") and record.get("duration_s") is not None:
            self.latency_s.extend([record["duration_s"]] * many)
            if record.get("control_duration_s") is not None:
                self.control_latency_s.extend([record["control_duration_s"]] * many)
        if record.get("match") is not None:
            self._compared(record, record.get("unit") or record["id"], many)

    def _compared(self, record: Mapping[str, Any], unit: str, many: int) -> None:
        if record.get("difference_reason"):
            self.reasons.add(record["difference_reason"], many)
        if record.get("comparator") == ERRORS:
            # Of two runs of which one raised, nothing could be compared.
            return
        self.comparators.add(record.get("comparator", "default"), many)
        add_to(self.matches, unit, float(record["match"]), many)
        if record.get("difference") is not None:
            add_to(self.differences, unit, float(record["difference"]), many)
        for name, (match, difference, reason) in record.get("fields", {}).items():
            found = at(self._fields, name, _Field)
            add_to(found.matches, unit, float(match), many)
            if difference is not None:
                add_to(found.differences, unit, difference, many)
            if reason and not match:
                found.reasons.add(reason, many)
        if len(labels := record.get("labels", ())) == 2:
            ours, theirs = (kept_name(self._classes, label) for label in labels)
            for label in (ours, theirs):
                self._classes.add(label, many)
            self._labels[ours, theirs] += many

    def labelled(self, metric: str, unit: str, ours: float, theirs: float, many: int) -> None:
        """Add the values of both answers to a call, as those of so many."""
        pairs = at(self._pairs, metric, _Pairs)
        pairs.ours.extend([ours] * many)
        pairs.theirs.extend([theirs] * many)
        add_to(pairs.by_unit, unit, theirs - ours, many)

    def fields(self, again: ShadowArm | None) -> tuple[FieldReport, ...]:
        """The fields, each beside the control's second runs, if there are any."""
        return tuple(
            FieldReport(
                field=name,
                compared=int(sum(count for _, count in found.matches.values())),
                mismatch=ratio_of_sums(((count - total, count) for total, count in found.matches.values()), within=(0.0, 1.0)),
                difference=ratio_of_sums((total, count) for total, count in found.differences.values()),
                noise=None if again is None or name not in again._fields else _mismatch(again._fields[name].matches.values()),
                reasons=dict(found.reasons),
            )
            for name, found in self._fields.items()
        )

    @property
    def mismatch(self) -> float | None:
        """Share of the compared runs that do not match."""
        return _mismatch(self.matches.values())

    def table(self) -> LabelTable | None:
        """Which class became which; None without classes."""
        if not self._labels:
            return None
        names = tuple(name for name, _ in self._classes.most_common())
        counts = tuple(tuple(self._labels[ours, theirs] for theirs in names) for ours in names)
        kappa = cohens_kappa(counts)
        return LabelTable(names, counts, None if math.isnan(kappa) else kappa)

    def metrics(self) -> tuple[PairedMetric, ...]:
        """The metrics of which both answers have values."""
        return tuple(
            PairedMetric(
                metric=name,
                pairs=len(found.ours),
                control=math.fsum(found.ours) / len(found.ours),
                candidate=math.fsum(found.theirs) / len(found.theirs),
                difference=ratio_of_sums((total, count) for total, count in found.by_unit.values()),
                drift=drift_of(found.ours, found.theirs),
            )
            for name, found in sorted(self._pairs.items())
        )


def _mismatch(matches: Iterable[list[float]]) -> float | None:
    totals = list(matches)
    count = math.fsum(each[1] for each in totals)
    return 1 - math.fsum(each[0] for each in totals) / count if count else None
