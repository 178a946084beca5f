"""`Close`, and the default comparison of two outputs: type-aware, tolerant of rounding, and as fast as the arrays' library."""

from __future__ import annotations

import cmath
import math
import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import zip_longest
from typing import Any, TypeAlias

from attrs import evolve, field, frozen

from rollout_sdk.comparators.arrays import Tolerance, compare_columns, differing_numbers
from rollout_sdk.comparators.base import Comparator, at_least
from rollout_sdk.comparators.columns import Column, as_column, one_block, spelled
from rollout_sdk.comparators.parts import (
    column_names,
    columns_of,
    fields_of,
    has_no_equality,
    is_missing,
    is_number,
    is_sequence,
    plain,
)
from rollout_sdk.formatting import class_name
from rollout_sdk.records import Comparison

__all__ = ["Close", "DefaultComparator", "compare", "examine"]

_MISSING = object()
_DEEPEST = 32
_MOST_PAIRS = 10_000

_Found: TypeAlias = tuple[str | None, float | None]


@frozen
class Close(Comparator):
    """Numbers that are close match, also inside lists, mappings, arrays, frames and objects; anything else must be equal.

    Two numbers match if |a - b| <= max(rel max(|a|, |b|), abs). NaN, NaT and missing values match themselves, and labels of
    pandas objects must be equal. Without a `compare=`, answers are compared by `Close()`.

    `difference` is |a - b| for two numbers, the mean of it for arrays and lists of numbers, the share of positions or keys that
    differ for other collections, and None for anything else.

    Attributes:
        rel: Tolerance relative to the larger number.
        abs: Tolerance in the numbers' own unit.

    Raises:
        RecursionError: When it is called: the answers are nested more than 32 deep.
    """

    rel: float = field(default=1e-6, kw_only=True, validator=at_least(0.0))
    abs: float = field(default=1e-9, kw_only=True, validator=at_least(0.0))
    name = "close"

    def __call__(self, control: Any, candidate: Any) -> Comparison:
        """Compare two answers."""
        return self.found(*examine(control, candidate, (self.rel, self.abs), 0))


def compare(control: Any, candidate: Any, *, rel_tol: float = 1e-6, abs_tol: float = 1e-9) -> Comparison:
    """Compare two outputs for one input as `Close` does.

    Raises:
        RecursionError: The outputs are nested more than 32 deep.
        Exception: Whatever the outputs' own `==` raises.
    """
    reason, difference = examine(control, candidate, (rel_tol, abs_tol), 0)
    return Comparison(match=reason is None, difference=difference, reason=reason)


def examine(a: Any, b: Any, tolerance: Tolerance, depth: int) -> _Found:
    """Return why two values differ, or None if they match; and their difference, or None if they have none."""
    if depth > _DEEPEST:
        raise RecursionError(f"The outputs are nested more than {_DEEPEST} deep. Give the rollout a rollout_compare plugin.")
    if is_missing(a) or is_missing(b):
        return None if type(a) is type(b) else "missing", None
    if (found := _arrays(a, b, tolerance, depth)) is not None:
        return found
    shapes = getattr(a, "shape", None), getattr(b, "shape", None)
    # A list has no shape, but may equal an array of the same numbers.
    reason = "shape" if None not in shapes and shapes[0] != shapes[1] else None
    a, b = plain(a), plain(b)
    if is_number(a) and is_number(b):
        return reason or (None if _is_close(a, b, *tolerance) else "value"), _gap(a, b)
    if is_sequence(a) and is_sequence(b):
        found = _sequences(a, b, tolerance, depth)
    elif isinstance(a, Mapping) and isinstance(b, Mapping):
        found = _mappings(a, b, tolerance, depth)
    elif type(a) is not type(b):
        return reason or "type", None
    elif (ours := fields_of(a)) is not None and (theirs := fields_of(b)) is not None:
        found = _mappings(ours, theirs, tolerance, depth)
        # A class with an equality of its own may know better.
        if found[0] is not None and not has_no_equality(a) and _says_equal(a, b):
            return None, 0.0
    else:
        return reason or (None if bool(a == b) else "value"), None
    return reason or found[0], found[1]


def _says_equal(a: Any, b: Any) -> bool:
    try:
        return bool(a == b)
    # The equality of a class that holds arrays has no truth.
    except Exception:
        return False


