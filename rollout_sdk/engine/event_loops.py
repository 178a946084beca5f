"""Which event loop drives a coroutine: asyncio's, trio's, or something else that can only wait for one thing at a time.

None is imported for our sake: a coroutine that trio drives has imported it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from typing import Any

__all__ = ["LATE", "asyncio_loop", "on_asyncio", "within_elsewhere"]

LATE = object()
"""In place of a result: the time was up."""


def on_asyncio() -> bool:
    """Whether the running coroutine is part of an asyncio task, so that others can run beside it."""
    try:
        # Not the loop: trio can be a guest of asyncio's, and then its tasks are not asyncio's.
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


def asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """The running loop of asyncio, also in a callback that belongs to no task; None where trio drives, be it as its guest."""
    trio = sys.modules.get("trio")
    if trio is not None and _on_trio(trio):
        return None
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def within_elsewhere(deadline_s: float, awaitable: Awaitable[Any]) -> Any:
    """What an awaitable gives within so many seconds, on a loop that is not asyncio's; `LATE` when it took longer.

    Trio cancels it, and waits until it has obeyed. Anything else has no clock that is known here, and the deadline is not kept.
    """
    trio = sys.modules.get("trio")
    if trio is None or not _on_trio(trio):
        return await awaitable
    with trio.move_on_after(deadline_s) as scope:
        result = await awaitable
    return LATE if scope.cancelled_caught else result


def _on_trio(trio: Any) -> bool:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True
