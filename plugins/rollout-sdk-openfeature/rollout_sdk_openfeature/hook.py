"""The hook: flags that are evaluated during a rollout's call stand in its trace, beside its decision."""

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
    """Tells of every evaluation on the current span: `api.add_hooks([RolloutHook()])`, or on one client.

    If the current span is recorded, it gets the event `feature_flag.evaluation` of the semantic conventions 1.44.0, with key,
    variant, reason, provider, version and set of the flag, and `error.type` where it failed. In a rollout's model, and in a
    shadow, it has `rollout.decision.id`, too. No attribute of any span is set.

    Who the flag was evaluated for is left out, and so are messages of errors. A flag's value is told where there is no variant,
    and it is a boolean or a number; texts and objects may hold anything.

    A rollout that is read through `RolloutProvider` during its own call is not told again: its `route` span has the event
    already.

    It never raises into an evaluation; what failed is counted in `faults`.
    """

    def __init__(self, *, context_id: Callable[[str], str | None] | None = None) -> None:
        """Tell of evaluations.

        Args:
            context_id: Makes of a targeting key what is shown as `feature_flag.context.id`: a keyed hash, or the key itself
                (`lambda key: key`). None shows nothing.
        """
        self.faults = 0
        self._context_id = context_id

    def finally_after(self, hook_context: HookContext, details: FlagEvaluationDetails[FlagValueType], hints: HookHints) -> None:
        """Tell of an evaluation, whatever came of it."""
        del hints
        try:
            span = trace.get_current_span()
            if not span.is_recording():
                return
            call = call_under_way()
            if call is not None and _is_told(call, hook_context, details):
                return
            attributes = self._attributes(hook_context, details)
            if call is not None:
                attributes[names.DECISION_ID] = call.decision.id
            span.add_event(names.EVALUATION_EVENT, attributes)
        except (Exception, SystemExit):
            self.faults += 1

    def _attributes(self, context: HookContext, details: FlagEvaluationDetails[FlagValueType]) -> dict[str, Any]:
        said: dict[str, Any] = {
            names.KEY: details.flag_key,
            names.REASON: _text(details.reason or _UNKNOWN).lower(),
        }
        if details.variant:
            said[names.VARIANT] = _text(details.variant)
        elif isinstance(details.value, bool | int | float):
            said[_VALUE] = details.value
        if context.provider_metadata is not None:
            said[names.PROVIDER_NAME] = _text(context.provider_metadata.name)
        for name, key in ((names.VERSION, "version"), (names.SET_ID, "flagSetId")):
            if (value := details.flag_metadata.get(key)) is not None:
                said[name] = _text(value)
        if details.error_code is not None:
            said[names.ERROR_TYPE] = _text(details.error_code).lower()
        elif said[names.REASON] == _ERROR:
            said[names.ERROR_TYPE] = "general"
        unit = context.evaluation_context.targeting_key
        if self._context_id is not None and unit and (shown := self._context_id(unit)) is not None:
            said[names.CONTEXT_ID] = _text(shown)
        return said


def _is_told(call: CallUnderWay, context: HookContext, details: FlagEvaluationDetails[FlagValueType]) -> bool:
    """Whether the call's own span has the event of this evaluation."""
    provider = context.provider_metadata
    return (
        call.is_traced
        and provider is not None
        and provider.name == names.PROVIDER
        and (call.decision.rollout, call.decision.variant) == (details.flag_key, details.variant)
    )


def _text(value: object) -> str:
    return str(value)[:_LONGEST]
