"""Executes the steps of a flow; any exception becomes a Result at once.

The drivers raise it again at the end, outside every `except` block, so no exception becomes the context of another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from rollout_sdk.concurrency.clocks import perf_counter, time_ns
from rollout_sdk.concurrency.context_vars import attach, detach
from rollout_sdk.engine.ambient import beside, own_context
from rollout_sdk.engine.attended import Attended
from rollout_sdk.engine.context import enter_fallback, leave_fallback
from rollout_sdk.engine.deadline import STOPPED, on_asyncio, within
from rollout_sdk.engine.steps import Invoke, Result, Together
from rollout_sdk.engine.tracebacks import shorten
from rollout_sdk.exceptions import StateError
from rollout_sdk.resilience import kill_switch
from rollout_sdk.resilience.interruptions import is_interruption

if TYPE_CHECKING:
    from rollout_sdk.control.local_state import LocalState

__all__ = [
    "attempt",
    "collect",
    "collect_async",
    "failed",
    "perf_counter",
    "run",
    "run_all",
    "run_async",
    "run_together",
    "withheld",
]

# asyncio holds only weak references to tasks; without this set, one could be collected while it runs.
_detached: set[asyncio.Future[Result]] = set()


def run(step: Invoke) -> Result:
    """Run a function."""
    token = None if step.span_context is None else attach(step.span_context)
    inner = None if step.in_place is None else enter_fallback(step.in_place)
    started = perf_counter()
    try:
        # The final check of the gate, with nothing between it and the call: see engine/stopping.py.
        if step.gate is not None and (step.gate.closed or kill_switch.off):
            return withheld(step)
        value = step.function(*step.args, **step.kwargs)
    except BaseException as error:
        result = Result(step.variant, perf_counter() - started, None, error, is_interruption(error, awaited=False))
        shorten(error)
        return result
    finally:
        if token is not None:
            detach(token)
        if inner is not None:
            leave_fallback(inner)
    return Result(step.variant, perf_counter() - started, value)


def attempt(
    gate: LocalState, variant: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, float] | Result | None:
    """Run the candidate of a common call: as `run`, but for what such a call never has.

    Returns:
        The answer and the seconds that it took; a `Result` if it raised; None if the operator stopped it first.
    """
    # Between the clocks is what is there for the control, too: the gate costs less than a hundredth of a microsecond.
    started = perf_counter()
    try:
        # The final check of the gate, with nothing between it and the call: see engine/stopping.py.
        if gate.closed or kill_switch.off:
            return None
        value = function(*args, **kwargs) if kwargs else function(*args)
    except BaseException as error:
        result = Result(variant, perf_counter() - started, None, error, is_interruption(error, awaited=False))
        shorten(error)
        return result
    return value, perf_counter() - started


async def run_async(step: Invoke) -> Result:
    """Run a coroutine function."""
    token = None if step.span_context is None else attach(step.span_context)
    inner = None if step.in_place is None else enter_fallback(step.in_place)
    attended = None
    started = perf_counter()
    try:
        if step.gate is not None and step.deadline_s is None:
            attended = Attended()
            # What is there for candidates only is not in their time.
            started = perf_counter()
        if step.gate is None:
            value = await step.function(*step.args, **step.kwargs)
        elif step.gate.closed or kill_switch.off:
            return withheld(step)
        elif attended is None:
            assert step.deadline_s is not None
            value = await within(step.deadline_s, step)
            if value is STOPPED:
                return withheld(step)
        else:
            value = attended.begin(step.function(*step.args, **step.kwargs))
            if attended.waits:
                value = await attended
        result = Result(step.variant, perf_counter() - started, value)
    except BaseException as error:
        result = failed(step.variant, perf_counter() - started, error, attended)
    finally:
        if token is not None:
            detach(token)
        if inner is not None:
            leave_fallback(inner)
    if attended is not None and attended.own and not result.interrupted:
        result = await attended.settle(result)
    return result


def failed(variant: str, duration_s: float, error: BaseException, attended: Attended | None = None) -> Result:
    """Return the result of a coroutine that raised.

    Args:
        variant: The variant that was run.
        duration_s: Its duration.
        error: Its exception.
        attended: The wrapper it ran in, if it is a candidate.
    """
    if attended is not None:
        return attended.failed(variant, duration_s, error)
    interrupted = is_interruption(error, awaited=True)
    # Closing a coroutine raises GeneratorExit at its `await`, which leaves no frame of the model in the traceback.
    interrupted |= not shorten(error) and isinstance(error, GeneratorExit)
    return Result(variant, duration_s, None, error, interrupted)


def withheld(step: Invoke) -> Result:
    """Return the result of a candidate that was not run because the operator stopped it first."""
    result = Result(step.variant, 0.0, None, StateError(f"Candidate {step.variant!r} was stopped before it began."))
    aborted = step.gate is not None and step.gate.state.stopped
    result.withheld = "aborted" if aborted and not kill_switch.off else "disabled"
    return result


def collect(step: Invoke) -> Result:
    """Run a generator to its end; if it fails, keep the items yielded before."""
    items: list[Any] = []
    first_item_s: float | None = None

    def whole(*args: Any, **kwargs: Any) -> Any:
        nonlocal first_item_s
        started = perf_counter()
        stream = step.function(*args, **kwargs)
        try:
            while True:
                items.append(next(stream))
                if first_item_s is None:
                    first_item_s = perf_counter() - started
        except StopIteration as stop:
            return stop.value

    result = run(_in_place(step, whole))
    result.value, result.returned, result.first_item_s = items, result.value, first_item_s
    return result


async def collect_async(step: Invoke) -> Result:
    """Run an async generator to its end; if it fails, keep the items yielded before."""
    items: list[Any] = []
    first_item_s: float | None = None

    async def whole(*args: Any, **kwargs: Any) -> None:
        nonlocal first_item_s
        started = perf_counter()
        # Not a comprehension, which would lose the items yielded before an exception.
        async for item in step.function(*args, **kwargs):
            items.append(item)
            if first_item_s is None:
                first_item_s = perf_counter() - started

    result = await run_async(_in_place(step, whole))
    result.value, result.first_item_s = items, first_item_s
    return result


def _in_place(step: Invoke, function: Callable[..., Any]) -> Invoke:
    """Copy a step with another function."""
    other = Invoke(step.variant, function, step.args, step.kwargs)
    other.span_context, other.gate, other.deadline_s = step.span_context, step.gate, step.deadline_s
    other.in_place = step.in_place
    return other


def run_all(step: Together, run_one: Callable[[Invoke], Result]) -> list[Result]:
    """Run the steps in turn, each after the first in a copy of the original context, so that none sees another's changes."""
    results: list[Result] = []
    contexts = [own_context() for _ in step.invokes[1:]]
    for invoke in step.invokes:
        invoke.begin()
        results.append(beside(contexts[len(results) - 1], run_one, invoke) if results else run_one(invoke))
        invoke.ended_ns = time_ns()
        if step.is_over(results[-1]):
            break
    return results


