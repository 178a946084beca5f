"""Stand-ins for streams and awaitables that are objects of their own: `map`, `zip`, a client's stream.

A stand-in is asked for items, or awaited, in the place of the object; everything else is passed on to it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Coroutine, Mapping
from inspect import isawaitable
from typing import Any

from rollout_sdk.engine.returned.forms import each_async, raising, raising_async
from rollout_sdk.engine.returned.reading import By
from rollout_sdk.resilience.interruptions import is_fault, is_interruption

__all__ = ["OF_AWAITABLES", "OF_STREAMS", "of_response", "stand_in_for"]


class _StandIn:
    """Stands in for an object: what a consumer does to read it goes by a reading, and everything else is passed on."""

    __slots__ = ("__weakref__", "_rollout_reading")
    # Everything but this is the object's own.
    _rollout_reading: Any

    def __init__(self, reading: Any) -> None:
        object.__setattr__(self, "_rollout_reading", reading)

    @property  # type: ignore[misc] # so that `isinstance` answers as for the iterator
    def __class__(self) -> Any:
        return type(self._rollout_reading.model)

    def __getattr__(self, name: str) -> Any:
        reading = self._rollout_reading
        reading.touch(name)
        return getattr(reading.model, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._rollout_reading.model, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._rollout_reading.model, name)

    def __del__(self) -> None:
        reading = getattr(self, "_rollout_reading", None)
        if reading is not None:
            reading.let_go()


def _next(self: Any) -> Any:
    return self._rollout_reading.next()


def _iter(self: Any) -> Any:
    reading = self._rollout_reading
    if hasattr(type(self), "__next__"):
        given = _given(iter, reading, raising)
        return self if given is reading.model or reading.turn_to(given) else given
    # Read again, it is the object's own affair.
    if reading.is_fresh:
        return stand_in_for(reading.begin(), OF_STREAMS)(reading.open())
    reading.touch("__iter__")
    return iter(reading.model)


def _given(make: Callable[[Any], Any], reading: Any, failing: Callable[[BaseException], Any]) -> Any:
    """What a stream gives to be read; where it raises instead, that is read first, and falls back."""
    try:
        return make(reading.model)
    except BaseException as error:
        if not reading.is_fresh or is_interruption(error, awaited=False):
            raise
        return failing(error)


def _aiter(self: Any) -> Any:
    reading = self._rollout_reading
    given = _given(aiter, reading, raising_async)
    if given is reading.model:
        return self
    if not reading.turn_to(given):
        return given
    return self if hasattr(type(self), "__anext__") else stand_in_for(given, OF_STREAMS)(reading.open())


def _aiter_of_awaitable(self: Any) -> Any:
    reading = self._rollout_reading.as_stream()
    if reading is None:
        return aiter(self._rollout_reading.model)
    given = _given(aiter, reading, raising_async)
    if given is reading.model:
        given = each_async(given)
    reading.turn_to(given)
    return stand_in_for(given, OF_STREAMS)(reading.open())


def _reading_by(name: str) -> Callable[..., Any]:
    """A method that gives something to be read."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        reading, by = self._rollout_reading, By(name, args, kwargs)
        if reading.is_fresh:
            return stand_in_for(reading.begin(by), OF_STREAMS)(reading.open())
        reading.touch(name)
        return by(reading.model)

    def async_method(self: Any, *args: Any, **kwargs: Any) -> Any:
        reading, by = self._rollout_reading, By(name, args, kwargs)
        given = by(reading.model)
        return stand_in_for(given, OF_STREAMS)(reading.open()) if reading.turn_to(given, by) else given

    return async_method if name.startswith("aiter_") else method


def of_response(response: Any) -> Mapping[str, Callable[..., Any]]:
    """What consumers of an HTTP response do to read its body as a stream."""
    return {**OF_STREAMS, **{name: _reading_by(name) for name in dir(type(response)) if name.startswith(("iter_", "aiter_"))}}


def _asking(name: str) -> Callable[..., Any]:
    """A method that reads by the iterator's own."""

    def method(self: Any, *args: Any) -> Any:
        reading = self._rollout_reading
        reading.meddle()
        return reading.ask(getattr(reading.model, name), *args)

    return method


def _throwing(name: str) -> Callable[..., Any]:
    """A method that throws something into the iterator."""

    def method(self: Any, *error: Any) -> Any:
        reading = self._rollout_reading
        thrown = error[0] if isinstance(error[0], BaseException) else None
        reading.meddle()
        return reading.ask(getattr(reading.model, name), *error, thrown=thrown)

    return method


