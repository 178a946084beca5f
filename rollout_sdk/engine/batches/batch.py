"""A batch: a call with many rows, and the background runs of its rows."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from attrs import frozen

from rollout_sdk.engine.batches.decided_rows import DecidedRows
from rollout_sdk.engine.batches.rows import each_row, has_rows, take
from rollout_sdk.engine.call import Call
from rollout_sdk.engine.failing import failing_rows
from rollout_sdk.engine.shadows.shadow import ShadowRun
from rollout_sdk.engine.steps import Result
from rollout_sdk.records import Comparison, ShadowEnd

__all__ = ["NO_ROWS", "Batch", "ShadowRows"]

Replace: TypeAlias = Callable[
    [tuple[Any, ...], Mapping[str, Any], Callable[[Any], Any]], tuple[tuple[Any, ...], dict[str, Any]]
]
"""Returns the arguments with a function applied to every row-wise one."""


NO_ROWS = DecidedRows([], bytearray(), array("Q"), ())
"""The rows of an empty batch."""


@frozen
class Batch:
    """A call whose row-wise arguments are split.

    Attributes:
        call: The whole call, which holds the span.
        rows: The rows, with their decisions.
        replace: Replaces the row-wise arguments.
    """

    call: Call
    rows: DecidedRows
    replace: Replace

    def arguments(self, indices: Sequence[int]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the call's arguments with only these rows."""
        return self.replace(self.call.args, self.call.kwargs, lambda value: take(value, indices))

    def given(self) -> Any:
        """Return the caller's rows: the first row-wise argument."""
        found: list[Any] = []
        self.replace(self.call.args, self.call.kwargs, found.append)
        return found[0] if found else None


class ShadowRows(ShadowRun):
    """One background run of a variant on several rows; each row is compared and reported separately."""

    # Batches return rows, never streams.
    reads_streams = False

    def __init__(self, batch: Batch, variant: str, indices: list[int]) -> None:
        """Create a run of `variant` on these rows."""
        super().__init__(batch.call, batch.call.rollout, variant)
        self.rows = batch.rows
        self.indices = indices
        self._calls: Sequence[Call] | None = None

    @property
    def calls(self) -> Sequence[Call]:
        """A call for each row, as it is now, or was when the run ended."""
        return self.rows.at(self.indices) if self._calls is None else self._calls

    def end(self, end: ShadowEnd, result: Result | None = None, *, error: str | None = None) -> None:
        """End the run and report it for each row."""
        # Built once, and before the run is claimed, so that code that waits for the runs waits for this, too.
        if self._calls is None:
            self._calls = list(self.calls)
        super().end(end, result, error=error)

    def comparisons(self, result: Result) -> Sequence[Comparison | None]:
        """Return a comparison for each row, or None for rows without one."""
        count = len(self.indices)
        control = self.counterpart
        if result.error is not None or control.error is not None:
            return [control.compared(result, self.rollout, lambda: self.request)] * count
        if not control.is_comparable or not (has_rows(control.value, count) and has_rows(result.value, count)):
            return [None] * count
        pairs = zip(each_row(control.value), each_row(result.value), strict=True)
        return [self.rollout.compare(self.request, ours, theirs) for ours, theirs in pairs]

    def answers(self, result: Result) -> Iterable[tuple[Any, Any]]:
        """Return the control's answer and the candidate's, for each row."""
        return zip(each_row(self.counterpart.value), each_row(result.value), strict=True)

    def refused(self, result: Result) -> Sequence[bool]:
        """Return for each row whether its answer is a failure."""
        failing = failing_rows(self.rollout, result.value, range(len(self.indices)))
        return [place in failing for place in range(len(self.indices))]

    def _are_served_by(self, variant: str) -> bool:
        return all(kind.served == variant for kind, _ in self.rows.at(self.indices).sizes())

    def answered_by(self, final: Result, size: int) -> Result:
        """Return the control's own results for these rows, from the batch's answer, to compare with."""
        control, own = self.rollout.control, None
        if final.error is None and has_rows(final.value, size) and self._are_served_by(control):
            own = take(final.value, self.indices)
        nothing = final.error is None and own is None
        return Result(control, final.duration_s, own, final.error, final.interrupted or nothing)
