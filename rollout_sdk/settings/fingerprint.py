"""The fingerprint of a rollout: which of its calls are comparable. Evidence with different fingerprints is never pooled.

It covers what is fixed for the whole rollout and determines who is compared with whom: version, hash key, unit, layer, holdout,
names of the variants, and the strategy with its arguments and, unless it has steps, its shares; and what turns answers into
numbers: `compare=`, with its noise, and `measure=`. It does not cover what may change while the rollout runs, because phases
separate that: a canary's steps and its current share. Nor does it cover the criteria (guardrails, gates), nor a judge, whose
changes people's labels correct.

The code of the candidates counts only where nothing else tells two of them apart: without a `version=`, and without a store
that other processes see. With such a store, a change of a log line would make the processes of a rolling update refuse each
other, and bring an aborted candidate back; there, the parts name the code, and a change is reported. The code of the
control does not count: both arms are compared at the same time, so that a comparison stays valid when the control changes.

It is computed from names, plain values and bytecode, so that every process of a deployment gets the same one.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from hashlib import blake2b
from json import dumps
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any
from uuid import UUID

import attrs

from rollout_sdk.assignment import key_id
from rollout_sdk.plugins.discovery import strategy_name

if TYPE_CHECKING:
    from rollout_sdk.assignment import Layer

__all__ = ["Fingerprint", "fingerprint_of"]

_BYTES = 4
_DEEPEST = 6
_EXACT = 1 << 53
_SCALARS = (str, bytes, Real, Enum, date, time, timedelta, Decimal, UUID, range, complex)
"""Classes whose values each have one plain text form."""


@attrs.frozen
class Fingerprint:
    """A fingerprint and its parts.

    Attributes:
        value: Eight hexadecimal digits.
        parts: Its parts by name, as in the journal: the arguments of the strategy, `compare=`, `measure=` and the candidates'
            code as hashes, because they may contain anything; the code also where it does not count.
    """

    value: str
    parts: Mapping[str, Any]


def fingerprint_of(
    *,
    version: str | None,
    key: bytes | None,
    unit: Any,
    missing_unit: str,
    layer: Layer | None,
    holdout: float,
    control: str,
    candidates: Iterable[str],
    strategy: object,
    shares: Mapping[str, float] | None,
    compare: object = None,
    measure: object = None,
    code: str | None = None,
    counts_code: bool = False,
) -> Fingerprint:
    """Return the fingerprint of a rollout with these settings.

    `shares` is None if the strategy changes them step by step, `compare` and `measure` if there is none, and `code`, a digest,
    if a version says what the candidates are.
    """
    left_out = getattr(strategy, "not_fingerprinted", ())
    parts: dict[str, Any] = {
        "version": version,
        "hash_key": key_id(key),
        "unit": _plain(unit),
        "missing_unit": missing_unit,
        "layer": None if layer is None else [layer.name, layer.start, layer.end],
        "holdout": holdout,
        "control": control,
        "candidates": sorted(candidates),
        "strategy": strategy_name(strategy),
        "arguments": _digest(_arguments(strategy, left_out=left_out if isinstance(left_out, tuple) else ())),
        "shares": None if shares is None else dict(shares),
    }
    # Only where there is one: rollouts without keep the fingerprint that they have had.
    parts |= {
        name: _digest(_plain(option)) for name, option in (("compare", compare), ("measure", measure)) if option is not None
    }
    about_code = {} if code is None else {"code": code}
    return Fingerprint(_digest(parts | about_code if counts_code else parts), parts | about_code)


def _digest(plain: Any) -> str:
    return blake2b(_text(plain).encode("ascii"), digest_size=_BYTES).hexdigest()


def _text(plain: Any) -> str:
    return dumps(plain, ensure_ascii=True, sort_keys=True, separators=(",", ":"))


def _plain(value: Any, depth: int = 0) -> Any:
    """Convert a value to JSON-compatible values: equal for equal values in every process, without process-specific parts."""
    if value is None or isinstance(value, _SCALARS):
        return _scalar(value)
    if depth >= _DEEPEST:
        return type(value).__qualname__
    if isinstance(value, Mapping):
        pairs = [[_plain(key, depth + 1), _plain(each, depth + 1)] for key, each in value.items()]
        return ["mapping", sorted(pairs, key=_text)]
    if isinstance(value, AbstractSet):
        return ["set", sorted((_plain(each, depth + 1) for each in value), key=_text)]
    if isinstance(value, list | tuple):
        return [_plain(each, depth + 1) for each in value]
    if isinstance(value, functools.partial):
        return ["partial", *(_plain(each, depth + 1) for each in (value.func, value.args, value.keywords))]
    name = getattr(value, "__qualname__", None)
    if callable(value) and isinstance(name, str):
        return ["function", name]
    return [type(value).__qualname__, _arguments(value, depth + 1)]


def _scalar(value: Any) -> Any:
    if isinstance(value, Enum):
        return [type(value).__qualname__, value.name]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes):
        return ["bytes", value.hex()]
    if isinstance(value, Fraction) or not isinstance(value, Real):
        return [type(value).__qualname__, repr(value)]
    return int(value) if isinstance(value, Integral) else _number(float(value))


def _number(value: float) -> Any:
    # 1 and 1.0 are the same share; a number that JSON does not have becomes text.
    if value.is_integer() and abs(value) < _EXACT:
        return int(value)
    return value if value - value == 0 else repr(value)


def _arguments(built: object, depth: int = 0, left_out: Collection[str] = ()) -> dict[str, Any]:
    """Return an object's constructor arguments, as far as it stores them under the parameters' names.

    Everything else it holds (counts, caches, a client) is ignored: it may differ between processes.
    """
    kind = type(built)
    if attrs.has(kind):
        held = {each.name: getattr(built, each.name) for each in attrs.fields(kind) if each.init and each.eq}
    elif is_dataclass(kind):
        held = {each.name: getattr(built, each.name) for each in dataclass_fields(kind) if each.init and each.compare}
    else:
        # Instance attributes only: a property could run any code.
        own = getattr(built, "__dict__", {})
        held = {name: own[name] for name in _parameters(kind) if name in own}
    return {name: _plain(value, depth) for name, value in held.items() if name not in left_out}


def _parameters(kind: type) -> tuple[str, ...]:
    """Return the names of a class's constructor parameters; empty if they are unknown."""
    try:
        return tuple(inspect.signature(kind.__init__).parameters)  # type: ignore[misc] # of this class, and no other
    except (TypeError, ValueError):
        return ()
