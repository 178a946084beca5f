"""Preferences between both answers to one call: a judge's, on many pairs, and people's, on a random few of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rollout_sdk.judging.pairs import UNCOMPARED
from rollout_sdk.judging.phase_evidence import PhaseEvidence, Sums
from rollout_sdk.records.sampling import lot_of
from rollout_sdk.stats import StratifiedBuckets

__all__ = [
    "ASKED",
    "FIRST",
    "JUDGED",
    "JUDGE_FAILED",
    "PEOPLE",
    "UNJUDGED",
    "add_preference",
    "is_drawn_for_people",
    "label_of",
    "preferences",
]

JUDGED, ASKED, PEOPLE, FIRST = "judged", "judged, and drawn for people", "people", "the answer shown first"
"""Arms of the sums: the judge's preferences on all pairs, on the pairs drawn for people, people's own on these, and how far the
judge prefers the answer that it sees first."""

JUDGE_FAILED = "judge.failed"
"""Metric of a pair that the judge was to compare, and did not; its details say why."""

UNJUDGED = f"{UNCOMPARED}by the judge: "
"""Prefix of the count of such pairs, beside the ends of shadow runs."""

_AUDIT = "audit"


def is_drawn_for_people(decision: str, share: float) -> bool:
    """Whether people look at the pairs of this decision: drawn by its id, so every process knows it, at any time."""
    return lot_of(decision, _AUDIT) < share


def label_of(candidate: str) -> str:
    """Label of a candidate's preferences among the sums of a phase."""
    return f"judge.preference for {candidate}"


def add_preference(
    phase: PhaseEvidence,
    name: str,
    candidate: str,
    value: float,
    *,
    decision: str,
    audit: float,
    source: str,
    details: Mapping[str, Any],
    bucket: int,
    time_s: float,
) -> bool:
    """Add a preference for the candidate, from -1 to 1; return whether it counts.

    A label counts only if its pair was drawn: pairs that people choose themselves are not a random sample.

    Args:
        phase: Evidence of the phase.
        name: Name of the phase.
        candidate: Name of the candidate.
        value: The preference.
        decision: Id of the decision.
        audit: Share of the pairs that people look at.
        source: "judge" or "human".
        details: Of a judge: which variant's answer it saw `first`.
        bucket: The unit's bucket.
        time_s: Time of the decision.
    """
    is_drawn = is_drawn_for_people(decision, audit)
    sums = phase.sums.setdefault(label_of(candidate), Sums())
    if source != "judge":
        if is_drawn:
            sums.add(name, PEOPLE, bucket, value, 1.0, time_s)
        return is_drawn
    sums.add(name, JUDGED, bucket, value, 1.0, time_s)
    if is_drawn:
        sums.add(name, ASKED, bucket, value, 1.0, time_s)
    if (first := details.get("first")) is not None:
        sums.add(name, FIRST, bucket, value if first == candidate else -value, 1.0, time_s)
    return True


def preferences(phases: Iterable[tuple[str, PhaseEvidence]], candidate: str) -> StratifiedBuckets:
    """Return the sums of preferences over all phases, by the arms of this module."""
    whole = StratifiedBuckets()
    for _, phase in phases:
        sums = phase.sums.get(label_of(candidate))
        for each in () if sums is None else sums.slices.values():
            whole.merge(each)
    return whole
