"""How a shadow run ended, kept until the background makes the event of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rollout_sdk.records import Comparison, ShadowedEvent, ShadowEnd

if TYPE_CHECKING:
    from rollout_sdk.engine.call import Call

__all__ = ["EndedRows", "EndedShadow"]


class EndedShadow:
    """How a shadow run ended for one call; the event is made in the background, because a drop ends on the caller's path."""

    __slots__ = (
        "_call",
        "_comparison",
        "_control",
        "_duration_s",
        "_end",
        "_error",
        "_exception",
        "_first_item_s",
        "_variant",
        "_wait_s",
    )

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
        first_item_s: float | None = None,
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
        self._first_item_s = first_item_s
        # Now, and not when the event is made: a run that was dropped early would know or not, by who is faster.
        self._control = call.control_run()

    def as_event(self) -> ShadowedEvent:
        """The end as a fact."""
        call = self._call
        _, control_duration_s, control_error, control_first_item_s = self._control
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
            first_item_s=self._first_item_s,
            control_error=control_error,
            control_duration_s=control_duration_s,
            control_first_item_s=control_first_item_s,
            exception=self._exception,
        )


class EndedRows(tuple[EndedShadow, ...]):
    """How a shadow run on several rows ended for each of them: one fact for the recorder."""

    __slots__ = ()

    @property
    def weight(self) -> int:
        """How many facts it stands for."""
        return len(self)

    def part(self, start: int, stop: int) -> EndedRows:
        """Those at these positions."""
        return EndedRows(self[start:stop])
