"""Stand-ins for iterators that plain functions return and that are not generators: `map`, `zip`, a client's stream.

No lock is taken: threads may share an iterator, as they could share the bare one.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from time import perf_counter
from typing import Any

from rollout_sdk.engine.call import Call
from rollout_sdk.engine.context import set_call
from rollout_sdk.engine.going_on import go_on
from rollout_sdk.engine.lazy import each
from rollout_sdk.engine.running import run
from rollout_sdk.engine.steps import Flow, Invoke, Result

__all__ = ["Reading", "iterator"]


class _Stage:
    """One variant's iterator under way: what is noted while items pass."""

    def __init__(self, call: Call, step: Invoke, ran: Result) -> None:
        """Start nothing: the clock goes on when the first item is asked for."""
        self.call = call
        self.step = step
        self.model = self.source = ran.value if hasattr(type(ran.value), "__next__") else each(ran.value)
        self.ended = False
        self.result = Result(step.variant, ran.duration_s)
        self.result.kept = step.keep
        self.result.streamed = True
        self._gate = step.gate
        self._began: float | None = None
        self._open = [True]

    def ask(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Result:
        """Run one method of the iterator, as the variant's steps run."""
        if self._began is None:
            self._began = perf_counter() - self.result.duration_s
        asked = Invoke(self.step.variant, function, args, {})
        asked.span_context, asked.gate = self.step.span_context, self._gate
        asked.in_place = self.step.in_place
        # Streams that take turns must not meet each other's call.
        set_call(self.call)
        ran, result = run(asked), self.result
        if ran.error is None:
            self._gate = None
            if not result.started:
                result.started, result.first_item_s = True, perf_counter() - self._began
            if result.kept is not None:
                result.kept.add(ran.value)
        return ran

    def turn_to(self, source: Any) -> bool:
        """Read another iterator of the same object, if none was read yet: some streams give a generator to `for`."""
        if self.ended or self._began is not None or not hasattr(type(source), "__next__"):
            return False
        self.source = source
        return True

    def claim(self) -> bool:
        """Whether the caller is the first to end it."""
        try:
            self._open.pop()
        except IndexError:
            return False
        self.ended = True
        return True

    def end(self, ran: Result, thrown: BaseException | None) -> None:
        """Note how it ended: by itself, by an exception, or because its consumer had enough."""
        result = self.result
        if self._began is not None:
            result.duration_s = perf_counter() - self._began
        if ran.withheld is not None:
            self.result = ran
        elif isinstance(ran.error, StopIteration):
            result.value = ran.error.value
        else:
            result.error, result.interrupted = ran.error, ran.interrupted or ran.error is thrown


class Reading:
    """A call under way whose answer is an iterator."""

    def __init__(self, call: Call, flow: Flow, step: Invoke, ran: Result) -> None:
        """Begin with what a step returned."""
        self._call = call
        self._flow = flow
        self._stage = _Stage(call, step, ran)

    @property
    def model(self) -> Any:
        """What the variant returned that answers now."""
        return self._stage.model

    def next(self) -> Any:
        """The next item."""
        return self.ask(next, self._stage.source)

    def turn_to(self, source: Any) -> bool:
        """Read what `iter` gave of the same object, if nothing was read yet."""
        return self._stage.turn_to(source)

    def ask(self, function: Callable[..., Any], *args: Any, thrown: BaseException | None = None) -> Any:
        """What a method of the iterator gives; the control's first item in place of an error before the first item."""
        while True:
            stage = self._stage
            if stage.ended:
                return function(*args)
            ran = stage.ask(function, args)
            if ran.error is None:
                return ran.value
            if not stage.claim():
                # Another thread was faster, and ends the call.
                with ran:
                    raise ran.error
            stage.end(ran, thrown)
            ended = go_on(self._call, self._flow, stage.result)
            if isinstance(ended, Result):
                break
            stage = self._stage = _Stage(self._call, *ended)
            function, args = next, (stage.source,)
        del stage
        if ended.error is not None:
            with ended:
                raise ended.error
        ran.error = None
        raise StopIteration if ended.value is None else StopIteration(ended.value)

    def leave(self) -> None:
        """The consumer had enough: it closed the iterator, or let go of it."""
        stage = self._stage
        if stage.claim():
            stage.end(Result(stage.step.variant, 0.0, None, GeneratorExit(), interrupted=True), None)
            go_on(self._call, self._flow, stage.result)


class _StandIn:
    """Stands in for an iterator: asks it for items, and passes everything else on."""

    __slots__ = ("__weakref__", "_rollout_reading")
    _rollout_reading: Reading

    def __init__(self, reading: Reading) -> None:
        object.__setattr__(self, "_rollout_reading", reading)

    @property  # type: ignore[misc] # so that `isinstance` answers as for the iterator
    def __class__(self) -> Any:
        return type(self._rollout_reading.model)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rollout_reading.model, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._rollout_reading.model, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._rollout_reading.model, name)

    def __next__(self) -> Any:
        return self._rollout_reading.next()

    def __del__(self) -> None:
        reading = getattr(self, "_rollout_reading", None)
        if reading is not None:
            reading.leave()


def _iter(self: Any) -> Any:
    reading = self._rollout_reading
    given = iter(reading.model)
    return self if given is reading.model or reading.turn_to(given) else given


def _send(self: Any, value: Any) -> Any:
    reading = self._rollout_reading
    return reading.ask(reading.model.send, value)


def _throw(self: Any, *error: Any) -> Any:
    reading = self._rollout_reading
    thrown = error[0] if isinstance(error[0], BaseException) else None
    return reading.ask(reading.model.throw, *error, thrown=thrown)


def _passing(name: str) -> Callable[..., Any]:
    """A method that calls the iterator's own."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        model = self._rollout_reading.model
        given = getattr(model, name)(*args, **kwargs)
        # A stream that returns itself (`with`) would else be read past us.
        return self if given is model else given

    return method


def _leaving(name: str) -> Callable[..., Any]:
    """A method that calls the iterator's own, with which the consumer has had enough."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        reading = self._rollout_reading
        try:
            return getattr(reading.model, name)(*args, **kwargs)
        finally:
            reading.leave()

    return method


_SPECIAL: dict[str, Callable[..., Any]] = {
    "__iter__": _iter,
    "send": _send,
    "throw": _throw,
    "close": _leaving("close"),
    "__exit__": _leaving("__exit__"),
}
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


def _kind_for(kind: type) -> type[_StandIn]:
    """The class that stands in for one: Python looks for special methods on classes only."""
    found = _KINDS.get(kind)
    if found is not None:
        return found
    body: dict[str, Any] = {name: method for name, method in _SPECIAL.items() if hasattr(kind, name)}
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


def iterator(call: Call, flow: Flow, step: Invoke, ran: Result) -> Any:
    """An object that stands in for an iterator which a step returned."""
    return _kind_for(type(ran.value))(Reading(call, flow, step, ran))
