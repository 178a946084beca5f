"""The way of a call, top to bottom: one plain generator that four thin drivers execute.

It yields what to run and is sent what that gave. It runs no model, waits for nothing and takes no lock; models run in the
drivers, outside every `try` of ours, so that no exception of a candidate is ever the context of a control's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import copy_context
from types import MappingProxyType
from typing import Any

from rollout_sdk.engine.call import Call, Flow, Invoke, Result, Together, error_type
from rollout_sdk.engine.context import current_call
from rollout_sdk.engine.shadow import ShadowRun

__all__ = ["NO_KWARGS", "advance", "bare", "falls_back", "finish", "route"]

NO_KWARGS: Mapping[str, Any] = MappingProxyType({})


def route(call: Call) -> Flow:
    """Run what was decided: answer or blend, fall back, hand the shadows over, and record."""
    rollout, decision = call.rollout, call.decision
    if not rollout.audience.awake:
        rollout.audience.look()
    if rollout.audience.tracing:
        call.span = rollout.spans.start_route(call)
    current_call.set(call)
    shadows = _prepared(call) if decision.shadows else ()
    if decision.blend:
        result = yield from _blended(call)
    else:
        step = call.invoke(decision.variant)
        if shadows:
            step.keep = rollout.limits.kept_items
        result = call.ran(step, (yield step))
        if result.error is not None and falls_back(call, step, result):
            step = call.invoke(rollout.control)
            result = call.ran(step, (yield step))
        call.served = step.variant
    for shadow in shadows:
        shadow.submit(result)
    current_call.set(call)
    finish(call, result)
    return result


def _prepared(call: Call) -> tuple[ShadowRun, ...]:
    """A run for every shadow of the call whose arguments could be copied, before the control can change them."""
    runs = [ShadowRun(call, variant) for variant in call.decision.shadows]
    return tuple(run for run in runs if run.prepare(call.args, call.kwargs))


def falls_back(call: Call, step: Invoke, result: Result) -> bool:
    """Whether the control answers in place of a candidate that failed before anything was served."""
    rollout = call.rollout
    return (
        result.error is not None
        and step.variant != rollout.control
        and not result.interrupted
        and not result.started
        and rollout.on_error == "control"
        and not isinstance(result.error, rollout.passthrough)
    )


def _blended(call: Call) -> Flow:
    """All variants' outputs as one answer; the control's own whenever that is not to be had."""
    rollout = call.rollout
    steps = [call.invoke(variant) for variant in call.decision.blend]
    for step in steps:
        step.collect = True
    results: list[Result] = yield Together(steps)
    by_variant = {step.variant: call.ran(step, result) for step, result in zip(steps, results, strict=True)}
    control = by_variant[rollout.control]
    interrupted = next((result for result in results if result.interrupted), None)
    call.excluded = True
    call.served = rollout.control
    if interrupted is not None or control.error is not None:
        return interrupted or control
    outputs = {variant: result.value for variant, result in by_variant.items() if result.error is None}
    merged = rollout.merge(call, outputs)
    if merged is None:
        return control
    call.excluded = False
    call.served = call.decision.variant
    call.merged = merged
    rollout.shown.append((call.nonce, merged.items))
    return Result(rollout.control, control.duration_s, merged.value)


def finish(call: Call, result: Result) -> None:
    """Close the span, let go of the arguments and hand the call to the recorder."""
    rollout = call.rollout
    if result.error is not None:
        if result.interrupted:
            call.closed_early = True
        else:
            call.error = error_type(result.error)
    if call.span is not None:
        rollout.spans.end_route(call, result)
    if rollout.audience.debugging:
        call.context = copy_context()
    call.args, call.kwargs = (), NO_KWARGS
    rollout.record(call)


def advance(call: Call | None, flow: Flow, sent: Any) -> Invoke | Together | Result:
    """The flow's next step, or the result that it ends with.

    A fault of ours (never of a model: models run in the drivers) ends the flow with what the control gave, or has the
    control run now.
    """
    try:
        return flow.send(sent)
    except StopIteration as stop:
        if stop.value is not None:
            return stop.value  # type: ignore[no-any-return]
    except (Exception, SystemExit) as error:
        if call is not None:
            call.rollout.failed("engine.flow", error)
    return sent if call is None else _rescue(call, sent)


def _rescue(call: Call, sent: Any) -> Invoke | Result:
    """What the caller gets from a flow that broke off: a result there is already, or else the control's."""
    rollout = call.rollout
    for result in sent if isinstance(sent, list) else [sent]:
        final = result is not None and (result.variant == rollout.control or result.interrupted or result.started)
        if final or (isinstance(sent, Result) and sent.error is None):
            return result  # type: ignore[no-any-return]
    return Invoke(rollout.control, rollout.functions[rollout.control], call.args, call.kwargs)


def bare(control: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Flow:
    """The flow of a call that could not even begin, or that the kill switch sends past us: the control, and nothing else."""
    result: Result = yield Invoke("control", control, args, kwargs)
    return result
