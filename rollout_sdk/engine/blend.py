"""The way of a blended call: all variants run, and their outputs become one answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from typing import Any

from attrs import evolve

from rollout_sdk.engine.call import Call
from rollout_sdk.engine.copies.copying import Copies
from rollout_sdk.engine.protecting import copied
from rollout_sdk.engine.returned.forms import discard
from rollout_sdk.engine.rollout import Rollout
from rollout_sdk.engine.steps import Flow, Invoke, Result, Together
from rollout_sdk.records import Merged
from rollout_sdk.resilience.interruptions import is_fault

__all__ = ["blended", "replayed"]


def blended(call: Call) -> Flow:
    """All variants' outputs as one answer; the control's own whenever that is not to be had."""
    rollout = call.rollout
    call.excluded = True
    call.served = rollout.control
    steps, is_own = _steps(call)
    results: list[Result] = yield Together(steps, vital=rollout.control)
    # There are fewer results than steps when one was interrupted or the control failed.
    by_variant = {step.variant: call.ran(step, result) for step, result in zip(steps, results, strict=False)}
    for step in steps:
        call.charge(step, by_variant.get(rollout.control))
    call.leave(steps)
    answer = next((result for result in results if result.interrupted), by_variant[rollout.control])
    if answer.interrupted:
        return answer
    _take_back(rollout, steps, by_variant)
    if answer.error is None and not _merge(call, by_variant, answer) and not is_own:
        # The control was asked for something else than what the caller did.
        again = call.invoke(rollout.control)
        return call.ran(again, (yield again))
    for result in results:
        if result is not answer:
            discard(result.value)
    # What the others gave need not live while a stream is read.
    del steps, results, by_variant
    return (yield replayed(rollout, answer)) if rollout.streams else answer


def _steps(call: Call) -> tuple[list[Invoke], bool]:
    """A step for each variant, the control's first; and whether the control gets the caller's own arguments.

    The others get copies if they can be had: rankers like to sort what they are given in place, and without copies, both would
    give the same list.
    """
    rollout = call.rollout
    own = given = call.args, call.kwargs
    others = None if rollout.arguments is None else rollout.arguments(call)
    if others:
        try:
            given = rollout.rebind(*own, others)
        except BaseException as error:
            if not is_fault(error):
                raise
            rollout.failed("rollout_arguments", error)
    inputs: dict[str, tuple[tuple[Any, ...], Mapping[str, Any]]] = {rollout.control: given}
    copies: dict[str, Copies] = {}
    for variant in call.decision.blend:
        if variant == rollout.control:
            continue
        try:
            copies[variant], inputs[variant] = copied(rollout, *given)
        # What two read by turns, neither reads whole.
        except BaseException as error:
            if not is_fault(error):
                raise
            rollout.failed("engine.blend", error)
    steps = []
    for variant, arguments in inputs.items():
        step = call.attempt(variant, in_turn=True)
        if step is not None:
            step.args, step.kwargs = arguments
            step.protection = copies.get(variant)
            steps.append(step)
    if len(steps) < len(call.decision.blend):
        # It comes to no blend: then the control is called as it was.
        steps[0].args, steps[0].kwargs = given = own
    return steps, given is own


def _take_back(rollout: Rollout, steps: Sequence[Invoke], by_variant: Mapping[str, Result]) -> None:
    """Have every ranking hold the caller's own items: of two copies of one item, a list would show both."""
    for step in steps:
        result = by_variant.get(step.variant)
        if isinstance(step.protection, Copies) and result is not None and result.error is None:
            try:
                result.value = step.protection.back(result.value)
            except BaseException as error:
                if not is_fault(error):
                    raise
                rollout.failed("engine.blend", error)


def _merge(call: Call, by_variant: Mapping[str, Result], answer: Result) -> bool:
    """Make the control's result what is to be served, if the outputs can be merged; whether they could."""
    rollout = call.rollout
    # What the control gives is the caller's, also where it is a failure.
    good = {
        variant: _own(result.value)
        for variant, result in by_variant.items()
        if result.error is None and (variant == rollout.control or not result.refused)
    }
    # To merge it is to read it, and a control that was read cannot be served any more.
    if any(isinstance(value, Iterator | AsyncIterator | Awaitable) for value in good.values()):
        rollout.failed("merge", TypeError("an answer that can be read only once cannot be blended"))
        return False
    merged: Any = rollout.merge(call, {variant: good[variant] for variant in call.decision.blend if variant in good})
    if merged is None:
        return False
    if not isinstance(merged, Merged):
        rollout.failed("merge", TypeError(f"{type(merged).__qualname__} is not Merged"))
        return False
    value = list(merged.value) if rollout.streams else merged.value
    if not merged.is_blend:
        answer.value = value
        return True
    # The answer is the caller's; only its keys and teams are told.
    call.merged = evolve(merged, value=None, items=tuple(merged.items), teams=tuple(merged.teams))
    rollout.shown.append((call.nonce, call.merged.items))
    answer.value = value
    call.excluded = False
    call.served = call.decision.variant
    return True


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
        with result:
            raise result.error
    return result.returned


async def _replay_async(result: Result) -> AsyncGenerator[Any, Any]:
    for item in result.value:
        yield item
    if result.error is not None:
        with result:
            raise result.error
