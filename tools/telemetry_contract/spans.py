"""The rows about spans, and events on them."""

from __future__ import annotations

from rollout_sdk.telemetry import names
from tools.telemetry_contract.rows import Attribute, Event, Span

__all__ = ["EVENTS", "SPANS"]

_KEY = Attribute(names.KEY, "str", "key of the rollout")
_STRATEGY = Attribute(names.STRATEGY, "str", "`ab`, `canary`, `interleave`, `shadow`, or the name of a plugin's")
_DECISION = Attribute(
    names.DECISION_ID,
    "str",
    "joins spans, log lines, the journal and later outcomes; a batch has one of its own, its rows' are on its evaluations",
)
_RUN = Attribute(names.VARIANT, "str", "the variant that ran")
_FUNCTION = Attribute(names.FUNCTION_NAME, "str", "where its function is defined")
_ERROR = Attribute(names.ERROR_TYPE, "str", "class of the exception, or `failed_if`", "the run failed")
_VERSION = Attribute(names.VERSION, "str", "hash of fingerprint, phase and shares")
_FINGERPRINT = Attribute(
    names.FINGERPRINT, "str", "identifies comparable calls; calls with different fingerprints are never pooled"
)
_CANDIDATES = Attribute(names.CANDIDATES_VERSION, "str", "version of the candidates", "`rollout(version=...)`")
_REASON = Attribute(
    names.REASON,
    "str",
    "`split` randomised, `static` one variant, `targeting_match` an override or rule, `default` no unit, `disabled` off or "
    "aborted, `error` the strategy failed",
)
_PROVIDER = Attribute(names.PROVIDER_NAME, "str", "`rollout_sdk`")
_SET = Attribute(names.SET_ID, "str", "the environment", "`Telemetry(namespace=...)`")
_CONTEXT = Attribute(names.CONTEXT_ID, "str", "the unit, as a keyed hash or raw", "`Telemetry(unit_id=...)`")
_CANARY = "the judge decided"

_TRANSITION = (
    _KEY,
    _STRATEGY,
    _VERSION,
    _FINGERPRINT,
    _CANDIDATES,
    Attribute(names.PHASE, "str", "the phase after it"),
    Attribute(names.PHASE_PREVIOUS, "str", "the phase before it", "not a start"),
    Attribute(
        names.TRANSITION_ACTION,
        "str",
        "`start`, `promote`, `hold`, `resume`, `invalidate`, `rollback`, `complete`, `abort`, `set_share`, "
        "`skip_step`, `set_plan`, `restore`; `_OTHER` for one of a later version",
    ),
    Attribute(
        names.TRANSITION_REASON,
        "str",
        "`configured`, `verdict` of the judge, `manual`, or `lost` if the store had lost it",
    ),
    Attribute(
        names.TRANSITION_ID,
        "str",
        "the same in every process that follows the store, and in its history",
        "not a start in a process",
    ),
    Attribute(names.GATE_NAME, "str", "the finding that decided", _CANARY),
    Attribute(names.GATE_SAMPLES, "int", "number of units", _CANARY),
    Attribute(names.GATE_VALUE, "float", "natural logarithm of its e-value", _CANARY),
    Attribute(names.GATE_THRESHOLD, "float", "threshold of that logarithm", _CANARY),
)

SPANS = (
    Span(
        "route {key}",
        "call of the decorated function",
        "the current span",
        "",
        (
            _KEY,
            Attribute(
                names.VARIANT, "str", "the assigned variant, even if the control answers; `interleaved` or `mixed` for several"
            ),
            _REASON,
            _PROVIDER,
            _VERSION,
            _SET,
            _CONTEXT,
            _DECISION,
            _STRATEGY,
            Attribute(names.BUCKET, "int", "statistics bucket of the unit, 0 to 511", "not a batch by row"),
            Attribute(names.PROPENSITY, "float", "probability of the assigned variant at decision time", "not a batch by row"),
            Attribute(names.PHASE, "str", "the phase"),
            _FINGERPRINT,
            _CANDIDATES,
            Attribute(
                names.FALLBACK_VARIANT,
                "str",
                "the variant that answered instead",
                "the assigned variant failed or was withheld",
            ),
            Attribute(names.ERROR_TYPE, "str", "class of the exception", "the caller saw it"),
            Attribute(names.INTERLEAVE_METHOD, "str", "the design", "the answer is a blend"),
            Attribute(names.INTERLEAVE_VARIANTS, "str[]", "the variants in it", "the answer is a blend"),
            Attribute(names.INTERLEAVE_CONTRIBUTIONS, "int[]", "items credited to each", "the answer is a blend"),
            Attribute(names.INTERLEAVE_SIZE, "int", "number of items", "the answer is a blend"),
            Attribute(
                names.INTERLEAVE_TEAMS,
                "int[]",
                "at each position, the index of its variant; -1 for neutral items",
                "the design has teams",
            ),
            Attribute(names.BATCH_SIZE, "int", "number of rows", "a batch by row"),
            Attribute(names.BATCH_VARIANTS, "str[]", "rows of each variant: `candidate=12`", "a batch by row"),
            Attribute(names.CAPTURED, "str, bool, int or float", "what the application captures", "`Telemetry(capture=...)`"),
        ),
    ),
    Span(
        "invoke {key}/{variant}",
        "run of a variant on the caller's path: one, two with a fallback, several for a blend",
        "`route`",
        "",
        (
            _KEY,
            _RUN,
            _STRATEGY,
            _DECISION,
            Attribute(names.ROLE, "str", "`control` or `candidate`"),
            _FUNCTION,
            _ERROR,
        ),
    ),
    Span(
        "shadow {key}/{variant}",
        "shadow run that started",
        'none: its own trace (`route` with `shadow_spans="child"`)',
        "`route`, `shadow_of`",
        (
            _KEY,
            _RUN,
            _STRATEGY,
            _DECISION,
            Attribute(names.ROLE, "str", "`shadow`"),
            _FUNCTION,
            _ERROR,
            Attribute(names.SHADOW_MODE, "str", "`thread` or `task`"),
            Attribute(names.SHADOW_WAIT, "float", "seconds in the queue"),
            Attribute(names.SHADOW_END, "str", "`ok`, `error`, or why it did not finish"),
            Attribute(
                names.ORIGIN_TRACE, "str", "the link as an attribute, for backends that drop links", "it has its own trace"
            ),
            Attribute(
                names.ORIGIN_SPAN, "str", "the link as an attribute, for backends that drop links", "it has its own trace"
            ),
            Attribute(names.COMPARISON_NAME, "str", "the comparator", "the outputs were compared"),
            Attribute(
                names.COMPARISON_MATCH, "bool", "whether the shadow agrees with the control", "the outputs were compared"
            ),
            Attribute(names.COMPARISON_DIFFERENCE, "float", "difference of the two outputs", "the comparator measures it"),
        ),
    ),
    Span(
        "transition {key}",
        "start of a rollout in a process, and for each change of phase or status, whichever process made it",
        "none: its own trace",
        "the span that was current when this process made it, `triggered_by`",
        _TRANSITION,
    ),
)

