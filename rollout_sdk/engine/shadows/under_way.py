"""A shadow's candidate while it runs: marked as a shadow, timed, traced, and its stream read to the end.

The candidate itself is called in `engine/shadows/shadow.py`. Its stream runs only while it is read, which happens here:
`abort()` waits for these functions, too (see `engine/stopping.py`).
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from inspect import isawaitable
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, Self

from rollout_sdk.concurrency.clocks import monotonic, perf_counter
from rollout_sdk.engine.context import set_shadow
from rollout_sdk.engine.returned.forms import ASYNCHRONOUS, closing_stream, form_of
from rollout_sdk.engine.steps import Result
from rollout_sdk.formatting import class_name

if TYPE_CHECKING:
    from rollout_sdk.engine.call import Call
    from rollout_sdk.engine.rollout import Rollout
    from rollout_sdk.engine.shadows.counterpart import Counterpart

__all__ = ["NotMeasured", "UnderWay"]

_ITERABLE = frozenset({"generator", "iterator", "stream", "either"})


class Run(Protocol):
    """The attributes and methods used of a shadow run."""

    rollout: Rollout
    variant: str
    counterpart: Counterpart
    began: float | None
    took_s: float | None

    @property
    def call(self) -> Call:
        """The call that is shadowed."""

    def submit(self, control: Any) -> None:
        """Submit the run."""

    def end(self, end: Any, *, error: str | None = None) -> None:
        """End the run, unless it has already ended."""

    def end_late_span(self) -> None:
        """End the span of an abandoned run."""


class NotMeasured(Exception):  # noqa: N818 - how a run ended, and not a fault
    """An answer has work to come that cannot be run here; the message names its class."""


class UnderWay:
    """Context of a running shadow: `is_shadow()` is true, its span is current, and its time is measured."""

    __slots__ = ("_first_s", "_is_awaited", "_run", "_started_s", "_token")

    def __init__(self, run: Run) -> None:
        """Store the run; `__enter__` marks the context."""
        self._run = run
        self._first_s: float | None = None
        self._is_awaited = False

    def __enter__(self) -> Self:
        """Mark this context; start the clock last."""
        run = self._run
        run.began = monotonic()
        set_shadow(True)
        rollout = run.rollout
        rollout.active.add(run)
        self._token = rollout.spans.start_shadow(run) if run.call.span is not None or rollout.surrounds else None
        self._started_s = perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the mark."""
        self._run.rollout.active.discard(self._run)
        if self._token is not None:
            self._run.rollout.spans.leave(self._token)
        self._run.end_late_span()

    def whole(self, value: Any) -> Any:
        """Run an answer to its end in a thread, on a new event loop if it needs one.

        Raises:
            NotMeasured: It cannot be run.
            BaseException: Any exception of the answer.
        """
        form = form_of(value)
        if form in _ITERABLE:
            with closing_stream(value) as stream:
                return self.read(iter(stream))
        if isinstance(value, Future):
            return value.result()
        if form in ASYNCHRONOUS:
            return asyncio.run(self.whole_async(value))
        if form != "answer":
            raise NotMeasured(class_name(value))
        return value

    async def whole_async(self, value: Any) -> Any:
        """Run an answer to its end on this event loop, as `whole` does."""
        while isawaitable(value) and form_of(value) != "unmeasured":
            self._is_awaited = True
            value = await value
        form = form_of(value)
        if form in ("async generator", "async stream", "either"):
            self._is_awaited = True
            return await self.read_async(value)
        if isinstance(value, Future):
            return await asyncio.wrap_future(value)
        return self.whole(value)

    def read(self, stream: Any) -> list[Any]:
        """Read up to one item more than are kept; record the time of the first."""
        items = list(islice(stream, 1))
        if items:
            self._first_s = perf_counter()
            items.extend(islice(stream, self._run.rollout.limits.kept_items))
        return self._whole(items)

    async def read_async(self, stream: Any) -> list[Any]:
        """As `read`, for an async stream."""
        items: list[Any] = []
        try:
            async for item in stream:
                if not items:
                    self._first_s = perf_counter()
                items.append(item)
                if len(items) > self._run.rollout.limits.kept_items:
                    break
        finally:
            await _close(stream)
        return self._whole(items)

    def _whole(self, items: list[Any]) -> list[Any]:
        """Return the items; a stream with more items than are kept is not compared."""
        if len(items) > self._run.rollout.limits.kept_items:
            self._run.counterpart.is_comparable = False
        return items

    def ended(self, value: Any, error: BaseException | None = None, *, cut: bool = False) -> Result:
        """Build the run's result. Built here, since a result in the run's own frame would keep alive all that frame holds."""
        # Of a run in another process, the time that it took there.
        took_s = perf_counter() - self._started_s if self._run.took_s is None else self._run.took_s
        result = Result(self._run.variant, took_s, value, error, cut)
        result.awaited = self._is_awaited
        result.first_item_s = self._first_s - self._started_s if self._first_s is not None else None
        return result


async def _close(stream: Any) -> None:
    """Close a stream with whichever method it has."""
    close = getattr(stream, "aclose", None) or getattr(stream, "close", None)
    closing = None if close is None else close()
    if isawaitable(closing):
        await closing
