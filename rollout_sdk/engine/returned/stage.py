"""One variant's stream in progress, and what is recorded while items pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from rollout_sdk.concurrency.clocks import perf_counter
from rollout_sdk.engine.call import Call
from rollout_sdk.engine.current import set_call
from rollout_sdk.engine.execute import run
from rollout_sdk.engine.flow import advance
from rollout_sdk.engine.returned.forms import is_async_iterable, is_iterable
from rollout_sdk.engine.steps import LET_GO, Flow, Invoke, Result, error_type

__all__ = ["Run", "Stage", "go_on", "go_on_async"]

Run: TypeAlias = Callable[[Invoke], Awaitable[Result]]
"""Runs a step asynchronously."""


def go_on(call: Call, flow: Flow, result: Result, fits: Callable[[Any], bool] = is_iterable) -> Result | tuple[Invoke, Result]:
    """Return the final result of a call whose stream has ended, or the fallback's step and result, if there is one.

    The caller iterates over the control's answer, whatever it is, as it would without the SDK. If the control's answer cannot
    be read the same way (`fits`), there is no fallback, and the caller receives the candidate's own exception.
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
    """As `go_on`, for async streams."""
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
    """Progress of one variant's stream: duration, first item, copies of items, and how it ended."""

    flows = False
    """Whether items are read without a step of their own: the first was served, and nothing surrounds the others."""

    def __init__(self, call: Call, step: Invoke, ran: Result) -> None:
        """Prepare the stage; the clock starts again when the first item is requested."""
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
        # The function holds its arguments. The call keeps its own for a control that may have to replace the stream.
        step.args, step.kwargs = (), LET_GO
        if step.gate is None or call.rollout.on_error == "raise":
            self._let_go()

    def _let_go(self) -> None:
        """Release the call's arguments: no variant will run on them again."""
        self.call.args, self.call.kwargs = (), LET_GO

    @property
    def has_begun(self) -> bool:
        """Whether an item has been requested."""
        return self._began is not None

    def asked(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Invoke:
        """Return the step that runs one method of the stream, in the same way as the variant's own step."""
        if self._began is None:
            self._began = perf_counter() - self.result.duration_s
        if not self.result.started:
            self.step.go_on()
        asked = Invoke(self.step.variant, function, args, {})
        asked.span_context, asked.gate, asked.deadline_s = self.step.span_context, self._gate, self._deadline_s
        asked.in_place = self.step.in_place
        # Interleaved streams must not see each other's call.
        set_call(self.call)
        return asked

    def took(self, ran: Result) -> Result:
        """Record a received item."""
        result, step = self.result, self.step
        if ran.error is None:
            self._gate = self._deadline_s = None
            if not result.started:
                assert self._began is not None
                result.started, result.first_item_s = True, perf_counter() - self._began
                self._let_go()
                if step.protection is not None and not step.protection.started():
                    step.protection = None
                self.flows = step.span_context is None and step.in_place is None and not self.ended
            ran.value = self.passed(ran.value)
        return ran

    def passed(self, item: Any) -> Any:
        """Return an item as it is served; keep a copy for a comparison."""
        kept, protection = self.result.kept, self.step.protection
        if kept is not None:
            kept.add(item)
        return item if protection is None else protection.item(item)

    def turn_to(self, source: Any, reads: str) -> bool:
        """Read another iterator of the same object, if none has been read yet: some streams return a generator from `iter`."""
        if self.ended or self.has_begun or not hasattr(type(source), reads):
            return False
        self.source = source
        return True

    def claim(self) -> bool:
        """Return True to the first caller only, which then ends the stream."""
        try:
            self._open.pop()
        except IndexError:
            return False
        self.ended, self.flows = True, False
        return True

    def end(self, ran: Result, thrown: BaseException | None) -> None:
        """Record how it ended: exhausted, by an exception, or closed by its consumer."""
        result = self.result
        if self._began is not None:
            result.duration_s = perf_counter() - self._began
        if ran.withheld is not None:
            self.result = ran
        elif isinstance(ran.error, _ENDS):
            result.value = getattr(ran.error, "value", None)
        else:
            result.error, result.interrupted = ran.error, ran.interrupted or (thrown is not None and ran.error is thrown)
