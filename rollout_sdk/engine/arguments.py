"""Read a call's arguments by name, find its unit, and check whether a candidate accepts the same arguments."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import Any, TypeAlias

from attrs import frozen

from rollout_sdk.assignment import Binder
from rollout_sdk.concurrency.synchronous import answered
from rollout_sdk.exceptions import ConfigurationError

__all__ = [
    "Getter",
    "Named",
    "Rebinder",
    "Spec",
    "UnitSpec",
    "binder",
    "getter",
    "incompatibility",
    "is_method",
    "parameter",
    "parameter_names",
    "rebinder",
    "signature_of",
]

Getter: TypeAlias = Callable[[tuple[Any, ...], Mapping[str, Any]], Any]
"""Extracts a value from a call's positional and keyword arguments; None if it is absent."""

Spec: TypeAlias = str | Callable[..., Any] | None
"""Locates a value in a call: a parameter name, a dotted path into one, or a callable with the function's own parameters."""

UnitSpec: TypeAlias = Spec | tuple[str, ...]
"""Locates the unit: a `Spec`, or several names and paths, of which the first present in a call is its unit."""

Rebinder: TypeAlias = Callable[
    [tuple[Any, ...], Mapping[str, Any], Mapping[str, Any]], tuple[tuple[Any, ...], Mapping[str, Any]]
]
"""Replaces some of a call's arguments, by parameter name."""

_KEYWORD_ONLY_AT = -1
_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_KEYWORD = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
_MANY = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def signature_of(function: Callable[..., Any]) -> Signature | None:
    """Return the signature, or None where Python cannot determine it (some built-ins)."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def parameter_names(signature: Signature | None) -> tuple[str, ...]:
    """The names of the parameters, in order, but for `*args` and `**kwargs`."""
    parameters = () if signature is None else signature.parameters.values()
    return tuple(each.name for each in parameters if each.kind not in _MANY)


def binder(signature: Signature | None) -> Binder:
    """Return a function that binds arguments to parameter names, with defaults; keyword arguments only if no signature."""
    if signature is None:
        return lambda _args, kwargs: dict(kwargs)

    def bind(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

    return bind


def rebinder(signature: Signature | None) -> Rebinder:
    """Return a function that replaces arguments in place where they are positional, and by keyword otherwise."""
    named = [] if signature is None else [p.name for p in signature.parameters.values() if p.kind in _BY_POSITION]

    def rebind(
        args: tuple[Any, ...], kwargs: Mapping[str, Any], others: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        at, by_name = list(args), dict(kwargs)
        for name, value in others.items():
            if name in named[: len(at)]:
                at[named.index(name)] = value
            else:
                by_name[name] = value
        return tuple(at), by_name

    return rebind


@frozen
class Named:
    """Reads one parameter, without running code of the application.

    Attributes:
        name: Name of the parameter.
        index: Its position; -1 if it is passed by keyword only.
        default: Its default, or None.
    """

    name: str
    index: int
    default: Any

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return its value in a call."""
        if 0 <= self.index < len(args):
            return args[self.index]
        return kwargs.get(self.name, self.default)