def _passing(name: str) -> Callable[..., Any]:
    """A method that calls the object's own."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        reading = self._rollout_reading
        model = reading.model
        given = getattr(model, name)(*args, **kwargs)
        if name == "__enter__" and given is not model:
            reading.touch(name)
        # A stream that returns itself (`with`) would else be read past us.
        return self if given is model else given

    return method


def _entering(self: Any) -> Any:
    reading = self._rollout_reading

    async def enter() -> Any:
        given = await reading.enter()
        return self if given is reading.model else given

    return enter()


def _leaving(name: str) -> Callable[..., Any]:
    """A method that calls the object's own, with which the consumer has had enough."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        reading, given = self._rollout_reading, None
        try:
            given = getattr(reading.model, name)(*args, **kwargs)
        finally:
            replaced = _ended(reading, name, args, kwargs)
            if not isawaitable(given):
                reading.leave()
        return _left(reading, given, replaced) if isawaitable(given) else given

    return method


def _ended(reading: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """End a candidate's stream that failed as the control's was ended; its own failure to do so is nobody's."""
    replaced, reading.replaced = reading.replaced, None
    if replaced is None:
        return None
    try:
        return getattr(replaced, name)(*args, **kwargs)
    except BaseException as error:
        if not is_fault(error):
            raise
        return None


async def _left(reading: Any, closing: Any, replaced: Any) -> Any:
    try:
        return await closing
    finally:
        reading.leave()
        if isawaitable(replaced):
            try:
                await replaced
            except BaseException as error:
                if not is_fault(error):
                    raise


def _await(self: Any) -> Any:
    return self._rollout_reading.begin().__await__()


def _driving(name: str) -> Callable[..., Any]:
    """A method of an awaitable that is driven as a coroutine is."""

    def method(self: Any, *args: Any) -> Any:
        return getattr(self._rollout_reading.coroutine(), name)(*args)

    return method


OF_STREAMS: Mapping[str, Callable[..., Any]] = {
    "__next__": _next,
    "__iter__": _iter,
    "__anext__": _next,
    "__aiter__": _aiter,
    "__aenter__": _entering,
    "__aexit__": _leaving("__aexit__"),
    "__exit__": _leaving("__exit__"),
    "send": _asking("send"),
    "asend": _asking("asend"),
    "throw": _throwing("throw"),
    "athrow": _throwing("athrow"),
    "close": _leaving("close"),
    "aclose": _leaving("aclose"),
}
"""What consumers of a stream do to read it."""
OF_AWAITABLES: Mapping[str, Callable[..., Any]] = {
    "__await__": _await,
    "__aenter__": _entering,
    "__aiter__": _aiter_of_awaitable,
    **{name: _driving(name) for name in ("send", "throw", "close")},
}
"""What consumers of an awaitable do; one with `send` and `close` is driven as a coroutine."""

_OURS = frozenset(dir(_StandIn)) - frozenset(dir(object)) | {
    "__class__",
    "__class_getitem__",
    "__delattr__",
    "__getattribute__",
    "__init__",
    "__init_subclass__",
    "__new__",
    "__setattr__",
    "__subclasshook__",
}
_KINDS: weakref.WeakKeyDictionary[type, type[_StandIn]] = weakref.WeakKeyDictionary()


def stand_in_for(value: Any, special: Mapping[str, Callable[..., Any]]) -> type[Any]:
    """The class of what stands in for a value: Python looks for special methods on classes only.

    Args:
        value: What it stands in for.
        special: Methods with which it is read; it has those that the value has.
    """
    kind = type(value)
    found = _KINDS.get(kind)
    if found is not None:
        return found
    if special is OF_AWAITABLES and not issubclass(kind, Coroutine):
        special = {name: method for name, method in special.items() if name.startswith("__")}
    body: dict[str, Any] = {name: method for name, method in special.items() if hasattr(kind, name)}
    for name in dir(kind):
        own = getattr(kind, name, None)
        if not (name.startswith("__") and name.endswith("__") and callable(own)) or name in _OURS or name in body:
            continue
        if name in ("__eq__", "__ne__", "__hash__") and own is getattr(object, name):
            # What is equal to itself alone: the caller knows the stand-in.
            continue
        body[name] = _passing(name)
    body |= {"__slots__": (), "__doc__": kind.__doc__, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    made = _KINDS[kind] = type(kind.__name__, (_StandIn,), body)
    return made
