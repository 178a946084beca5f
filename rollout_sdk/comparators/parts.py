"""What answers are made of: fields of objects, items of sequences, and columns of frames. Nothing is imported for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

__all__ = [
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
