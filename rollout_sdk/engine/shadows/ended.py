"""The end of a shadow run, kept until the background thread builds its event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rollout_sdk.records import Comparison, ShadowedEvent, ShadowEnd
from rollout_sdk.records.sampling import is_drawn

if TYPE_CHECKING:
    from rollout_sdk.engine.call import Call

__all__ = ["EndedRows", "EndedShadow"]


class EndedShadow:
    """The end of a shadow run for one call; the event is built in the background, because drops end on the caller's path."""

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
        "rate",
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
        """Store what the event needs."""
        self._call = call
        self._variant = variant
        self._end = end
        self._duration_s = duration_s
        self._wait_s = wait_s
        self._error = error
        self._comparison = comparison
        self._exception = exception
        self._first_item_s = first_item_s
        self.rate = call.rate
        # Read now: for a run dropped early, reading it when the event is built would depend on timing.
        self._control = call.control_run()

    @property
    def level(self) -> int:
        """0 where all are kept; also when the call has ended before this, and was drawn or not."""
        return int(self.rate < 1.0)

    def drawn(self, rate: float) -> EndedShadow | None:
        """The end, if the call is one of those that are kept at this rate, or at that of the call if it is lower."""
        self.rate = min(rate, self.rate)
        return self if is_drawn(self._call.decision_id, self.rate) else None

    def as_event(self) -> ShadowedEvent:
        """Build the event."""
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
            rate=self.rate,
            exception=self._exception,
        )


class EndedRows(tuple[EndedShadow, ...]):
    """The ends of a shadow run on several rows: one fact for the recorder."""

    __slots__ = ()

    @property
    def weight(self) -> int:
        """Number of facts it stands for."""
        return len(self)

    @property
    def level(self) -> int:
        """0 where all are kept."""
        return max((each.level for each in self), default=0)

    def drawn(self, rate: float) -> EndedRows:
        """All of them, of which `thinned` gives those that are kept at this rate."""
        for each in self:
            each.rate = min(rate, each.rate)
        return self

    def thinned(self) -> EndedRows | None:
        """Those whose calls are drawn; None when there is none."""
        return EndedRows(kept) if (kept := [each for each in self if each.drawn(1.0) is not None]) else None

    def part(self, start: int, stop: int) -> EndedRows:
        """Return the ends in this range of positions."""
        return EndedRows(self[start:stop])
