"""A shadow's candidate while it runs: marked as a shadow, with a span and a clock, and its stream read to the end.

The candidate itself is called by `engine/shadow.py`. Its stream runs only while it is read, which is done here: `abort()` waits
for these functions, too (see `engine/stopping.py`).
"""

from __future__ import annotations

from contextlib import aclosing
from itertools import islice
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Self

from rollout_sdk.engine.context import set_shadow
from rollout_sdk.engine.steps import Result

if TYPE_CHECKING:
    from rollout_sdk.engine.shadow import ShadowRun

__all__ = ["UnderWay"]


class UnderWay:
    """While a shadow runs: `is_shadow()` is true, its span is current, and its time is taken."""

    __slots__ = ("_first_s", "_run", "_started_s", "_token")

    def __init__(self, run: ShadowRun) -> None:
        """Mark nothing yet."""
        self._run = run
        self._first_s: float | None = None

    def __enter__(self) -> Self:
        """Mark this context, and start the clock last."""
        run = self._run
        run.began = monotonic()
        set_shadow(True)
        rollout = run.rollout
        rollout.active.add(run)
        self._token = rollout.spans.start_shadow(run) if run.call.span is not None or rollout.surrounds else None
        self._started_s = perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the mark away."""
        self._run.rollout.active.discard(self._run)
        if self._token is not None:
            self._run.rollout.spans.leave(self._token)
        self._run.end_late_span()

    def read(self, stream: Any) -> list[Any]:
        """The items of a stream, so many as are kept and one more; notes when the first came."""
        items = list(islice(stream, 1))
        if items:
            self._first_s = perf_counter()
            items.extend(islice(stream, self._run.rollout.limits.kept_items))
        return self._whole(items)

    async def read_async(self, stream: Any) -> list[Any]:
        """The items of an async generator, as `read` gives them."""
        items: list[Any] = []
        async with aclosing(stream):
            async for item in stream:
                if not items:
                    self._first_s = perf_counter()
                items.append(item)
                if len(items) > self._run.rollout.limits.kept_items:
                    break
        return self._whole(items)

    def _whole(self, items: list[Any]) -> list[Any]:
        """The items; a stream with more than are kept is not compared."""
        if len(items) > self._run.rollout.limits.kept_items:
            self._run.counterpart.is_comparable = False
        return items

    def ended(self, value: Any, error: BaseException | None = None, *, cut: bool = False) -> Result:
        """The result of a run that ends now. Made here: one that the run's own frame held would keep all that the run held."""
        result = Result(self._run.variant, perf_counter() - self._started_s, value, error, cut)
        result.first_item_s = self._first_s - self._started_s if self._first_s is not None else None
        return result
