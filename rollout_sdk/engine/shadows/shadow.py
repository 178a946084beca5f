"""One shadow run, from the copy of its arguments to its single end."""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from collections.abc import Mapping, Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Any

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.engine.ambient import Stepped, own_context
from rollout_sdk.engine.call import Call
from rollout_sdk.engine.context import COMPARING, aside
from rollout_sdk.engine.copies.snapshot import NotCopied, Uncopied, take_snapshot
from rollout_sdk.engine.failing import is_failing
from rollout_sdk.engine.returned.forms import EAGER, is_given
from rollout_sdk.engine.shadows.caller_state import CallerState
from rollout_sdk.engine.shadows.counterpart import Counterpart, overall
from rollout_sdk.engine.shadows.ended import EndedRows, EndedShadow
from rollout_sdk.engine.shadows.under_way import NotMeasured, UnderWay
from rollout_sdk.engine.steps import Result, error_type
from rollout_sdk.records import FAILED_IF, UNMEASURED, Comparison, ShadowEnd
from rollout_sdk.resilience import kill_switch
from rollout_sdk.resilience.interruptions import is_fault, is_interruption

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from rollout_sdk.assignment import RouteRequest

_COUNTS = frozenset({"ok", "error", "timeout", UNMEASURED})
"""Ends that say something about the candidate."""
_GOOD = frozenset({"ok", UNMEASURED})
_RAN = frozenset({"ok", "error"})

__all__ = ["ShadowRun", "break_off", "finish"]


