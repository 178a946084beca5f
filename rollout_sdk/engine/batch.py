"""The way of a batch: rows are decided one by one, grouped by variant, and each variant is called once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeAlias

from attrs import frozen

from rollout_sdk.engine.call import Call, Flow, Invoke, Result, Together
from rollout_sdk.engine.context import current_call
from rollout_sdk.engine.flow import NO_KWARGS, falls_back, finish
from rollout_sdk.engine.rows import assemble, take
from rollout_sdk.engine.shadow import ShadowRun
from rollout_sdk.records import Comparison

__all__ = ["Batch", "ShadowRows", "route_batch"]

Parts: TypeAlias = list[tuple[Sequence[int], Result]]
"""Positions of rows, and their results."""

Replace: TypeAlias = Callable[
    [tuple[Any, ...], Mapping[str, Any], Callable[[Any], Any]], tuple[tuple[Any, ...], dict[str, Any]]
]
"""Gives the arguments with every row-wise one replaced by a function of it."""


@frozen
class Batch:
    """A call whose row-wise arguments are split.

    Attributes:
        call: The whole call, which carries the span.
        rows: A call for every row, which carries its decision.
        replace: Replaces the row-wise arguments.
    """

    call: Call
    rows: Sequence[Call]
    replace: Replace

    def arguments(self, indices: Sequence[int]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call's arguments with only these rows."""
        return self.replace(self.call.args, self.call.kwargs, lambda value: take(value, indices))

    def grouped(self) -> dict[str, list[int]]:
        """Positions of the rows of each variant, the control first."""
        groups: defaultdict[str, list[int]] = defaultdict(list)
        groups[self.call.rollout.control] = []
        for index, row in enumerate(self.rows):
            groups[row.decision.variant].append(index)
        return {variant: indices for variant, indices in groups.items() if indices}

    def shadowed(self) -> dict[str, list[int]]:
        """Positions of the rows that each shadow runs on."""
        groups: defaultdict[str, list[int]] = defaultdict(list)
        for index, row in enumerate(self.rows):
            for variant in row.decision.shadows:
                groups[variant].append(index)
        return groups


class ShadowRows(ShadowRun):
    """One background run of a variant on several rows; each row is compared and reported for itself."""

    def __init__(self, batch: Batch, variant: str, indices: list[int]) -> None:
        """Prepare a run of `variant` on these rows."""
        super().__init__(batch.call, variant)
        self.rows = [batch.rows[index] for index in indices]
        self.indices = indices

    @property
    def calls(self) -> Sequence[Call]:
        """A call for every row."""
        return self.rows

    def comparisons(self, result: Result) -> Sequence[Comparison | None]:
        """A comparison for every row, or None where there is nothing to compare."""
        count = len(self.rows)
        if result.error is not None or self.control_error is not None:
            return [self.compared(result)] * count
        if not self.comparable or _length(result.value) != count:
            return [None] * count
        pairs = zip(self.control_value, result.value, strict=True)
        return [self.rollout.compare(self.request, ours, theirs) for ours, theirs in pairs]


def _length(value: Any) -> int:
    return len(value) if hasattr(value, "__len__") else -1


def route_batch(batch: Batch) -> Flow:
    """Run every group, fall back where a candidate fails, put the rows in order, hand the shadows over, and record."""
    call, rollout = batch.call, batch.call.rollout
    if not rollout.audience.awake:
        rollout.audience.look()
    if rollout.audience.tracing:
        call.span = rollout.spans.start_route(call)
    current_call.set(call)
    groups = batch.grouped()
    if call.span is not None:
        rollout.spans.describe_batch(call, {variant: len(indices) for variant, indices in groups.items()})
    shadows = _prepared(batch)
    parts, final = yield from _answered(batch, groups)
    if final is None:
        final = _joined(batch, parts)
    if final is None:
        # The control's answer has not one result for each row, so that rows of several variants cannot be told apart.
        step = call.invoke(rollout.control)
        final = call.ran(step, (yield step))
    for shadow in shadows:
        own = take(final.value, shadow.indices) if final.error is None and _length(final.value) == len(batch.rows) else None
        shadow.submit(Result(rollout.control, final.duration_s, own, final.error, interrupted=final.interrupted or own is None))
    for row in batch.rows:
        row.closed_early = final.interrupted
        finish(row, final)
    current_call.set(call)
    if call.span is not None:
        rollout.spans.end_route(call, final)
    call.args, call.kwargs = (), NO_KWARGS
    return final


def _prepared(batch: Batch) -> list[ShadowRows]:
    shadows = []
    for variant, indices in batch.shadowed().items():
        shadow = ShadowRows(batch, variant, indices)
        args, kwargs = batch.arguments(indices)
        if shadow.prepare(args, kwargs):
            shadows.append(shadow)
    return shadows


def _answered(
    batch: Batch, groups: Mapping[str, Sequence[int]]
) -> Generator[Invoke | Together, Any, tuple[Parts, Result | None]]:
    """The parts (positions, results) of all groups, or the result that ends the call early."""
    call, rollout = batch.call, batch.call.rollout
    steps = [_invoke(batch, variant, indices) for variant, indices in groups.items()]
    results: list[Result] = yield Together(steps)
    parts: Parts = []
    for step, first, indices in zip(steps, results, groups.values(), strict=False):
        result = first
        if result.error is None and step.variant != rollout.control and _length(result.value) != len(indices):
            result.error = ValueError(f"{step.variant!r} gave {_length(result.value)} results for {len(indices)} rows")
        _ran(batch, step, result, indices)
        if falls_back(call, step, result):
            fallback = _invoke(batch, rollout.control, indices)
            result = yield fallback
            _ran(batch, fallback, result, indices)
        if result.error is not None:
            return [], result
        parts.append((indices, result))
    return parts, None


def _invoke(batch: Batch, variant: str, indices: Sequence[int]) -> Invoke:
    """The step that runs a variant on these rows; with all rows, on the caller's own arguments."""
    step = batch.call.invoke(variant)
    if len(indices) < len(batch.rows):
        step.args, step.kwargs = batch.arguments(indices)
    return step


def _ran(batch: Batch, step: Invoke, result: Result, indices: Sequence[int]) -> None:
    """Note a run with every row it was for."""
    batch.call.ran(step, result)
    for index in indices:
        row = batch.rows[index]
        row.runs += (batch.call.runs[-1],)
        row.served = step.variant


def _joined(batch: Batch, parts: Parts) -> Result | None:
    """The results of all groups as one; None when the control's rows cannot be told apart."""
    duration_s = sum(result.duration_s for _, result in parts)
    control = batch.call.rollout.control
    if len(parts) == 1:
        return Result(control, duration_s, parts[0][1].value)
    if any(_length(result.value) != len(indices) for indices, result in parts):
        return None
    return Result(control, duration_s, assemble([(indices, result.value) for indices, result in parts], len(batch.rows)))
