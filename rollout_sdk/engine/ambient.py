"""Undo a failed candidate's changes to its surroundings: context variables, and the states of decimal, numpy and torch.

A candidate runs in the caller's own context, so the variables it sets and the tokens it hands out behave as they would without
the SDK. Copying a context before the run is nearly free; when the candidate fails, its changes are reverted before the control
runs. Only libraries that the application has already imported are looked at.
"""

from __future__ import annotations

import decimal
import sys
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextvars import Context, ContextVar, copy_context
from copy import copy
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from rollout_sdk.concurrency.context_vars import alone
from rollout_sdk.concurrency.threads import imported

if TYPE_CHECKING:
    from rollout_sdk.engine.likeness import FunctionKind

__all__ = ["Around", "Stepped", "apart", "beside", "look", "own_context", "restore", "take_over"]


class Stepped:
    """Awaitable that runs a coroutine step by step and leaves nothing of it in the thread while the coroutine waits."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], around: Callable[..., Any]) -> None:
        """Store the coroutine without starting it.

        Args:
            coroutine: The coroutine to step; nothing else may await it.
            around: Called as `around(function, argument)` for every step; must run the function and return or raise its result.
        """
        self._coroutine = coroutine
        self._around = around

    def __await__(self) -> Generator[Any, Any, Any]:
        """Run the coroutine to its end."""
        step: Callable[[Any], Any] = self._coroutine.send
        given: Any = None
        while True:
            try:
                # Passed on without keeping a reference: a thrown exception's traceback holds this frame.
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

# decimal's context variable has no public name, so find it: it is the only one set in an otherwise empty context.
_probe = Context()
_probe.run(decimal.getcontext)
_DECIMAL: ContextVar[decimal.Context] = next(iter(_probe))
_FIELDS = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp", "flags", "traps")

# Module, getter and setter of a library's thread state. From 2.0 on, numpy keeps its own in a context variable.
_NUMPY = "numpy.core._multiarray_umath"
_STATES = (("torch", "is_grad_enabled", "set_grad_enabled"), (_NUMPY, "geterrobj", "seterrobj"))
State: TypeAlias = tuple[Callable[[Any], object], Callable[[], Any], Any]


def _states() -> Sequence[State]:
    """Return setter, getter and current value of each loaded library's state in this thread."""
    found = []
    for name, read, write in _STATES:
        # Not every version has these functions.
        if hasattr(module := imported(name), write):
            state = getattr(module, read)
            # numpy returns the list itself and later changes it in place.
            found.append((getattr(module, write), state, copy(state())))
    return found


def _write(states: Sequence[State]) -> None:
    for write, read, state in states:
        if read() != state:
            write(copy(state))


Around: TypeAlias = tuple[Context, decimal.Context | None, Sequence[State]]
"""A candidate's surroundings: copies of its context and of its decimal context, and the states of libraries."""


def look(context: Context | None = None) -> Around:
    """Record the surroundings of a candidate about to run; `context` is a copy of its context, if one already exists."""
    if context is None:
        context = copy_context()
        # Inlined: this runs on every call of a candidate.
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
    """Revert changes between the two points that later code left alone; return True if a variable could not be unset."""
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
        # Same object in both, unless it was replaced, and a replacement was reverted above.
        current = before[_DECIMAL]
        if after.get(_DECIMAL) is not current or _same(current, numbers_after):
            _put(current, numbers)
    return spoilt


def _default(var: ContextVar[Any]) -> tuple[Any, bool]:
    """Return the value of a variable that was never set, and whether there is one."""
    if var is _DECIMAL:
        return decimal.DefaultContext.copy(), True
    try:
        return Context().run(var.get), True
    except LookupError:
        return None, False


def _same(one: decimal.Context, other: decimal.Context) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in _FIELDS)


def _put(numbers: decimal.Context, values: decimal.Context) -> None:
    for name in _FIELDS:
        value = getattr(values, name)
        if getattr(numbers, name) != value:
            setattr(numbers, name, value)


def own_context() -> Context:
    """Copy the current context, including its decimal context, for a run beside the caller."""
    context = copy_context()
    numbers = context.get(_DECIMAL)
    if numbers is not None:
        context.run(_DECIMAL.set, numbers.copy())
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
    """Fallback when the context cannot be changed."""


take_over = alone(_take_over, _nothing)
"""Apply the variables that a candidate set in its own task's context to the current context."""
# While garbage is collected, nothing can be reverted.
restore = alone(_restore, _nothing)
"""Revert a failed candidate's changes; `earlier` lists the changes it made before it last suspended.

Python cannot unset a variable. A variable that had no value gets its default if it has one; otherwise it gets None, and the
returned context, in which the control then runs, leaves it unset.
"""


def beside(context: Context, function: Callable[..., T], *args: Any) -> T:
    """Run a function without side effects on the caller: in another context, with libraries' states restored afterwards."""
    states = _states()
    try:
        return context.run(function, *args)
    finally:
        _write(states)


def apart(context: Context, function: Callable[..., Any], kind: FunctionKind) -> Callable[..., Any]:
    """Wrap a function to run in another context and copy the variables it sets to the caller's; streams run in the caller's."""
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