def parameter(name: str, signature: Signature | None, owner: str, option: str) -> Getter:
    """Return a getter for one parameter.

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
    if found.kind in _MANY:
        raise ConfigurationError(
            f"{option}={name!r} names {_starred(found)} of {owner!r}, which holds many arguments. It must be one parameter. "
            "Name the argument itself, or pass a callable with the function's own parameters."
        )
    return Named(name, list(parameters).index(name) if found.kind in _BY_POSITION else _KEYWORD_ONLY_AT, default)


def _step(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name)
    return getattr(value, name, None)


def getter(spec: Spec, signature: Signature | None, owner: str, option: str = "unit") -> Getter | None:
    """Return a getter for the unit (or for another option that is specified the same way), or None if `spec` is None.

    Raises:
        ConfigurationError: The parameter does not exist, or `spec` is neither a name nor a callable.
    """
    if spec is None:
        return None
    if not isinstance(spec, str):
        function = spec
        if not callable(function):
            raise ConfigurationError(
                f"{option}={spec!r:.60} of {owner!r} is neither a name nor a callable. "
                "It is a parameter's name, a dotted path into one, or a callable with the function's own parameters. "
                f"Write {option}='user_id'."
            )
        return _asking(function, option)
    name, *path = spec.split(".")
    first = parameter(name, signature, owner, option)
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


def _asking(function: Callable[..., Any], option: str) -> Getter:
    """Return a getter that calls a user's function and refuses an awaitable as its result."""

    def get(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        value = function(*args, **kwargs)
        # Fast path: almost every unit is a str.
        return value if type(value) is str else answered(f"{option}=", value, (*args, *kwargs.values()))

    return get


def incompatibility(control: Signature | None, candidate: Signature | None) -> str | None:
    """Explain why a candidate cannot be called in every way that the control can; None if it can."""
    if control is None or candidate is None:
        return None
    theirs = candidate.parameters
    kinds = {found.kind for found in theirs.values()}
    before: float = 0
    for ours in control.parameters.values():
        if ours.kind is Parameter.VAR_POSITIONAL:
            before = math.inf
        if ours.kind in _MANY:
            if ours.kind not in kinds:
                return f"it does not take {_starred(ours)}"
            continue
        place, why = _place(ours, before, theirs)
        if why is not None:
            return why
        if place is not None and ours.default is not Parameter.empty and place.default is Parameter.empty:
            return f"it requires {place.name!r}, which the control does not"
        before += ours.kind in _BY_POSITION
    return _extra_requirement(control, theirs)


def _starred(many: Parameter) -> str:
    return f"{'*' if many.kind is Parameter.VAR_POSITIONAL else '**'}{many.name}"


def _place(ours: Parameter, before: float, theirs: Mapping[str, Parameter]) -> tuple[Parameter | None, str | None]:
    """Return the candidate's parameter that receives `ours`, which `before` positional ones precede, or the reason for none."""
    positional = [found for found in theirs.values() if found.kind in _BY_POSITION]
    kinds = {found.kind for found in theirs.values()}
    there = positional[int(before)] if ours.kind in _BY_POSITION and before < len(positional) else None
    named = theirs.get(ours.name)
    if named is not None and named.kind not in _BY_KEYWORD:
        named = None
    if ours.kind in _BY_POSITION and there is None:
        swallowed = ours.kind is Parameter.POSITIONAL_OR_KEYWORD and named is not None
        if Parameter.VAR_POSITIONAL not in kinds or swallowed:
            return None, f"it does not take {ours.name!r} by position"
    if ours.kind is Parameter.POSITIONAL_ONLY:
        return there, None
    if there is not None and there.name != ours.name:
        return None, f"it has {there.name!r} where the control has {ours.name!r}"
    if named is None and Parameter.VAR_KEYWORD not in kinds:
        return None, f"it does not take {ours.name!r} by keyword"
    if named is not None and named in positional and positional.index(named) < before:
        return None, f"it has {ours.name!r} in another place"
    return named or there, None


def _extra_requirement(control: Signature, theirs: Mapping[str, Parameter]) -> str | None:
    by_name = [name for name, ours in control.parameters.items() if ours.kind in _BY_KEYWORD]
    positional_only = sum(ours.kind is Parameter.POSITIONAL_ONLY for ours in control.parameters.values())
    for number, (name, found) in enumerate(theirs.items()):
        by_position = found.kind in _BY_POSITION and number < positional_only
        if by_position or found.kind in _MANY or (name in by_name and found.kind in _BY_KEYWORD):
            continue
        if found.default is Parameter.empty:
            return f"it requires {name!r}, which the control does not have"
    return None


def is_method(signature: Signature | None) -> bool:
    """Whether the function is a method: its first parameter is the model object, which shadows share."""
    first = None if signature is None else next(iter(signature.parameters.values()), None)
    return first is not None and first.name in ("self", "cls") and first.kind is not Parameter.KEYWORD_ONLY
