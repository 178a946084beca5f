"""What makes a wrapper look like what it wraps: kind, signature and defaults, attributes, and when wrong arguments are refused.

A generator function refuses wrong arguments when it is called, and runs nothing yet. A generator function of ours could do so
only at the first item, because its own parameters take everything. So wrappers are plain functions, which look at the
arguments and give the generator or coroutine; and they say of themselves what they give, as `types.coroutine` does it.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, Signature
from types import FunctionType
from typing import Any, Literal, TypeAlias

__all__ = ["Fits", "FunctionKind", "bare_code", "fits_of", "keep_attributes", "kind_of", "look_alike", "says_it_is"]

Fits: TypeAlias = Callable[[tuple[Any, ...], Mapping[str, Any]], bool]
"""Whether arguments can be given to a function."""

FunctionKind: TypeAlias = Literal["function", "coroutine", "generator", "async generator"]
"""The four kinds of functions; all variants of a rollout are of one."""


def kind_of(function: Callable[..., Any]) -> FunctionKind:
    """The kind of a callable, looking through partials, methods and callable objects."""
    # Not whatever has a `func`: an object may have any attribute, and a mock has every one, for ever.
    while isinstance(function, functools.partial):
        function = function.func
    looked_at = function if inspect.isroutine(function) or inspect.isclass(function) else type(function).__call__
    if inspect.iscoroutinefunction(looked_at) or inspect.iscoroutinefunction(function) or _is_awaited(looked_at):
        return "coroutine"
    if inspect.isasyncgenfunction(looked_at):
        return "async generator"
    if inspect.isgeneratorfunction(looked_at):
        return "generator"
    return "function"


def _is_awaited(function: Any) -> bool:
    """Whether a function gives generators that are awaited: `types.coroutine`."""
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    return isinstance(flags, int) and bool(flags & inspect.CO_ITERABLE_COROUTINE)


_KINDS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
_MOST_NAMED = 5


def bare_code(function: Callable[..., Any]) -> int:
    """The flags of a function's code that say its kind, looking through partials, methods and callable objects."""
    while isinstance(function, functools.partial):
        function = function.func
    looked_at = function if inspect.isroutine(function) or inspect.isclass(function) else type(function).__call__
    code = getattr(getattr(looked_at, "__func__", looked_at), "__code__", None)
    flags = getattr(code, "co_flags", 0)
    return flags & _KINDS if isinstance(flags, int) else 0


def says_it_is(wrapper: Callable[..., Any], control: Callable[..., Any], flag: int) -> Callable[..., Any]:
    """The plain function, saying of itself what the control does, or `flag`: that it is a generator function, say."""
    flags = bare_code(control)
    if not flags & (flag | inspect.CO_ITERABLE_COROUTINE):
        flags = flag
    assert isinstance(wrapper, FunctionType)
    code = wrapper.__code__.replace(co_flags=wrapper.__code__.co_flags | flags)
    # Another function: from Python 3.13 on, one may not become of another kind.
    return FunctionType(code, wrapper.__globals__, wrapper.__name__, wrapper.__defaults__, wrapper.__closure__)


def fits_of(function: Callable[..., Any]) -> Fits:
    """Whether arguments can be given to a function, found without calling it; what is not a plain function takes anything.

    What counts is the function itself, whatever signature it shows: a decorator under it may take or add arguments.
    """
    if not isinstance(function, FunctionType):
        return lambda _args, _kwargs: True
    code, defaults = function.__code__, len(function.__defaults__ or ())
    count, unnamed = code.co_argcount, code.co_posonlyargcount
    least, named = count - defaults, code.co_varnames[: count + code.co_kwonlyargcount]
    takes_names = bool(code.co_flags & inspect.CO_VARKEYWORDS)
    takes_more = bool(code.co_flags & inspect.CO_VARARGS)
    known, required = frozenset(named[unnamed:]), frozenset(named[count:]) - frozenset(function.__kwdefaults__ or ())

    # By how many are given by position: which names there must be, may be, and must not be. None: too few.
    table: list[tuple[frozenset[str], frozenset[str], frozenset[str]] | None] = []
    for given in range(count + 1):
        needed = required.union(named[max(given, unnamed) : least])
        table.append(
            None if given < min(unnamed, least) else (needed, known.difference(named[:given]), known & set(named[:given]))
        )

    def fits(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        given = len(args)
        if given > count:
            if not takes_more:
                return False
            given = count
        rule = table[given]
        if rule is None:
            return False
        if not kwargs:
            return not rule[0]
        names = kwargs.keys()
        return rule[0] <= names and (rule[2].isdisjoint(names) if takes_names else names <= rule[1])

    return fits


def look_alike(wrapper: Any, function: Callable[..., Any], signature: Signature | None) -> None:
    """Give a wrapper the signature and the defaults of a function, for those that do not look through `__wrapped__`."""
    if signature is not None:
        wrapper.__signature__ = signature
    found = function if isinstance(function, FunctionType) else None
    # They change nothing for a function that takes everything.
    wrapper.__defaults__ = _defaults(signature) if found is None else found.__defaults__
    wrapper.__kwdefaults__ = _named_defaults(signature) if found is None else found.__kwdefaults__


def _defaults(signature: Signature | None) -> tuple[Any, ...] | None:
    found = _parameters(signature, Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(each.default for each in found) or None


def _named_defaults(signature: Signature | None) -> dict[str, Any] | None:
    return {each.name: each.default for each in _parameters(signature, Parameter.KEYWORD_ONLY)} or None


def _parameters(signature: Signature | None, *kinds: Any) -> Sequence[Parameter]:
    parameters = () if signature is None else signature.parameters.values()
    return [each for each in parameters if each.kind in kinds and each.default is not Parameter.empty]


def keep_attributes(wrapper: Any, function: Any) -> None:
    """Give a wrapper the public methods of a callable object, bound to it; warn of what a function cannot have.

    Its own attributes have been copied. Properties, which may change, stay with the object.
    """
    if isinstance(function, FunctionType | functools.partial) or inspect.isclass(function):
        return
    lost = []
    for name in dir(type(function)):
        if name.startswith("_") or name in vars(wrapper):
            continue
        found = inspect.getattr_static(type(function), name)
        if isinstance(found, FunctionType | staticmethod | classmethod) or inspect.ismethoddescriptor(found):
            setattr(wrapper, name, getattr(function, name))
        elif not hasattr(type(found), "__get__"):
            setattr(wrapper, name, found)
        else:
            lost.append(name)
    # Classes written in C have data of all sorts, which a caller of a function hardly misses.
    if lost and isinstance(inspect.getattr_static(type(function), "__call__", None), FunctionType):
        named = ", ".join(lost[:_MOST_NAMED]) + (", ..." if len(lost) > _MOST_NAMED else "")
        warnings.warn(
            f"The decorated {type(function).__qualname__} loses {named}. It becomes a function, which keeps methods, and "
            "attributes as they are now, but no properties. Ask the object itself (it is __wrapped__), or decorate a method of "
            "its class.",
            stacklevel=4,
        )
