"""What a shadow must not do: `@shadow_guard` for functions that change the world."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from rollout_sdk.engine.context import is_shadow
from rollout_sdk.exceptions import ShadowEffectError

__all__ = ["shadow_guard"]

P = ParamSpec("P")
R = TypeVar("R")


def shadow_guard(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function refuse to run inside a shadow: put it on whatever writes, sends or charges.

    Works on functions and coroutine functions, also in threads that a shadow starts with a copy of its context
    (`asyncio.to_thread` does; `Thread` and `ThreadPoolExecutor` do not). Elsewhere it changes nothing.

    Raises:
        ShadowEffectError: By what is returned, when a shadow calls it. The shadow ends as an error, and nobody else notices.
    """
    name = getattr(function, "__qualname__", repr(function))

    def refuse() -> None:
        if is_shadow():
            raise ShadowEffectError(
                f"A shadow called {name!r}, which changes the world. A shadow runs for nobody, so that its effects happen "
                "twice. Leave the call out when rollout_sdk.is_shadow(), or do not shadow this model."
            )

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def guarded_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
            refuse()
            return await function(*args, **kwargs)

        return guarded_coroutine  # type: ignore[return-value]

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        refuse()
        return function(*args, **kwargs)

    return guarded
