"""The rows about metrics and log events."""

from __future__ import annotations

from rollout_sdk.telemetry import names
from tools.telemetry_contract.rows import Attribute, LogEvent, Metric

__all__ = ["LOGS", "METRICS", "METRIC_ATTRIBUTES"]

_VARIANT = (names.KEY, names.VARIANT)

METRICS = (
    Metric(
        names.CALL_DURATION,
        "histogram",
        "s",
        "duration of one run of a variant on the caller's path",
        (*_VARIANT, names.ROLE, names.STRATEGY, f"{names.ERROR_TYPE}?"),
    ),
    Metric(
        names.DECISIONS,
        "observable counter",
        "{decision}",
        "routing decisions",
        (*_VARIANT, names.REASON, names.STRATEGY, f"{names.ERROR_TYPE}?"),
    ),
    Metric(
        names.FALLBACKS,
        "observable counter",
        "{fallback}",
        "calls that the control answered instead of the variant",
        (*_VARIANT, names.ERROR_TYPE),
    ),
    Metric(
        names.COMPARISONS,
        "observable counter",
        "{comparison}",
        "comparisons of a shadow's output with the control's",
        (*_VARIANT, names.COMPARISON_NAME, names.COMPARISON_MATCH),
    ),
    Metric(names.SHADOW_ACTIVE, "observable up-down counter", "{run}", "running shadows", _VARIANT),
    Metric(
        names.SHADOW_RUNS,
        "observable counter",
        "{run}",
        "shadow runs that ended: `ok`, `error`, or why they did not finish",
        (*_VARIANT, names.SHADOW_END),
    ),
    Metric(
        names.SHADOW_DROPPED,
        "observable counter",
        "{run}",
        "shadow runs that did not finish, timed out and cancelled ones included",
        (*_VARIANT, names.DROP_REASON),
    ),
    Metric(names.WEIGHT, "observable gauge", "1", "configured share of a variant", _VARIANT),
    Metric(
        names.TRANSITIONS,
        "observable counter",
        "{transition}",
        "starts in this process, and changes of phase or status, also by other processes: once in every process that follows",
        (names.KEY, names.TRANSITION_ACTION, names.TRANSITION_REASON),
    ),
    Metric(
        names.FACTS_LOST,
        "observable counter",
        "{fact}",
        "facts missing from the journal: `queue_full` (missing from every count, too) or `journal_unwritable`",
        (names.LOSS_REASON,),
    ),
    Metric(
        names.DECISION_DURATION,
        "histogram",
        "s",
        "time that a call spent on its decision",
        (names.KEY, names.STRATEGY),
        "`Telemetry(decision_duration=True)`",
    ),
)

METRIC_ATTRIBUTES = (Attribute(names.LOSS_REASON, "str", "`queue_full` or `journal_unwritable`"),)
"""Attributes that metrics alone have."""

_OF_CALL = ("rollout", "decision_id")
_FAULT = ("rollout", "error_type", "count")

LOGS = (
    LogEvent(
        "rollout.configured",
        "info",
        "a rollout is used for the first time in a process",
        (
            *("rollout", "strategy", "control", "variants", "weights"),
            *("version", "candidates_version", "fingerprint", "phase", "status"),
        ),
    ),
    LogEvent("rollout.plugin.registered", "debug", "likewise, for each of its plugins", ("rollout", "plugin", "strategy")),
    LogEvent(
        "rollout.decision",
        "debug",
        "a call was decided",
        (*_OF_CALL, "strategy", "variant", "reason", "bucket", "propensity", "phase", "version"),
    ),
    LogEvent("rollout.fallback", "warning", "the control answered", (*_OF_CALL, "from_variant", "to_variant", "error_type")),
    LogEvent(
        "rollout.unmeasured",
        "warning",
        "an answer has work to come that cannot be measured; once for each rollout, with the cure",
        (*_OF_CALL, "variant", "answer_type", "cure"),
    ),
    LogEvent(
        "rollout.shadow.completed",
        "debug",
        "a shadow run finished",
        (*_OF_CALL, "variant", "duration_s", "match", "difference"),
    ),
    LogEvent(
        "rollout.shadow.failed",
        "warning",
        "a shadow run failed; once a minute for each class of exception",
        (*_OF_CALL, "variant", "error_type", "duration_s", "suppressed", "exc_info?"),
    ),
    LogEvent(
        "rollout.shadow.dropped",
        "warning",
        "a shadow run did not finish; once a minute for each rollout",
        (*_OF_CALL, "variant", "reason", "why", "suppressed"),
    ),
    LogEvent(
        "rollout.transition",
        "info; warning for a rollback, an abort, an invalid comparison or a restored store",
        "a rollout changed; `reason` is the operator's text, or the verdict in one sentence",
        (
            *("rollout", "strategy", "action", "reason", "actor", "from_phase", "to_phase", "weights"),
            *("gate", "samples", "value", "threshold", "transition_id"),
        ),
    ),
    LogEvent(
        "rollout.breaker.opened",
        "warning",
        "a candidate that keeps failing is not run for a while",
        ("rollout", "variant", "failures", "runs", "cooldown_s"),
    ),
    LogEvent("rollout.breaker.closed", "info", "it runs again", ("rollout", "variant")),
    LogEvent(
        "rollout.noticed",
        "warning, or error if the rollout does not work",
        "something about a rollout's calls that needs attention, with the cure; once",
        ("rollout", "why"),
    ),
    LogEvent(
        "rollout.strategy.failed",
        "error",
        "a strategy failed, or named an unknown variant",
        ("strategy", "served", "why", *_FAULT),
    ),
    LogEvent(
        "rollout.option.failed",
        "error",
        "`unit=`, `override=`, `failed_if=`, `covariate=`, `segments=` or `isolate=` failed on a call; explains the effect on "
        "such calls",
        ("option", "why", *_FAULT),
    ),
    LogEvent("rollout.plugin.failed", "error", "a plugin's hook failed", ("plugin", "hook", "why", *_FAULT)),
    LogEvent("rollout.recorder.failed", "error", "facts could not be recorded", ("sink", "why", *_FAULT)),
    LogEvent(
        "rollout.store.failed",
        "error",
        "the store did not answer, or cannot be used; rollouts keep their state, and unknown ones get the control",
        ("why", *_FAULT),
    ),
    LogEvent(
        "rollout.batch.refused",
        "error",
        "a variant's answer for a batch is not rows, or the variants' rows cannot be combined; the control's answer is used",
        ("why", *_FAULT),
    ),
    LogEvent(
        "rollout.control.refused",
        "error",
        "the control file is not valid, and its last version stays in effect",
        ("why", *_FAULT),
    ),
    LogEvent(
        "rollout.threads.missing", "error", "the server does not let background threads run; with the cure", ("why", *_FAULT)
    ),
    LogEvent(
        "rollout.outcome.odd",
        "error",
        "an outcome that a process without its rollout recorded has a strange time; it counts",
        ("why", *_FAULT),
    ),
    LogEvent(
        "rollout.telemetry.failed",
        "debug",
        "OpenTelemetry, or a setting of the SDK, failed; once a minute for each kind, like every fault",
        ("what", *_FAULT),
    ),
    LogEvent("rollout.internal_error", "error", "a part of the SDK failed, and the control answered", ("what", *_FAULT)),
)
