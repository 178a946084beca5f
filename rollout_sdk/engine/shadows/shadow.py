"""A shadow run, from copying its arguments to its one end."""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from collections.abc import Iterable, Mapping, Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.engine.ambient import Stepped, own_context
from rollout_sdk.engine.call import Call
from rollout_sdk.engine.context import COMPARING, aside
from rollout_sdk.engine.copies.snapshot import NotCopied, Uncopied, take_snapshot
from rollout_sdk.engine.failing import is_failing
from rollout_sdk.engine.judges.handing import hand_to_judge
from rollout_sdk.engine.measuring import record_measured
from rollout_sdk.engine.returned.forms import EAGER, is_given
from rollout_sdk.engine.rollout import ON_A_LOOP
from rollout_sdk.engine.shadows.caller_state import CallerState, is_stateful
from rollout_sdk.engine.shadows.counterpart import Counterpart, overall
from rollout_sdk.engine.shadows.ended import EndedRows, EndedShadow
from rollout_sdk.engine.shadows.processes import NotPickled, NotReady, TookTooLong
from rollout_sdk.engine.shadows.under_way import NotMeasured, UnderWay
from rollout_sdk.engine.steps import Result, error_type
from rollout_sdk.records import ERRORS, FAILED_IF, UNMEASURED, Comparison, ShadowEnd
from rollout_sdk.records.sampling import is_drawn
from rollout_sdk.resilience import kill_switch
from rollout_sdk.resilience.interruptions import is_fault, is_interruption

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from rollout_sdk.assignment import RouteRequest
    from rollout_sdk.engine.rollout import Rollout
    from rollout_sdk.resilience.breaker import CircuitBreaker

_COUNTS = frozenset({"ok", "error", "timeout", UNMEASURED})
"""Ends that count as evidence about the candidate."""
_GOOD = frozenset({"ok", UNMEASURED})
_RAN = frozenset({"ok", "error"})
_NOT_RUN: Mapping[type[Exception], ShadowEnd] = {
    NotReady: "dropped_start",
    NotPickled: "dropped_snapshot",
    TookTooLong: "timeout",
}
"""Ends of runs in another process that gave no answer."""

_NOTHING: Mapping[str, Any] = {}

__all__ = ["ShadowRun", "break_off", "finish", "prepared"]


class Begun(Protocol):
    """What a run needs of a call before it runs: a `Call`, or a common call, of which one is made in the background."""

    @property
    def is_blended(self) -> bool:
        """Whether its answer is made of several variants'."""

    @property
    def full(self) -> Call:
        """The call with everything that is known of it."""


