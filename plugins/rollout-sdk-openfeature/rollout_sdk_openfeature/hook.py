"""The hook: reports flag evaluations on the current span, with the decision of the rollout's call in which they happen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from openfeature.flag_evaluation import FlagEvaluationDetails, FlagValueType
from openfeature.hook import Hook, HookContext, HookHints
from opentelemetry import trace

from rollout_sdk.extending import CallUnderWay, call_under_way, names

__all__ = ["RolloutHook"]

_VALUE = "feature_flag.result.value"
_LONGEST = 256
_ERROR = "error"
_UNKNOWN = "unknown"


class RolloutHook(Hook):
    """Reports every evaluation on the current span: `api.add_hooks([RolloutHook()])`, or on one client.

    If the current span is recorded, it gets the event `feature_flag.evaluation` of the semantic conventions 1.44.0, with key,
    variant, reason, provider, version and set of the flag, and `error.type` if the evaluation failed. In a rollout's model, and
    in a shadow, the event also has `rollout.decision.id`. The hook sets no attributes of spans.

    The targeting key and error messages are left out. A flag's value is reported if it has no variant and is a boolean or a
    number; texts and objects may hold anything.

    A rollout that is read through `RolloutProvider` during its own call is not reported again: its `route` span already has the
    event.

    The hook never raises into an evaluation. Its own errors are counted in `faults`.
    """

    def __init__(self, *, context_id: Callable[[str], str | None] | None = None) -> None:
        """Create the hook.

        Args:
            context_id: Converts a targeting key into the value of `feature_flag.context.id`: a keyed hash, or the key itself
                (`lambda key: key`). None leaves it out.
        """
        self.faults = 0
        self._context_id = context_id

    def finally_after(self, hook_context: HookContext, details: FlagEvaluationDetails[FlagValueType], hints: HookHints) -> None:
        """Report an evaluation, whether it succeeded or failed."""
        del hints
        try:
            span = trace.get_current_span()
            if not span.is_recording():
                return
            call = call_under_way()
            if call is not None and _is_reported(call, hook_context, details):
                return
            attributes = self._attributes(hook_context, details)
            if call is not None:
                attributes[names.DECISION_ID] = call.decision.id
            span.add_event(names.EVALUATION_EVENT, attributes)
        except (Exception, SystemExit):
            self.faults += 1

    def _attributes(self, context: HookContext, details: FlagEvaluationDetails[FlagValueType]) -> dict[str, Any]:
        attributes: dict[str, Any] = {
            names.KEY: details.flag_key,
            names.REASON: _text(details.reason or _UNKNOWN).lower(),
        }
        if details.variant:
            attributes[names.VARIANT] = _text(details.variant)
        elif isinstance(details.value, bool | int | float):
            attributes[_VALUE] = details.value
        if context.provider_metadata is not None:
            attributes[names.PROVIDER_NAME] = _text(context.provider_metadata.name)
        for name, key in ((names.VERSION, "version"), (names.SET_ID, "flagSetId")):
            if (value := details.flag_metadata.get(key)) is not None:
                attributes[name] = _text(value)
        if details.error_code is not None:
            attributes[names.ERROR_TYPE] = _text(details.error_code).lower()
        elif attributes[names.REASON] == _ERROR:
            attributes[names.ERROR_TYPE] = "general"
        unit = context.evaluation_context.targeting_key
        if self._context_id is not None and unit and (shown := self._context_id(unit)) is not None:
            attributes[names.CONTEXT_ID] = _text(shown)
        return attributes


def _is_reported(call: CallUnderWay, context: HookContext, details: FlagEvaluationDetails[FlagValueType]) -> bool:
    """Whether the call's own span already has the event of this evaluation."""
    provider = context.provider_metadata
    return (
        call.is_traced
        and provider is not None
        and provider.name == names.PROVIDER
        and (call.decision.rollout, call.decision.variant) == (details.flag_key, details.variant)
    )


def _text(value: object) -> str:
    return str(value)[:_LONGEST]
