"""The span and the event of a transition: the action, its evidence, and every variant's share before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, NonRecordingSpan

from rollout_sdk.telemetry import names

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext

    from rollout_sdk.records import TransitionedEvent
    from rollout_sdk.telemetry.event_records import Events
    from rollout_sdk.telemetry.tracer import SpanStarter

__all__ = ["deciding", "emit_transition"]


def emit_transition(
    spans: SpanStarter | None,
    events: Events,
    event: TransitionedEvent,
    before: Mapping[str, float],
    version: str,
    trigger: SpanContext | None,
) -> None:
    """Emit a transition as a span in its own trace, and as events.

    If a request of this process triggered it, the span links to it, and a record without a span has its trace.
    """
    attributes = _attributes(event, version)
    # The span is created in the background, after the transition.
    noted = int(event.time_s * 1e9)
    # Without a span of its own, a record has the trace of the request.
    span: Span = INVALID_SPAN if trigger is None else NonRecordingSpan(trigger)
    if spans is not None:
        links = None if trigger is None else [Link(trigger, {names.LINK_TYPE: names.TRIGGERED_BY})]
        span = spans.start(f"transition {event.rollout}", attributes, Context(), links, noted)
    try:
        previous = {} if event.from_phase is None else {variant: before.get(variant, 0.0) for variant in event.shares}
        if events.is_logged:
            record = {
                **attributes,
                names.TRANSITION_VARIANTS: [*event.shares],
                names.TRANSITION_WEIGHTS: [*event.shares.values()],
            }
            if previous:
                record[names.TRANSITION_WEIGHTS_PREVIOUS] = [*previous.values()]
            events.emit(span, names.TRANSITION_EVENT, record, time_ns=int(event.time_s * 1e9))
        elif not events.is_off:
            for variant, share in event.shares.items():
                weights: dict[str, str | float] = {names.VARIANT: variant, names.WEIGHT: share}
                if previous:
                    weights[names.WEIGHT_PREVIOUS] = previous[variant]
                events.emit(span, names.WEIGHT_EVENT, weights)
    finally:
        span.end(noted)


def _attributes(event: TransitionedEvent, version: str) -> dict[str, Any]:
    """Return the attributes of the span and the record."""
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
    return attributes


def deciding(event: TransitionedEvent) -> dict[str, Any] | None:
    """Return the finding that decided a transition, with its evidence and the threshold; None if a person decided.

    Both are natural logarithms of e-values. For a rollback, or a pause for failing checks, it is the finding with the largest
    margin of evidence of harm; for an invalid comparison, the one about the assignment; for a step forward, the one that passed
    by the smallest margin.
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
