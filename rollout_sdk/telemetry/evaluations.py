"""The events of evaluations, in the words of their conventions: `feature_flag.evaluation` for each decision, and
`gen_ai.evaluation.result` for outcomes and comparisons, where asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rollout_sdk.telemetry import names

if TYPE_CHECKING:
    from rollout_sdk.records import Comparison, Decision, RecordedEvent

__all__ = ["of_comparison", "of_decision", "of_outcome"]

_SAID = (
    names.KEY,
    names.VARIANT,
    names.REASON,
    names.PROVIDER_NAME,
    names.VERSION,
    names.SET_ID,
    names.CONTEXT_ID,
    names.DECISION_ID,
)


def of_decision(reason: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What `feature_flag.evaluation` says of a decision.

    Args:
        reason: Its reason, in our words.
        attributes: What the span of its call says of it.
    """
    evaluation = {name: attributes[name] for name in _SAID if name in attributes}
    if reason == "error":
        evaluation |= {names.ERROR_TYPE: "general", names.EVALUATION_ERROR: "the strategy gave no valid decision"}
    return evaluation


def of_outcome(event: RecordedEvent) -> dict[str, Any]:
    """What `gen_ai.evaluation.result` says of an outcome: the metric and its value."""
    result: dict[str, Any] = {
        names.RESULT_NAME: event.metric,
        names.RESULT_SCORE: float(event.value),
        names.KEY: event.rollout,
    }
    if event.variant is not None:
        result[names.VARIANT] = event.variant
    if event.decision_id is not None:
        result[names.DECISION_ID] = event.decision_id
    return result


def of_comparison(comparison: Comparison, variant: str, decision: Decision) -> dict[str, Any]:
    """What `gen_ai.evaluation.result` says of a comparison of a shadow's output with the control's."""
    result: dict[str, Any] = {
        names.RESULT_NAME: comparison.name,
        names.RESULT_LABEL: "match" if comparison.match else "mismatch",
        names.KEY: decision.rollout,
        names.VARIANT: variant,
        names.DECISION_ID: decision.id,
    }
    if comparison.difference is not None:
        result[names.RESULT_SCORE] = float(comparison.difference)
    if comparison.reason is not None:
        result[names.RESULT_EXPLANATION] = comparison.reason
    return result
