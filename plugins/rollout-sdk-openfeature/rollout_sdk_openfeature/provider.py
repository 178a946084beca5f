"""The provider: any OpenFeature client reads rollouts as flags, and assignment stays the SDK's own."""

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

_MOST_LOOKS = 3


def _targeting_key(context: EvaluationContext) -> Hashable:
    return context.targeting_key


@frozen
class _Seen:
    """What a unit gets now, and in which phase."""

    decision: Decision
    phase: Phase
    controller: Controller

    @property
    def is_candidate(self) -> bool:
        """Whether a candidate answers, and no other."""
        return self.decision.variant in self.controller.candidates

    def as_object(self) -> dict[str, FlagValueType]:
        """The value of an object flag."""
        decision = self.decision
        said: dict[str, FlagValueType] = {
            "variant": decision.variant,
            "candidate": self.is_candidate,
            "phase": self.phase.name,
            "propensity": decision.propensity,
            "shadows": list(decision.shadows),
            "blend": list(decision.blend),
        }
        return said if decision.share is None else {**said, "share": decision.share}


class RolloutProvider(AbstractProvider):
    """Rollouts as flags: `api.set_provider(RolloutProvider(rank, search))`; a flag's key is the rollout's.

    A text flag is the variant that the targeting key gets: the one that the decorated function's decision has for this unit.
    A boolean flag is whether that is a candidate. An object flag is a mapping with `variant`, `candidate`, `phase`, `share`,
    `propensity`, `shadows` and `blend`. There are no numbers. Reading a flag runs no model, and is no exposure: nothing is
    recorded.

    While candidates are switched off (`rollout_sdk.disable()`, the control file, a flag, an abort), everybody has the control,
    and the reason is DISABLED. A context without targeting key gets what a call without unit gets: see `missing_unit=`; where
    that is an error, it is TARGETING_KEY_MISSING.

    What looks at the arguments of a call has nothing to look at here: an override by a function, or a strategy such as
    targeting rules.

    As a plugin of the rollouts or their runtime (`plugins=[provider]`), it also tells clients of transitions, whoever made
    them: PROVIDER_CONFIGURATION_CHANGED.
    """

    name = "openfeature"

    def __init__(
        self,
        *rollouts: object,
        runtime: Runtime | None = None,
        unit: Callable[[EvaluationContext], Hashable] | None = None,
    ) -> None:
        """Take the rollouts that can be read.

        Args:
            rollouts: Decorated functions, or their controllers; see `add` for later ones.
            runtime: Its rollouts can be read besides, those that come later included.
            unit: Makes the unit of an evaluation's context; by default, the targeting key. A text and a number are two units:
                where the function's unit is a number, pass `lambda context: int(context.targeting_key)`.

        Raises:
            ConfigurationError: One is no rollout, or two have the same key.
        """
        super().__init__()
        self._runtime = runtime
        self._unit = _targeting_key if unit is None else unit
        self._versions = Versions()
        self._rollouts: dict[str, Controller] = {}
        self.add(*rollouts)

    def add(self, *rollouts: object) -> None:
        """Make more rollouts readable.

        Raises:
            ConfigurationError: One is no rollout, or another one has its key.
        """
        for controller in map(controller_of, rollouts):
            known = self._rollouts.setdefault(controller.key, controller)
            if newest(known) is not newest(controller):
                raise ConfigurationError(
                    f"RolloutProvider got two rollouts with the key {controller.key!r}. A flag's key is its rollout's, and "
                    "there is one of each. Make another provider for the other one, in a domain of its own."
                )

    def get_metadata(self) -> Metadata:
        """The provider's name, as in the SDK's own telemetry."""
        return Metadata(name=names.PROVIDER)

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,  # noqa: FBT001 - the signature is OpenFeature's
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """Whether the unit's variant is a candidate."""
        return self._resolve(flag_key, default_value, evaluation_context, lambda seen: seen.is_candidate)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """The unit's variant."""
        return self._resolve(flag_key, default_value, evaluation_context, lambda seen: seen.decision.variant)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """The unit's variant, and what it has it by."""
        return self._resolve(flag_key, default_value, evaluation_context, _Seen.as_object)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        """TYPE_MISMATCH: no rollout is a number."""
        return self._resolve(flag_key, default_value, evaluation_context, None)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        """TYPE_MISMATCH: no rollout is a number."""
        return self._resolve(flag_key, default_value, evaluation_context, None)

    def rollout_transitioned(self, event: TransitionedEvent) -> None:
        """Tell clients that a flag has changed."""
        if self._controller(event.rollout) is not None:
            self.emit_provider_configuration_changed(ProviderEventDetails(flags_changed=[event.rollout]))

    def _controller(self, key: str) -> Controller | None:
        known = self._rollouts.get(key)
        if known is not None:
            return newest(known)
        return None if self._runtime is None else find_rollout(self._runtime, key)

    # Errors are given and not raised: the asynchronous client has no other way to the caller's default.
    def _resolve(
        self, key: str, default: T, context: EvaluationContext | None, value_of: Callable[[_Seen], T] | None
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
            seen = _look(controller, unit)
            return FlagResolutionDetails(
                value_of(seen),
                reason=Reason[names.flag_reason(seen.decision.reason).upper()],
                variant=seen.decision.variant,
                flag_metadata=self._metadata(seen),
            )
        except MissingUnitError:
            return _refused(default, ErrorCode.TARGETING_KEY_MISSING, "the rollout refuses calls without a unit")
        # Its message may name the unit.
        except Exception as error:
            return _refused(default, ErrorCode.GENERAL, f"the decision raised {type(error).__name__}")

    def _metadata(self, seen: _Seen) -> dict[str, bool | int | float | str]:
        strategy, decision = seen.controller.strategy_name, seen.decision
        said: dict[str, bool | int | float | str] = {
            "phase": seen.phase.name,
            "strategy": strategy,
            "propensity": decision.propensity,
            "version": self._versions(seen.phase),
        }
        # While candidates are off, nobody is hashed.
        return {**said, "bucket": decision.bucket} if decision.id else said


def _look(controller: Controller, unit: Hashable) -> _Seen:
    """What a unit would get now.

    Raises:
        MissingUnitError: There is no unit, and the rollout refuses such calls.
    """
    phase = controller.phase
    if is_disabled() or controller.is_disabled:
        # Whatever a unit is assigned, the control answers it.
        return _Seen(Decision(controller.control, "disabled"), phase, controller)
    decision = controller.assign(unit)
    for _ in range(_MOST_LOOKS):
        # In between, it may have gone on to another phase.
        if decision.phase == phase.name:
            break
        phase = controller.phase
        decision = controller.assign(unit)
    return _Seen(decision, phase, controller)


def _refused(default: T, code: ErrorCode, why: str) -> FlagResolutionDetails[T]:
    return FlagResolutionDetails(default, error_code=code, error_message=why, reason=Reason.ERROR)
