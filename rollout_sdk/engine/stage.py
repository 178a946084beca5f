"""One variant's stream under way: what is noted while items pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rollout_sdk.clocks import perf_counter
from rollout_sdk.engine.call import Call
from rollout_sdk.engine.context import set_call
from rollout_sdk.engine.steps import LET_GO, Invoke, Result

__all__ = ["Stage"]

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
