"""Kinds of arrays, tensors and frames; this module never imports their libraries."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from operator import is_
from typing import Any

from rollout_sdk.engine.copies.kinds import Into, Kind, NotCopied

__all__ = ["Array", "Buffer", "DataFrame", "Generator", "OwnCopy", "PolarsFrame", "Tensor"]

_STATE_BYTES = 4_096


class Buffer(Kind):
    """Byte arrays and arrays of the standard library."""

    remembers = in_order = True

    def weight(self, value: Any) -> tuple[int, int]:
        return 1, len(value) * getattr(value, "itemsize", 1)

    def state(self, value: Any) -> Any:
        return value[:]

    def is_same(self, value: Any, state: Any) -> bool:
        return memoryview(value).tobytes() == memoryview(state).tobytes()

    def restore(self, value: Any, state: Any) -> None:
        value[:] = state

    def blank(self, value: Any) -> Any:
        return value[:0] if type(value) is not bytearray else bytearray()


class Generator(Kind):
    """Random number generators: the control redraws what a failed candidate has drawn.

    Args:
        get: Reads the state.
        put: Sets the state.
        new: Creates another generator of the same type.
    """

    remembers = True

    def __init__(self, get: Callable[[Any], Any], put: Callable[[Any, Any], None], new: Callable[[Any], Any]) -> None:
        self._get, self._put, self._new = get, put, new

    def weight(self, value: Any) -> tuple[int, int]:  # noqa: ARG002
        return 1, _STATE_BYTES

    def state(self, value: Any) -> Any:
        return self._get(value)

    def is_same(self, value: Any, state: Any) -> bool:
        return repr(self._get(value)) == repr(state)

    def restore(self, value: Any, state: Any) -> None:
        self._put(value, state)

    def blank(self, value: Any) -> Any:
        return self._new(value)


_OBJECT = 8
_PER_COLUMN = 8
_SMALL_BASE = 1 << 20


class OwnCopy(Kind):
    """Values that are copied by their own method and cannot be restored in place."""

    in_order = True

    def __init__(self, method: str = "copy") -> None:
        """Store the name of the copying method."""
        self._method = method

    def weight(self, value: Any) -> tuple[int, int]:
        return 1, _bytes_of(value)

    def copy(self, value: Any, into: Into, begun: Callable[[Any], None]) -> Any:  # noqa: ARG002
        twin = getattr(value, self._method)()
        begun(twin)
        return twin


def _bytes_of(value: Any) -> int:
    """Estimate a value's size in bytes from its own attributes, without walking through it."""
    size = getattr(value, "nbytes", None)
    if size is None and callable(estimate := getattr(value, "estimated_size", None)):
        size = estimate()
    if size is None:
        size = 4 * _product(getattr(value, "size", ()))
    return int(size)


def _product(shape: Any) -> int:
    product = 1
    for length in shape if isinstance(shape, tuple | list) else (shape,):
        product *= int(length)
    return product


class Array(Kind):
    """numpy arrays: a copy keeps order, strides and read-only flag, and shares memory with the copies of its views."""

    remembers = in_order = True

    def weight(self, value: Any) -> tuple[int, int]:
        return (1 + value.size, 0) if value.dtype.hasobject else (1, int(value.nbytes))

    def children(self, value: Any) -> Iterable[Any]:
        return value.flat if value.dtype.hasobject and value.dtype.fields is None else ()

    def state(self, value: Any) -> Any:
        return value.copy(order="K") if value.flags.writeable else None

    def is_same(self, value: Any, state: Any) -> bool:
        if state is None:
            return True
        if (value.shape, value.dtype) != (state.shape, state.dtype):
            return False
        if value.dtype.hasobject:
            return all(map(is_, value.flat, state.flat))
        return bool(value.tobytes() == state.tobytes())

    def restore(self, value: Any, state: Any) -> None:
        if state is None:
            return
        if value.shape != state.shape:
            value.resize(state.shape, refcheck=False)
        value.flags.writeable = True
        sys.modules["numpy"].copyto(value, state, casting="unsafe")

    def mapped(self, state: Any, into: Into) -> Any:
        return state if state is None or not state.dtype.hasobject else self._objects(state, into)

    def _objects(self, value: Any, into: Into) -> Any:
        if value.dtype.fields is not None:
            raise NotCopied("array with fields of objects")
        twin = value.copy(order="K")
        for index, part in enumerate(value.flat):
            twin.flat[index] = into(part)
        return twin

    def copy(self, value: Any, into: Into, begun: Callable[[Any], None]) -> Any:
        numpy: Any = sys.modules["numpy"]
        if value.dtype.hasobject:
            twin = self._objects(value, into)
        elif type(value) is not numpy.ndarray or value.size == 0:
            twin = value.copy(order="K")
        else:
            twin = self._beside(value, into, numpy)
        if not value.flags.writeable:
            twin.flags.writeable = False
        begun(twin)
        return twin

    def _beside(self, value: Any, into: Into, numpy: Any) -> Any:
        """Copy a plain array into the copy of the memory that it is a view of."""
        base = value
        while type(base.base) is numpy.ndarray:
            base = base.base
        if base is value or base.dtype.hasobject or not base.flags.forc:
            return value.copy(order="K") if value.flags.forc else _span(value, numpy)
        if base.nbytes > max(_SMALL_BASE, 2 * value.nbytes):
            # Copy only the visible part of a large base; other views of it get copies of their own.
            return _span(value, numpy)
        offset = _address(value) - _address(base)
        memory = into(base).ravel(order="K").view(numpy.uint8)
        memory.flags.writeable = True
        return numpy.ndarray(value.shape, value.dtype, memory, offset, value.strides)


