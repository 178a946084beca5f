"""Attributes of spans and events: how a call was decided and answered, and what the application chose to disclose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from rollout_sdk.assignment import Phase
from rollout_sdk.concurrency.synchronous import answered
from rollout_sdk.formatting import class_name, plain
from rollout_sdk.judging.preferences import JUDGE_FAILED
from rollout_sdk.plan import JUDGE_PREFERENCE
from rollout_sdk.records import Merged
from rollout_sdk.resilience.interruptions import is_fault
from rollout_sdk.tally import failed_in_blend
from rollout_sdk.telemetry import names

if TYPE_CHECKING:
    from rollout_sdk.plugins.manager import Failed
    from rollout_sdk.records import Comparison, Decision, RecordedEvent
    from rollout_sdk.telemetry.settings import Captured, Telemetry

__all__ = [
    "Disclosure",
    "Versions",
    "batch_attributes",
    "comparison_result",
    "decision_attributes",
    "evaluation",
    "exception_type",
    "fallback_error",
    "function_name",
    "interleaving_attributes",
    "outcome_result",
    "without",
]

_MOST_VERSIONS = 1_000
_LONGEST = 2048
"""Bytes of a captured text, in UTF-8."""
_MOST_CAPTURED = 32
_BITS = 64
"""Size of an OTLP integer, including its sign."""
_EVALUATION = (
    names.KEY,
    names.VARIANT,
    names.REASON,
    names.PROVIDER_NAME,
    names.VERSION,
    names.SET_ID,
    names.CONTEXT_ID,
    names.DECISION_ID,
)


class Versions:
    """Versions of a rollout in the sense of the feature-flag convention: a new one whenever decisions may differ.

    A version is the hash of fingerprint, phase and shares: 8 hexadecimal digits, the same in every process.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        """Start with an empty cache."""
        self._known: dict[int, tuple[Phase, str]] = {}

    def __call__(self, phase: Phase) -> str:
        """Return the version of a phase; computed once for each."""
        known = self._known.get(id(phase))
        # The cache keeps the phase, so that no other object gets its id.
        if known is not None and known[0] is phase:
            return known[1]
        version = self.of(phase.fingerprint, phase.name, phase.all_shares)
        if len(self._known) >= _MOST_VERSIONS:
            self._known.clear()
        self._known[id(phase)] = phase, version
        return version

    @staticmethod
    def of(fingerprint: str, phase: str, shares: Mapping[str, float]) -> str:
        """Return the version for these shares."""
        text = "\x1f".join([fingerprint, phase, *(f"{name}={share!r}" for name, share in sorted(shares.items()))])
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


class Disclosure:
    """The attributes of a call that identify or describe its input, as far as the application asks for them.

    Attributes:
        is_silent: Whether there are never any.
    """

    __slots__ = ("_capture", "_failed", "_redact", "_unit_id", "is_silent")

    def __init__(self, settings: Telemetry, failed: Failed) -> None:
        """Read the settings."""
        self._unit_id = settings.unit_id
        self._capture = settings.capture
        self._redact = settings.redact
        self._failed = failed
        self.is_silent = self._unit_id == "omit" and self._capture is None

    def __call__(self, call: Any) -> dict[str, Captured]:
        """Return the attributes; never raises, and leaves out what fails."""
        # Each row of a batch has its own unit.
        found = {} if call.rows else self.of_unit(call)
        if self._capture is not None:
            try:
                captured = answered("capture=", self._capture(call))
                for name, value in list(captured.items())[:_MOST_CAPTURED]:
                    self._add(found, _cut(str(name)), value)
            except BaseException as error:
                if not is_fault(error):
                    raise
                self._failed("telemetry.capture", error)
        return found

    def of_unit(self, call: Any) -> dict[str, Captured]:
        """Return the attribute with the unit of a call or row."""
        if not call.has_unit or self._unit_id == "omit":
            return {}
        return {names.CONTEXT_ID: call.unit if self._unit_id == "hash" else _cut(str(call.said_unit))}

    def _add(self, found: dict[str, Captured], name: str, value: Any) -> None:
        """Add a captured value after redaction; if the redaction fails, add nothing."""
        try:
            shown: Any = value if self._redact is None else answered("redact=", self._redact(name, value))
        except BaseException as error:
            if not is_fault(error):
                raise
            self._failed("telemetry.redact", error)
            return
        # Exactly these types: the text of any other object may contain anything.
        if type(shown) is str:
            found[names.CAPTURED + name] = _cut(shown)
        elif type(shown) in (bool, float) or (type(shown) is int and shown.bit_length() < _BITS):
            found[names.CAPTURED + name] = shown


def _cut(text: str) -> str:
    # Surrogates could not be exported.
    return text[:_LONGEST].encode("utf-8", "replace")[:_LONGEST].decode("utf-8", "ignore")


def without(attributes: Mapping[str, Any], excluded: frozenset[str]) -> Mapping[str, Any]:
    """Return the attributes without the excluded ones."""
    if not excluded:
        return attributes
    return {name: value for name, value in attributes.items() if name not in excluded}


