"""The end of an application: nothing that was decided or measured is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from rollout_sdk import Runtime, default_runtime

__all__ = ["flushing"]

_Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


def flushing(runtime: Runtime | None = None, lifespan: _Lifespan | None = None, *, timeout_s: float = 5.0) -> _Lifespan:
    """A lifespan after which every fact is in the journal and with the observers: `FastAPI(lifespan=flushing(runtime))`.

    It waits in a thread, once the last request has been served, and never longer than the time given.

    Args:
        runtime: The runtime; None: the default one.
        lifespan: The application's own lifespan, which runs inside.
        timeout_s: Seconds that it may take.
    """

    @asynccontextmanager
    async def around(app: Any) -> AsyncIterator[Any]:
        try:
            if lifespan is None:
                yield None
            else:
                async with lifespan(app) as state:
                    yield state
        finally:
            await asyncio.to_thread((default_runtime() if runtime is None else runtime).flush, timeout_s)

    return around
