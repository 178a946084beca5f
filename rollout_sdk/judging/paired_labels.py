"""Outcomes of shadows: the values of both answers to one call, paired by the decision's id."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from rollout_sdk.judging.e_values import MIN_EVENTS, MIN_UNITS
from rollout_sdk.judging.phase_evidence import UNCOMPARED, PhaseEvidence, Sums
from rollout_sdk.stats import StratifiedBuckets

__all__ = [
    "CONTROL",
    "PairedLabels",
    "about_halves",
    "add_labels",
    "add_pair",
    "halves",
    "pair_sums",
    "pair_sums_of",
    "paired_numbers",
]

CONTROL, _DIFFERING = "control's answer", "pairs that differ"
"""Arms of the sums of pairs, beside the candidate."""

_HALF = f"{UNCOMPARED}label of "
"""Prefix of the count of a candidate's values that wait for the control's."""

_MOST_WAITING = 100_000
_FEW = 3.0


class PairedLabels:
    """Values that wait for that of the other answer to the same call; the latest ones are kept."""

    def __init__(self) -> None:
        """Start without values."""
        self._waiting: OrderedDict[tuple[str, str], dict[str, float]] = OrderedDict()

    def has(self, metric: str, decision: str, arm: str) -> bool:
        """Whether the value of this answer is known."""
        return arm in self._waiting.get((metric, decision), ())

    def pairs(self, metric: str, decision: str, arm: str, value: float) -> list[tuple[str, float, float]]:
        """Add a value; return the pairs that it completes: the candidate, the control's value and the candidate's.

        Args:
            metric: The metric.
            decision: Identifies the decision.
            arm: The candidate, or `CONTROL`.
            value: The value; only the first of an answer counts.
        """
        values = self._waiting.setdefault((metric, decision), {})
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.popitem(last=False)
        if arm in values:
            return []
        values[arm] = value
        if CONTROL not in values:
            return []
        candidates = [each for each in values if each != CONTROL] if arm == CONTROL else [arm]
        return [(each, values[CONTROL], values[each]) for each in candidates]


def _label(label: str, candidate: str) -> str:
    return f"{label} of the shadow {candidate}"


def pair_sums(phase: PhaseEvidence, label: str, candidate: str) -> Sums | None:
    """Return the sums of a candidate's pairs in a phase."""
    return phase.sums.get(_label(label, candidate))


def pair_sums_of(phase: PhaseEvidence, label: str) -> list[Sums]:
    """Return the sums of pairs of all candidates in a phase."""
    return [sums for name, sums in phase.sums.items() if name.startswith(_label(label, ""))]


def halves(phases: Iterable[tuple[str, PhaseEvidence]], label: str, candidate: str) -> int:
    """Return the number of a candidate's values whose other half, the control's, is missing in the process that has them."""
    return sum(phase.ends.get((candidate, _HALF + label), 0) for _, phase in phases)


def about_halves(candidate: str, numbers: Mapping[str, Any]) -> str:
    """Explain that values lack their other half; empty if none does."""
    if not numbers.get("halves"):
        return ""
    return (
        f" {numbers['halves']:,} values of answers of {candidate} are not counted, because the value of the control's answer "
        "to the same call is missing, or was recorded in another process: record both in one."
    )


def add_labels(
    labels: PairedLabels,
    phase: PhaseEvidence,
    name: str,
    label: str,
    value: tuple[str, str, str, float],
    *,
    bucket: int,
    decided_s: float,
    slice_s: float,
) -> None:
    """Add a value, and the pairs that it completes; count it if it is a candidate's and has to wait.

    Args:
        labels: The values that wait.
        phase: Evidence of the phase.
        name: Its name.
        label: Label of the criterion.
        value: Metric, decision, arm (the candidate, or `CONTROL`) and value.
        bucket: The unit's bucket.
        decided_s: Time of the decision.
        slice_s: Seconds of a slice of the sums.
    """
    _, _, arm, _ = value
    is_known, pairs = labels.has(*value[:3]), labels.pairs(*value)
    for pair in pairs:
        add_pair(phase, name, label, pair, bucket=bucket, decided_s=decided_s, slice_s=slice_s)
        if arm == CONTROL:
            phase.ends[pair[0], _HALF + label] -= 1
    if arm != CONTROL and not pairs and not is_known:
        phase.ends[arm, _HALF + label] += 1


def add_pair(
    phase: PhaseEvidence,
    name: str,
    label: str,
    pair: tuple[str, float, float],
    *,
    bucket: int,
    decided_s: float,
    slice_s: float,
) -> None:
    """Add a pair to the sums of a phase."""
    candidate, ours, theirs = pair
    sums = phase.sums.setdefault(_label(label, candidate), Sums(slice_s))
    sums.add(name, candidate, bucket, theirs, 1.0, decided_s)
    sums.add(name, CONTROL, bucket, ours, 1.0, decided_s)
    sums.add(name, _DIFFERING, bucket, float(ours != theirs), 1.0, decided_s)


def paired_numbers(
    phases: Iterable[tuple[str, PhaseEvidence]], label: str, candidate: str, until_s: float | None
) -> tuple[StratifiedBuckets, dict[str, Any]]:
    """Return the sums of a candidate's pairs over all phases, and the mean difference with its precision.

    While few pairs differ, the standard error is not taken below that of a few more, each as large as the means: equal answers
    become certain only with their number.
    """
    whole = StratifiedBuckets()
    for _, phase in phases:
        sums = pair_sums(phase, label, candidate)
        for each in () if sums is None else sums.until(until_s):
            whole.merge(each)
    found = whole.difference(candidate, CONTROL, paired=True)
    totals = {arm: _totals(whole, arm) for arm in (candidate, CONTROL, _DIFFERING)}
    pairs, differing = totals[CONTROL][1], totals[_DIFFERING][0]
    units = min(pairs, float(found.n_units_hint))
    error = found.std_error if math.isfinite(found.std_error) else None
    if units and differing < MIN_EVENTS and error is not None:
        size = max(abs(totals[arm][0] / pairs) for arm in (candidate, CONTROL))
        error = max(error, size * math.sqrt(differing + _FEW) / units)
    return whole, {
        "estimate": found.estimate,
        "std_error": error,
        "df": found.df,
        "weight": found.weight,
        "pairs": pairs,
        "differing": differing,
        "seen_units": round(units),
        "enough_units": units >= MIN_UNITS,
    }


def _totals(sums: StratifiedBuckets, arm: str) -> tuple[float, float]:
    totals = [sums.totals(phase, arm) for phase in sums.phases()]
    return math.fsum(value for value, _ in totals), math.fsum(weight for _, weight in totals)