def _arrays(a: Any, b: Any, tolerance: Tolerance, depth: int) -> _Found | None:
    """Compare frames by column, and arrays by their library; None for anything else."""
    if type(a) is type(b) and (names := column_names(a)) is not None and (others := column_names(b)) is not None:
        return _frames(a, b, names, others, tolerance, depth)
    ours = as_column(a)
    if ours is None or (theirs := as_column(b)) is None:
        return None
    if ours.shape != theirs.shape:
        return _of_other_lengths(a, b, ours, theirs, tolerance)
    index: Any = getattr(a, "index", None)
    others = getattr(b, "index", None)
    if hasattr(index, "equals") and hasattr(others, "equals") and not index.equals(others):
        return "index", 1.0
    if ours.names is not None and theirs.names is not None and (coded := _coded(ours, theirs, tolerance, depth)) is not None:
        return coded
    ours, theirs = spelled(ours), spelled(theirs)
    found = compare_columns(ours, theirs, tolerance)
    if found is not None:
        return found[0], found[1]
    return _sequences(_present(a, ours), _present(b, theirs), tolerance, depth)


def _of_other_lengths(a: Any, b: Any, ours: Column, theirs: Column, tolerance: Tolerance) -> _Found | None:
    """Compare as much of two arrays as both have; None for arrays of more directions, and for what only Python can compare."""
    columns = ours, theirs
    if any(len(each.shape) != 1 or each.names is not None or each.lengths is not None for each in columns):
        return None
    shared, longest = sorted(each.shape[0] for each in columns)
    one, other = (
        evolve(each, values=each.values[:shared], missing=None if each.missing is None else each.missing[:shared])
        for each in columns
    )
    found = compare_columns(one, other, tolerance)
    if found is None:
        return None
    have_shapes = all(getattr(each, "shape", None) is not None for each in (a, b))
    return "shape" if have_shapes else "length", (found[2] + longest - shared) / longest


