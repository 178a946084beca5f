"""Compares the numbers of two arrays by numpy's own operations: nothing is imported, because the arrays brought numpy along."""

from __future__ import annotations

import math
import sys
from typing import Any, TypeAlias

from attrs import evolve

from rollout_sdk.comparators.columns import NUMBERS, Column

__all__ = ["Tolerance", "compare_columns", "differing_numbers"]

Tolerance: TypeAlias = tuple[float, float]
"""Relative and absolute: |a - b| <= max(relative max(|a|, |b|), absolute)."""

_BLOCK = 16_384
_EXACT = 2**53
"""Whole numbers up to this one are exact as floats."""

Found: TypeAlias = tuple[str | None, float | None, int]
"""Why the two differ or None, their difference, and the number of elements that do not match."""


def compare_columns(one: Column, other: Column, tolerance: Tolerance) -> Found | None:
    """Compare two arrays of one shape; None if they hold objects or codes, which only Python can compare.

    The difference is the mean of |a - b| for numbers, where a pair without a finite one makes it None; for anything else, the
    share of the elements that differ.
    """
    a, b = one.values, other.values
    if one.lengths is not None or other.lengths is not None:
        return None if one.lengths is None or other.lengths is None else _lists(one, other, tolerance)
    if one.missing is not None or other.missing is not None:
        return _with_missing(one, other, tolerance)
    kinds = a.dtype.kind, b.dtype.kind
    if not a.size:
        return None, 0.0, 0
    if a.dtype.names and a.dtype.names == b.dtype.names:
        return _structured(a, b, tolerance)
    if kinds[0] in NUMBERS and kinds[1] in NUMBERS:
        return _numbers(a, b, *tolerance)
    if "O" in kinds or "V" in kinds:
        if set(map(type, a.flat)) != {str} or set(map(type, b.flat)) != {str}:
            return None
        return _counted(int(a.size - (a == b).sum()), a.size)
    if kinds[0] != kinds[1] or one.is_zoned != other.is_zoned:
        return "type", 1.0, a.size
    equal = a == b
    if kinds[0] in "mM":
        # A missing time differs from itself.
        equal |= (a != a) & (b != b)  # noqa: PLR0124
    return _counted(int(equal.size - equal.sum()), equal.size)


def _counted(differing: int, size: int) -> Found:
    return "value" if differing else None, differing / size, differing


def _with_missing(one: Column, other: Column, tolerance: Tolerance) -> Found | None:
    """Compare arrays in which values are missing: two missing ones match, one does not."""
    numpy = sys.modules["numpy"]
    gaps = [
        numpy.zeros(each.values.shape, dtype=bool) if each.missing is None else numpy.asarray(each.missing)
        for each in (one, other)
    ]
    # Floats of other libraries are missing by their value.
    gaps = [
        gap | (each.values != each.values) if each.values.dtype.kind == "f" and each.missing is None else gap
        for gap, each in zip(gaps, (one, other), strict=True)
    ]
    alone, present = gaps[0] != gaps[1], ~(gaps[0] | gaps[1])
    ours, theirs = (evolve(each, values=each.values[present], missing=None) for each in (one, other))
    found = compare_columns(ours, theirs, tolerance)
    if found is None:
        return None
    reason, difference, differing = found
    only = int(alone.sum())
    if not only:
        return reason, difference, differing
    # What is missing on one side has no distance.
    is_numeric = one.values.dtype.kind in NUMBERS and other.values.dtype.kind in NUMBERS
    return reason or "missing", None if is_numeric else (differing + only) / alone.size, differing + only


def _structured(a: Any, b: Any, tolerance: Tolerance) -> Found | None:
    """Compare arrays of records, field by field; the difference is the share of fields that differ."""
    reasons, differing = [], 0
    for name in a.dtype.names:
        found = compare_columns(Column(a[name]), Column(b[name]), tolerance)
        if found is None:
            return None
        reasons.append(found[0])
        differing += found[2]
    return next(filter(None, reasons), None), sum(each is not None for each in reasons) / len(reasons), differing


