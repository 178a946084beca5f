"""Reading a call's arguments: by name, for the unit, and whether a candidate can take the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import Any, TypeAlias

from rollout_sdk.assignment import Binder
from rollout_sdk.exceptions import ConfigurationError

__all__ = ["Getter", "UnitSpec", "binder", "getter", "incompatibility", "parameter", "signature_of"]

Getter: TypeAlias = Callable[[tuple[Any, ...], Mapping[str, Any]], Any]
"""Takes something out of a call's positional and keyword arguments; None when it is not there."""

UnitSpec: TypeAlias = str | Callable[..., Any] | None
"""Where the unit is: a parameter's name, a dotted path into one, or a callable with the function's own parameters."""

_KEYWORD_ONLY_AT = -1


def signature_of(function: Callable[..., Any]) -> Signature | None:
    """The signature, or None where Python cannot tell (some built-ins)."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def binder(signature: Signature | None) -> Binder:
    """Arguments by parameter name, with defaults; without a signature, keyword arguments only."""
    if signature is None:
        return lambda _args, kwargs: dict(kwargs)

    def bind(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

    return bind


def parameter(name: str, signature: Signature | None, owner: str, option: str) -> Getter:
    """A getter for one parameter by its name.

    Raises:
        ConfigurationError: The function has no such parameter.
    """
    parameters = {} if signature is None else dict(signature.parameters)
    found = parameters.get(name)
    if found is None:
        if signature is None or any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values()):
            return lambda _args, kwargs: kwargs.get(name)
        known = ", ".join(parameters) or "none"
        raise ConfigurationError(
            f"{option}={name!r} names no parameter of {owner!r}. It must be one of the function's own. "
            f"Its parameters are: {known}."
        )
    default = None if found.default is Parameter.empty else found.default
    positional = found.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    index = list(parameters).index(name) if positional else _KEYWORD_ONLY_AT

    def get(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if 0 <= index < len(args):
            return args[index]
        return kwargs.get(name, default)

    return get


def _step(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name)
    return getattr(value, name, None)


def getter(spec: UnitSpec, signature: Signature | None, owner: str) -> Getter | None:
    """A getter for the unit, or None when there is no unit.

    Raises:
        ConfigurationError: The parameter does not exist.
    """
    if spec is None:
        return None
    if not isinstance(spec, str):
        function = spec
        if not callable(function):
            raise ConfigurationError(
                f"unit={spec!r:.60} of {owner!r} is neither a name nor a callable. "
                "A unit is a parameter's name, a dotted path into one, or a callable with the function's own parameters. "
                "Write unit='user_id'."
            )
        return lambda args, kwargs: function(*args, **kwargs)
    name, *path = spec.split(".")
    first = parameter(name, signature, owner, "unit")
    if not path:
        return first

    def get(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        value = first(args, kwargs)
        for part in path:
            if value is None:
                return None
            value = _step(value, part)
        return value

    return get


def incompatibility(control: Signature | None, candidate: Signature | None) -> str | None:
    """Why a candidate cannot be called in every way in which the control can be called; None when it can."""
    if control is None or candidate is None:
        return None
    theirs = dict(candidate.parameters)
    takes_any_positional = any(p.kind is Parameter.VAR_POSITIONAL for p in theirs.values())
    takes_any_keyword = any(p.kind is Parameter.VAR_KEYWORD for p in theirs.values())
    positional = [p for p in theirs.values() if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)]
    index = 0
    for ours in control.parameters.values():
        if ours.kind is Parameter.VAR_POSITIONAL and not takes_any_positional:
            return f"it does not take *{ours.name}"
        if ours.kind is Parameter.VAR_KEYWORD and not takes_any_keyword:
            return f"it does not take **{ours.name}"
        if ours.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
            continue
        same_place = None
        if ours.kind is not Parameter.KEYWORD_ONLY:
            same_place = positional[index] if index < len(positional) else None
            index += 1
            if same_place is None and not takes_any_positional:
                return f"it does not take {ours.name!r} by position"
            if same_place is not None and ours.kind is Parameter.POSITIONAL_OR_KEYWORD and same_place.name != ours.name:
                return f"it has {same_place.name!r} where the control has {ours.name!r}"
        match = same_place if ours.kind is Parameter.POSITIONAL_ONLY else theirs.get(ours.name)
        by_keyword = match is not None and match.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
        if ours.kind is not Parameter.POSITIONAL_ONLY and not by_keyword and not takes_any_keyword:
            return f"it does not take {ours.name!r} by keyword"
        if match is not None and ours.default is not Parameter.empty and match.default is Parameter.empty:
            return f"it requires {match.name!r}, which the control does not"
    return _extra_requirement(control, theirs)


def _extra_requirement(control: Signature, theirs: Mapping[str, Parameter]) -> str | None:
    by_name = [name for name, ours in control.parameters.items() if ours.kind is not Parameter.POSITIONAL_ONLY]
    positional_only = len(control.parameters) - len(by_name)
    for number, (name, found) in enumerate(theirs.items()):
        if name in by_name or number < positional_only:
            continue
        if found.default is Parameter.empty and found.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
            return f"it requires {name!r}, which the control does not have"
    return None
