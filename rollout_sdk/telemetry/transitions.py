"""The span of a transition: what was done, by which evidence, and every variant's share before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.trace import Link

from rollout_sdk.telemetry import names
from rollout_sdk.telemetry.disclosure import kept

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext, Tracer

    from rollout_sdk.records import TransitionedEvent

__all__ = ["deciding", "trace_transition"]


def trace_transition(
    tracer: Tracer,
    event: TransitionedEvent,
    before: Mapping[str, float],
    version: str,
    excluded: frozenset[str],
    trigger: SpanContext | None,
) -> None:
    """One span, the root of its own trace, at the time of the transition, linked to the request that triggered it."""
    attributes: dict[str, Any] = {
        names.KEY: event.rollout,
        names.STRATEGY: event.strategy,
        names.VERSION: version,
        names.FINGERPRINT: event.fingerprint,
        names.PHASE: event.to_phase,
        names.TRANSITION_ACTION: names.transition_action(event.action, event.status),
        names.TRANSITION_REASON: names.transition_reason(event.action, judged=event.evidence is not None),
    }
    if event.id:
        attributes[names.TRANSITION_ID] = event.id
    if event.version:
        attributes[names.CANDIDATES_VERSION] = event.version
    if event.from_phase is not None:
        attributes[names.PHASE_PREVIOUS] = event.from_phase
    gate = deciding(event)
    if gate is not None:
        attributes |= {
            names.GATE_NAME: gate["name"],
            names.GATE_SAMPLES: gate["samples"],
            names.GATE_VALUE: gate["value"],
            names.GATE_THRESHOLD: gate["threshold"],
        }
    # It is traced in the background, after it was made.
    noted = int(event.time_s * 1e9)
    span = tracer.start_span(
        f"transition {event.rollout}",
        context=Context(),
        links=None if trigger is None else [Link(trigger, {names.LINK_TYPE: names.TRIGGERED_BY})],
        attributes=kept(attributes, excluded),
        start_time=noted,
    )
    try:
        for variant, share in event.shares.items():
            weights: dict[str, str | float] = {names.VARIANT: variant, names.WEIGHT: share}
            if event.from_phase is not None:
                weights[names.WEIGHT_PREVIOUS] = before.get(variant, 0.0)
            span.add_event(names.WEIGHT_EVENT, kept(weights, excluded))
    finally:
        span.end(noted)


def deciding(event: TransitionedEvent) -> dict[str, Any] | None:
    """The finding that decided a transition, with the evidence it has and the evidence it takes; None where a person decided.

    Both are natural logarithms of e-values. Of a rollback, and of a pause for failing checks, it is the finding with the most
    evidence of harm to spare; of an invalid comparison, the one about the assignment; of a step forward, the one that passed
    by the least.
    """
    evidence = event.evidence or {}
    pauses = evidence.get("pauses", ()) if event.action == "pause" else ()
    harmful = event.action in ("roll_back", "invalidate") or bool(pauses)
    value, needed = ("harm_log_e", "harm_needed") if harmful else ("safe_log_e", "safe_needed")
    found = [
        finding
        for finding in evidence.get("findings", ())
        if finding.get(value) is not None
        and finding.get(needed) is not None
        and not finding.get("dry_run")
        and (finding.get("kind") == "assignment") == (event.action == "invalidate")
        and (not pauses or finding["name"] in pauses)
    ]
    if not found:
        return None
    pick = max if harmful else min
    finding = pick(found, key=lambda each: each[value] - each[needed])
    return {
        "name": str(finding["name"]),
        "samples": sum(int(number) for number in evidence.get("units", {}).values()),
        "value": float(finding[value]),
        "threshold": float(finding[needed]),
    }
