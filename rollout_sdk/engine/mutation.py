"""Detects, in tests, candidates that change their arguments: `rollout(detect_mutation=True)`.

A candidate that changes its arguments gives wrong results once an argument cannot be copied or shares an object with the
caller. Detection copies and compares the arguments of every call, which is too slow for production.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import Any, TypeAlias

from rollout_sdk.comparators import compare
from rollout_sdk.engine.copies.kinds import Kind
from rollout_sdk.engine.copies.survey import Survey
from rollout_sdk.engine.likeness import FunctionKind
from rollout_sdk.exceptions import MutationError

__all__ = ["watched"]

Before: TypeAlias = dict[int | str, list[tuple[Kind, Any, Any]]]
"""For each argument, its mutable parts: kind, value, and earlier state."""


def watched(function: Callable[..., Any], kind: FunctionKind, *, key: str, name: str, shared: int) -> Callable[..., Any]:
    """Wrap a candidate to raise at its end if it has changed an argument.

    Args:
        function: The candidate.
        kind: Its kind.
        key: Key of the rollout, for the error.
        name: Name of the candidate, for the error.
        shared: Number of leading positional arguments to ignore (a method's `self`).

    Raises:
        MutationError: From the wrapped function, if an argument no longer equals its earlier value. Arguments that cannot be
            copied are not checked.
    """

    def check(before: Before) -> None:
        changed = [each for each, found in before.items() if any(_is_changed(*one) for one in found)]
        if changed:
            which = f"positional argument {changed[0]}" if isinstance(changed[0], int) else f"argument {changed[0]!r}"
            raise MutationError(
                f"Candidate {name!r} of {key!r} changed its {which}. A candidate must leave its arguments unchanged, because "
                "the control may still need them. Copy what you change."
            )

    def function_(*args: Any, **kwargs: Any) -> Any:
        before = _before(args, kwargs, shared)
        value = function(*args, **kwargs)
        check(before)
        return value

    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        before = _before(args, kwargs, shared)
        value = await function(*args, **kwargs)
        check(before)
        return value

    def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        before = _before(args, kwargs, shared)
        value = yield from function(*args, **kwargs)
        check(before)
        return value

    async def async_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        before = _before(args, kwargs, shared)
        async for item in function(*args, **kwargs):
            yield item
        check(before)

    kinds: dict[FunctionKind, Callable[..., Any]] = {
        "function": function_,
        "coroutine": coroutine,
        "generator": generator,
        "async generator": async_generator,
    }
    return functools.update_wrapper(kinds[kind], function)


def _before(args: tuple[Any, ...], kwargs: Mapping[str, Any], shared: int) -> Before:
    """Record the state of the arguments' mutable parts, by position or name."""
    before: Before = {}
    given: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    for each, value in given[shared:]:
        found = Survey([value], is_limited=False).found
        before[each] = [(kind, part, kind.state(part)) for kind, part in found]
    return before


def _is_changed(kind: Kind, value: Any, state: Any) -> bool:
    """Whether a value differs from its recorded state."""
    return not kind.is_same(value, state) and not compare(state, kind.state(value), rel_tol=0.0, abs_tol=0.0).match
