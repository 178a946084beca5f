"""One variant's stream under way: what is noted while items pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from rollout_sdk.concurrency.clocks import perf_counter
from rollout_sdk.engine.call import Call
from rollout_sdk.engine.context import set_call
from rollout_sdk.engine.execute import run
from rollout_sdk.engine.flow import advance
from rollout_sdk.engine.returned.forms import is_async_iterable, is_iterable
from rollout_sdk.engine.steps import LET_GO, Flow, Invoke, Result, error_type

__all__ = ["Run", "Stage", "go_on", "go_on_async"]

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


_ENDS = (StopIteration, StopAsyncIteration)


class Stage:
    """What is known of it: its time, its first item, copies of its items, and how it ended."""

    def __init__(self, call: Call, step: Invoke, ran: Result) -> None:
        """Start nothing: the clock goes on when the first item is asked for."""
        self.call = call
        self.step = step
        self.model = self.source = ran.value
        self.ended = False
        self.result = Result(step.variant, ran.duration_s)
        self.result.kept = step.keep
        self.result.streamed = True
        self._gate = step.gate
        self._deadline_s = None if step.deadline_s is None else max(0.0, step.deadline_s - ran.duration_s)
        self._began: float | None = None
        self._open = [True]
        # The function has them, or has let go of them. The call's own wait for a control that may take the stream's place.
        step.args, step.kwargs = (), LET_GO
        if step.gate is None or call.rollout.on_error == "raise":
            self._let_go()

    def _let_go(self) -> None:
        """Let go of the call's arguments: no variant runs on them again."""
        self.call.args, self.call.kwargs = (), LET_GO

    @property
    def has_begun(self) -> bool:
        """Whether an item was asked for."""
        return self._began is not None

    def asked(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Invoke:
        """The step that runs one method of the stream, as the variant's steps run."""
        if self._began is None:
            self._began = perf_counter() - self.result.duration_s
        if not self.result.started:
            self.step.go_on()
        asked = Invoke(self.step.variant, function, args, {})
        asked.span_context, asked.gate, asked.deadline_s = self.step.span_context, self._gate, self._deadline_s
        asked.in_place = self.step.in_place
        # Streams that take turns must not meet each other's call.
        set_call(self.call)
        return asked

    def took(self, ran: Result) -> Result:
        """Note an item that came."""
        result, step = self.result, self.step
        if ran.error is None:
            self._gate = self._deadline_s = None
            if not result.started:
                assert self._began is not None
                result.started, result.first_item_s = True, perf_counter() - self._began
                self._let_go()
                if step.protection is not None and not step.protection.started():
                    step.protection = None
            if result.kept is not None:
                result.kept.add(ran.value)
            if step.protection is not None:
                ran.value = step.protection.item(ran.value)
        return ran

    def turn_to(self, source: Any, reads: str) -> bool:
        """Read another iterator of the same object, if none was read yet: some streams give a generator to `for`."""
        if self.ended or self.has_begun or not hasattr(type(source), reads):
            return False
        self.source = source
        return True

    def claim(self) -> bool:
        """Whether the caller is the first to end it."""
        try:
            self._open.pop()
        except IndexError:
            return False
        self.ended = True
        return True

    def end(self, ran: Result, thrown: BaseException | None) -> None:
        """Note how it ended: by itself, by an exception, or because its consumer had enough."""
        result = self.result
        if self._began is not None:
            result.duration_s = perf_counter() - self._began
        if ran.withheld is not None:
            self.result = ran
        elif isinstance(ran.error, _ENDS):
            result.value = getattr(ran.error, "value", None)
        else:
            result.error, result.interrupted = ran.error, ran.interrupted or (thrown is not None and ran.error is thrown)
