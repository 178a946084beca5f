"""The flow of a call, top to bottom: one plain generator that four thin drivers execute.

It yields what to run and receives the result. It runs no model, never waits and takes no lock; models run in the drivers,
outside every `try` of the SDK, so a candidate's exception never becomes the context of a control's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from typing import Any

from rollout_sdk.concurrency.context_vars import collected
from rollout_sdk.engine.ambient import apart, look, restore
from rollout_sdk.engine.batches.decided_rows import DecidedRows
from rollout_sdk.engine.blend import blended, replayed
from rollout_sdk.engine.call import Call
from rollout_sdk.engine.context import OBSERVING, aside
from rollout_sdk.engine.copies.snapshot import StreamCopy
from rollout_sdk.engine.current import be_current, current_call, enclosing, hand_up, set_call, set_call_and_copy
from rollout_sdk.engine.measuring import record_measured
from rollout_sdk.engine.protecting import protect, put_back, stands
from rollout_sdk.engine.rollout import Rollout, Shadow
from rollout_sdk.engine.shadows.shadow import prepared
from rollout_sdk.engine.steps import NO_KWARGS, Flow, Invoke, Result, Together, error_type
from rollout_sdk.records import Decision
from rollout_sdk.resilience.interruptions import is_fault

__all__ = [
    "NO_KWARGS",
    "advance",
    "announce",
    "bare",
    "falls_back",
    "finish",
    "finish_rows",
    "instead",
    "keep_stream",
    "resume",
    "route",
    "submit_shadows",
]


def route(call: Call) -> Flow:
    """Execute the decision: answer or blend, fall back, submit shadows, and record."""
    rollout, decision = call.rollout, call.decision
    if not rollout.audience.awake:
        rollout.audience.look()
    last = current_call.get()
    # Usually an earlier call that has ended and had no enclosing call.
    if last is not None and (last.kwargs is not NO_KWARGS or last.outer is not None):
        call.outer = enclosing(last)
    if rollout.decided is not None:
        announce(rollout.decided, call)
    if rollout.audience.tracing:
        call.span = rollout.spans.start_route(call)
    around = None
    if rollout.on_error == "control" and decision.variant != rollout.control and not decision.blend:
        around = look(set_call_and_copy(call))
    else:
        set_call(call)
    if decision.shadows:
        # Copied before the control runs.
        call.shadows = prepared(call, rollout, decision.shadows, call.args, call.kwargs)
    if decision.blend:
        result = yield from blended(call)
    else:
        step = _step(call, decision.variant) or _control(call)
        step.around = around
        result = yield from _answered(call, step, (yield step))
    _end(call, result)
    return result


def resume(call: Call, step: Invoke) -> Flow:
    """The flow of a call whose first step has been run without it; send that step's result after the first `yield`."""
    result = yield from _answered(call, step, (yield step))
    _end(call, result)
    return result


def _answered(call: Call, step: Invoke, ran: Result) -> Flow:
    """Decide what follows from the first run: its answer, or the control's in place of a failed candidate's."""
    rollout = call.rollout
    result = call.ran(step, ran)
    if result.error is not None or result.failed:
        failed = step
        if falls_back(call, step, result):
            # The traceback holds the candidate's frames; release them before the control runs.
            result.error = result.value = None
            put_back(rollout, failed)
            be_current(call)
            step = instead(failed, _control(call), rollout)
            step.in_place = call
            result = call.ran(step, (yield step))
            call.charge(failed, result)
        else:
            call.charge(failed)
    if step.protection is not None:
        result.value = stands(rollout, step, result.value)
    call.served = step.variant
    return result


def _end(call: Call, result: Result) -> None:
    """Submit the shadows and record the call."""
    # The caller's answer is final: a failure from here on is the SDK's own.
    try:
        if call.shadows:
            submit_shadows(call.shadows, result)
            call.shadows = ()
        # `be_current`, inlined because it runs on every call.
        if not result.interrupted and current_call.get() is not call:
            set_call(call)
        finish(call, result)
    except BaseException as error:
        if not is_fault(error):
            raise
        call.rollout.failed("engine.flow", error)


def announce(decided: Callable[[Call, Decision], None], call: Call) -> None:
    """Have plugins hear of a decision in the caller's context, before anything of the call is copied, spanned or run."""
    if call.observed:
        set_call(call)
        # A call that a plugin makes here must not come back to it.
        with aside(OBSERVING):
            decided(call, call.full_decision())


def _step(call: Call, variant: str) -> Invoke | None:
    """Return the step that runs the assigned variant, a candidate protected; None if its circuit breaker is open."""
    rollout, survey = call.rollout, call.survey
    if survey is not None:
        # It references the arguments, which the caller may want to release.
        call.survey = None
    if variant == rollout.control:
        return _control(call)
    step = call.attempt(variant)
    if step is not None and rollout.measure is not None:
        step.keep = StreamCopy(rollout.limits.kept_items, rollout.isolate, rollout.limits)
    # The control may have to run afterwards on the caller's arguments; without a survey, nothing in them can change.
    if step is not None and survey is not None and rollout.on_error == "control":
        protect(rollout, step, survey)
    return step


def _control(call: Call) -> Invoke:
    step = call.invoke(call.rollout.control)
    step.keep = keep_stream(call)
    return step


def keep_stream(call: Call) -> StreamCopy | None:
    """Return what keeps the items that the control may yield; None if nothing reads them afterwards."""
    rollout = call.rollout
    is_wanted = call.shadows or rollout.measure is not None
    return StreamCopy(rollout.limits.kept_items, rollout.isolate, rollout.limits) if is_wanted else None


