"""The provider: OpenFeature clients read rollouts as flags; the SDK alone assigns units."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

from attrs import frozen
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata

from rollout_sdk import ConfigurationError, Decision, MissingUnitError, Phase, Runtime, TransitionedEvent, is_disabled
from rollout_sdk.extending import Controller, Versions, controller_of, find_rollout, names, newest

__all__ = ["RolloutProvider"]

T = TypeVar("T")

_MOST_ATTEMPTS = 3


def _targeting_key(context: EvaluationContext) -> Hashable:
    return context.targeting_key


@frozen
class _Assigned:
    """A unit's decision, and the phase in which it was made."""

    decision: Decision
    phase: Phase
    controller: Controller

    @property
    def is_candidate(self) -> bool:
        """Whether a candidate alone answers; false for a blend."""
        return self.decision.variant in self.controller.candidates

    def as_object(self) -> dict[str, FlagValueType]:
        """Return the value of an object flag."""
        decision = self.decision
        value: dict[str, FlagValueType] = {
            "variant": decision.variant,
            "candidate": self.is_candidate,
            "phase": self.phase.name,
            "propensity": decision.propensity,
            "shadows": list(decision.shadows),
            "blend": list(decision.blend),
        }
        return value if decision.share is None else {**value, "share": decision.share}


