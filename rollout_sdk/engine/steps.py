"""The steps of a call's flow, which drivers execute, and what they give."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from rollout_sdk.engine.ambient import Around, look
from rollout_sdk.engine.tracebacks import context_of, set_context
from rollout_sdk.formatting import class_name
from rollout_sdk.records import Withheld

if TYPE_CHECKING:
    from opentelemetry.context import Context as SpanContext
    from opentelemetry.trace import Span

    from rollout_sdk.control.local_state import LocalState
    from rollout_sdk.engine.call import Call
    from rollout_sdk.engine.copies.snapshot import StreamCopy
    from rollout_sdk.engine.protecting import Protection
    from rollout_sdk.resilience.breaker import CircuitBreaker

__all__ = ["LET_GO", "NO_KWARGS", "Flow", "Invoke", "Result", "Together", "error_type"]

LET_GO: Mapping[str, Any] = MappingProxyType({})
"""In the place of keyword arguments that are let go of while the call goes on; once it is over, they are `NO_KWARGS`."""

NO_KWARGS: Mapping[str, Any] = MappingProxyType({})
"""What a call that has ended holds in the place of its keyword arguments."""


def error_type(error: BaseException) -> str:
    """How an exception is named in records: by its class, never by its message."""
    return class_name(error)


class Result:
    """What one run of a variant gave: a value or an error, and how long it took.

    A stream that was collected has its items as `value` and what it returned as `returned`; one that was passed on has what
    it returned as `value`, and copies of its items in `kept` where they were asked for. `streamed`: it is of a stream that was
    returned. `awaited`: an event loop carried out what was returned.
    """

    # Defaults live on the class: what is not set costs nothing.
    started = False
    streamed = False
    awaited = False
    failed = False
    """Whether the run counts as a failure of its variant; set when the call takes note of it."""
    refused = False
    """Whether `failed_if` called the answer a failure (of a batch: that of any row)."""
    first_item_s: float | None = None
    kept: StreamCopy | None = None
    returned: Any = None
    withheld: Withheld | None = None
    passes = False
    """Whether the error came out of the control of a rollout further in: the caller gets it, and no control runs."""
    _context: BaseException | None = None

    def __init__(
        self,
        variant: str,
        duration_s: float,
        value: Any = None,
        error: BaseException | None = None,
        interrupted: bool = False,  # noqa: FBT001, FBT002 - positional for speed: it is made for every run
    ) -> None:
        """A value, or an error; `interrupted` when the error is the caller's will (cancelled, closed, Ctrl-C)."""
        self.variant = variant
        self.duration_s = duration_s
        self.value = value
        self.error = error
        self.interrupted = interrupted

    def __enter__(self) -> Self:
        """Around `raise self.error`: the model's own exception leaves as it was, with no frame more than the raising one.

        Raising it again puts whatever the caller is handling in the place of the model's own context.
        """
        assert self.error is not None
        self._context = context_of(self.error)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Put the context back, and leave no cycle behind that would keep the exception's frames alive."""
        assert error is not None
        set_context(error, self._context)
        self.error = self._context = None


class Invoke:
    """A step: run one variant, with its span current while it runs.

    `keep` takes copies of a stream's items as they pass. A candidate has a `gate`, at which it is stopped when the operator was
    faster, a ticket of its circuit breaker, and perhaps a deadline (of a stream: for its first item).
    """

    keep: StreamCopy | None = None
    gate: LocalState | None = None
    breaker: CircuitBreaker | None = None
    ticket: int = 0
    failed = False
    """Whether the run failed and its circuit breaker has yet to be notified: once it is known how the control did."""
    deadline_s: float | None = None
    protection: Protection | None = None
    """What keeps a candidate's changes to its arguments from the control; None where there is nothing to keep."""
    span: Span | None = None
    span_context: SpanContext | None = None
    in_place: Call | None = None
    """The call whose control this runs in the place of a failed candidate: rollouts inside are answered by their controls."""
    call: Call | None = None
    """The call whose span waits for the turn of this step: where several run, each span is as long as its own run."""
    ended_ns: int | None = None
    around: Around | None = None
    """Of a candidate in whose place the control may have to run: what was around it before."""
    earlier: tuple[tuple[Around, Around], ...] = ()
    """The same before its function ran, and after that, where what it returned had yet to do its work."""

    def __init__(self, variant: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Say what to run."""
        self.variant = variant
        self.function = function
        self.args = args
        self.kwargs = kwargs

    def rest(self) -> None:
        """It returned something whose work is still to come."""
        if self.around is not None:
            self.earlier = (*self.earlier, (self.around, look()))

    def go_on(self) -> None:
        """The work of what it returned begins."""
        if self.around is not None:
            self.around = look()

    def begin(self) -> None:
        """Start the span that waits for its turn, if any."""
        call, self.call = self.call, None
        if call is not None:
            call.rollout.spans.start_invoke(call, self)


class Together:
    """A step: run several variants, at the same time where the kind of function allows it; streams are collected.

    The first runs in the caller's own task and context. The step ends early, with fewer results than variants, when one is
    interrupted or when `vital` fails: nobody needs the others then.
    """

    __slots__ = ("invokes", "vital")

    def __init__(self, invokes: list[Invoke], vital: str) -> None:
        """Say what to run, and which variant there is no answer without."""
        self.invokes = invokes
        self.vital = vital

    def is_over(self, result: Result) -> bool:
        """Whether no other result matters after this one."""
        return result.interrupted or (result.error is not None and result.variant == self.vital)


Flow: TypeAlias = Generator[Invoke | Together, Any, Result]
"""Yields steps, is sent a Result for an Invoke and a list of them for a Together, returns what the caller gets."""