def instead(failed: Invoke, step: Invoke, rollout: Rollout) -> Invoke:
    """Return the control's step that replaces a failed candidate's, with the candidate's changes to its surroundings undone."""
    if failed.around is not None and (context := restore(failed.around, failed.earlier)) is not None:
        step.function = apart(context, step.function, rollout.kind)
    return step


def submit_shadows(shadows: Sequence[Shadow], result: Result) -> None:
    """Submit the shadows with the answer to compare them with."""
    for shadow in shadows:
        shadow.submit(result)


def falls_back(call: Call, step: Invoke, result: Result) -> bool:
    """Whether the control answers in place of a candidate that failed before the caller received anything."""
    rollout = call.rollout
    return result.withheld is not None or (
        result.failed
        and step.variant != rollout.control
        and not result.started
        and not result.passes
        and rollout.on_error == "control"
    )


def finish(call: Call, result: Result) -> None:
    """Close the span, release the arguments and pass the call to the recorder."""
    rollout = call.rollout
    _note_end(call, result)
    if rollout.measure is not None and result.error is None and not result.interrupted:
        is_stream = rollout.streams or result.streamed
        kept = None if result.kept is None else result.kept.items
        # A stream with too many items, or one that was not read to its end, has no whole answer.
        if kept is not None or not is_stream:
            record_measured([call], kept if is_stream else result.value, result)
    if call.error is not None:
        hand_up(call, result, rollout.control)
    if call.span is not None:
        rollout.spans.end_route(call, result)
    # Fallbacks are logged at every level, and each log line about a call is written in its caller's context.
    if rollout.audience.debugging or call.served != call.decision.variant:
        call.context = copy_context()
    call.args, call.kwargs = (), NO_KWARGS
    if call.survey is not None:
        call.survey = None
    rollout.conclude(call)


def finish_rows(call: Call, rows: DecidedRows, result: Result) -> None:
    """Release the arguments of a batch's rows and pass all rows to the recorder as one fact."""
    rollout = call.rollout
    if rollout.measure is not None and result.error is None and not result.interrupted:
        record_measured(rows, result.value, result)
    context = None
    for kind in rows.kinds:
        _note_end(kind, result)
        kind.span_context = call.span_context
        if rollout.audience.debugging or kind.served != kind.decision.variant:
            context = kind.context = copy_context() if context is None else context
        kind.args, kind.kwargs = (), NO_KWARGS
    rollout.conclude(rows[0] if len(rows) == 1 else rows)


def _note_end(call: Call, result: Result) -> None:
    if result.interrupted:
        call.closed_early = True
    elif result.error is not None:
        call.error = error_type(result.error)


def advance(call: Call | None, flow: Flow, sent: Any) -> Invoke | Together | Result:
    """Return the flow's next step, or the result that it ends with.

    A fault of the SDK (never of a model: models run in the drivers) ends the flow with the answer that is already available, or
    runs the control now. Such a call is recorded but not analysed.
    """
    if collected.inside and collected.here():
        # Span processors may set context variables: see concurrency/context_vars.py.
        return copy_context().run(_advance, call, flow, sent)
    return _advance(call, flow, sent)


def _advance(call: Call | None, flow: Flow, sent: Any) -> Invoke | Together | Result:
    try:
        return flow.send(sent)
    except StopIteration as stop:
        if stop.value is not None:
            return stop.value  # type: ignore[no-any-return]
    except BaseException as error:
        if not is_fault(error):
            raise
        if call is not None:
            call.rollout.failed("engine.flow", error)
    if call is None:
        return sent  # type: ignore[no-any-return]
    step = _rescue(call, sent)
    if isinstance(step, Result):
        _record_broken(call, step)
    return step


def _rescue(call: Call, sent: Any) -> Invoke | Result:
    """Return the answer of a flow that broke off if it is already available, or else the control's step."""
    rollout = call.rollout
    results: list[Result] = sent if isinstance(sent, list) else [] if sent is None else [sent]
    for result in results:
        if result.interrupted:
            return result
    # A batch's partial results do not make an answer.
    if not call.rows or call.rescued:
        for result in results:
            if result.variant == rollout.control:
                return replayed(rollout, result) if results is sent and rollout.streams else result
        if (
            isinstance(sent, Result)
            and sent.withheld is None
            and (sent.error is None or sent.started or rollout.on_error == "raise")
        ):
            return sent
    call.rescued = True
    return Invoke(rollout.control, rollout.functions[rollout.control], call.args, call.kwargs)


def _record_broken(call: Call, result: Result) -> None:
    """Record a call whose flow broke off, as far as possible."""
    rollout = call.rollout
    try:
        for shadow in call.shadows:
            shadow.end("dropped_start", error="engine.flow")
        rows = call.rows
        for each in rows.kinds if isinstance(rows, DecidedRows) else (call,):
            each.excluded, each.served = True, result.variant
        if not isinstance(rows, DecidedRows):
            finish(call, result)
            return
        finish_rows(call, rows, result)
        if call.span is not None:
            rollout.spans.end_route(call, result)
    except BaseException as error:
        if not is_fault(error):
            raise
        rollout.failed("engine.flow", error)


def bare(control: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Flow:
    """The flow of a call that could not be routed or that the kill switch bypasses: run the control only."""
    step = Invoke("control", control, args, kwargs)
    del args, kwargs
    result: Result = yield step
    return result