def _lists(one: Column, other: Column, tolerance: Tolerance) -> Found:
    """Compare lists of numbers; the difference is the share of the lists that differ."""
    numpy = sys.modules["numpy"]
    if not one.lengths.size:
        return None, 0.0, 0
    same = one.lengths == other.lengths
    unlike, a, b = ~same, one.values, other.values
    if unlike.any():
        a, b = (each.values[numpy.repeat(same, numpy.maximum(each.lengths, 0))] for each in (one, other))
    marks = differing_numbers(a, b, tolerance)
    if marks.any():
        # How many numbers differ before the end of each list: a list differs if one does since the end of the list before.
        before = numpy.concatenate([[0], numpy.cumsum(marks)])
        ends = before[numpy.cumsum(numpy.maximum(one.lengths[same], 0))]
        unlike[same] = numpy.diff(ends, prepend=0) > 0
    differing = int(numpy.count_nonzero(unlike))
    if not differing:
        return None, 0.0, 0
    first = int(unlike.argmax())
    reason = "value" if same[first] else "missing" if -1 in (one.lengths[first], other.lengths[first]) else "shape"
    return reason, differing / unlike.size, differing


def _numbers(a: Any, b: Any, relative: float, absolute: float, marks: Any = None) -> Found:
    """Compare block by block, so that all intermediate results stay in the processor's cache; mark what differs."""
    numpy = sys.modules["numpy"]
    x, y = a.reshape(-1), b.reshape(-1)
    total, differing = 0.0, 0
    with numpy.errstate(all="ignore"):
        for start in range(0, a.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            far, gap = _block(numpy, x[block], y[block], relative, absolute)
            total += gap
            if far is not None:
                differing += int(numpy.count_nonzero(far))
                if marks is not None:
                    marks[block] = far
    return "value" if differing else None, total / a.size if total - total == 0 else None, differing


def differing_numbers(a: Any, b: Any, tolerance: Tolerance) -> Any:
    """Return which numbers of two arrays of one shape differ."""
    marks = sys.modules["numpy"].zeros(a.size, dtype=bool)
    _numbers(a, b, *tolerance, marks)
    return marks.reshape(a.shape)


def _block(numpy: Any, a: Any, b: Any, relative: float, absolute: float) -> tuple[Any, float]:
    """Return which elements of a block differ, None for none; and the sum of |a - b|, infinite if there is none."""
    if a.dtype == b.dtype and bool((a == b).all()):
        return None, 0.0
    x, y, gap = _gaps(numpy, a, b)
    total = float(gap.sum())
    if total - total == 0 and float(gap.max()) <= absolute:
        return None, total
    allowed = numpy.abs(x)
    numpy.maximum(allowed, numpy.abs(y), out=allowed)
    allowed *= relative
    far = gap > numpy.maximum(allowed, absolute, out=allowed)
    if total - total == 0:
        return far, total
    # Some are infinite or not a number: they match themselves, and have no distance to anything else.
    same = (x == y) | ((x != x) & (y != y))  # noqa: PLR0124
    far = ~same & (far | ~numpy.isfinite(gap))
    gap[same] = 0.0
    total = float(gap.sum(dtype=float))
    return far, total if total - total == 0 else math.inf


def _gaps(numpy: Any, a: Any, b: Any) -> tuple[Any, Any, Any]:
    """Return both as floats, and |a - b|, which is as exact as the tolerance asks for."""
    if a.dtype == b.dtype and a.dtype.kind in "iu" and a.dtype.itemsize == 8:
        # Their gap may be beyond the largest whole number with a sign: it is right without one.
        gap = (numpy.maximum(a, b) - numpy.minimum(a, b)).view("u8")
        return a.astype(float), b.astype(float), gap.astype(float)
    # Of two floats close to each other, the difference is exact in their own precision.
    x, y = (a, b) if a.dtype == b.dtype == numpy.float32 else (_widened(numpy, a), _widened(numpy, b))
    gap = x - y
    return x, y, numpy.abs(gap, out=None if gap.dtype.kind == "c" else gap)


def _widened(numpy: Any, values: Any) -> Any:
    """Return values as floats in which a difference of theirs is exact enough."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "c":
        return values.astype(numpy.complex128 if size <= 16 else values.dtype, copy=False)
    if kind == "f" and size > 8:
        return values
    if kind in "iu" and size == 8 and bool((numpy.abs(values.astype(float)) > _EXACT).any()):
        return values.astype(numpy.longdouble)
    return values.astype(float, copy=False)
