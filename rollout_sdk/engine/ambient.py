"""What a candidate changes around itself: context variables, and the states of decimal, numpy and torch.

A candidate runs in its caller's own context, so that what it sets, and the tokens that it hands out, are what they would be
without us. A copy that is taken before it runs costs next to nothing, and when it fails, what it changed is put back before
the control runs. Libraries are looked up among what the application has imported; none is imported for this.
"""

from __future__ import annotations

import decimal
import sys
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextvars import Context, ContextVar
from copy import copy
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from rollout_sdk.concurrency.context_vars import alone, copy_context

if TYPE_CHECKING:
    from rollout_sdk.engine.rollout import Kind

__all__ = ["Around", "Stepped", "apart", "beside", "look", "own_context", "restore", "take_over"]


class Stepped:
    """Awaited, it gives what the coroutine gives; while the coroutine waits, nothing of it is left in the thread."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], around: Callable[..., Any]) -> None:
        """Start nothing yet.

        Args:
            coroutine: What is stepped; nothing else may await it.
            around: Called with a function and its argument for every step; runs it, and returns or raises what it does.
        """
        self._coroutine = coroutine
        self._around = around

    def __await__(self) -> Generator[Any, Any, Any]:
        """The steps."""
        step: Callable[[Any], Any] = self._coroutine.send
        given: Any = None
        while True:
            try:
                # Handed over, not kept: an exception that was thrown holds this frame.
                argument, given = given, None
                awaited = self._around(step, argument)
            except StopIteration as stop:
                return stop.value
            finally:
                argument = None
            try:
                given = yield awaited
                step = self._coroutine.send
            except BaseException as thrown:
                given, step = thrown, self._coroutine.throw


T = TypeVar("T")

_UNSET: Any = object()

# The one variable that an empty context has after a look at its decimal context: its name is private.
_probe = Context()
_probe.run(decimal.getcontext)
_DECIMAL: ContextVar[decimal.Context] = next(iter(_probe))
_FIELDS = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp", "flags", "traps")

# Module, how a thread's state is read there, and how it is set. numpy keeps its own in a context variable from 2.0 on.
_NUMPY = "numpy.core._multiarray_umath"
_STATES = (("torch", "is_grad_enabled", "set_grad_enabled"), (_NUMPY, "geterrobj", "seterrobj"))
State: TypeAlias = tuple[Callable[[Any], object], Callable[[], Any], Any]


def _states() -> Sequence[State]:
    """How each library's state in this thread is set and read, and what it is."""
    found = []
    for name, read, write in _STATES:
        module = sys.modules.get(name)
        # A module that another thread is importing this very moment has not everything yet.
        if module is not None and hasattr(module, write):
            state = getattr(module, read)
            # numpy gives the very list that it then changes.
            found.append((getattr(module, write), state, copy(state())))
    return found


def _write(states: Sequence[State]) -> None:
    for write, read, state in states:
        if read() != state:
            write(copy(state))


Around: TypeAlias = tuple[Context, decimal.Context | None, Sequence[State]]
"""What is around a candidate: a copy of its context, of its decimal context, and the states of libraries."""


def look(context: Context | None = None) -> Around:
    """Look around, in the context in which a candidate is about to run; `context` is a copy of it, if there is one already."""
    if context is None:
        context = copy_context()
    # In line, because it is on the path of every call of a candidate.
    numbers = context.get(_DECIMAL)
    loaded = "torch" in sys.modules or _NUMPY in sys.modules
    return context, None if numbers is None else numbers.copy(), _states() if loaded else ()


def _restore(around: Around, earlier: Sequence[tuple[Around, Around]]) -> Context | None:
    before, _, states = around
    _write(states)
    spoilt = _undo(around, look())
    for begun, rested in reversed(earlier):
        _undo(begun, rested)
    return before if spoilt else None


def _undo(begun: Around, ended: Around) -> bool:
    """Put back what changed between the two and was not changed since; whether a variable could not be unset."""
    (before, numbers, _), (after, numbers_after, _) = begun, ended
    for var in before:
        if var not in after and var.get(_UNSET) is _UNSET:
            var.set(before[var])
    spoilt = False
    for var, value in after.items():
        old = before.get(var, _UNSET)
        if old is value or var.get(_UNSET) is not value:
            continue
        if old is _UNSET:
            old, has_default = _default(var)
            spoilt = spoilt or not has_default
        var.set(old)
    if numbers is not None and numbers_after is not None:
        # It is one object in both, unless it was replaced, which was undone above.
        current = before[_DECIMAL]
        if after.get(_DECIMAL) is not current or _same(current, numbers_after):
            _put(current, numbers)
    return spoilt


def _default(var: ContextVar[Any]) -> tuple[Any, bool]:
    """What a variable gives where it was never set, and whether it gives anything."""
    if var is _DECIMAL:
        return decimal.DefaultContext.copy(), True
    try:
        return Context().run(var.get), True
    except LookupError:
        return None, False


def _copied(context: Context) -> decimal.Context | None:
    """A copy of a context's decimal context, which is changed in place; None where there is none."""
    numbers = context.get(_DECIMAL)
    return None if numbers is None else numbers.copy()


def _same(one: decimal.Context, other: decimal.Context) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in _FIELDS)


def _put(numbers: decimal.Context, values: decimal.Context) -> None:
    for name in _FIELDS:
        value = getattr(values, name)
        if getattr(numbers, name) != value:
            setattr(numbers, name, value)


def _own_context() -> Context:
    context = copy_context()
    numbers = _copied(context)
    if numbers is not None:
        context.run(_DECIMAL.set, numbers)
    return context


def _take_over(context: Context, since: Context) -> None:
    for var, value in context.items():
        if since.get(var, _UNSET) is value and var is not _DECIMAL:
            continue
        if var is _DECIMAL and var.get(_UNSET) is not _UNSET:
            _put(var.get(), value)
        else:
            var.set(value)


def _nothing(*_: object) -> None:
    """What is left of a change."""


own_context = alone(_own_context, copy_context)
"""A copy of the current context for a run beside the caller: with a decimal context of its own, too."""
take_over = alone(_take_over, _nothing)
"""Have the current context take over what was set in another one since then: of a candidate that ran in a task of its own."""
# In the midst of another change of the context nothing can be put back.
restore = alone(_restore, _nothing)
"""Put everything back, now that a candidate failed; `earlier` is what it did before it rested.

Python cannot unset a variable. One that had no value and has a default gets that; another one gets None, and is left unset in
the context that is then returned, for the control to run in.
"""


def beside(context: Context, function: Callable[..., T], *args: Any) -> T:
    """Run something whose traces are not the caller's: in another context, and with libraries' states put back after it."""
    states = _states()
    try:
        return context.run(function, *args)
    finally:
        _write(states)


def apart(context: Context, function: Callable[..., Any], kind: Kind) -> Callable[..., Any]:
    """A function that runs in another context, from which the caller's takes over what it set; streams run in the caller's."""
    since = context.copy()

    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return context.run(function, *args, **kwargs)
        finally:
            take_over(context, since)

    async def run_async(*args: Any, **kwargs: Any) -> Any:
        try:
            return await Stepped(function(*args, **kwargs), context.run)
        finally:
            take_over(context, since)

    return {"function": run, "coroutine": run_async}.get(kind, function)
