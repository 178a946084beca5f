"""Watching, in tests, for candidates that change their arguments: `rollout(detect_mutation=True)`.

A candidate that changes its arguments gives wrong numbers as soon as an argument cannot be copied, or when it shares an
object with the caller. Looking costs a copy and a comparison for each call, and so is for tests.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import Any

from rollout_sdk.comparison import compare
from rollout_sdk.engine.rollout import Kind
from rollout_sdk.engine.snapshot import NotCopied, Snapshot
from rollout_sdk.exceptions import MutationError

__all__ = ["watched"]


def watched(function: Callable[..., Any], kind: Kind, *, key: str, name: str, shared: int) -> Callable[..., Any]:
    """The candidate, raising when it has changed an argument by the time it ends.

    Args:
        function: The candidate.
        kind: Its kind.
        key: Key of the rollout, for the error.
        name: Name of the candidate, for the error.
        shared: How many first positional arguments are not looked at (a method's `self`).

    Raises:
        MutationError: By what is returned, when an argument is not equal to what it was. What cannot be copied is not
            looked at.
    """

    def check(before: Mapping[Any, Any], now: Mapping[Any, Any]) -> None:
        changed = [each for each, copy in before.items() if not compare(copy, now[each], rel_tol=0.0, abs_tol=0.0).match]
        if changed:
            which = f"positional argument {changed[0]}" if isinstance(changed[0], int) else f"argument {changed[0]!r}"
            raise MutationError(
                f"Candidate {name!r} of {key!r} changed its {which}. A candidate must leave its arguments as they are, because "
                "the control may have to work with them. Copy what is changed."
            )

    def function_(*args: Any, **kwargs: Any) -> Any:
        before, now = _copies(args, kwargs, shared)
        value = function(*args, **kwargs)
        check(before, now)
        return value

    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        before, now = _copies(args, kwargs, shared)
        value = await function(*args, **kwargs)
        check(before, now)
        return value

    def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        before, now = _copies(args, kwargs, shared)
        value = yield from function(*args, **kwargs)
        check(before, now)
        return value

    async def async_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        before, now = _copies(args, kwargs, shared)
        async for item in function(*args, **kwargs):
            yield item
        check(before, now)

    kinds: dict[Kind, Callable[..., Any]] = {
        "function": function_,
        "coroutine": coroutine,
        "generator": generator,
        "async generator": async_generator,
    }
    return functools.update_wrapper(kinds[kind], function)


def _copies(args: tuple[Any, ...], kwargs: Mapping[str, Any], shared: int) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Copies of the arguments that can be copied, and all arguments as they are; by position or name."""
    now: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
    before = {}
    for each, value in now.items():
        if isinstance(each, int) and each < shared:
            continue
        try:
            before[each] = Snapshot(limited=False).copy(value)
        except NotCopied:
            continue
    return before, now
