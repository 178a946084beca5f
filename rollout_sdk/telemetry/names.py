"""Names of the telemetry contract. `feature_flag.*`, `code.*` and `error.*` follow the semantic conventions 1.44.0."""

from __future__ import annotations

from typing import Final, get_args

from rollout_sdk.records import TransitionAction

__all__: list[str] = []

SCOPE: Final = "rollout_sdk"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
PROVIDER: Final = "rollout_sdk"

KEY: Final = "feature_flag.key"
VARIANT: Final = "feature_flag.result.variant"
REASON: Final = "feature_flag.result.reason"
PROVIDER_NAME: Final = "feature_flag.provider.name"
VERSION: Final = "feature_flag.version"
SET_ID: Final = "feature_flag.set.id"
CONTEXT_ID: Final = "feature_flag.context.id"
EVALUATION_EVENT: Final = "feature_flag.evaluation"
EVALUATION_ERROR: Final = "feature_flag.error.message"
FUNCTION_NAME: Final = "code.function.name"
ERROR_TYPE: Final = "error.type"

DECISION_ID: Final = "rollout.decision.id"
BUCKET: Final = "rollout.decision.bucket"
PROPENSITY: Final = "rollout.decision.propensity"
STRATEGY: Final = "rollout.strategy.name"
ROLE: Final = "rollout.variant.role"
CANDIDATES_VERSION: Final = "rollout.version"
FINGERPRINT: Final = "rollout.fingerprint"
PHASE: Final = "rollout.phase.name"
PHASE_PREVIOUS: Final = "rollout.phase.previous"
FALLBACK_VARIANT: Final = "rollout.fallback.variant"
FALLBACK_EVENT: Final = "rollout.fallback"
BATCH_SIZE: Final = "rollout.batch.size"
BATCH_VARIANTS: Final = "rollout.batch.variants"
MIXED: Final = "mixed"
CAPTURED: Final = "rollout.captured."
INTERLEAVE_METHOD: Final = "rollout.interleave.method"
INTERLEAVE_VARIANTS: Final = "rollout.interleave.variants"
INTERLEAVE_CONTRIBUTIONS: Final = "rollout.interleave.contributions"
INTERLEAVE_TEAMS: Final = "rollout.interleave.teams"
INTERLEAVE_SIZE: Final = "rollout.interleave.size"
SHADOW_MODE: Final = "rollout.shadow.mode"
SHADOW_WAIT: Final = "rollout.shadow.wait"
SHADOW_END: Final = "rollout.shadow.end"
ORIGIN_TRACE: Final = "rollout.shadow.origin.trace_id"
ORIGIN_SPAN: Final = "rollout.shadow.origin.span_id"
LINK_TYPE: Final = "rollout.link.type"
SHADOW_OF: Final = "shadow_of"
TRIGGERED_BY: Final = "triggered_by"
COMPARISON_NAME: Final = "rollout.comparison.name"
COMPARISON_MATCH: Final = "rollout.comparison.match"
COMPARISON_DIFFERENCE: Final = "rollout.comparison.difference"
TRANSITION_ACTION: Final = "rollout.transition.action"
TRANSITION_REASON: Final = "rollout.transition.reason"
TRANSITION_ID: Final = "rollout.transition.id"
GATE_NAME: Final = "rollout.gate.name"
GATE_SAMPLES: Final = "rollout.gate.samples"
GATE_VALUE: Final = "rollout.gate.value"
GATE_THRESHOLD: Final = "rollout.gate.threshold"
WEIGHT_EVENT: Final = "rollout.weight"
WEIGHT: Final = "rollout.variant.weight"
WEIGHT_PREVIOUS: Final = "rollout.variant.weight.previous"
DROPPED_EVENT: Final = "rollout.shadow.dropped"
DROP_REASON: Final = "rollout.drop.reason"
EXCEPTION_EVENT: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
TRANSITION_EVENT: Final = "rollout.transition"
TRANSITION_VARIANTS: Final = "rollout.transition.variants"
TRANSITION_WEIGHTS: Final = "rollout.transition.weights"
TRANSITION_WEIGHTS_PREVIOUS: Final = "rollout.transition.weights.previous"
RESULT_EVENT: Final = "gen_ai.evaluation.result"
RESULT_NAME: Final = "gen_ai.evaluation.name"
RESULT_SCORE: Final = "gen_ai.evaluation.score.value"
RESULT_LABEL: Final = "gen_ai.evaluation.score.label"
RESULT_EXPLANATION: Final = "gen_ai.evaluation.explanation"
LOSS_REASON: Final = "rollout.loss.reason"

CALL_DURATION: Final = "rollout.call.duration"
DECISIONS: Final = "rollout.decisions"
FALLBACKS: Final = "rollout.fallbacks"
COMPARISONS: Final = "rollout.comparisons"
SHADOW_ACTIVE: Final = "rollout.shadow.active"
SHADOW_RUNS: Final = "rollout.shadow.runs"
SHADOW_DROPPED: Final = "rollout.shadow.dropped"
TRANSITIONS: Final = "rollout.transitions"
FACTS_LOST: Final = "rollout.facts.lost"
DECISION_DURATION: Final = "rollout.decision.duration"
MOST_WORDS: Final = 100
"""Limit of distinct values of a metric's attribute; all others become "_OTHER"."""
MOST_VARIANTS: Final = 50
DURATION_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
DECISION_BUCKETS: Final = (1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 1e-2)

FLAG_REASONS: Final = {
    "split": "split",
    "static": "static",
    "override": "targeting_match",
    "holdout": "targeting_match",
    "layer": "targeting_match",
    "no_unit": "default",
    "disabled": "disabled",
    "aborted": "disabled",
    "draining": "targeting_match",
    "nested": "static",
    "one_shot": "default",
    "ineligible": "default",
    "error": "error",
}
"""The SDK's reasons in the terms of the convention; a strategy's own reason counts as a matched rule."""


DROP_REASONS: Final = {"dropped_full": "queue_full", "dropped_closed": "shutdown", "abandoned": "shutdown"}
"""Ends of shadows in the terms of the contract; all others keep their name."""


def flag_reason(reason: str) -> str:
    """Return a decision's reason in the terms of the feature-flag convention."""
    return FLAG_REASONS.get(reason, "targeting_match")


def drop_reason(end: str) -> str:
    """Return why a shadow did not finish, for metrics and log events."""
    return DROP_REASONS.get(end) or end.removeprefix("dropped_")


_ACTIONS: Final = {action: action for action in get_args(TransitionAction)} | {
    "roll_back": "rollback",
    "promote_full": "complete",
    "pause": "hold",
}


def transition_action(action: str, status: str) -> str:
    """Return the action in the terms of the contract; "_OTHER" for one stored by a later SDK version."""
    return "complete" if status == "promoted" and action in ("promote", "skip_step") else _ACTIONS.get(action, "_OTHER")


def transition_reason(action: str, *, judged: bool) -> str:
    """Return why a rollout changed, as one of few words."""
    return {"start": "configured", "restore": "lost"}.get(action, "verdict" if judged else "manual")
