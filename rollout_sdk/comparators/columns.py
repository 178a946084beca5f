"""The values of arrays, tensors, series and lists of floats, as arrays of numpy. Nothing is imported for it.

They are read by their own methods, which give numpy's arrays without a copy where that is possible.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from attrs import frozen

from rollout_sdk.concurrency.threads import imported

__all__ = ["NUMBERS", "Column", "as_column", "one_block", "spelled"]

NUMBERS = "iufc"
"""Kinds of numpy's types whose values have a distance."""
_NUMERIC = "biufc"
_LEAST_CONVERTED = 256
_FLOATS = frozenset({float})
_DENSE = "torch.strided"
_LARGEST_DENSE = 10_000_000


@frozen(eq=False)
class Column:
    """The values of an array, a tensor, a series or a column.

    Attributes:
        values: An array of numpy. With `names`, codes: places in it. With `lengths`, the numbers of all lists in a row.
        missing: Where values are missing; None if they are never missing, or if they are so by their own value (NaN, NaT, -1).
        names: What the codes stand for, if the values are those of a category.
        lengths: How long each list is, if the values are lists of numbers; -1 for a missing one.
        is_zoned: Whether times are instants, given in UTC: of a type with a time zone.
    """

    values: Any
    missing: Any = None
    names: Any = None
    lengths: Any = None
    is_zoned: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """How many elements there are, in each direction."""
        shape: tuple[int, ...] = (self.values if self.lengths is None else self.lengths).shape
        return shape


def spelled(column: Column) -> Column:
    """Return a column with what its codes stand for in their place."""
    if column.names is None:
        return column
    numpy = sys.modules["numpy"]
    # -1, for a missing one, is the last.
    names = numpy.empty(len(column.names) + 1, dtype=object)
    names[:-1] = column.names
    return Column(names[column.values], column.values < 0)


def one_block(frame: Any) -> Any:
    """Return all numbers of a frame of pandas as an array of two dimensions; None if its columns are not of one such type."""
    if not hasattr(frame, "iloc"):
        return None
    kinds = set(frame.dtypes.tolist())
    if len(kinds) != 1 or type(kind := kinds.pop()).__module__.partition(".")[0] != "numpy" or kind.kind not in NUMBERS:
        return None
    return frame.to_numpy()


def as_column(value: Any) -> Column | None:
    """Return the values of an array, a tensor, a series, or a long list of floats; None for anything else."""
    numpy = imported("numpy")
    if numpy is None:
        return None
    if isinstance(value, numpy.ndarray):
        return _masked(value) if isinstance(value, numpy.ma.MaskedArray) else Column(value)
    if type(value) in (list, tuple):
        # Only floats: whole numbers can be larger than any array holds.
        if len(value) < _LEAST_CONVERTED or set(map(type, value)) != _FLOATS:
            return None
        return Column(numpy.array(value))
    if not hasattr(value, "dtype") and not hasattr(value, "null_count"):
        return None
    if hasattr(value, "detach"):
        return _tensor(value)
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        # A sparse matrix, while it fits into memory as a dense one.
        return Column(value.toarray()) if math.prod(value.shape) <= _LARGEST_DENSE else None
    if not hasattr(value, "to_numpy"):
        # Others, such as jax's, which convert themselves.
        return Column(numpy.asarray(value)) if hasattr(value, "__array__") and hasattr(value, "shape") and value.shape else None
    if hasattr(value, "isna"):
        return _pandas(value)
    return (
        _polars(value)
        if hasattr(value, "is_null") and hasattr(value, "fill_null") and hasattr(value, "dtype")
        else _arrow(value)
    )


def _tensor(value: Any) -> Column:
    value = value.detach()
    if getattr(value, "is_quantized", False):
        value = value.dequantize()
    if str(getattr(value, "layout", _DENSE)) != _DENSE:
        value = value.to_dense()
    try:
        return Column(value.numpy(force=True))
    # Types that numpy does not have, such as bfloat16.
    except TypeError:
        return Column(value.float().numpy(force=True))


def _masked(value: Any) -> Column | None:
    data, missing = value.data, sys.modules["numpy"].ma.getmaskarray(value)
    if data.dtype.names:
        # The mask of a record has a place for each of its fields.
        return None
    # An array without a mask has NaN in the place of what is missing.
    return Column(data, missing | (data != data) if data.dtype.kind == "f" else missing)  # noqa: PLR0124


def _pandas(value: Any) -> Column:
    kind = value.dtype
    if type(kind).__module__.partition(".")[0] == "numpy":
        return Column(value.to_numpy())
    if hasattr(kind, "categories"):
        codes = value.cat.codes.to_numpy() if hasattr(value, "cat") else value.codes
        return Column(codes, names=kind.categories.tolist())
    missing: Any = value.isna()
    missing = missing.to_numpy() if hasattr(missing, "to_numpy") else missing
    missing = missing if missing.any() else None
    if hasattr(kind, "tz") and hasattr(kind, "unit"):
        return Column(value.to_numpy(dtype=f"M8[{kind.unit}]"), missing, is_zoned=True)
    inner = getattr(kind, "numpy_dtype", None)
    if inner is not None and getattr(inner, "kind", "O") in _NUMERIC:
        filled = {} if missing is None else {"na_value": inner.type(0)}
        return Column(value.to_numpy(dtype=inner, **filled), missing)
    return Column(value.to_numpy(dtype=object), missing)


def _polars(value: Any) -> Column:
    missing = value.is_null().to_numpy() if value.null_count() else None
    if value.dtype.is_numeric():
        return Column((value if missing is None else value.fill_null(0)).to_numpy(), missing)
    return Column(value.to_numpy(), missing)


def _arrow(value: Any) -> Column:
    missing = _numpy(value.is_null()) if value.null_count else None
    kind = str(value.type)
    if (lists := _lists(value, missing)) is not None:
        return lists
    if missing is not None and ("int" in kind or kind == "bool"):
        # Without this, whole numbers would become floats, and large ones would be rounded.
        value = value.fill_null(0 if kind != "bool" else False)
    return Column(_numpy(value), missing)


def _lists(value: Any, missing: Any) -> Column | None:
    """Return lists of numbers; None for anything else."""
    if not str(value.type).startswith(("list<", "large_list<", "fixed_size_list<")):
        return None
    numpy = sys.modules["numpy"]
    if hasattr(value, "combine_chunks"):
        value = value.combine_chunks()
    # Missing numbers become NaN.
    numbers = _numpy(value.flatten())
    if numbers.dtype.kind not in NUMBERS:
        return None
    if hasattr(value, "value_lengths"):
        lengths = _numpy(value.value_lengths().fill_null(-1)).astype(int)
    else:
        lengths = numpy.full(len(value), value.type.list_size)
    return Column(numbers, lengths=lengths if missing is None else numpy.where(missing, -1, lengths))


def _numpy(value: Any) -> Any:
    try:
        return value.to_numpy(zero_copy_only=False)
    # Chunked arrays always copy.
    except TypeError:
        return value.to_numpy()
