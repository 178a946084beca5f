"""Events as evidence: the calls of a service and the lines of its journal are counted by the same code."""

from __future__ import annotations

from collections.abc import Mapping

from rollout_sdk.judging.evidence import Evidence
from rollout_sdk.judging.samples import cell_of
from rollout_sdk.records import RecordedEvent, RoutedEvent, ShadowedEvent

__all__ = ["add_outcome", "add_routed", "add_shadowed"]

_SHADOW_ENDS = {"ok": False, "error": True, "timeout": True}


def _cell(unit: str | None, decision_id: str) -> int:
    """The unit's cell; of a call that is its own unit, one made of its id."""
    if unit is not None:
        return cell_of(int(unit, 16))
    return cell_of(hash_of(decision_id))


def hash_of(decision_id: str) -> int:
    """64 bits of an id, the same in every process."""
    from hashlib import blake2b

    return int.from_bytes(blake2b(decision_id.encode(), digest_size=8).digest(), "big")


def add_routed(evidence: Evidence, event: RoutedEvent, exposure: Mapping[str, float]) -> None:
    """See a call; what is not analysed is passed over.

    Args:
        evidence: Where it is counted.
        event: The call.
        exposure: Share of the calls that every arm is seen in, in the phase.
    """
    decision = event.decision
    if event.excluded or event.withheld in ("aborted", "disabled"):
        return
    failed = event.withheld is not None or (bool(event.runs) and event.runs[0].error is not None and not event.answered)
    evidence.add_call(
        decision.phase,
        decision.variant,
        exposure,
        _cell(event.unit, decision.id),
        decision.bucket,
        failed=failed,
        duration_s=None if event.closed_early else sum(run.duration_s for run in event.runs),
        time_s=decision.time_s,
    )


def add_shadowed(evidence: Evidence, event: ShadowedEvent, exposure: Mapping[str, float]) -> None:
    """See a shadow run, which is evidence only while nobody is served by a candidate."""
    failed = _SHADOW_ENDS.get(event.end)
    if event.excluded or failed is None or sum(exposure.values()) <= 1:
        return
    decision = event.decision
    evidence.add_call(
        decision.phase,
        event.variant,
        exposure,
        _cell(event.unit, decision.id),
        decision.bucket,
        failed=failed,
        duration_s=event.duration_s,
        time_s=decision.time_s,
    )


def add_outcome(evidence: Evidence, event: RecordedEvent) -> None:
    """See an outcome; one of a decision that is not analysed is passed over."""
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
    )
