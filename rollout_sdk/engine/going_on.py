"""How a call goes on whose stream has ended: with its end, or with the control in place of a candidate that failed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from rollout_sdk.engine.call import Call
from rollout_sdk.engine.flow import advance
from rollout_sdk.engine.lazy import is_async_iterable, is_iterable
from rollout_sdk.engine.running import run
from rollout_sdk.engine.steps import Flow, Invoke, Result, error_type

__all__ = ["Run", "go_on", "go_on_async"]

Run: TypeAlias = Callable[[Invoke], Awaitable[Result]]
"""Runs a step."""


def go_on(call: Call, flow: Flow, result: Result, fits: Callable[[Any], bool] = is_iterable) -> Result | tuple[Invoke, Result]:
    """What a call ends with whose stream has ended; or the step and answer that the caller goes on with in its place.

    The caller iterates over what the control returns, whatever that is, just as without us. When the control returns what
    cannot be read in the same way (`fits`), there is no answer in its place, and the caller gets the candidate's own exception.
    """
    failure, unanswered = result.error, False
    step = advance(call, flow, result)
    while not isinstance(step, Result):
        assert isinstance(step, Invoke)
        ran = run(step)
        if ran.error is None:
            if fits(ran.value):
                return step, ran
            unanswered, call.error = True, None if failure is None else error_type(failure)
        step = advance(call, flow, ran)
    return Result(step.variant, 0.0, None, failure) if unanswered else step


async def go_on_async(
    call: Call, flow: Flow, result: Result, run_again: Run, fits: Callable[[Any], bool] = is_async_iterable
) -> Result | tuple[Invoke, Result]:
    """As `go_on`, for asynchronous streams."""
    failure, unanswered = result.error, False
    step = advance(call, flow, result)
    while not isinstance(step, Result):
        assert isinstance(step, Invoke)
        try:
            ran = await run_again(step)
        except GeneratorExit as closing:
            ran = Result(step.variant, 0.0, None, closing, interrupted=True)
        if ran.error is None:
            if fits(ran.value):
                return step, ran
            unanswered, call.error = True, None if failure is None else error_type(failure)
        step = advance(call, flow, ran)
    return Result(step.variant, 0.0, None, failure) if unanswered else step