async def run_together(step: Together, run_one: Callable[[Invoke], Awaitable[Result]]) -> list[Result]:
    """Run the first step in the caller's own task and the others in tasks beside it.

    Once the other results no longer matter, or the caller is cancelled, the other tasks are cancelled but not awaited: one that
    ignores its cancellation must not delay the caller. On a loop other than asyncio's, the steps run in turn.
    """

    async def timed(invoke: Invoke) -> Result:
        ran = await run_one(invoke)
        invoke.ended_ns = time_ns()
        return ran

    if not on_asyncio():
        return await _in_turn(step, timed)
    for invoke in step.invokes:
        invoke.begin()
    first, *others = step.invokes
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(timed(invoke), context=own_context()) for invoke in others]
    for task in tasks:
        _detached.add(task)
        task.add_done_callback(_detached.discard)
    result = None
    try:
        result = await timed(first)
        if tasks and not step.is_over(result):
            await asyncio.wait(tasks)
    # The caller was cancelled or closed here; steps themselves return results and never raise.
    except BaseException as error:
        result = Result(first.variant, 0.0 if result is None else result.duration_s, None, error, interrupted=True)
    if step.is_over(result):
        for task in tasks:
            task.cancel()
        return [result]
    return [result, *(_result_of(invoke, task) for invoke, task in zip(others, tasks, strict=True))]


async def _in_turn(step: Together, run_one: Callable[[Invoke], Awaitable[Result]]) -> list[Result]:
    """Run the steps in turn: only asyncio has tasks to run beside the caller's."""
    results: list[Result] = []
    for invoke in step.invokes:
        invoke.begin()
        results.append(await run_one(invoke))
        if step.is_over(results[-1]):
            break
    return results


def _result_of(step: Invoke, task: asyncio.Future[Result]) -> Result:
    """Return a task's result. Neither the caller nor the SDK cancelled it, so a cancellation counts as its failure."""
    if task.cancelled():
        return Result(step.variant, 0.0, None, asyncio.CancelledError())
    result = task.result()
    if isinstance(result.error, asyncio.CancelledError):
        result.interrupted = False
    return result
