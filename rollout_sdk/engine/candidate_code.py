"""The code of candidates as two digests: equal in all processes that run the same code on the same version of Python.

Two models under one key, without a `version=`, are told apart by it. The first digest is of what was compiled: bytecode, with
the names and constants that it uses. The second is of the plain values that the functions were made with: closures, defaults,
and arguments of partials. They are two because one process may decorate a key many times, once for each model object, say,
with the same code and other values: that is one rollout.

Nothing depends on where the code is, on addresses, the order of sets, line numbers or docstrings. No code of the application
runs: values count if they are exactly of a built-in type, and objects by the names of their classes. What a function calls by
name, and what objects hold, is not looked at. The work is bounded: beyond the limits, only kinds and lengths count.
"""

from __future__ import annotations

import functools
import opcode
from collections.abc import Callable, Mapping
from hashlib import blake2b
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR, CO_ITERABLE_COROUTINE, CO_VARARGS, CO_VARKEYWORDS
from itertools import islice
from types import CodeType, FunctionType, GetSetDescriptorType, MethodType
from typing import Any

from attrs import define, field, frozen

__all__ = ["CandidateCode", "code_of"]

_BYTES = 4
_DEEPEST = 8
_MOST_PARTS = 1_000
_MOST_ITEMS = 100
_LONGEST = 1 << 15
_WIDEST_BITS = 256
_PART = 64
"""Characters and bytes that count as one part."""

_FLAGS = CO_ASYNC_GENERATOR | CO_COROUTINE | CO_GENERATOR | CO_ITERABLE_COROUTINE | CO_VARARGS | CO_VARKEYWORDS
_CACHED = type(functools.lru_cache(print))
_IS_LOAD = bytes(each in opcode.hasconst for each in range(256))
_EXTENDED = opcode.opmap["EXTENDED_ARG"]
_MRO = type.__dict__["__mro__"].__get__
_DICT = type.__dict__["__dict__"].__get__
_QUALNAME = type.__dict__["__qualname__"].__get__


@frozen
class CandidateCode:
    """The code of a rollout's candidates.

    Attributes:
        compiled: Digest of what was compiled, in hexadecimal digits.
        values: Digest of the plain values that it was made with.
        digest: Both in eight hexadecimal digits.
    """

    compiled: str
    values: str
    digest: str = field(init=False, eq=False)

    @digest.default
    def _both(self) -> str:
        return _digest((self.compiled, self.values))


def code_of(candidates: Mapping[str, Callable[..., Any]]) -> CandidateCode:
    """Return the code of candidates, by their names; never raises."""
    read = {name: _read(candidates[name]) for name in sorted(candidates)}
    compiled, values = ([(name, each[part]) for name, each in read.items()] for part in (0, 1))
    return CandidateCode(_digest(compiled), _digest(values))


def _read(candidate: object) -> tuple[Any, Any]:
    reading = _Reading()
    try:
        return reading.candidate(candidate)
    # A type written in C can raise anything. Without its code, a candidate is its name.
    except Exception:
        return (), ()


def _digest(parts: Any) -> str:
    # The parts are of built-in types only, whose text is the same everywhere.
    return blake2b(ascii(parts).encode("ascii"), digest_size=_BYTES).hexdigest()


def _of_class(kind: type, name: str) -> Any:
    """Return an attribute of a class as it was defined, without asking a metaclass or a descriptor."""
    return next((own[name] for base in _MRO(kind) if name in (own := _DICT(base))), None)


def _name(value: object) -> tuple[str, str]:
    """Return the kind of an object and its name if it has one that needs no code of Python: a class, or a function in C."""
    kind = type(value)
    descriptor = _of_class(kind, "__qualname__")
    name = descriptor.__get__(value) if type(descriptor) is GetSetDescriptorType else None
    return _QUALNAME(kind), name if type(name) is str else ""