class RolloutProvider(AbstractProvider):
    """Rollouts as flags: `api.set_provider(RolloutProvider(rank, search))`; a flag's key is the rollout's.

    A text flag is the variant that the decorated function's decision gives this targeting key. A boolean flag is whether that
    is a candidate. An object flag is a mapping with `variant`, `candidate`, `phase`, `share`, `propensity`, `shadows` and
    `blend`. Flags with numbers do not exist. Reading a flag runs no model and is not an exposure: nothing is recorded.

    While candidates are switched off (`rollout_sdk.disable()`, the control file, a flag, an abort), all users get the control,
    with the reason DISABLED. A context without targeting key gets what a call without unit gets: see `missing_unit=`. If that
    is an error, the flag's error is TARGETING_KEY_MISSING.

    There is no call, hence no arguments: overrides by a function do not apply, and a strategy that needs arguments, such as
    targeting rules, returns the control.

    As a plugin of the rollouts or their runtime (`plugins=[provider]`), it also notifies clients of all transitions:
    PROVIDER_CONFIGURATION_CHANGED.
    """

    name = "openfeature"

    def __init__(
        self,
        *rollouts: object,
        runtime: Runtime | None = None,
        unit: Callable[[EvaluationContext], Hashable] | None = None,
    ) -> None:
        """Create a provider.

        Args:
            rollouts: Decorated functions, or their controllers; see `add` for later ones.
            runtime: Its rollouts, present and future, can be read as well.
            unit: Returns the unit for an evaluation's context; by default, the targeting key. A text and a number are different
                units: if the function's unit is a number, pass `lambda context: int(context.targeting_key)`.

        Raises:
            ConfigurationError: One is not a rollout, or two have the same key.
        """
        super().__init__()
        self._runtime = runtime
        self._unit = _targeting_key if unit is None else unit
        self._versions = Versions()
        self._rollouts: dict[str, Controller] = {}
        self.add(*rollouts)

    def add(self, *rollouts: object) -> None:
        """Add rollouts to read.

        Raises:
            ConfigurationError: One is not a rollout, or another one has its key.
        """
        for controller in map(controller_of, rollouts):
            known = self._rollouts.setdefault(controller.key, controller)
            if newest(known) is not newest(controller):
                raise ConfigurationError(
                    f"RolloutProvider got two rollouts with the key {controller.key!r}. A flag's key is its rollout's, so keys "
                    "must be unique. Create another provider for the second one, in its own domain."
                )

    def get_metadata(self) -> Metadata:
        """Return the provider's name, as in the SDK's own telemetry."""
        return Metadata(name=names.PROVIDER)

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,  # noqa: FBT001 - the signature is OpenFeature's
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """Resolve to whether the unit's variant is a candidate."""
        return self._resolve(flag_key, default_value, evaluation_context, lambda assigned: assigned.is_candidate)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """Resolve to the unit's variant."""
        return self._resolve(flag_key, default_value, evaluation_context, lambda assigned: assigned.decision.variant)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """Resolve to the unit's variant, with the decision's details."""
        return self._resolve(flag_key, default_value, evaluation_context, _Assigned.as_object)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        """Resolve to the error TYPE_MISMATCH: a rollout is not a number."""
        return self._resolve(flag_key, default_value, evaluation_context, None)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        """Resolve to the error TYPE_MISMATCH: a rollout is not a number."""
        return self._resolve(flag_key, default_value, evaluation_context, None)

    def rollout_transitioned(self, event: TransitionedEvent) -> None:
        """Notify clients that a flag has changed."""
        if self._controller(event.rollout) is not None:
            self.emit_provider_configuration_changed(ProviderEventDetails(flags_changed=[event.rollout]))

    def _controller(self, key: str) -> Controller | None:
        known = self._rollouts.get(key)
        if known is not None:
            return newest(known)
        return None if self._runtime is None else find_rollout(self._runtime, key)

    # Errors are returned, not raised: otherwise the asynchronous client could not return the caller's default.
    def _resolve(
        self, key: str, default: T, context: EvaluationContext | None, value_of: Callable[[_Assigned], T] | None
    ) -> FlagResolutionDetails[T]:
        controller = self._controller(key)
        if controller is None:
            return _refused(default, ErrorCode.FLAG_NOT_FOUND, "no rollout of this provider has the key")
        if value_of is None:
            return _refused(default, ErrorCode.TYPE_MISMATCH, "a rollout is read as a boolean, a text or an object")
        try:
            unit = self._unit(EvaluationContext() if context is None else context)
        except Exception as error:
            return _refused(default, ErrorCode.INVALID_CONTEXT, f"unit= of the provider raised {type(error).__name__}")
        try:
            assigned = _assign(controller, unit)
            return FlagResolutionDetails(
                value_of(assigned),
                reason=Reason[names.flag_reason(assigned.decision.reason).upper()],
                variant=assigned.decision.variant,
                flag_metadata=self._metadata(assigned),
            )
        except MissingUnitError:
            return _refused(default, ErrorCode.TARGETING_KEY_MISSING, "the rollout refuses calls without a unit")
        # Its message may name the unit.
        except Exception as error:
            return _refused(default, ErrorCode.GENERAL, f"the decision raised {type(error).__name__}")

    def _metadata(self, assigned: _Assigned) -> dict[str, bool | int | float | str]:
        decision = assigned.decision
        metadata: dict[str, bool | int | float | str] = {
            "phase": assigned.phase.name,
            "strategy": assigned.controller.strategy_name,
            "propensity": decision.propensity,
            "version": self._versions(assigned.phase),
        }
        # While candidates are off, units are not hashed and have no bucket.
        return {**metadata, "bucket": decision.bucket} if decision.id else metadata


def _assign(controller: Controller, unit: Hashable) -> _Assigned:
    """Return what a call of this unit would get now.

    Raises:
        MissingUnitError: There is no unit, and the rollout refuses such calls.
    """
    phase = controller.phase
    if is_disabled() or controller.is_disabled:
        # The control answers, whatever variant the unit is assigned.
        return _Assigned(Decision(controller.control, "disabled"), phase, controller)
    decision = controller.assign(unit)
    for _ in range(_MOST_ATTEMPTS):
        # The rollout may have moved to another phase in between.
        if decision.phase == phase.name:
            break
        phase = controller.phase
        decision = controller.assign(unit)
    return _Assigned(decision, phase, controller)


def _refused(default: T, code: ErrorCode, why: str) -> FlagResolutionDetails[T]:
    return FlagResolutionDetails(default, error_code=code, error_message=why, reason=Reason.ERROR)
