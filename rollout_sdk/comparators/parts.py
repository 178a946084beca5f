"""What answers are made of: fields of objects, columns of frames, and the numbers in arrays. Nothing is imported for it.

Arrays, series and tensors are read by their own methods, which give numpy's arrays without a copy where that is possible.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

from attrs import frozen

from rollout_sdk.concurrency.threads import imported

__all__ = [
    "Column",
    "as_column",
    "column_at",
    "column_names",
    "columns_of",
    "fields_of",
    "has_no_equality",
    "is_missing",
    "is_number",
    "is_sequence",
    "plain",
]

_LISTS = ("tolist", "to_list", "to_pylist", "to_dict")
"""Methods that return the contents of arrays, tensors, series and frames, in order of preference."""
_LEAST_CONVERTED = 256
_FLOATS = frozenset({float})
_NUMERIC = "biufc"
_DENSE = "torch.strided"
_LARGEST_DENSE = 10_000_000


@frozen
class Column:
    """The values of an array, a tensor, a series or a column.

    Attributes:
        values: An array of numpy.
        missing: Where values are missing; None if they are never missing, or if they are so by their own value (NaN, NaT).
    """

    values: Any
    missing: Any = None


def plain(value: Any) -> Any:
    """Convert arrays, tensors and series to nested lists, their scalars to values of Python, and frames to columns."""
    if hasattr(value, "as_py"):
        return value.as_py()
    is_array = hasattr(value, "shape") and (hasattr(value, "dtype") or hasattr(value, "columns"))
    if is_array or hasattr(value, "to_pylist"):
        for name in _LISTS:
            if hasattr(value, name):
                return getattr(value, name)()
    return value


def is_number(value: Any) -> bool:
    """Whether it is a number; truth is not."""
    return isinstance(value, Number) and not isinstance(value, bool)


def is_missing(value: Any) -> bool:
    """Whether it is a missing value of pandas, which has no truth or does not equal itself."""
    return type(value).__name__ in ("NAType", "NaTType")


def is_sequence(value: Any) -> bool:
    """Whether it is a list, a tuple or another sequence of items; text is not."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def fields_of(value: Any) -> Mapping[str, Any] | None:
    """Return the fields of a dataclass, an attrs class, a pydantic or protobuf message, or a plain object; None for others.

    Plain objects are those without an equality of their own: they would equal only themselves.
    """
    kind = type(value)
    names: Any = getattr(kind, "__dataclass_fields__", None)
    if names is None and (attributes := getattr(kind, "__attrs_attrs__", None)) is not None:
        names = [each.name for each in attributes]
    if names is None and isinstance(getattr(kind, "model_fields", None), Mapping) and hasattr(kind, "model_dump"):
        names = [*kind.model_fields, *(getattr(value, "__pydantic_extra__", None) or {})]
    if names is not None:
        return {name: getattr(value, name, None) for name in names}
    if hasattr(kind, "DESCRIPTOR") and hasattr(kind, "ListFields"):
        return {each.name: content for each, content in value.ListFields()}
    if has_no_equality(value) and isinstance(getattr(value, "__dict__", None), dict) and not callable(value):
        # Without any, what it is made of is out of sight.
        return vars(value) or None
    return vars(value) if kind.__name__ == "SimpleNamespace" and kind.__module__ == "types" else None


def has_no_equality(value: Any) -> bool:
    """Whether an object equals nothing but itself."""
    own: Any = type(value).__eq__
    return own is object.__eq__


def column_names(value: Any) -> list[Any] | None:
    """Return the names of the columns of a frame of pandas, polars or pyarrow; None for anything else."""
    if hasattr(value, "column_names") and hasattr(value, "column"):
        return list(value.column_names)
    if hasattr(value, "columns") and (hasattr(value, "get_columns") or hasattr(value, "iloc")):
        return list(value.columns)
    return None


def column_at(value: Any, place: int) -> Any:
    """Return the column of a frame at a place."""
    if hasattr(value, "column_names"):
        return value.column(place)
    return value.iloc[:, place] if hasattr(value, "iloc") else value.get_columns()[place]


def columns_of(value: Any) -> tuple[list[Any], list[Any], Any] | None:
    """Return names, columns and index of a frame of pandas, polars or pyarrow; None for anything else."""
    if (names := column_names(value)) is None:
        return None
    columns = [column_at(value, place) for place in range(len(names))]
    return names, columns, value.index if hasattr(value, "iloc") else None


def as_column(value: Any) -> Column | None:
    """Return the values of an array, a tensor, a series, or a long list of floats; None for anything else."""
    numpy = imported("numpy")
    if numpy is None:
        return None
    if isinstance(value, numpy.ndarray):
        return None if isinstance(value, numpy.ma.MaskedArray) else Column(value)
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


def _pandas(value: Any) -> Column:
    kind = value.dtype
    if type(kind).__module__.partition(".")[0] == "numpy":
        return Column(value.to_numpy())
    missing = value.isna()
    missing = missing.to_numpy() if hasattr(missing, "to_numpy") else missing
    inner = getattr(kind, "numpy_dtype", None)
    if inner is not None and getattr(inner, "kind", "O") in _NUMERIC:
        return Column(value.to_numpy(dtype=inner, na_value=inner.type(0)), missing)
    return Column(value.to_numpy(dtype=object), missing)


def _polars(value: Any) -> Column:
    missing = value.is_null().to_numpy() if value.null_count() else None
    if value.dtype.is_numeric():
        return Column((value if missing is None else value.fill_null(0)).to_numpy(), missing)
    return Column(value.to_numpy(), missing)


def _arrow(value: Any) -> Column:
    missing = _numpy(value.is_null()) if value.null_count else None
    kind = str(value.type)
    if missing is not None and ("int" in kind or kind == "bool"):
        # Without this, whole numbers would become floats, and large ones would be rounded.
        value = value.fill_null(0 if kind != "bool" else False)
    return Column(_numpy(value), missing)


def _numpy(value: Any) -> Any:
    try:
        return value.to_numpy(zero_copy_only=False)
    # Chunked arrays always copy.
    except TypeError:
        return value.to_numpy()
