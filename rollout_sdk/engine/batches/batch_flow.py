"""The flow of a batch: rows are decided one by one and grouped by variant, and each variant is called once."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, TypeAlias

from rollout_sdk.engine.ambient import look
from rollout_sdk.engine.batches.batch import Batch, ShadowRows
from rollout_sdk.engine.batches.joining import assemble
from rollout_sdk.engine.batches.rows import are_columns, count_rows, has_rows, take
from rollout_sdk.engine.current import be_current, current_call, enclosing, hand_up, set_call
from rollout_sdk.engine.failing import failing_rows, failing_share
from rollout_sdk.engine.flow import announce, falls_back, finish_rows, instead, submit_shadows
from rollout_sdk.engine.protecting import protect, put_back, stands
from rollout_sdk.engine.returned.forms import discard
from rollout_sdk.engine.steps import NO_KWARGS, Flow, Invoke, Result, Together
from rollout_sdk.exceptions import BatchError
from rollout_sdk.resilience.faults import BATCH
from rollout_sdk.resilience.interruptions import is_fault

__all__ = ["route_batch"]

Run: TypeAlias = tuple[str, float, str | None, float | None]
"""Variant, seconds, error type, seconds until the first item."""

Parts: TypeAlias = list[tuple[Sequence[int], Result]]
"""Positions of rows, and their results."""


def _wrong_rows(batch: Batch, variant: str, value: Any, count: int) -> BatchError:
    """Build the error for an answer that does not have exactly one result per row."""
    subject = f"{variant!r} of {batch.call.rollout.key!r} gave"
    rule = f"for {count} rows. With batch=, a variant gives one result for each row, in order."
    if are_columns(value, count):
        return BatchError(f"{subject} a tuple of {len(value)} columns {rule} Return list(zip(*columns)), an array, or a frame.")
    found = count_rows(value)
    how_many = "no rows" if found is None else f"{found} results"
    return BatchError(f"{subject} {how_many} {rule} Return a list, an array or a frame of them, or leave batch= out.")


def route_batch(batch: Batch) -> Flow:
    """Run each group, fall back where a candidate fails, join the rows in order, submit the shadows, and record."""
    call, rollout = batch.call, batch.call.rollout
    if not rollout.audience.awake:
        rollout.audience.look()
    call.rows = batch.rows
    call.outer = enclosing(current_call.get())
    if rollout.decided is not None:
        for row in batch.rows:
            announce(rollout.decided, row)
    if rollout.audience.tracing:
        call.span = rollout.spans.start_route(call)
    set_call(call)
    groups = batch.rows.of_variants(rollout.control)
    call.shadows = shadows = _prepared(batch)
    parts, final = yield from _answered(batch, groups)
    if final is None:
        final = _joined(batch, parts)
    if final is None:
        # The answers do not have one result per row, so rows of different variants cannot be joined.
        be_current(call)
        step = call.invoke(rollout.control)
        final = yield step
        _ran(batch, step, final, range(len(batch.rows)))
    # The caller's answer is final: a failure from here on is the SDK's own.
    try:
        _close(batch, shadows, final)
    except BaseException as error:
        if not is_fault(error):
            raise
        rollout.failed("engine.flow", error)
    return final


def _close(batch: Batch, shadows: Sequence[ShadowRows], final: Result) -> None:
    """Submit the shadows, and record every row."""
    call, rollout = batch.call, batch.call.rollout
    hand_up(call, final, call.rollout.control)
    for shadow in shadows:
        submit_shadows([shadow], shadow.answered_by(final, len(batch.rows)))
    for kind in batch.rows.kinds:
        if not kind.runs:
            # The call ended before the variant of these rows ran.
            kind.served = kind.decision.variant
    finish_rows(call, batch.rows, final)
    if not final.interrupted:
        be_current(call)
    if call.span is not None:
        call.served = batch.rows[0].served
        call.error = batch.rows[0].error
        rollout.spans.end_route(call, final)
    call.rows, call.shadows = (), ()
    call.args, call.kwargs = (), NO_KWARGS


def _prepared(batch: Batch) -> list[ShadowRows]:
    rollout = batch.call.rollout
    shadowed = batch.rows.shadowed(rollout.noise, rollout.control)
    runs = [ShadowRows(batch, variant, indices) for variant, indices in shadowed.items()]
    try:
        return [run for run in runs if run.is_prepared(*batch.arguments(run.indices))]
    except BaseException:
        for run in runs:
            run.end("cancelled")
        raise


def _answered(
    batch: Batch, groups: Mapping[str, Sequence[int]]
) -> Generator[Invoke | Together, Any, tuple[Parts, Result | None]]:
    """Run all groups; return their parts, or the result that ends the call early."""
    call, rollout = batch.call, batch.call.rollout
    steps = _steps(batch, groups)
    results: list[Result] = yield Together([step for step, _ in steps], vital=rollout.control)
    parts: Parts = []
    # Set if the control's answer does not have one result per row, so that it must run on all rows anyway.
    whole = False
    # Fewer results than steps: one was interrupted, or the control failed.
    for (step, indices), first in zip(steps, results, strict=False):
        result = first
        good = result.error is not None or has_rows(result.value, len(indices))
        wrong = not good and step.variant != rollout.control
        whole = whole or (not good and not wrong and len(indices) < len(batch.rows))
        if wrong:
            result.error = _wrong_rows(batch, step.variant, result.value, len(indices))
            rollout.failed(BATCH, result.error)
            discard(result.value)
        refused = _ran(batch, step, result, indices)
        # The BatchError is the SDK's, not the model's, so `passthrough` does not apply to it.
        replaceable = step.variant != rollout.control and rollout.on_error == "control"
        if falls_back(call, step, result) or (replaceable and (wrong or refused)):
            parts.extend(_without(refused, indices, result) if refused else [])
            again = refused or indices
            # The traceback holds the candidate's frames; release them before the control runs.
            result.error = result.value = None
            put_back(rollout, step)
            if whole:
                call.charge(step)
                continue
            be_current(call)
            fallback = instead(step, _control(batch, again), rollout)
            fallback.in_place = call
            result = yield fallback
            _ran(batch, fallback, result, again)
            call.charge(step, result)
        else:
            again = indices
            call.charge(step)
            if step.protection is not None:
                result.value = stands(rollout, step, result.value)
        if result.error is not None:
            call.leave([step for step, _ in steps])
            return [], result
        parts.append((again, result))
    return ([] if whole else parts), None


def _steps(batch: Batch, groups: Mapping[str, Sequence[int]]) -> list[tuple[Invoke, Sequence[int]]]:
    """Build a step per group, with its rows; the control takes over rows of candidates whose breaker is open."""
    rollout, call = batch.call.rollout, batch.call
    controls = groups.get(rollout.control, ())
    steps: list[tuple[Invoke, Sequence[int]]] = []
    for variant, indices in groups.items():
        if variant == rollout.control:
            continue
        step = call.attempt(variant, in_turn=True)
        if step is None:
            for kind in batch.rows.apart(indices):
                kind.withheld = call.withheld
            controls = sorted([*controls, *indices])
            continue
        _restrict(batch, step, indices)
        if rollout.on_error == "control":
            protect(rollout, step, is_alone=len(groups) == 1)
        steps.append((step, indices))
    # The control comes first because it runs in the caller's own task.
    if controls:
        return [(_control(batch, controls, in_turn=True), controls), *steps]
    if steps and rollout.on_error == "control":
        # Only the first runs in the caller's context: see Together.
        steps[0][0].around = look()
    return steps


def _control(batch: Batch, indices: Sequence[int], *, in_turn: bool = False) -> Invoke:
    step = batch.call.invoke(batch.call.rollout.control, in_turn=in_turn)
    _restrict(batch, step, indices)
    return step


def _restrict(batch: Batch, step: Invoke, indices: Sequence[int]) -> None:
    """Restrict a step to these rows; a step for all rows gets the caller's own arguments."""
    if len(indices) < len(batch.rows):
        step.args, step.kwargs = batch.arguments(indices)


