"""The default comparison of two outputs: typed, tolerant of rounding, and never fooled by an array's ambiguous truth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from numbers import Number
from typing import Any

from rollout_sdk.records import Comparison

__all__ = ["compare"]

_MISSING = object()
_DEEPEST = 32


def compare(control: Any, candidate: Any, *, rel_tol: float = 1e-6, abs_tol: float = 1e-9) -> Comparison:
    """Compare two outputs for one input.

    Numbers match when |a - b| <= max(rel_tol max(|a|, |b|), abs_tol), and NaN matches NaN; sequences, mappings and arrays
    match element by element; anything else by `==`. `difference` is |a - b| for two numbers, the share of positions or
    keys that differ for two collections, and None for anything else.

    Raises:
        RecursionError: The outputs are nested more than 32 deep.
        Exception: Whatever the outputs' own `==` raises.
    """
    reason = _difference(control, candidate, rel_tol, abs_tol, 0)
    return Comparison(match=reason is None, difference=_distance(control, candidate, rel_tol, abs_tol), reason=reason)


def _plain(value: Any) -> Any:
    """Arrays, tensors, series and frames as nested lists; everything else as it is."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return value.tolist()
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, Number) and not isinstance(value, bool)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def _difference(a: Any, b: Any, rel_tol: float, abs_tol: float, depth: int) -> str | None:
    """Why two values differ, or None when they match."""
    if depth > _DEEPEST:
        raise RecursionError(f"The outputs are nested more than {_DEEPEST} deep. Give the rollout a rollout_compare plugin.")
    if getattr(a, "shape", None) != getattr(b, "shape", None):
        return "shape"
    a, b = _plain(a), _plain(b)
    if _is_number(a) and _is_number(b):
        return None if _close(a, b, rel_tol, abs_tol) else "value"
    if _is_sequence(a) and _is_sequence(b):
        if len(a) != len(b):
            return "length"
        return next(filter(None, (_difference(x, y, rel_tol, abs_tol, depth + 1) for x, y in zip(a, b, strict=True))), None)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        if a.keys() != b.keys():
            return "keys"
        return next(filter(None, (_difference(a[key], b[key], rel_tol, abs_tol, depth + 1) for key in a)), None)
    if type(a) is not type(b):
        return "type"
    return None if bool(a == b) else "value"


def _close(a: Any, b: Any, rel_tol: float, abs_tol: float) -> bool:
    if isinstance(a, complex) or isinstance(b, complex):
        return bool(abs(a - b) <= max(rel_tol * max(abs(a), abs(b)), abs_tol))
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return math.isclose(a, b, rel_tol=rel_tol, abs_tol=abs_tol)


def _distance(a: Any, b: Any, rel_tol: float, abs_tol: float) -> float | None:
    """How far apart two values are, finite or None."""
    a, b = _plain(a), _plain(b)
    if _is_number(a) and _is_number(b):
        distance = float(abs(a - b))
        return distance if math.isfinite(distance) else None
    if _is_sequence(a) and _is_sequence(b):
        pairs = list(zip_longest(a, b, fillvalue=_MISSING))
    elif isinstance(a, Mapping) and isinstance(b, Mapping):
        pairs = [(a.get(key, _MISSING), b.get(key, _MISSING)) for key in {**a, **b}]
    else:
        return None
    if not pairs:
        return 0.0
    return sum(_differs(x, y, rel_tol, abs_tol) for x, y in pairs) / len(pairs)


def _differs(a: Any, b: Any, rel_tol: float, abs_tol: float) -> bool:
    if a is _MISSING or b is _MISSING:
        return True
    return _difference(a, b, rel_tol, abs_tol, 1) is not None
