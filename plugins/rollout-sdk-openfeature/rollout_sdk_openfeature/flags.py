"""Flags that drive rollouts, and how their values are read and validated."""

from __future__ import annotations

from math import nan
from typing import Any, Protocol

from attrs import field, frozen
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode, OpenFeatureError
from openfeature.provider import FeatureProvider

from rollout_sdk import ConfigurationError
from rollout_sdk.extending import Controller, controller_of, parse_share, state_of

__all__ = ["FlagValue", "ShareFlag", "Source", "SwitchFlag", "UnreliableValueError"]

# A default is the caller's own value; the current values of disabled and stale flags are unknown.
_UNRELIABLE = frozenset({"default", "disabled", "stale", "error"})
_LONGEST_NAME = 100


def _flag(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise ConfigurationError(
            f"A flag that drives a rollout has the key {name!r:.60}. A key is a text. Use the flag's name in the provider."
        )
    return name


@frozen
class ShareFlag:
    """A flag whose number is a candidate's share: `ShareFlag("rank-share", rank)`.

    Attributes:
        flag: Key of the flag; its value is a number from 0 to 1.
        rollout: The decorated function, or its controller. Its strategy must have steps, as a canary has.
        candidate: Name of the candidate; required if there are several.
    """

    flag: str = field(converter=_flag)
    rollout: Controller = field(converter=controller_of)
    candidate: str | None = None

    def __attrs_post_init__(self) -> None:
        """Validate the flag against its rollout."""
        key, candidates = self.rollout.key, self.rollout.candidates
        if not state_of(self.rollout).ramps:
            raise ConfigurationError(
                f"ShareFlag({self.flag!r}) cannot set the share of {key!r}: its strategy has no steps. Steps belong to a "
                "canary. Use Canary([...]), or a SwitchFlag."
            )
        if self.candidate is None and len(candidates) == 1:
            object.__setattr__(self, "candidate", candidates[0])
        if self.candidate not in candidates:
            raise ConfigurationError(
                f"ShareFlag({self.flag!r}) names {self.candidate!r:.60}, which is not a candidate of {key!r}. "
                f"A flag sets the share of one candidate. They are: {', '.join(candidates)}."
            )


@frozen
class SwitchFlag:
    """A flag that is a rollout's kill switch: `SwitchFlag("models-on", rank)`. While it is false, no candidate runs.

    Attributes:
        flag: Key of the flag; its value is a boolean.
        rollout: The decorated function, or its controller.
    """

    flag: str = field(converter=_flag)
    rollout: Controller = field(converter=controller_of)


@frozen
class FlagValue:
    """A reliable value of a flag.

    Attributes:
        value: A share, or a boolean.
        description: The flag, its value and its variant, for records.
    """

    value: float
    description: str


class UnreliableValueError(Exception):
    """A flag has no reliable value now; the message gives the reason."""


class _Details(Protocol):
    """The part of an evaluation's result that is used, from clients and providers alike."""

    value: Any
    variant: Any
    reason: Any
    error_code: Any


class Source:
    """Where flags are evaluated: a client, or an initialised provider."""

    def __init__(self, source: OpenFeatureClient | FeatureProvider, targeting_key: str) -> None:
        """Create a source.

        Args:
            source: The client or provider.
            targeting_key: Targeting key of all evaluations: one for all users, so that no second system hashes them.

        Raises:
            ConfigurationError: `source` is neither.
        """
        self.client = source if isinstance(source, OpenFeatureClient) else None
        prefix = "get" if self.client is not None else "resolve"
        if not all(callable(getattr(source, f"{prefix}_{kind}_details", None)) for kind in ("boolean", "float", "integer")):
            raise ConfigurationError(
                f"{source!r:.60} evaluates no flags. A FlagDriver asks an OpenFeature client or provider. "
                "Pass api.get_client()."
            )
        self._source: Any = source
        self._prefix = prefix
        self._targeting_key = targeting_key

    @property
    def name(self) -> str:
        """The provider's name; "unknown" if it cannot be read."""
        try:
            provider = self._source if self.client is None else self.client.provider
            return str(provider.get_metadata().name)[:_LONGEST_NAME]
        except Exception:
            return "unknown"

    def share(self, flag: str, rollout: str) -> FlagValue:
        """Return the share that a flag has as its value.

        Raises:
            UnreliableValueError: It has none.
        """
        details = self._ask("float", flag, nan, rollout)
        if details.error_code == ErrorCode.TYPE_MISMATCH:
            # The flag may be a whole number: 0 or 1.
            details = self._ask("integer", flag, -1, rollout)
        value = _value(details)
        try:
            if isinstance(value, str):
                raise ConfigurationError
            return _flag_value(flag, parse_share(value), details)
        except ConfigurationError:
            raise UnreliableValueError(f"its value is {value!r:.60}, and a share is a number from 0 to 1") from None

    def switch(self, flag: str, rollout: str, *, now: bool) -> FlagValue:
        """Return whether candidates may run, according to a flag; `now` is the current state.

        Raises:
            UnreliableValueError: Its value is not a boolean.
        """
        details = self._ask("boolean", flag, now, rollout)
        value = _value(details)
        if not isinstance(value, bool):
            raise UnreliableValueError(f"its value is {value!r:.60}, and a switch is true or false")
        return _flag_value(flag, value, details)

    def _ask(self, kind: str, flag: str, default: object, rollout: str) -> _Details:
        context = EvaluationContext(targeting_key=self._targeting_key, attributes={"rollout": rollout})
        evaluate = getattr(self._source, f"{self._prefix}_{kind}_details")
        try:
            details: _Details = evaluate(flag, default, context)
        except OpenFeatureError as error:
            if error.error_code == ErrorCode.TYPE_MISMATCH and kind == "float":
                return self._ask("integer", flag, -1, rollout)
            raise UnreliableValueError(f"its evaluation failed: {str(error.error_code).lower()}") from error
        # A provider is foreign code: the text of its exceptions may hold anything, so only the type is kept.
        except (Exception, SystemExit) as error:
            raise UnreliableValueError(f"its evaluation raised {type(error).__name__}") from error
        if not all(hasattr(details, name) for name in ("value", "variant", "reason", "error_code")):
            raise UnreliableValueError(
                f"its evaluation returned {type(details).__name__}, which is not an evaluation's details"
            )
        return details


def _value(details: _Details) -> Any:
    code, reason, value = details.error_code, details.reason, details.value
    if code is not None:
        raise UnreliableValueError(f"its evaluation failed: {str(code).lower():.60}")
    if reason is not None and str(reason).lower() in _UNRELIABLE:
        raise UnreliableValueError(f"its reason is {str(reason).lower()}: the provider has no value of its own for it now")
    return value


def _flag_value(flag: str, value: float, details: _Details) -> FlagValue:
    description = f"flag {flag!r} is {str(value).lower()}"
    if details.variant is not None:
        description += f" (variant {str(details.variant)!r:.60})"
    return FlagValue(value, description)