class ShadowRun:
    """A candidate's run in the background.

    It ends exactly once: the worker that finishes it and the watchdog that abandons it race for a single token.
    """

    reads_streams = True
    """Whether answers with work to come are run to their end, so that this work is measured."""

    # Class-level defaults: the caller pays for each attribute that is set here.
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = _NOTHING
    size = 0
    submitted = 0.0
    began: float | None = None
    context: Context | None = None
    caller_state: CallerState | None = None
    span: Span | None = None
    took_s: float | None = None
    _call: Call | None = None
    _ticket: int | None = None
    _result: Result | None = None
    _refused: Sequence[bool] | None = None
    _ended_unseen: ShadowEnd | None = None

    def __init__(self, call: Begun, rollout: Rollout, variant: str) -> None:
        """Create a run of `variant` for a call of `rollout`."""
        self._begun = call
        self.variant = variant
        self.rollout = rollout
        self.counterpart = Counterpart()
        self.in_task = rollout.kind in ON_A_LOOP
        self._breaker: CircuitBreaker | None = rollout.local_state.breakers.get(variant)
        self._open = [True]

    @property
    def call(self) -> Call:
        """The call that this run shadows."""
        if not self.submitted:
            # In the caller's thread. A common call's end is still to be taken over.
            return self._begun.full
        if self._call is not None:
            return self._call
        # Always the same object, whichever thread asks first.
        call: Call = self.__dict__.setdefault("_call", self._begun.full)
        return call

    def is_prepared(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Copy the arguments; if that fails or the run would be dropped, end it and return False. Never raises a fault."""
        rollout, breaker = self.rollout, self._breaker
        try:
            if breaker is not None and breaker.ticket is None and not breaker.would_admit():
                self.end("dropped_open")
                return False
            if rollout.background.is_full(self):
                self.end("dropped_full")
                return False
            self.args, self.kwargs, self.size = take_snapshot(args, kwargs, rollout.isolate, rollout.shared, rollout.limits)
            # Copied before the control runs: a candidate in its place would not see the variables that it sets.
            self.context = rollout.hidden.out_of(own_context())
            if rollout.surround or is_stateful():
                self.caller_state = CallerState(rollout.surround, lambda: self.request, rollout.failed)
        except Uncopied as why:
            cause = str(why.error) if isinstance(why.error, NotCopied) else error_type(why.error)
            self.end("dropped_snapshot", error=f"{cause}{self._named(why.where)}")
            return False
        except BaseException as error:
            if not is_fault(error):
                raise
            rollout.failed("engine.shadow", error)
            self.end("dropped_start", error=error_type(error))
            return False
        return True

    def _named(self, where: int | str) -> str:
        """The argument that could not be copied, by the name that the function has for it: others may be data."""
        names = self.rollout.parameters
        name = names[where] if isinstance(where, int) and where < len(names) else where
        return f" (argument {name!r})" if name in names else ""

    def submit(self, control: Result) -> None:
        """Submit the run once the control is done; `control` is its result, for the comparison."""
        try:
            counterpart, rollout = self.counterpart, self.rollout
            if not self._begun.is_blended:
                counterpart.keep(control, rollout)
                self.size += counterpart.size
            if control.awaited:
                # The control's answer needed the event loop, and so does the candidate's: its clients belong to that loop.
                self.in_task = True
            self.submitted = monotonic()
            rollout.background.submit(self)
        except BaseException as error:
            if not is_fault(error):
                raise
            self.rollout.failed("engine.shadow", error)
            self.end("dropped_start", error=error_type(error))

    def _exception_to_log(self, ran: Result) -> BaseException | None:
        """Return the exception to log because no span records it; never raises."""
        try:
            return self.rollout.spans.for_log(self.span, ran.error)
        except BaseException as error:
            if not is_fault(error):
                raise
            return None

    @property
    def request(self) -> RouteRequest:
        """The call's request, with the shadow's copies of the arguments."""
        return self.call.about(self.args, self.kwargs)

    def run(self) -> Result:
        """Run the candidate now, in the caller's context, on a new event loop if it needs one. Never raises."""
        if self._result is not None:
            return self._result
        if self.in_task:
            return asyncio.run(self._run_in_time())
        context, state = self.context, self.caller_state
        if context is None:
            return Result(self.variant, 0.0)
        return context.run(self._run) if state is None else context.run(state.run, self._run)

    def has_to_be_compared(self, result: Result) -> bool:
        """Whether a task's result needs a comparison, which is then made in a thread."""
        if not self.counterpart.is_comparable or result.error is not None or self.counterpart.error is not None:
            return False
        self._judge(result)
        return True

    def may_start(self) -> bool:
        """Whether the circuit breaker admits the run; otherwise the run ends here."""
        if self._result is not None:
            return True
        if self._breaker is not None:
            self._ticket = self._breaker.admit()
            if self._ticket is None:
                self.end("dropped_open")
                return False
        return True

    def _run(self) -> Result:
        args, kwargs, gate = self.args, self.kwargs, self.rollout.local_state
        function, lane = self.rollout.functions[self.variant], self.rollout.lanes.get(self.variant)
        if self.ended:
            # Order matters: `end` claims the run before it removes the arguments.
            return Result(self.variant, 0.0)
        with UnderWay(self) as under_way:
            try:
                # The final check of the gate, with nothing between it and the call: see engine/stopping.py.
                if gate.closed or kill_switch.off:
                    self.end("dropped_aborted")
                    return Result(self.variant, 0.0)
                if lane is None:
                    value = function(*args, **kwargs)
                else:
                    value, self.took_s = lane.call(args, kwargs)
                if type(value) not in EAGER and self.reads_streams and not is_given(value, args, kwargs):
                    value = under_way.whole(value)
            except NotMeasured as why:
                self.end(UNMEASURED, error=str(why))
                return Result(self.variant, 0.0)
            except (NotReady, NotPickled, TookTooLong) as why:
                self.end(_NOT_RUN[type(why)], error=str(why) or None)
                return Result(self.variant, 0.0)
            # No exception of a shadow may end a worker, least of all SystemExit.
            except BaseException as error:
                return under_way.ended(None, error)
            return under_way.ended(value)

    async def _run_in_time(self) -> Result:
        """Run the candidate on an event loop of its own, and cancel it when its time is up."""
        task = asyncio.get_running_loop().create_task(self.run_in_task(), context=self.context)
        if not (await asyncio.wait([task], timeout=self.rollout.limits.timeout_s))[0]:
            self.end("timeout")
            task.cancel()
            await asyncio.wait([task])
        return Result(self.variant, 0.0) if task.cancelled() else task.result()

    async def run_in_task(self) -> Result:
        """Run a candidate coroutine or async generator in the caller's context; never raises."""
        state = self.caller_state
        return await (self.run_async() if state is None else Stepped(self.run_async(), state.run))

    async def run_async(self) -> Result:
        """Run the candidate on an event loop; the result is `interrupted` if it was cancelled from outside."""
        args, kwargs, gate = self.args, self.kwargs, self.rollout.local_state
        function = self.rollout.functions[self.variant]
        if self.ended:
            return Result(self.variant, 0.0)
        with UnderWay(self) as under_way:
            try:
                if gate.closed or kill_switch.off:
                    self.end("dropped_aborted")
                    return Result(self.variant, 0.0)
                value = function(*args, **kwargs)
                if self.rollout.kind == "coroutine":
                    value = await value
                if type(value) not in EAGER and self.reads_streams and not is_given(value, args, kwargs):
                    value = await under_way.whole_async(value)
            except NotMeasured as why:
                self.end(UNMEASURED, error=str(why))
                return Result(self.variant, 0.0)
            # SystemExit in a detached task would end the event loop, and with it the server.
            except BaseException as error:
                cut = isinstance(error, CancelledError) and is_interruption(error, awaited=True)
                return under_way.ended(None, error, cut=cut)
            return under_way.ended(value)

    def _judge(self, result: Result) -> None:
        """Store a result, and whether `failed_if` classifies it as a failure."""
        # `failed_if` is not applied to the items of a stream.
        if self.rollout.failed_if is not None and result.error is None and result.first_item_s is None:
            with aside(COMPARING):
                self._refused = self.refused(result)
        # Set last: a concurrent timeout that sees the result also sees the classification.
        self._result = result

    def refused(self, result: Result) -> Sequence[bool]:
        """Return for each of `calls` whether the answer is a failure."""
        return [is_failing(self.rollout, result.value)]

    @property
    def calls(self) -> Sequence[Call]:
        """The calls that this run shadows."""
        return [self.call]

    def comparisons(self, result: Result) -> Sequence[Comparison | None]:
        """Return a comparison for each of `calls`."""
        return [self.counterpart.compared(result, self.rollout, lambda: self.request)]

    def trip(self) -> None:
        """Open the candidate's circuit breaker, because the candidate holds threads without returning them."""
        if self._breaker is not None:
            self._breaker.trip()

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return not self._open

    def end_late_span(self) -> None:
        """End the span of a run that was abandoned just as it started."""
        if self.span is not None and self._ended_unseen is not None:
            self.rollout.spans.end_shadow(self.span, self._ended_unseen, None, None)

    def _keep(self, result: Result | None, comparisons: Sequence[Comparison | None]) -> None:
        """Offer pairs of answers that do not match for keeping."""
        kept = self.rollout.kept
        if kept is None or result is None or all(found is None or found.match for found in comparisons):
            return
        try:
            for (ours, theirs), call, found in zip(self.answers(result), self.calls, comparisons, strict=True):
                is_wanted = (
                    found is not None and not found.match and found.name != ERRORS and self.variant != self.rollout.control
                )
                if found is None or not is_wanted or call.is_excluded:
                    continue
                difference = None if found.difference is None else float(found.difference)
                decision = call.full_decision()
                about = {
                    "t": decision.time_s,
                    "variant": self.variant,
                    "fingerprint": decision.fingerprint,
                    "reason": found.reason,
                    "difference": difference,
                }
                # The arguments of a batch are those of all its rows.
                arguments = None if self.rollout.by_row else self.request.arguments
                kept.offer((ours, theirs), arguments, about, decision.id)
        except BaseException as error:
            if not is_fault(error):
                raise
            self.rollout.failed("keep", error)

    def answers(self, result: Result) -> Iterable[tuple[Any, Any]]:
        """Return the control's answer and the candidate's, for each of `calls`."""
        return [(self.counterpart.value, result.value)]

    def _measure(self, result: Result | None) -> None:
        """Record what `measure=` finds in the answer; the control's own answer was measured when it was served."""
        if self.rollout.measure is None or result is None or result.error is not None:
            return
        if result.first_item_s is not None and len(result.value) > self.rollout.limits.kept_items:
            return
        if self.variant != self.rollout.control:
            with aside(COMPARING):
                record_measured(self.calls, result.value, result, shadow=self.variant)

    def _note(self, end: ShadowEnd, refused: int) -> None:
        """Report to the circuit breaker how the run ended, and how the control did on the same call."""
        if self._ticket is None or self._breaker is None or end not in _COUNTS:
            return
        share = self._breaker.settings.failure_share
        failed = end not in _GOOD or (refused > 0 and refused >= share * len(self.calls))
        # Rows of a batch answered by the control belong to one run of it, which failed if enough of them did.
        errors = [error for _, duration_s, error, _ in (call.control_run() for call in self.calls) if duration_s is not None]
        known = None if not errors else sum(each is not None for each in errors) >= share * len(errors)
        self._breaker.note(self._ticket, failed=failed, control_failed=known)

    def claim(self) -> bool:
        """Return True to the first caller only, which then ends the run."""
        try:
            self._open.pop()
        except IndexError:
            return False
        return True

    def end(self, end: ShadowEnd, result: Result | None = None, *, error: str | None = None) -> None:
        """End the run and report it, unless it has already ended.

        A result is compared first; a concurrent timeout ends the run with the result, but without the comparison.
        """
        # Looked up once: shadows that are dropped end on the caller's path.
        calls = self.calls
        comparisons: Sequence[Comparison | None] = [None] * len(calls)
        if result is not None and not self.ended:
            try:
                if self._result is None:
                    self._judge(result)
                with aside(COMPARING):
                    comparisons = self.comparisons(result)
            # No caller waits here for an interruption: any exception counts as the comparator's failure.
            except BaseException as fault:
                self.rollout.failed("engine.compare", fault)
        if not self.claim():
            return
        ran = self._result
        if ran is not None:
            end, error = ("ok", None) if ran.error is None else ("error", error_type(ran.error))
        # A timeout that finds no result has nothing to classify.
        refused = self._refused if ran is not None and self._refused is not None else (False,) * len(calls)
        # Exceptions in `passthrough` count as answers for the circuit breaker, as they do for callers.
        answered = ran is not None and isinstance(ran.error, self.rollout.passthrough)
        self._note("ok" if answered else end, sum(refused))
        duration_s, first_item_s = (None, None) if ran is None else (ran.duration_s, ran.first_item_s)
        wait_s = None if self.began is None else self.began - self.submitted
        exception = None if ran is None else self._exception_to_log(ran)
        ended = []
        for call, comparison, failed in zip(calls, comparisons, refused, strict=True):
            how, why = ("error", FAILED_IF) if failed else (end, error)
            ended.append(EndedShadow(call, self.variant, how, duration_s, wait_s, why, comparison, exception, first_item_s))
        self.rollout.record(ended[0] if len(ended) == 1 else EndedRows(ended))
        self._measure(result)
        if result is not None and end == "ok" and not any(refused):
            hand_to_judge(self, result)
        self._keep(result, comparisons)
        if self.rollout.spans.events.has_results:
            self.rollout.spans.compared(self, comparisons)
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


def prepared(
    call: Begun, rollout: Rollout, variants: Sequence[str], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Sequence[ShadowRun]:
    """Prepare a call's shadows by copying its arguments, which the control can change; drop those that cannot be copied."""
    if rollout.noise and is_drawn(call.full.decision_id, rollout.noise):
        variants = (*variants, rollout.control)
    runs: list[ShadowRun] = []
    ready: list[ShadowRun] = []
    # Loops: before Python 3.12, a comprehension is a call of its own.
    for variant in variants:
        runs.append(ShadowRun(call, rollout, variant))  # noqa: PERF401
    try:
        for run in runs:
            if run.is_prepared(args, kwargs):
                ready.append(run)  # noqa: PERF401
    # Ctrl-C while copying ends the call and its shadows.
    except BaseException:
        for run in runs:
            run.end("cancelled")
        raise
    return ready


def finish(run: ShadowRun, result: Result) -> None:
    """End a run that has returned."""
    run.end("ok" if result.error is None else "error", result)


def break_off(run: ShadowRun, error: BaseException) -> None:
    """End a run that failed because of the SDK or a plugin."""
    run.rollout.failed("engine.background", error)
    run.end("error", error=error_type(error))