def _coded(one: Column, other: Column, tolerance: Tolerance, depth: int) -> _Found | None:
    """Compare the values of two categories: each pair of values once, however often it occurs; None if that is no saving."""
    numpy: Any = sys.modules["numpy"]
    if not one.values.size:
        return None, 0.0
    # -1, for a missing value, takes the first place.
    ours, theirs = [None, *one.names], [None, *other.names]
    keys = (one.values.astype("i8") + 1) * len(theirs) + other.values + 1
    # Small numbers are sorted much faster.
    kind = "u2" if len(ours) * len(theirs) <= 1 << 16 else "i8"
    codes, firsts, counts = numpy.unique(keys.astype(kind), return_index=True, return_counts=True)
    if len(codes) > _MOST_PAIRS:
        return None
    reasons, gaps, differing = {}, [], 0
    for code, first, count in zip(codes.tolist(), firsts.tolist(), counts.tolist(), strict=True):
        x, y = ours[code // len(theirs)], theirs[code % len(theirs)]
        reason, gap, are_numbers = _pair(x, y, tolerance, depth)
        if reason is not None:
            reasons[first] = "missing" if x is None or y is None else reason
            differing += count
        if are_numbers:
            gaps.append(math.inf if gap is None else gap * count)
    reason = reasons[min(reasons)] if reasons else None
    if len(gaps) < len(codes):
        return reason, differing / keys.size
    total = math.fsum(gaps) if math.inf not in gaps else math.inf
    return reason, total / keys.size if math.isfinite(total) else None


def _present(array: Any, column: Column) -> list[Any]:
    """Return the values of an array of objects, with None for the missing ones."""
    if column.lengths is not None:
        numpy: Any = sys.modules["numpy"]
        ends = numpy.cumsum(numpy.maximum(column.lengths, 0))
        parts = numpy.split(column.values, ends[:-1])
        return [None if length < 0 else part for part, length in zip(parts, column.lengths.tolist(), strict=True)]
    # Times as the library has them: those of numpy may be whole numbers in Python.
    values = plain(array) if column.values.dtype.kind in "mM" else column.values.tolist()
    if column.missing is None:
        return [None if is_missing(value) else value for value in values]
    return [None if gone else value for value, gone in zip(values, column.missing.tolist(), strict=True)]


def _frames(a: Any, b: Any, names: list[Any], others: list[Any], tolerance: Tolerance, depth: int) -> _Found:
    """Compare two frames; the difference is the share of columns that differ."""
    if names != others:
        differing = len(set(map(str, names)) ^ set(map(str, others)))
        return "columns", min(1.0, differing / max(len(names), len(others), 1)) or 1.0
    if hasattr(a, "iloc") and not a.index.equals(b.index):
        return "index" if len(a.index) == len(b.index) else "shape", 1.0
    if not names:
        return None, 0.0
    block = one_block(a)
    if block is not None and (other := one_block(b)) is not None:
        # By columns if they lie so in memory: by rows, each would be copied.
        are_columns = block.flags.f_contiguous and other.flags.f_contiguous
        marks = differing_numbers(block.T, other.T, tolerance).T if are_columns else differing_numbers(block, other, tolerance)
        differing = int(marks.any(axis=0).sum())
        return "value" if differing else None, differing / len(names)
    columns, counterparts = (found[1] for each in (a, b) if (found := columns_of(each)) is not None)
    if len(columns[0]) != len(counterparts[0]):
        return "shape", 1.0
    reasons = [examine(x, y, tolerance, depth + 1)[0] for x, y in zip(columns, counterparts, strict=True)]
    return next(filter(None, reasons), None), sum(reason is not None for reason in reasons) / len(reasons)


def _sequences(a: Sequence[Any], b: Sequence[Any], tolerance: Tolerance, depth: int) -> _Found:
    pairs = [_pair(x, y, tolerance, depth) for x, y in zip_longest(a, b, fillvalue=_MISSING)]
    if not pairs:
        return None, 0.0
    reason = "length" if len(a) != len(b) else next((each for each, _, _ in pairs if each), None)
    if len(a) == len(b) and all(both for _, _, both in pairs):
        gaps = [gap for _, gap, _ in pairs]
        total = math.inf if None in gaps else math.fsum(gap for gap in gaps if gap is not None)
        return reason, total / len(pairs) if math.isfinite(total) else None
    return reason, sum(each is not None for each, _, _ in pairs) / len(pairs)


def _mappings(a: Mapping[Any, Any], b: Mapping[Any, Any], tolerance: Tolerance, depth: int) -> _Found:
    # Some mappings, such as protobuf's, have no `get`.
    a, b = dict(a), dict(b)
    keys = {**a, **b}
    reasons = [_pair(a.get(key, _MISSING), b.get(key, _MISSING), tolerance, depth)[0] for key in keys]
    reason = "keys" if a.keys() != b.keys() else next(filter(None, reasons), None)
    return reason, sum(each is not None for each in reasons) / len(reasons) if reasons else 0.0


def _pair(a: Any, b: Any, tolerance: Tolerance, depth: int) -> tuple[str | None, float | None, bool]:
    """Return what `examine` finds of two elements, and whether both are numbers."""
    if a is _MISSING or b is _MISSING:
        return "missing", None, False
    reason, difference = examine(a, b, tolerance, depth + 1)
    return reason, difference, is_number(a) and is_number(b)


def _is_close(a: Any, b: Any, rel_tol: float, abs_tol: float) -> bool:
    if isinstance(a, complex) or isinstance(b, complex):
        return cmath.isclose(a, b, rel_tol=rel_tol, abs_tol=abs_tol) or (cmath.isnan(a) and cmath.isnan(b))
    try:
        return math.isclose(a, b, rel_tol=rel_tol, abs_tol=abs_tol) or (math.isnan(a) and math.isnan(b))
    # An integer larger than the largest float.
    except OverflowError:
        gap = _exact_gap(a, b)
        return gap is not None and gap <= max(Fraction(rel_tol) * max(abs(Fraction(a)), abs(Fraction(b))), Fraction(abs_tol))


def _exact_gap(a: Any, b: Any) -> Fraction | None:
    """|a - b| without rounding; None if either is infinite, NaN or complex."""
    try:
        return abs(Fraction(a) - Fraction(b))
    except (OverflowError, TypeError, ValueError):
        return None


def _gap(a: Any, b: Any) -> float | None:
    """|a - b|; 0 for two infinities of the same sign and for two NaNs, None if the gap is not finite."""
    if a == b or (a != a and b != b):  # noqa: PLR0124 - NaN is what differs from itself
        return 0.0
    try:
        gap = float(abs(a - b))
    # Decimals do not mix with floats, and the difference of huge integers overflows a float.
    except (OverflowError, TypeError):
        exact = _exact_gap(a, b)
        gap = float(exact) if exact is not None and exact < sys.float_info.max else math.inf
    return gap if math.isfinite(gap) else None


class DefaultComparator:
    """The plugin that compares outputs if neither `compare=` nor another plugin does."""

    name = "default-comparison"

    @staticmethod
    def rollout_compare(control: Any, candidate: Any) -> Comparison:
        """Compare two outputs with `compare`; two that raise while they are compared are not the same."""
        try:
            return compare(control, candidate)
        # It comes from the outputs' own methods, so it is not a fault of a plugin.
        except Exception as error:
            return Comparison(match=False, reason=f"{class_name(error)} while they were compared")
