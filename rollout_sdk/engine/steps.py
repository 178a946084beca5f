"""The steps of a call's flow, executed by the drivers, and their results."""

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
    from rollout_sdk.engine.context import UnderWay
    from rollout_sdk.engine.copies.copying import Protection
    from rollout_sdk.engine.copies.snapshot import StreamCopy
    from rollout_sdk.resilience.breaker import CircuitBreaker

__all__ = ["LET_GO", "NO_KWARGS", "Flow", "Invoke", "Result", "Together", "error_type"]

LET_GO: Mapping[str, Any] = MappingProxyType({})
"""Replaces keyword arguments released while the call goes on; once the call is over, they are `NO_KWARGS`."""

NO_KWARGS: Mapping[str, Any] = MappingProxyType({})
"""Replaces the keyword arguments of a call that has ended."""


def error_type(error: BaseException) -> str:
    """Return the name of an exception for records: its class, never its message."""
    return class_name(error)


class Result:
    """Outcome of one run of a variant: a value or an error, and the duration.

    A collected stream has its items in `value` and its return value in `returned`. A stream that was passed on has its return
    value in `value`, and copies of its items in `kept` if requested. `streamed` marks the result of a returned stream,
    `awaited` one of a returned awaitable, which an event loop ran.
    """

    # Class-level defaults: attributes that are never set cost nothing.
    started = False
    streamed = False
    awaited = False
    failed = False
    """Whether the run counts as a failure of its variant; set when the call records it."""
    refused = False
    """Whether `failed_if` classified the answer (of a batch: any row's) as a failure."""
    first_item_s: float | None = None
    kept: StreamCopy | None = None
    returned: Any = None
    withheld: Withheld | None = None
    passes = False
    """Whether the error came from the control of an inner rollout: it reaches the caller, without a fallback."""
    _context: BaseException | None = None

    def __init__(
        self,
        variant: str,
        duration_s: float,
        value: Any = None,
        error: BaseException | None = None,
        interrupted: bool = False,  # noqa: FBT001, FBT002 - positional for speed: it is made for every run
    ) -> None:
        """Store a value or an error; `interrupted` if the caller caused the error (cancelled, closed, Ctrl-C)."""
        self.variant = variant
        self.duration_s = duration_s
        self.value = value
        self.error = error
        self.interrupted = interrupted

    def __enter__(self) -> Self:
        """Enter a block that raises `self.error`, so that the model's own exception gains only the frame that raises it.

        Raising it again would replace its context with the exception that the caller is handling.
        """
        assert self.error is not None
        self._context = context_of(self.error)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Restore the context, and break the reference cycle that would keep the exception's frames alive."""
        assert error is not None
        set_context(error, self._context)
        self.error = self._context = None


class Invoke:
    """A step that runs one variant, with its span current during the run.

    `keep` copies a stream's items as they pass. A candidate has a `gate`, which the operator closes to stop it, a ticket of its
    circuit breaker, and optionally a deadline (of a stream: for its first item).
    """

    keep: StreamCopy | None = None
    gate: LocalState | None = None
    breaker: CircuitBreaker | None = None
    ticket: int = 0
    failed = False
    """Whether the run failed and its circuit breaker must still be notified, once the control's result is known."""
    deadline_s: float | None = None
    protection: Protection | None = None
    """Shields the control from a candidate's changes to its arguments; None if nothing can change."""
    span: Span | None = None
    span_context: SpanContext | None = None
    in_place: UnderWay | None = None
    """The call in which this control replaces a failed candidate: rollouts inside it are answered by their controls."""
    on_begin: Callable[[Invoke], None] | None = None
    """Starts the span when the step starts: where several steps run, each span covers its own run only."""
    ended_ns: int | None = None
    around: Around | None = None
    """For a candidate that the control may have to replace: its surroundings before it ran."""
    earlier: tuple[tuple[Around, Around], ...] = ()
    """Surroundings before and after each earlier stretch of work, if the function returned something that still works."""

    def __init__(self, variant: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Set the function to run and its arguments."""
        self.variant = variant
        self.function = function
        self.args = args
        self.kwargs = kwargs
        # Read at every run: Python 3.11 reads an object's own attribute in a fifth of the time of its class's.
        self.gate = self.span_context = self.in_place = None

    def rest(self) -> None:
        """Record the surroundings when the function has returned something whose work is still to come."""
        if self.around is not None:
            self.earlier = (*self.earlier, (self.around, look()))

    def go_on(self) -> None:
        """Record the surroundings when that work starts."""
        if self.around is not None:
            self.around = look()

    def begin(self) -> None:
        """Start the step's span, if it was deferred."""
        on_begin, self.on_begin = self.on_begin, None
        if on_begin is not None:
            on_begin(self)


class Together:
    """A step that runs several variants, concurrently where the kind of function allows it; streams are collected.

    The first runs in the caller's own task and context. The step ends early, with fewer results than variants, if one is
    interrupted or `vital` fails: the other results no longer matter.
    """

    __slots__ = ("invokes", "vital")

    def __init__(self, invokes: list[Invoke], vital: str) -> None:
        """Set the runs, and the variant without which there is no answer."""
        self.invokes = invokes
        self.vital = vital

    def is_over(self, result: Result) -> bool:
        """Whether the other results no longer matter after this one."""
        return result.interrupted or (result.error is not None and result.variant == self.vital)


Flow: TypeAlias = Generator[Invoke | Together, Any, Result]
"""Yields steps, receives a Result for an Invoke and a list of them for a Together, and returns the caller's result."""
