"""The end of an application: a lifespan that flushes the runtime, so that no facts are lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from rollout_sdk import Runtime, default_runtime

__all__ = ["flushing"]

_Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


def flushing(runtime: Runtime | None = None, lifespan: _Lifespan | None = None, *, timeout_s: float = 5.0) -> _Lifespan:
    """Return a lifespan that flushes the runtime at its end: `FastAPI(lifespan=flushing(runtime))`.

    After the last request, it waits in a thread until every fact is in the journal and with the observers.

    Args:
        runtime: The runtime; None: the default one.
        lifespan: The application's own lifespan, which runs inside.
        timeout_s: Seconds to wait at most.
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