def _address(value: Any) -> int:
    return int(value.__array_interface__["data"][0])


def _span(value: Any, numpy: Any) -> Any:
    """Copy the memory from the first byte to the last, keeping the strides."""
    ends = [(length - 1) * stride for length, stride in zip(value.shape, value.strides, strict=True)]
    low, high = sum(min(0, end) for end in ends), sum(max(0, end) for end in ends) + value.itemsize
    memory = numpy.empty(high - low, numpy.uint8)
    twin = numpy.ndarray(value.shape, value.dtype, memory, -low, value.strides)
    # One memory cell may be visible at many positions, all of which write the same value.
    numpy.copyto(twin, value)
    return twin


class Tensor(Kind):
    """torch tensors. One that takes part in a gradient computation and cannot be restored is left unchanged."""

    remembers = in_order = True

    def weight(self, value: Any) -> tuple[int, int]:
        return 1, int(value.nbytes)

    def state(self, value: Any) -> Any:
        return value.detach().clone()

    def is_same(self, value: Any, state: Any) -> bool:
        torch: Any = sys.modules["torch"]
        return value.shape == state.shape and bool(torch.equal(value.detach(), state))

    def restore(self, value: Any, state: Any) -> None:
        with sys.modules["torch"].no_grad():
            value.detach().copy_(state)

    def copy(self, value: Any, into: Into, begun: Callable[[Any], None]) -> Any:
        torch: Any = sys.modules["torch"]
        if value.requires_grad or value.layout is not torch.strided:
            twin = value.clone()
        else:
            base = value._base  # noqa: SLF001 - the only way to detect a view
            if base is not None and base.nbytes <= max(_SMALL_BASE, 2 * value.nbytes):
                whole = into(base)
                shift = value.storage_offset() - base.storage_offset() + whole.storage_offset()
                twin = whole.as_strided(value.shape, value.stride(), shift)
            else:
                twin = value.clone()
        begun(twin)
        return twin


class DataFrame(Kind):
    """pandas frames and series, weighed by shape: reading a frame's memory usage visits every column."""

    remembers = in_order = True

    def weight(self, value: Any) -> tuple[int, int]:
        columns = value.shape[1] if len(value.shape) > 1 else 1
        return _PER_COLUMN * columns, _OBJECT * _product(value.shape)

    def state(self, value: Any) -> Any:
        return value.copy()

    def is_same(self, value: Any, state: Any) -> bool:
        return bool(value.equals(state)) and list(value.axes[-1]) == list(state.axes[-1])

    def restore(self, value: Any, state: Any) -> None:
        # pandas' own in-place methods do the same.
        value._update_inplace(state.copy())  # noqa: SLF001

    def copy(self, value: Any, into: Into, begun: Callable[[Any], None]) -> Any:  # noqa: ARG002
        twin = value.copy()
        begun(twin)
        return twin


class PolarsFrame(Kind):
    """polars frames and series: a clone shares its columns, which are immutable."""

    remembers = in_order = True

    def weight(self, value: Any) -> tuple[int, int]:
        return _PER_COLUMN * (value.width if hasattr(value, "width") else 1), 0

    def state(self, value: Any) -> Any:
        return value.clone()

    def is_same(self, value: Any, state: Any) -> bool:
        return bool(value.equals(state))

    def restore(self, value: Any, state: Any) -> None:
        inner = "_df" if hasattr(value, "_df") else "_s"
        setattr(value, inner, getattr(state.clone(), inner))

    def copy(self, value: Any, into: Into, begun: Callable[[Any], None]) -> Any:  # noqa: ARG002
        twin = value.clone()
        begun(twin)
        return twin
