"""How a shadow run ended, kept until the background makes the event of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rollout_sdk.records import Comparison, ShadowedEvent, ShadowEnd

if TYPE_CHECKING:
    from rollout_sdk.engine.call import Call

__all__ = ["EndedShadow"]


class EndedShadow:
    """How a shadow run ended for one call; the event is made in the background, because a drop ends on the caller's path."""

    __slots__ = ("_call", "_comparison", "_duration_s", "_end", "_error", "_exception", "_variant", "_wait_s")

    def __init__(
        self,
        call: Call,
        variant: str,
        end: ShadowEnd,
        duration_s: float | None,
        wait_s: float | None,
        error: str | None,
        comparison: Comparison | None,
        exception: BaseException | None = None,
    ) -> None:
        """Keep what the event needs."""
        self._call = call
        self._variant = variant
        self._end = end
        self._duration_s = duration_s
        self._wait_s = wait_s
        self._error = error
        self._comparison = comparison
        self._exception = exception

    def as_event(self) -> ShadowedEvent:
        """The end as a fact."""
        call = self._call
        return ShadowedEvent(
            decision=call.full_decision(),
            variant=self._variant,
            end=self._end,
            duration_s=self._duration_s,
            wait_s=self._wait_s,
            error=self._error,
            comparison=self._comparison,
            unit=call.unit,
            excluded=call.is_excluded,
            exception=self._exception,
        )