@define
class _Reading:
    """Reads one candidate, as tuples of plain values."""

    left: int = _MOST_PARTS
    known: dict[int, int] = field(factory=dict)

    def candidate(self, function: Any) -> tuple[list[Any], list[Any]]:
        """Return what was compiled and what it was made with: of the function, and of those that it wraps and says so."""
        compiled: list[Any] = []
        values: list[Any] = []
        for _ in range(_DEEPEST):
            kind = type(function)
            if kind is functools.partial:
                values.append((self.value(function.args), self.value(function.keywords)))
                function = function.func
            elif kind is MethodType:
                values.append(self.value(function.__self__))
                function = function.__func__
            elif kind is _CACHED:
                function = function.__wrapped__
            elif kind is FunctionType:
                compiled.append(self.code(function.__code__))
                values.append(self.made_with(function))
                if (function := function.__dict__.get("__wrapped__")) is None:
                    break
            elif type(call := _of_class(kind, "__call__")) is FunctionType:
                values.append(_name(function))
                function = call
            else:
                compiled.append(_name(function))
                break
        return compiled, values

    def code(self, code: CodeType, depth: int = 0) -> Any:
        """Return bytecode with the names and constants that it loads, in their order; a docstring is not loaded."""
        # Here because a debugger or coverage may replace instructions; this one has them as they were compiled.
        raw = code.co_code
        operations, arguments = raw[::2], bytearray(raw[1::2])
        constants = []
        loads = operations.translate(_IS_LOAD)
        found = loads.find(1)
        while found >= 0:
            at = found
            index, shift = arguments[at], 8
            arguments[at] = 0
            # Where a constant is kept depends on whether there is a docstring.
            while at and operations[at - 1] == _EXTENDED:
                at -= 1
                index |= arguments[at] << shift
                arguments[at], shift = 0, shift + 8
            constants.append(self.value(code.co_consts[index], depth + 1))
            found = loads.find(1, found + 1)
        about = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & _FLAGS
        texts = (self.text(each) for each in (operations, bytes(arguments), code.co_exceptiontable, " ".join(code.co_names)))
        return "code", about, *texts, constants

    def made_with(self, function: FunctionType, depth: int = 0) -> Any:
        """Return what a function was made with: its closure and its defaults."""
        if (number := self.known.get(id(function))) is not None:
            return "again", number
        self.known[id(function)] = len(self.known)
        closure = [self.cell(cell, depth + 1) for cell in function.__closure__ or ()]
        return closure, self.value(function.__defaults__, depth + 1), self.value(function.__kwdefaults__, depth + 1)

    def cell(self, cell: Any, depth: int) -> Any:
        """Return the value of a free variable."""
        try:
            return self.value(cell.cell_contents, depth)
        except ValueError:
            return ("empty",)

    def text(self, text: str | bytes) -> Any:
        """Return a text or bytes; of a long one its ends, and its length."""
        self.left -= len(text) // _PART
        if len(text) <= _LONGEST and self.left > 0:
            return text
        most = _LONGEST // 2 if self.left > 0 else _PART
        return "long", len(text), text[:most], text[-most:]

    def value(self, value: Any, depth: int = 0) -> Any:  # noqa: PLR0911 - a table of kinds
        """Return a value as plain values; an object as the name of its class."""
        kind = type(value)
        self.left -= 1
        # By identity: a metaclass may have its own idea of equality.
        if value is None or value is ... or kind is bool or kind is float or kind is complex:
            return value
        if kind is str or kind is bytes:
            return self.text(value)
        if kind is int:
            return value if value.bit_length() <= _WIDEST_BITS else ("int", value.bit_length(), value % (1 << _WIDEST_BITS))
        if depth >= _DEEPEST or self.left <= 0:
            return ("more", *_name(value))
        if kind is tuple or kind is list:
            return kind.__name__, len(value), [self.value(each, depth + 1) for each in islice(value, _MOST_ITEMS)]
        if kind is dict or kind is set or kind is frozenset:
            return kind.__name__, len(value), self.items(value, depth + 1)
        if kind is CodeType:
            return self.code(value, depth)
        if kind is FunctionType:
            return "function", self.code(value.__code__, depth), self.made_with(value, depth)
        if kind is MethodType:
            return "method", self.value(value.__func__, depth + 1), self.value(value.__self__, depth + 1)
        if kind is functools.partial:
            return "partial", *(self.value(each, depth + 1) for each in (value.func, value.args, value.keywords))
        if kind is _CACHED:
            return "cached", self.value(value.__wrapped__, depth + 1)
        if kind is slice:
            return "slice", *(self.value(each, depth + 1) for each in (value.start, value.stop, value.step))
        return _name(value)

    def items(self, items: Any, depth: int) -> Any:
        """Return what a dictionary or a set holds, in an order of its own; nothing of one that is large."""
        if len(items) > _MOST_ITEMS:
            return None
        # Another thread may change it.
        items = items.copy()
        pairs = items.items() if type(items) is dict else ((each,) for each in items)
        # Each with a limit of its own, or the order would decide what is beyond the limit.
        self.left -= _PART * len(items)
        most = _PART if self.left > 0 else 1
        return sorted(ascii([_Reading(most).value(each, depth) for each in pair]) for pair in pairs)