def decision_attributes(call: Any, version: str) -> dict[str, Any]:
    """Return the attributes of the decision about a call, or about a row of a batch."""
    decision = call.full_decision()
    attributes = {
        names.KEY: decision.rollout,
        names.VARIANT: decision.variant,
        names.REASON: names.flag_reason(decision.reason),
        names.PROVIDER_NAME: names.PROVIDER,
        names.VERSION: version,
        names.DECISION_ID: decision.id,
        names.STRATEGY: decision.strategy,
        names.BUCKET: decision.bucket,
        names.PROPENSITY: decision.propensity,
        names.PHASE: decision.phase,
        names.FINGERPRINT: decision.fingerprint,
    }
    if candidates := call.rollout.state.version:
        attributes[names.CANDIDATES_VERSION] = candidates
    return attributes


def batch_attributes(call: Any, version: str) -> dict[str, Any]:
    """Return the attributes of a batch: the rows of each variant, and the most common reason."""
    variants: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for kind, size in call.rows.sizes():
        variants[kind.decision.variant] += size
        reasons[kind.decision.reason] += size
    attributes = decision_attributes(call, version)
    # These belong to single rows.
    del attributes[names.BUCKET], attributes[names.PROPENSITY]
    return attributes | {
        names.VARIANT: names.MIXED if len(variants) > 1 else next(iter(variants)),
        names.REASON: names.flag_reason(reasons.most_common(1)[0][0]),
        names.BATCH_SIZE: len(call.rows),
        names.BATCH_VARIANTS: [f"{name}={rows}" for name, rows in variants.items()],
    }


def interleaving_attributes(merged: Merged, blend: tuple[str, ...]) -> dict[str, Any]:
    """Return the attributes of an interleaved list: items by variant, and the variant at every position (-1: neutral)."""
    attributes: dict[str, Any] = {
        names.INTERLEAVE_METHOD: "team_draft" if merged.rule is None else str(merged.rule.get("design", "")),
        names.INTERLEAVE_VARIANTS: list(blend),
        names.INTERLEAVE_CONTRIBUTIONS: [merged.teams.count(name) for name in blend],
        names.INTERLEAVE_SIZE: len(merged.items),
    }
    if merged.teams:
        order = {name: index for index, name in enumerate(blend)}
        attributes[names.INTERLEAVE_TEAMS] = [-1 if team is None else order.get(team, -1) for team in merged.teams]
    return attributes


def fallback_error(call: Any) -> str | None:
    """Return the error type of the candidate that the control replaced, in a call or in rows of a batch; None if none."""
    control, runs = call.rollout.control, call.runs
    if call.decision.blend:
        failed = None if call.served != control else failed_in_blend(control, ((run[0], run[2]) for run in runs))
        return None if failed is None else failed[1]
    if call.withheld is not None:
        return str(call.withheld)
    for index, (variant, _, error, _) in enumerate(runs):
        if error is not None and variant != control and any(later[0] == control for later in runs[index + 1 :]):
            return str(error)
    return "_OTHER" if call.served == control != call.decision.variant and not call.runs else None


def exception_type(error: BaseException) -> str:
    """Return `exception.type`: the class with its module, unless it is built in."""
    module, name = type(error).__module__, class_name(error)
    return name if module == "builtins" else f"{plain(module)}.{name}"


def function_name(function: Callable[..., Any]) -> str:
    """Return `code.function.name`: where a function, or the class of a callable object, is defined."""
    module = getattr(function, "__module__", None) or type(function).__module__
    return f"{module}.{getattr(function, '__qualname__', type(function).__qualname__)}"


def evaluation(reason: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a `feature_flag.evaluation` event.

    Args:
        reason: The SDK's reason for the decision.
        attributes: The attributes of the decision.
    """
    found = {name: attributes[name] for name in _EVALUATION if name in attributes}
    if reason == "error":
        found |= {names.ERROR_TYPE: "general", names.EVALUATION_ERROR: "the strategy gave no valid decision"}
    return found


def outcome_result(event: RecordedEvent) -> dict[str, Any]:
    """Return the attributes of a `gen_ai.evaluation.result` event for an outcome: the metric and its value."""
    result: dict[str, Any] = {
        names.RESULT_NAME: event.metric,
        names.RESULT_SCORE: float(event.value),
        names.KEY: event.rollout,
    }
    if event.variant is not None:
        result[names.VARIANT] = event.variant
    if event.decision_id is not None:
        result[names.DECISION_ID] = event.decision_id
    if event.metric == JUDGE_PREFERENCE:
        result[names.RESULT_LABEL] = "better" if event.value > 0 else "worse" if event.value < 0 else "tie"
    elif event.metric == JUDGE_FAILED:
        result[names.RESULT_LABEL] = str(event.details.get("end", "error"))
    return result


def comparison_result(comparison: Comparison, variant: str, decision: Decision) -> dict[str, Any]:
    """Return the attributes of a `gen_ai.evaluation.result` event for a comparison of a shadow with the control."""
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
