"""The way of a blended call: all variants run, and their outputs become one answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping
from typing import Any

from attrs import evolve

from rollout_sdk.engine.call import Call, Flow, Invoke, Result, Together
from rollout_sdk.engine.rollout import Rollout
from rollout_sdk.engine.snapshot import OneShot, take_snapshot
from rollout_sdk.records import Merged

__all__ = ["blended", "replayed"]


def blended(call: Call) -> Flow:
    """All variants' outputs as one answer; the control's own whenever that is not to be had."""
    rollout = call.rollout
    call.excluded = True
    call.served = rollout.control
    steps = _steps(call)
    results: list[Result] = yield Together(steps, vital=rollout.control)
    # There are fewer results than steps when one was interrupted or the control failed.
    by_variant = {step.variant: call.ran(step, result) for step, result in zip(steps, results, strict=False)}
    answer = next((result for result in results if result.interrupted), by_variant[rollout.control])
    if answer.interrupted:
        return answer
    if answer.error is None:
        _merge(call, by_variant, answer)
    # What the others gave need not live while a stream is read.
    del steps, results, by_variant
    return (yield replayed(rollout, answer)) if rollout.streams else answer


def _steps(call: Call) -> list[Invoke]:
    """A step for each variant, the control's first and on the caller's own arguments; the others get copies if they can be had.

    Rankers like to sort what they are given in place: without copies, both would give the same list.
    """
    rollout = call.rollout
    inputs: dict[str, tuple[tuple[Any, ...], Mapping[str, Any]]] = {rollout.control: (call.args, call.kwargs)}
    for variant in call.decision.blend:
        if variant == rollout.control:
            continue
        try:
            inputs[variant] = take_snapshot(call.args, call.kwargs, rollout.isolate, rollout.shared)[:2]
        except OneShot as why:
            # What two read by turns, neither reads whole.
            rollout.failed("engine.blend", why)
        except (Exception, SystemExit):
            inputs[variant] = call.args, call.kwargs
    steps = []
    for variant, given in inputs.items():
        step = call.attempt(variant)
        if step is not None:
            step.args, step.kwargs = given
            steps.append(step)
    return steps


def _merge(call: Call, by_variant: Mapping[str, Result], answer: Result) -> None:
    """Make the control's result the blended one, if the outputs can be merged."""
    rollout = call.rollout
    good = {variant: _own(result.value) for variant, result in by_variant.items() if result.error is None}
    # To merge it is to read it, and a control that was read cannot be served any more.
    if any(isinstance(value, Iterator | AsyncIterator) for value in good.values()):
        rollout.failed("merge", TypeError("an answer that can be read only once cannot be blended"))
        return
    merged: Any = rollout.merge(call, {variant: good[variant] for variant in call.decision.blend if variant in good})
    if merged is None:
        return
    if not isinstance(merged, Merged):
        rollout.failed("merge", TypeError(f"{type(merged).__qualname__} is not Merged"))
        return
    value = list(merged.value) if rollout.streams else merged.value
    # The answer is the caller's; only its keys and teams are told.
    call.merged = evolve(merged, value=None, items=tuple(merged.items), teams=tuple(merged.teams))
    rollout.shown.append((call.nonce, call.merged.items))
    answer.value = value
    call.excluded = False
    call.served = call.decision.variant


def _own(value: Any) -> Any:
    """A container for the merge to do with as it likes, with the model's own items: the control's may have to be served."""
    return value.copy() if type(value) in (list, dict, set) else value


def replayed(rollout: Rollout, result: Result) -> Invoke:
    """The step that passes a collected stream on: its items, and then its return value or its exception."""
    replay: dict[str, Callable[[Result], Any]] = {"generator": _replay, "async generator": _replay_async}
    return Invoke(result.variant, replay[rollout.kind], (result,), {})


def _replay(result: Result) -> Generator[Any, Any, Any]:
    yield from result.value
    if result.error is not None:
        result.reraise()
    return result.returned


async def _replay_async(result: Result) -> AsyncGenerator[Any, Any]:
    for item in result.value:
        yield item
    if result.error is not None:
        result.reraise()