def _ran(batch: Batch, step: Invoke, result: Result, indices: Sequence[int]) -> list[int]:
    """Record a run for each of its rows; return the rows whose answers are failures."""
    call, rollout = batch.call, batch.call.rollout
    refused: list[int] = []
    if result.error is None and not result.interrupted:
        refused = failing_rows(rollout, result.value, indices)
        result.refused = bool(refused)
        # A batch counts as one run for a circuit breaker.
        result.failed = bool(refused) and len(refused) >= failing_share(rollout) * len(indices)
    call.answered = False
    call.ran(step, result)
    if result.withheld is not None:
        for kind in batch.rows.apart(indices):
            kind.withheld = result.withheld
        return refused
    run = call.runs[-1]
    if not refused:
        _note(batch, step, result, indices, run, failed=result.failed)
    else:
        failed = set(refused)
        _note(batch, step, result, refused, run, failed=True)
        # The others are recorded as successes.
        if well := [index for index in indices if index not in failed]:
            _note(batch, step, result, well, (*run[:2], None, run[3]), failed=False)
    batch.rows.measure(next(iter(indices)), run)
    return refused


def _note(batch: Batch, step: Invoke, result: Result, indices: Sequence[int], run: Run, *, failed: bool) -> None:
    """Record a run for rows on which it ended alike."""
    call, rollout = batch.call, batch.call.rollout
    for kind in batch.rows.apart(indices):
        kind.cut, kind.answered = result.interrupted, call.answered
        kind.runs = (*kind.runs, run)
        kind.served = step.variant
        if step.variant == rollout.control and rollout.health is not None:
            kind.doubt(failed=failed)


def _without(refused: Sequence[int], indices: Sequence[int], result: Result) -> Parts:
    """Return the part with the rows whose answers are not failures, if any."""
    failed = set(refused)
    places = [place for place, index in enumerate(indices) if index not in failed]
    if not places:
        return []
    return [([indices[place] for place in places], Result(result.variant, result.duration_s, take(result.value, places)))]


def _joined(batch: Batch, parts: Parts) -> Result | None:
    """Join the results of all groups; None if one does not have one result per row, or they cannot be joined."""
    duration_s = sum(result.duration_s for _, result in parts)
    rollout = batch.call.rollout
    if len(parts) == 1:
        return Result(rollout.control, duration_s, parts[0][1].value)
    if not parts or not all(has_rows(result.value, len(indices)) for indices, result in parts):
        return None
    # The control's part comes first and determines the type of the whole.
    ordered = sorted(parts, key=lambda part: part[1].variant != rollout.control)
    try:
        whole = assemble([(indices, result.value) for indices, result in ordered], len(batch.rows), given=batch.given())
    # Arrays whose shapes do not fit, or results of an unknown library.
    except BaseException as error:
        if not is_fault(error):
            raise
        rollout.failed(BATCH, error)
        return None
    return Result(rollout.control, duration_s, whole)
