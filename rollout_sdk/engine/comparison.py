"""The default comparison of two outputs: typed, tolerant of rounding, and never fooled by an array's ambiguous truth."""

from __future__ import annotations

import cmath
import math
import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import zip_longest
from numbers import Number
from typing import Any

from rollout_sdk.records import Comparison

__all__ = ["DefaultComparator", "compare"]

_MISSING = object()
_DEEPEST = 32
_LISTS = ("tolist", "to_list", "to_dict")
"""How arrays, tensors, series and frames give their contents, in order of preference."""


def compare(control: Any, candidate: Any, *, rel_tol: float = 1e-6, abs_tol: float = 1e-9) -> Comparison:
    """Compare two outputs for one input.

    Numbers match when |a - b| <= max(rel_tol max(|a|, |b|), abs_tol), and NaN matches NaN; sequences, mappings and arrays
    match element by element; anything else when its type is the same and by `==`. `difference` is |a - b| for two
    numbers, the share of positions or keys that differ for two collections, and None for anything else.

    Raises:
        RecursionError: The outputs are nested more than 32 deep.
        Exception: Whatever the outputs' own `==` raises.
    """
    reason = _difference(control, candidate, rel_tol, abs_tol, 0)
    return Comparison(match=reason is None, difference=_distance(control, candidate, rel_tol, abs_tol), reason=reason)


def _plain(value: Any) -> Any:
    """Arrays, tensors and series as nested lists, their scalars as numbers, frames as columns; all else as it is."""
    if hasattr(value, "shape") and (hasattr(value, "dtype") or hasattr(value, "columns")):
        for name in _LISTS:
            if hasattr(value, name):
                return getattr(value, name)()
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, Number) and not isinstance(value, bool)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def _difference(a: Any, b: Any, rel_tol: float, abs_tol: float, depth: int) -> str | None:
    """Why two values differ, or None when they match."""
    if depth > _DEEPEST:
        raise RecursionError(f"The outputs are nested more than {_DEEPEST} deep. Give the rollout a rollout_compare plugin.")
    shapes = getattr(a, "shape", None), getattr(b, "shape", None)
    # What has no shape may still match: a list and an array of the same numbers do.
    if None not in shapes and shapes[0] != shapes[1]:
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
        return cmath.isclose(a, b, rel_tol=rel_tol, abs_tol=abs_tol) or (cmath.isnan(a) and cmath.isnan(b))
    try:
        return math.isclose(a, b, rel_tol=rel_tol, abs_tol=abs_tol) or (math.isnan(a) and math.isnan(b))
    # An integer beyond the largest float.
    except OverflowError:
        gap = _exact_gap(a, b)
        return gap is not None and gap <= Fraction(rel_tol) * max(abs(Fraction(a)), abs(Fraction(b)))


def _exact_gap(a: Any, b: Any) -> Fraction | None:
    """|a - b| without rounding; None where one of them is infinite, NaN or complex."""
    try:
        return abs(Fraction(a) - Fraction(b))
    except (OverflowError, TypeError, ValueError):
        return None


def _distance(a: Any, b: Any, rel_tol: float, abs_tol: float) -> float | None:
    """How far apart two values are, finite or None."""
    a, b = _plain(a), _plain(b)
    if _is_number(a) and _is_number(b):
        return _gap(a, b)
    if _is_sequence(a) and _is_sequence(b):
        pairs = list(zip_longest(a, b, fillvalue=_MISSING))
    elif isinstance(a, Mapping) and isinstance(b, Mapping):
        pairs = [(a.get(key, _MISSING), b.get(key, _MISSING)) for key in {**a, **b}]
    else:
        return None
    if not pairs:
        return 0.0
    return sum(_differs(x, y, rel_tol, abs_tol) for x, y in pairs) / len(pairs)


def _gap(a: Any, b: Any) -> float | None:
    """|a - b|; 0 for two infinities of one sign and for two NaNs, None where it is no finite number."""
    if a == b or (a != a and b != b):  # noqa: PLR0124 - NaN is what differs from itself
        return 0.0
    try:
        gap = float(abs(a - b))
    # Decimals take no floats, and the difference of huge integers is none.
    except (OverflowError, TypeError):
        exact = _exact_gap(a, b)
        gap = float(exact) if exact is not None and exact < sys.float_info.max else math.inf
    return gap if math.isfinite(gap) else None


def _differs(a: Any, b: Any, rel_tol: float, abs_tol: float) -> bool:
    if a is _MISSING or b is _MISSING:
        return True
    return _difference(a, b, rel_tol, abs_tol, 1) is not None


class DefaultComparator:
    """The plugin that compares when no other does."""

    name = "default-comparison"

    @staticmethod
    def rollout_compare(control: Any, candidate: Any) -> Comparison:
        """Compare as `compare` does."""
        return compare(control, candidate)
