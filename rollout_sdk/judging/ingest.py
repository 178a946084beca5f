"""Adds events to the evidence; a service's calls and its journal's lines are counted by the same code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from attrs import frozen

from rollout_sdk.judging.evidence import Evidence
from rollout_sdk.judging.unit_sample import cell_of
from rollout_sdk.records import ERRORS, UNMEASURED, RecordedEvent, RoutedEvent, ShadowedEvent

__all__ = [
    "AddOutcome",
    "add_call",
    "add_outcome",
    "add_routed",
    "add_shadowed",
    "first_item_of",
    "has_two_answers",
    "unit_cell",
]

_SHADOW_ENDS = {"ok": False, "error": True, "timeout": True}


def unit_cell(unit: str | None, decision_id: str) -> int:
    """Return the cell of a unit's pseudonym; for a call without a unit, one derived from its id."""
    if unit is None:
        return cell_of(hash_of(decision_id))
    try:
        return cell_of(int(unit, 16))
    # Another program wrote the line; hash its unit, so that it is the same wherever it occurs.
    except ValueError:
        return cell_of(hash_of(unit))


def hash_of(decision_id: str) -> int:
    """Return a 64-bit hash of an id, identical in every process."""
    return int.from_bytes(blake2b(decision_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def first_item_of(runs: Sequence[Sequence[Any]]) -> float | None:
    """Seconds until the caller received the first item, by the runs as in the journal; None if there was none."""
    if not runs or runs[-1][3] is None:
        return None
    first_item_s: float = sum(run[1] for run in runs[:-1]) + runs[-1][3]
    return first_item_s


def add_routed(evidence: Evidence, event: RoutedEvent, exposure: Mapping[str, float]) -> None:
    """Add a call; calls that are not analysed are ignored.

    Calls in a phase that only shadows its candidate enter the evidence in pairs, through `add_shadowed`.

    Args:
        evidence: The evidence to add to.
        event: The call.
        exposure: Share of the phase's calls in which each arm is exposed.
    """
    decision = event.decision
    add_call(
        evidence,
        exposure,
        phase=decision.phase,
        arm=decision.variant,
        decision=decision.id,
        bucket=decision.bucket,
        time_s=decision.time_s,
        runs=[(run.variant, run.duration_s, run.error, run.first_item_s) for run in event.runs],
        unit=event.unit,
        excluded=event.excluded,
        no_evidence=event.no_evidence,
        withheld=event.withheld,
        answered=event.answered,
        closed_early=event.closed_early,
        unmeasured=event.unmeasured,
        covariate=event.covariate,
    )


def add_call(
    evidence: Evidence,
    exposure: Mapping[str, float],
    *,
    phase: str,
    arm: str,
    decision: str,
    bucket: int,
    time_s: float,
    runs: Sequence[Sequence[Any]],
    unit: str | None,
    excluded: bool = False,
    no_evidence: bool = False,
    withheld: str | None = None,
    answered: bool = False,
    closed_early: bool = False,
    unmeasured: str | None = None,
    covariate: float | None = None,
) -> None:
    """Add a call by its fields, as `add_routed` does with an event: creating the event takes longer than adding it.

    Args:
        evidence: The evidence to add to.
        exposure: Share of the phase's calls in which each arm is exposed.
        phase: Phase of the decision.
        arm: Its variant.
        decision: Its id.
        bucket: Its bucket.
        time_s: Its time, in seconds since 1970.
        runs: The runs on the caller's path, each as in the journal: variant, seconds, error, seconds to the first item.
        unit: As in `RoutedEvent`, and so are the others.
        excluded: See there.
        no_evidence: See there.
        withheld: See there.
        answered: See there.
        closed_early: See there.
        unmeasured: See there.
        covariate: See there.
    """
    if excluded or no_evidence or withheld in ("aborted", "disabled") or is_shadow(exposure):
        return
    if unmeasured is not None and withheld is None and runs and runs[0][2] is None:
        evidence.add_pair(phase, arm, UNMEASURED)
        return
    duration_s = runs[0][1] if len(runs) == 1 else sum(run[1] for run in runs)
    evidence.add_call(
        phase,
        arm,
        exposure,
        unit_cell(unit, decision),
        bucket,
        failed=withheld is not None or (bool(runs) and runs[0][2] is not None and not answered),
        duration_s=None if closed_early or unmeasured is not None else duration_s,
        time_s=time_s,
        first_item_s=first_item_of(runs),
        covariate=covariate,
        decision=decision,
    )


def is_shadow(exposure: Mapping[str, float]) -> bool:
    """Whether a phase with these exposures serves no candidate: shadows run in addition to the control, so they exceed 1."""
    return sum(exposure.values()) > 1 + 1e-9


def has_two_answers(event: ShadowedEvent) -> bool:
    """Whether both variants answered, so that the answers can be compared; errors are counted as errors."""
    if event.comparison is not None:
        return event.comparison.name != ERRORS
    return event.end == "ok" and event.control_error is None


def add_shadowed(evidence: Evidence, event: ShadowedEvent, exposure: Mapping[str, float]) -> None:
    """Add a shadow run and the control's run on the same call as a pair, in phases that serve no candidate.

    Dropped runs form no pair, but are counted, because they are not missing at random.
    """
    if event.excluded or not is_shadow(exposure):
        return
    decision = event.decision
    cell = unit_cell(event.unit, decision.id)
    # A second run of the control says how much its answers vary by themselves.
    is_noise = event.variant == decision.variant
    if not is_noise:
        evidence.add_pair(decision.phase, event.variant, event.end)
    failed = _SHADOW_ENDS.get(event.end)
    if failed is None or event.control_duration_s is None:
        return
    if has_two_answers(event):
        evidence.add_comparison(
            decision.phase, event.variant, event.comparison, cell=cell, bucket=decision.bucket, time_s=decision.time_s
        )
    if is_noise:
        return
    for arm, arm_failed, duration_s, first_item_s in (
        (decision.variant, event.control_error is not None, event.control_duration_s, event.control_first_item_s),
        (event.variant, failed, event.duration_s, event.first_item_s),
    ):
        evidence.add_call(
            decision.phase,
            arm,
            exposure,
            cell,
            decision.bucket,
            failed=arm_failed,
            duration_s=duration_s,
            time_s=decision.time_s,
            first_item_s=first_item_s,
        )


@frozen
class AddOutcome:
    """Adds an outcome when it is called; and says which it is, for those who must know first whether another process has it."""

    event: RecordedEvent

    def __call__(self, evidence: Evidence) -> None:
        """Add it."""
        add_outcome(evidence, self.event)


def add_outcome(evidence: Evidence, event: RecordedEvent) -> None:
    """Add an outcome; outcomes of decisions that are not analysed are ignored."""
    if event.excluded:
        return
    evidence.add_outcome(
        event.metric,
        event.value,
        decision=event.decision_id,
        phase_name=event.phase,
        arm=event.variant,
        bucket=event.bucket,
        decided_s=event.decided_s,
        time_s=event.time_s,
        fingerprint=event.fingerprint,
        identity=event.identity,
        factor=event.factor,
        shadow=event.shadow,
        source=event.source,
        details=event.details,
        item=event.position if event.item is None else event.item,
        unit=event.unit,
    )