EVENTS = (
    Event(
        names.EVALUATION_EVENT,
        "route",
        'each decision (the first 100 rows of a batch); none with `Telemetry(flag_events="off")`',
        (
            _KEY,
            Attribute(names.VARIANT, "str", "the assigned variant"),
            _REASON,
            _PROVIDER,
            _VERSION,
            _SET,
            _CONTEXT,
            _DECISION,
            Attribute(names.ERROR_TYPE, "str", "`general`", "the strategy failed, and the control answered"),
            Attribute(names.EVALUATION_ERROR, "str", "the error", "the strategy failed, and the control answered"),
        ),
    ),
    Event(
        names.FALLBACK_EVENT,
        "route",
        "each call that the control answered instead of a candidate",
        (
            Attribute(names.FALLBACK_VARIANT, "str", "the variant that answered"),
            Attribute(names.ERROR_TYPE, "str", "class of the candidate's exception, `failed_if`, or why it was withheld"),
        ),
    ),
    Event(
        names.DROPPED_EVENT,
        "route",
        "each shadow of the call that did not run",
        (
            Attribute(names.VARIANT, "str", "the shadow's variant"),
            Attribute(
                names.DROP_REASON,
                "str",
                "`queue_full`, `shutdown`, `too_large`, `snapshot`, `stale`, `start`, `open`, `aborted`",
            ),
        ),
    ),
    Event(
        names.EXCEPTION_EVENT,
        "invoke shadow",
        'each failed run: once, on the innermost span (on `route` with `spans="route"`)',
        (
            Attribute(names.EXCEPTION_TYPE, "str", "class of the exception, with its module"),
            Attribute(names.EXCEPTION_MESSAGE, "str", "its message", "`Telemetry(exception_messages=True)`"),
            Attribute(names.EXCEPTION_STACKTRACE, "str", "its stack trace", "`Telemetry(exception_messages=True)`"),
        ),
    ),
    Event(
        names.WEIGHT_EVENT,
        "transition",
        "each variant; none with another `flag_events`",
        (
            Attribute(names.VARIANT, "str", "the variant"),
            Attribute(names.WEIGHT, "float", "its share after"),
            Attribute(names.WEIGHT_PREVIOUS, "float", "its share before", "not a start"),
        ),
        setting="",
    ),
    Event(
        names.TRANSITION_EVENT,
        "",
        "each transition, in the trace of its span; without spans, in that of the code that made it",
        (
            *_TRANSITION,
            Attribute(names.TRANSITION_VARIANTS, "str[]", "the variants"),
            Attribute(names.TRANSITION_WEIGHTS, "float[]", "their shares after it"),
            Attribute(names.TRANSITION_WEIGHTS_PREVIOUS, "float[]", "their shares before it", "not a start"),
        ),
    ),
    Event(
        names.RESULT_EVENT,
        "",
        "each recorded outcome, and each comparison of a shadow in its trace",
        (
            Attribute(names.RESULT_NAME, "str", "the metric, or the comparator"),
            Attribute(names.RESULT_SCORE, "float", "the value, or the difference", "an outcome, or the comparator measures it"),
            Attribute(
                names.RESULT_LABEL,
                "str",
                "`match` or `mismatch`; of a preference `better`, `worse` or `tie`; or why a judge failed",
                "a comparison, or a judge's or a person's preference",
            ),
            Attribute(names.RESULT_EXPLANATION, "str", "why they differ, as a short constant", "the comparator returns it"),
            _KEY,
            Attribute(names.VARIANT, "str", "the assigned variant, or the shadow's", "not an outcome of a unit"),
            Attribute(names.DECISION_ID, "str", "of the call", "not an outcome of a unit"),
        ),
        setting="Telemetry(evaluation_results=True)",
    ),
)
