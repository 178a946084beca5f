"""Validation of the kinds and parameters of functions, when the function is decorated.

A candidate must accept what the control accepts; a unit, a covariate, a row-wise argument and an override must exist in every
call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import Parameter, Signature
from typing import Any

from rollout_sdk.assignment import canonical
from rollout_sdk.concurrency.synchronous import must_answer_at_once
from rollout_sdk.engine.arguments import Spec, UnitSpec, getter, incompatibility, parameter, signature_of
from rollout_sdk.engine.likeness import FunctionKind, kind_of
from rollout_sdk.engine.routing import Override
from rollout_sdk.exceptions import ConfigurationError, SignatureError

__all__ = ["KINDS", "check_batch", "check_candidate", "check_covariate", "check_override", "check_segments", "check_unit"]

KINDS = {
    "function": "a plain function",
    "coroutine": "a coroutine function",
    "generator": "a generator function",
    "async generator": "an async generator function",
}
"""The kinds of functions, as named in errors."""

_ASK_BEFORE = (
    "Make it a plain function with the control's parameters; if something must be awaited, await it before the call and "
    "pass it as an argument."
)


def check_candidate(key: str, kind: FunctionKind, signature: Signature | None, name: str, candidate: object) -> None:
    """Check that a candidate is of the control's kind, and accepts every call that the control accepts."""
    if not callable(candidate):
        raise SignatureError(
            f"Candidate {name!r} of {key!r} is {candidate!r:.60}, which cannot be called. "
            "A candidate is a function that takes what the control takes. Pass the function itself."
        )
    if kind_of(candidate) != kind:
        raise SignatureError(
            f"Candidate {name!r} of {key!r} is {KINDS[kind_of(candidate)]}, but {key!r} is {KINDS[kind]}. "
            f"All variants of a rollout must be of one kind. Make {name!r} {KINDS[kind]} or wrap it."
        )
    _check_takes_the_same(f"Candidate {name!r} of {key!r}", signature, candidate)


def _check_takes_the_same(subject: str, signature: Signature | None, function: Callable[..., Any]) -> None:
    why = incompatibility(signature, signature_of(function))
    if why is not None:
        raise SignatureError(
            f"{subject} cannot be called as the control is: {why}. "
            "Every call of the control must be possible for it, too. Give it the control's parameters, or *args and **kwargs."
        )


def check_unit(key: str, unit: UnitSpec, signature: Signature | None) -> None:
    """Check that the unit can be found in every call."""
    if not isinstance(unit, tuple):
        if isinstance(unit, list):
            raise ConfigurationError(
                f"unit={unit!r:.60} of {key!r} is a list. Several units are a tuple: a call uses the first that is present. "
                "Write unit=('user_id', 'device_id')."
            )
        _check_path(key, "unit", unit, signature)
        return
    if len(unit) < 2 or len(set(unit)) < len(unit) or not all(isinstance(name, str) for name in unit):
        raise ConfigurationError(
            f"unit={unit!r:.60} of {key!r} does not name several units. A tuple has two or more names or paths, none of them "
            "twice, and the first that a call has is its unit. Write unit=('user_id', 'device_id')."
        )
    for name in unit:
        _check_path(key, "unit", name, signature)


def check_covariate(key: str, covariate: Spec, signature: Signature | None) -> None:
    """Check that the covariate can be found in every call."""
    _check_path(key, "covariate", covariate, signature)


def check_segments(key: str, segments: Iterable[str], signature: Signature | None) -> None:
    """Check that each attribute can be found in every call."""
    for name in segments:
        _check_path(key, "segments", name, signature)


def _check_path(key: str, option: str, spec: Spec, signature: Signature | None) -> None:
    """Check that a specification is a parameter, a path into one, or a callable that takes the arguments."""
    if isinstance(spec, str):
        if not all(spec.split(".")):
            raise ConfigurationError(
                f"{option}={spec!r:.60} of {key!r} has an empty part. A path is a series of names, separated by dots. "
                "Write 'user_id' or 'request.user.id'."
            )
        _check_one_argument(key, option, spec.partition(".")[0], signature)
    getter(spec, signature, key, option)
    if callable(spec):
        must_answer_at_once(f"{option}= of {key!r}", spec, _ASK_BEFORE)
        _check_takes_the_same(f"{option}= of {key!r}", signature, spec)


def _check_one_argument(key: str, option: str, name: str, signature: Signature | None) -> None:
    """Check that a parameter holds a single argument."""
    found = None if signature is None else signature.parameters.get(name)
    if found is not None and found.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
        raise ConfigurationError(
            f"{option}={name!r} of {key!r} names {str(found).partition(':')[0]}, which holds many arguments. "
            "It must name one. Name a parameter, or a keyword argument that **kwargs takes."
        )


def check_batch(key: str, batch: object, kind: FunctionKind, signature: Signature | None, override: Override) -> None:
    """Check that the row-wise parameters exist, and that decisions can be made by row."""
    if batch is None:
        return
    if not isinstance(batch, tuple) or not batch or not all(isinstance(name, str) for name in batch):
        raise ConfigurationError(
            f"batch={batch!r:.60} of {key!r} names no parameters. It is the name of the list of rows, or several names. "
            "Write batch='texts'."
        )
    for name in batch:
        _check_one_argument(key, "batch", name, signature)
        parameter(name, signature, key, "batch")
    if kind not in ("function", "coroutine"):
        raise ConfigurationError(
            f"batch={batch!r} of {key!r} does not work with a stream. "
            "Rows can be put in order only when all are there. Leave batch= out, or return a list."
        )
    if callable(override) and not isinstance(override, Mapping):
        raise ConfigurationError(
            f"override= of {key!r} is a callable, and batch= is set. A callable sees the whole call, not a row. "
            "Pass override= as a mapping of units to variants."
        )


def check_override(key: str, override: object, variants: Sequence[str], unit: UnitSpec, signature: Signature | None) -> None:
    """Check that overrides name existing variants, for units that a call can have."""
    if override is None:
        return
    if not isinstance(override, Mapping):
        if not callable(override):
            raise ConfigurationError(
                f"override={override!r:.60} of {key!r} is neither a mapping nor a callable. "
                "Overrides are variants by unit, or found by a callable. Write override={'u-1': 'v2'}."
            )
        must_answer_at_once(f"override= of {key!r}", override, _ASK_BEFORE)
        _check_takes_the_same(f"override= of {key!r}", signature, override)
        return
    if unit is None:
        raise ConfigurationError(
            f"override= of {key!r} names units, and calls of {key!r} have none. Without unit=, no override could match. "
            "Set unit=, or pass override= as a callable."
        )
    named: dict[bytes, tuple[object, str]] = {}
    for each, variant in override.items():
        unit_name = canonical(each)
        if unit_name is None:
            raise ConfigurationError(
                f"override= of {key!r} names the unit {each!r:.60}, which no call can have. "
                "A unit is a non-empty text, a number, a UUID, a date, bytes or a tuple of these. Take it out."
            )
        if variant not in variants:
            raise ConfigurationError(
                f"override= of {key!r} gives unit {each!r:.60} the variant {variant!r:.60}, which does not exist. "
                f"An override names a variant. The variants are: {', '.join(variants)}."
            )
        other, its_variant = named.setdefault(unit_name, (each, variant))
        if variant != its_variant:
            raise ConfigurationError(
                f"override= of {key!r} gives {other!r:.60} the variant {its_variant!r:.60}, and {each!r:.60} the variant "
                f"{variant!r:.60}. They are one unit: a unit is its text. Take one of them out."
            )
