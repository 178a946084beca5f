"""Which kind a type is of: looked up once for each type, by the type alone."""

from __future__ import annotations

import array
import datetime
import decimal
import enum
import fractions
import logging
import pathlib
import random
import re
import types
import uuid
from collections import ChainMap, OrderedDict, UserDict, UserList, deque
from collections.abc import Iterable, Mapping
from struct import calcsize
from typing import Any

from rollout_sdk.engine.copies.arrays import Array, Buffer, DataFrame, Generator, OwnCopy, PolarsFrame, Tensor
from rollout_sdk.engine.copies.containers import SYSTEM, Entries, Fields, Frozen, Items, Members
from rollout_sdk.engine.copies.copiers import registered, when_changed
from rollout_sdk.engine.copies.kinds import BOUND, FIXED, LAZY, ONCE, Kind, SharedKind
from rollout_sdk.engine.copies.one_shot import reads_once

__all__ = ["kind_of_type"]

_MOST_KNOWN = 4_096

_FIXED = (
    *(types.NoneType, bool, int, float, complex, str, bytes, range, slice, memoryview, type, types.EllipsisType),
    *(types.NotImplementedType, types.ModuleType, types.CodeType, types.GenericAlias, types.UnionType, types.MethodType),
    *(
        types.FunctionType,
        types.MethodDescriptorType,
        types.MethodWrapperType,
        types.WrapperDescriptorType,
    ),
    *(enum.Enum, decimal.Decimal, fractions.Fraction, datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo),
    *(uuid.UUID, pathlib.PurePath, re.Pattern, re.Match, property, BaseException, logging.Logger, logging.LoggerAdapter),
)
"""Types whose instances cannot change, or, like functions and loggers, are shared by their nature."""

_FIXED_MODULES = frozenset({"functools", "ipaddress", "operator", "typing", "zoneinfo", "pyarrow.lib"})

_FIXED_NAMES: Mapping[str, frozenset[str]] = {
    "numpy": frozenset({"dtype", "generic", "ufunc"}),
    "pandas": frozenset(
        {"Timestamp", "Timedelta", "NaTType", "NAType", "Period", "Interval", "Index", "BaseOffset", "ExtensionDtype"}
    ),
    "polars": frozenset({"DataType", "Expr", "LazyFrame"}),
    "torch": frozenset({"device", "dtype", "layout", "memory_format", "Size"}),
}
"""Names of classes, or of their bases, by top package."""

_KINDS: Mapping[str, Mapping[str, Kind]] = {
    "numpy": {
        "ndarray": Array(),
        "Generator": Generator(
            lambda value: value.bit_generator.state,
            lambda value, state: setattr(value.bit_generator, "state", state),
            lambda value: type(value)(type(value.bit_generator)()),
        ),
        "RandomState": Generator(
            lambda value: value.get_state(), lambda value, state: value.set_state(state), lambda value: type(value)()
        ),
    },
    "pandas": {"NDFrame": DataFrame(), "ExtensionArray": OwnCopy()},
    "torch": {"Tensor": Tensor()},
    "polars": {"DataFrame": PolarsFrame(), "Series": PolarsFrame()},
    "PIL": {"Image": OwnCopy()},
    "scipy": {"_spbase": OwnCopy(), "spmatrix": OwnCopy()},
}

_BUILT_IN: Mapping[type, Kind] = {
    OrderedDict: Entries(OrderedDict),
    dict: Entries(dict),
    list: Items(list),
    deque: Items(deque),
    set: Members(),
    tuple: Frozen(),
    frozenset: Frozen(),
    types.MappingProxyType: Frozen(),
    bytearray: Buffer(),
    array.array: Buffer(),
    random.Random: Generator(
        lambda value: value.getstate(), lambda value, state: value.setstate(state), lambda value: type(value)()
    ),
}

_OWN_WAYS = frozenset(
    {
        *("__copy__", "__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__"),
        *("__getattr__", "__getattribute__"),
    }
)
"""Methods by which a class says that it is more than its attributes."""

_DECLARED = frozenset({"__dataclass_fields__", "__attrs_attrs__", "model_fields", "__pydantic_fields__"})
"""By which a class says that it holds data: data classes, attrs, pydantic."""

_HEAP_TYPE, _FIXED_TYPE = 1 << 9, 1 << 8
"""Flags of types: made at run time, and of those the ones whose attributes cannot be set, which are written in C."""

_POINTER = calcsize("P")

_known: dict[type, Kind] = {}
when_changed(_known.clear)


def kind_of_type(kind: type) -> Kind:
    """The kind that a type is of."""
    known = _known.get(kind)
    if known is None:
        if len(_known) >= _MOST_KNOWN:
            # Types can be made at run time: what is remembered of them stays bounded.
            _known.clear()
        known = _known[kind] = _find(kind)
    return known


def _find(kind: type) -> Kind:
    if kind is types.BuiltinFunctionType:
        return BOUND
    own = registered(kind)
    if own is not None:
        return own
    mro = kind.__mro__
    # A proxy gives out another object's class as its own. In this order: it may pass on anything else, too.
    if any("__class__" in vars(base) for base in mro if base is not object):
        return LAZY
    if kind is object or issubclass(kind, _FIXED) or kind.__module__ in _FIXED_MODULES:
        return FIXED
    packages = {base.__module__.partition(".")[0]: None for base in mro}
    # Before files are looked for: tensors and frames have all sorts of methods.
    found = _by_name(packages, {base.__name__ for base in mro})
    if found is not None:
        return found
    if reads_once(kind):
        return ONCE
    if packages.keys() & SYSTEM:
        return SharedKind(f"unknown type {kind.__qualname__}")
    if any("__del__" in vars(base) for base in mro):
        return SharedKind(f"{kind.__qualname__} has __del__")
    for base, found in _BUILT_IN.items():
        if issubclass(kind, base):
            return found
    return _object(kind, mro)


def _by_name(packages: Iterable[str], names: set[str]) -> Kind | None:
    """The kind of a type of another library, by the names of its bases."""
    for package in packages:
        if names & _FIXED_NAMES.get(package, frozenset()):
            return FIXED
        for name, found in _KINDS.get(package, {}).items():
            if name in names:
                return found
    return None


def _object(kind: type, mro: tuple[Any, ...]) -> Kind:
    """Objects of classes written in Python; those that are written in C, or copy in a way of their own, are left alone."""
    if issubclass(kind, types.SimpleNamespace | UserDict | UserList | ChainMap):
        return Fields(kind, is_declared=True)
    is_declared = any(not _DECLARED.isdisjoint(vars(base)) for base in mro)
    if _is_python(kind) and (is_declared or not any(_OWN_WAYS & vars(base).keys() for base in mro[:-1])):
        return Fields(kind, is_declared=is_declared)
    return SharedKind(f"unknown type {kind.__qualname__}")


def _is_python(kind: type) -> bool:
    """Whether instances hold nothing but attributes: neither the class nor a base is written in C."""
    slots = sum(type(each).__name__ == "member_descriptor" for base in kind.__mro__ for each in vars(base).values())
    # Besides its slots, an object has places for its dictionary and its weak references.
    room = object.__basicsize__ + (slots + 2) * _POINTER
    made_by_class_statement = all(
        base.__flags__ & _HEAP_TYPE and not base.__flags__ & _FIXED_TYPE for base in kind.__mro__[:-1]
    )
    return made_by_class_statement and kind.__itemsize__ == 0 and kind.__basicsize__ <= room