class ShadowRun:
    """A candidate's run in the background.

    It ends exactly once: the worker that finishes it and the watch that gives it up race for one token.
    """

    reads_streams = True
    """Whether an answer that has work to come is carried out to its end: what it does is what is measured."""

    def __init__(self, call: Call, variant: str) -> None:
        """Prepare a run of `variant` for `call`."""
        self.call = call
        self.variant = variant
        self.rollout = call.rollout
        self.function = call.rollout.functions[variant]
        self.args: tuple[Any, ...] = ()
        self.kwargs: Mapping[str, Any] = {}
        self.size = 0
        self.submitted = 0.0
        self.began: float | None = None
        self.context: Context | None = None
        self.caller_state: CallerState | None = None
        self.control: Result | None = None
        self.counterpart = Counterpart(call)
        self.in_task = call.rollout.is_async
        self.span: Span | None = None
        self._breaker = call.rollout.local_state.breakers.get(variant)
        self._ticket: int | None = None
        self._result: Result | None = None
        self._refused: Sequence[bool] | None = None
        self._open = [True]
        self._ended_unseen: ShadowEnd | None = None

    def is_prepared(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Take a copy of the arguments, and say whether the run can go on; never raises."""
        try:
            return self._prepare(args, kwargs)
        except BaseException as error:
            if not is_fault(error):
                raise
            self.rollout.failed("engine.shadow", error)
            return not self.end("dropped_start", error=error_type(error))

    def _prepare(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Take a copy of the arguments; where that cannot be, or nobody could run it, the run ends here and this is False."""
        if self._breaker is not None and not self._breaker.would_admit():
            return not self.end("dropped_open")
        if self.rollout.background.is_full(self):
            return not self.end("dropped_full")
        try:
            self.args, self.kwargs, self.size = take_snapshot(args, kwargs, self.rollout.isolate, self.rollout.shared)
        except Uncopied as why:
            cause = str(why.error) if isinstance(why.error, NotCopied) else error_type(why.error)
            return not self.end("dropped_snapshot", error=f"{cause}{self._named(why.where)}")
        # Before the control runs: what that sets, a candidate in its place would not find.
        self.context = self.rollout.hidden.out_of(own_context())
        self.caller_state = CallerState.of(self.rollout.surround, lambda: self.request, self.rollout.failed)
        return True

    def _named(self, where: int | str) -> str:
        """The argument that could not be copied, by the name that the function has for it: others may be data."""
        names = self.rollout.parameters
        name = names[where] if isinstance(where, int) and where < len(names) else where
        return f" (argument {name!r})" if name in names else ""

    def submit(self, control: Result) -> None:
        """Hand the run over, now that the control is done; `control` is its result, for the comparison."""
        try:
            self.counterpart.keep(control)
            self.size += self.counterpart.size
            # What an event loop carried out for the control, it does for the candidate: its clients belong to the loop.
            self.in_task = self.in_task or control.awaited
            self.submitted = monotonic()
            self.rollout.background.submit(self)
        except BaseException as error:
            if not is_fault(error):
                raise
            self.rollout.failed("engine.shadow", error)
            self.end("dropped_start", error=error_type(error))

    def _untold(self, ran: Result) -> BaseException | None:
        """The exception that a log event has, because no span does; never raises."""
        try:
            return self.rollout.spans.untold(self.span, ran.error)
        except BaseException as error:
            if not is_fault(error):
                raise
            return None

    @property
    def request(self) -> RouteRequest:
        """The call's request, about the shadow's copy of the arguments."""
        return self.call.about(self.args, self.kwargs)

    def run(self) -> Result:
        """Run the candidate now, in the caller's context; what needs an event loop gets one of its own. Never raises."""
        if self._result is not None:
            return self._result
        if self.in_task:
            return asyncio.run(self._run_in_time())
        context, state = self.context, self.caller_state
        if context is None:
            return Result(self.variant, 0.0)
        return context.run(self._run) if state is None else context.run(state.run, self._run)

    def has_to_be_compared(self, result: Result) -> bool:
        """Whether a result of a task is worth a comparison; it then waits for a thread to make it."""
        if not self.counterpart.is_comparable or result.error is not None or self.counterpart.error is not None:
            return False
        self._judge(result)
        return True

    def may_start(self) -> bool:
        """Whether it has a ticket from its circuit breaker; a run without one ends here."""
        if self._result is not None:
            return True
        if self._breaker is not None:
            self._ticket = self._breaker.admit()
            if self._ticket is None:
                return not self.end("dropped_open")
        return True

    def _run(self) -> Result:
        args, kwargs, gate = self.args, self.kwargs, self.rollout.local_state
        if self.ended:
            # In this order: who ends a run first says so, and then takes the arguments away.
            return Result(self.variant, 0.0)
        with UnderWay(self) as under_way:
            try:
                # The last look, with nothing between it and the call: see engine/stopping.py.
                if gate.closed or kill_switch.off:
                    self.end("dropped_aborted")
                    return Result(self.variant, 0.0)
                value = self.function(*args, **kwargs)
                if type(value) not in EAGER and self.reads_streams and not is_given(value, args, kwargs):
                    value = under_way.whole(value)
            except NotMeasured as why:
                self.end(UNMEASURED, error=str(why))
                return Result(self.variant, 0.0)
            # Nothing a shadow raises may end a worker, sys.exit() least of all.
            except BaseException as error:
                return under_way.ended(None, error)
            return under_way.ended(value)

    async def _run_in_time(self) -> Result:
        """Run the candidate on an event loop of its own, which is cancelled when the time is up."""
        task = asyncio.get_running_loop().create_task(self.run_in_task(), context=self.context)
        if not (await asyncio.wait([task], timeout=self.rollout.limits.timeout_s))[0]:
            self.end("timeout")
            task.cancel()
            await asyncio.wait([task])
        return Result(self.variant, 0.0) if task.cancelled() else task.result()

    async def run_in_task(self) -> Result:
        """Run the candidate of a coroutine function or async generator, in the caller's context; never raises."""
        state = self.caller_state
        return await (self.run_async() if state is None else Stepped(self.run_async(), state.run))

    async def run_async(self) -> Result:
        """Run the candidate on an event loop; `interrupted` when it was cancelled from outside."""
        args, kwargs, gate = self.args, self.kwargs, self.rollout.local_state
        if self.ended:
            return Result(self.variant, 0.0)
        with UnderWay(self) as under_way:
            try:
                if gate.closed or kill_switch.off:
                    self.end("dropped_aborted")
                    return Result(self.variant, 0.0)
                value = self.function(*args, **kwargs)
                if self.rollout.kind == "coroutine":
                    value = await value
                if type(value) not in EAGER and self.reads_streams and not is_given(value, args, kwargs):
                    value = await under_way.whole_async(value)
            except NotMeasured as why:
                self.end(UNMEASURED, error=str(why))
                return Result(self.variant, 0.0)
            # SystemExit in a detached task would end the event loop, and the server with it.
            except BaseException as error:
                cut = isinstance(error, CancelledError) and is_interruption(error, awaited=True)
                return under_way.ended(None, error, cut=cut)
            return under_way.ended(value)

    def _judge(self, result: Result) -> None:
        """Keep a result, and whether `failed_if` calls it a failure."""
        # Of a stream's items it is not asked.
        if self.rollout.failed_if is not None and result.error is None and result.first_item_s is None:
            with aside(COMPARING):
                self._refused = self.refused(result)
        # In this order: who gives the run up meanwhile ends it with both.
        self._result = result

    def refused(self, result: Result) -> Sequence[bool]:
        """For every one of `calls`, whether the answer is a failure."""
        return [is_failing(self.rollout, result.value)]

    @property
    def calls(self) -> Sequence[Call]:
        """The calls that this run shadows."""
        return [self.call]

    def comparisons(self, result: Result) -> Sequence[Comparison | None]:
        """A comparison for every one of `calls`."""
        return [self.counterpart.compared(result, lambda: self.request)]

    def trip(self) -> None:
        """Open the candidate's circuit breaker: it holds threads that it does not give back."""
        if self._breaker is not None:
            self._breaker.trip()

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return not self._open

    def end_late_span(self) -> None:
        """End the span of a run that was given up in the very moment in which it began."""
        if self.span is not None and self._ended_unseen is not None:
            self.rollout.spans.end_shadow(self.span, self._ended_unseen, None, None)

    def _note(self, end: ShadowEnd, refused: int) -> None:
        """Notify the circuit breaker of how the run ended, and of how the control did in the same call."""
        if self._ticket is None or self._breaker is None or end not in _COUNTS:
            return
        share = self._breaker.settings.failure_share
        failed = end not in _GOOD or (refused > 0 and refused >= share * len(self.calls))
        # All rows of a batch that the control answered were one run of it, or failed in one.
        errors = [error for _, duration_s, error, _ in (call.control_run() for call in self.calls) if duration_s is not None]
        known = None if not errors else sum(each is not None for each in errors) >= share * len(errors)
        self._breaker.note(self._ticket, failed=failed, control_failed=known)

    def claim(self) -> bool:
        """Whether the caller is the first to end this run."""
        try:
            self._open.pop()
        except IndexError:
            return False
        return True

    def end(self, end: ShadowEnd, result: Result | None = None, *, error: str | None = None) -> bool:
        """End the run and report it; False when it had ended already.

        With a result, that is compared first, and whoever gives the run up meanwhile ends it with the result alone.
        """
        comparisons: Sequence[Comparison | None] = [None] * len(self.calls)
        if result is not None and not self.ended:
            try:
                if self._result is None:
                    self._judge(result)
                with aside(COMPARING):
                    comparisons = self.comparisons(result)
            # Nobody waits here for an interruption: whatever a comparator raises is its failure.
            except BaseException as fault:
                self.rollout.failed("engine.compare", fault)
        if not self.claim():
            return False
        ran = self._result
        if ran is not None:
            end, error = ("ok", None) if ran.error is None else ("error", error_type(ran.error))
        # A timeout that found no result has none to judge.
        refused = self._refused if ran is not None and self._refused is not None else (False,) * len(self.calls)
        # What `passthrough` names is an answer to the circuit breaker, as it is to a caller.
        answered = ran is not None and isinstance(ran.error, self.rollout.passthrough)
        self._note("ok" if answered else end, sum(refused))
        duration_s, first_item_s = (None, None) if ran is None else (ran.duration_s, ran.first_item_s)
        wait_s = None if self.began is None else self.began - self.submitted
        exception = None if ran is None else self._untold(ran)
        ended = []
        for call, comparison, failed in zip(self.calls, comparisons, refused, strict=True):
            how, why = ("error", FAILED_IF) if failed else (end, error)
            ended.append(EndedShadow(call, self.variant, how, duration_s, wait_s, why, comparison, exception, first_item_s))
        self.rollout.record(ended[0] if len(ended) == 1 else EndedRows(ended))
        end = "error" if any(refused) else end
        if self.span is not None:
            self.rollout.spans.end_shadow(self.span, end, overall(comparisons), ran)
        else:
            self._ended_unseen = end
            if end not in _RAN:
                self.rollout.spans.dropped(self.call, self.variant, end)
        self.args, self.kwargs, self.context, self.caller_state = (), {}, None, None
        self.counterpart.forget()
        self._result = None
        return True


def finish(run: ShadowRun, result: Result) -> bool:
    """End a run that came back."""
    return run.end("ok" if result.error is None else "error", result)


def break_off(run: ShadowRun, error: BaseException) -> None:
    """End a run in which something of ours, or of a plugin, broke."""
    run.rollout.failed("engine.background", error)
    run.end("error", error=error_type(error))
