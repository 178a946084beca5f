"""A rollout as the engine sees it: everything that a call needs, looked up once when decorating."""

from __future__ import annotations

import functools
import inspect
import itertools
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from attrs import asdict, define, field, frozen

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.resilience.faults import Notice

if TYPE_CHECKING:
    from rollout_sdk.assignment import Outline, RouteRequest, UnitHash
    from rollout_sdk.control.local_state import LocalState
    from rollout_sdk.control.state import RolloutState
    from rollout_sdk.engine.arguments import Rebinder
    from rollout_sdk.engine.copies.snapshot import Isolate
    from rollout_sdk.engine.failing import FailedIf
    from rollout_sdk.engine.shadows.caller_state import Surround
    from rollout_sdk.engine.shadows.hidden import Hidden
    from rollout_sdk.engine.shadows.pool import ShadowPool
    from rollout_sdk.engine.shadows.shadow import ShadowRun
    from rollout_sdk.plugins.manager import Failed, Observer
    from rollout_sdk.records import Comparison, Merged
    from rollout_sdk.resilience.breaker import ControlHealth
    from rollout_sdk.telemetry.audience import Audience
    from rollout_sdk.telemetry.spans import Spans

__all__ = ["Kind", "Nonces", "Rollout", "ShadowLimits", "kind_of"]

_SHOWN = 1_000
_MOST_NOTES = 20

Kind = Literal["function", "coroutine", "generator", "async generator"]
"""The four kinds of functions; all variants of a rollout are of one."""


def kind_of(function: Callable[..., Any]) -> Kind:
    """The kind of a callable, looking through partials, methods and callable objects."""
    # Not whatever has a `func`: an object may have any attribute, and a mock has every one, for ever.
    while isinstance(function, functools.partial):
        function = function.func
    looked_at = function if inspect.isroutine(function) or inspect.isclass(function) else type(function).__call__
    if inspect.iscoroutinefunction(looked_at) or inspect.iscoroutinefunction(function) or _is_awaited(looked_at):
        return "coroutine"
    if inspect.isasyncgenfunction(looked_at):
        return "async generator"
    if inspect.isgeneratorfunction(looked_at):
        return "generator"
    return "function"


def _is_awaited(function: Any) -> bool:
    """Whether a function gives generators that are awaited: `types.coroutine`."""
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    return isinstance(flags, int) and bool(flags & inspect.CO_ITERABLE_COROUTINE)


@frozen(kw_only=True)
class ShadowLimits:
    """What shadows may cost. Whatever would exceed it is dropped and counted; nobody ever waits.

    Attributes:
        workers: Threads that run shadows of plain functions and generators.
        max_jobs: Shadows waiting or running in threads at once.
        max_tasks: Shadows of coroutines at once on one event loop; one that does not end when cancelled goes on counting.
        max_bytes: Bytes of arguments held for threads at once.
        timeout_s: Seconds a shadow may run; then its result is ignored, and a thread that does not come back is abandoned.
        max_age_s: Seconds a shadow may wait for a thread; an older one is not worth running.
        max_abandoned: Abandoned threads at once; with so many, no thread is started in their place.
        cpu_share: CPU time of all threads together, as a share of one core: Python has one lock, and the control needs it.
        kept_items: Items of a stream that are kept for a comparison; longer streams are not compared.
    """

    workers: int = 2
    max_jobs: int = 64
    max_tasks: int = 64
    max_bytes: int = 32 << 20
    timeout_s: float = 5.0
    max_age_s: float = 5.0
    max_abandoned: int = 2
    cpu_share: float = 0.1
    kept_items: int = 10_000

    def __attrs_post_init__(self) -> None:
        """Refuse limits under which nothing could run."""
        for name, value in asdict(self).items():
            least = 1 if name == "workers" else 0
            if not value >= least or (name == "cpu_share" and not value > 0):
                raise ConfigurationError(
                    f"ShadowLimits got {name}={value!r}. Limits are numbers from 0 on; there is at least one worker, "
                    "and it has some share of a core. To run no shadows, use Shadow(rate=0)."
                )


@define(slots=True)
class Nonces:
    """What makes decision ids unique: a random text for each process, and a count."""

    origin: str = field(factory=lambda: os.urandom(5).hex())
    sequence: itertools.count[int] = field(factory=itertools.count)

    def renew(self) -> None:
        """Take another text, in a forked child."""
        self.origin = os.urandom(5).hex()


@define(slots=True, kw_only=True, eq=False)
class Rollout:
    """Everything that a call needs, ready to use; made by the controller.

    Attributes:
        key: Key of the rollout.
        strategy_name: Name of the strategy.
        control: Name of the control.
        functions: The variants by name, the control first.
        kind: Their kind.
        arguments: `rollout_arguments`, resolved and guarded; None where no plugin has it.
        rebind: Makes a call's arguments with others in the place of some.
        merge: `rollout_merge`, resolved and guarded.
        compare: `rollout_compare`, resolved and guarded.
        failed_if: Whether an answer is a failure; None: no answer is.
        by_row: Whether calls are batches, whose rows are answers of their own.
        on_error: Who answers when a candidate raises: the control, or nobody.
        passthrough: Exceptions of a candidate that are an answer, and reach the caller.
        deadline_s: Seconds that an asynchronous candidate has for its answer, or for its first item; None: no deadline.
        isolate: How the arguments of shadows are isolated.
        shared: How many first positional arguments shadows share (a method's `self`).
        parameters: Names of the function's parameters, but for those that take any number of arguments.
        outline: What its requests have in common.
        item_hash: Hash behind the pseudonyms of items.
        secret: Key that signs decision ids, or None.
        limits: What shadows may cost.
        background: Runs shadows.
        spans: Makes spans.
        record: Takes a fact for the journal and the observers; never blocks.
        conclude: Takes a finished call; with durability="call", it returns when the call is in the journal.
        failed: Told of every fault of a collaborator.
        tell: Takes what people should read of; never blocks.
        span_name: Name of the `route` span.
        clocked: Whether what a decision takes is measured.
        surrounds: Whether a variant runs in other surroundings also where there are no spans: with baggage, or fields for logs.
        audience: Who listens to spans and to log events about single calls.
        time_ns: Wall clock, in nanoseconds since 1970.
        nonces: What makes decision ids unique.
        local_state: Where it stands, shared with every rollout of the same key and settings.
        made_of: What its fingerprint is made of.
        observers: Who observes its events, by hook.
        plugins: Names of its plugins.
        active: Shadow runs that are under way.
        runs_told: What spans say of every run of a variant, once said.
        shown: Nonce and item keys of the last blended answers, to check an outcome's item by.
        hidden: What the shadows do not get of their caller's context variables.
        surround: What plugins have shadows run in.
        notes: What was noted of its calls, in the order in which it was first seen.
        health: How the control does, for the circuit breakers; None where there are none.
    """

    key: str
    strategy_name: str
    control: str
    functions: Mapping[str, Callable[..., Any]]
    kind: Kind
    arguments: Callable[[RouteRequest], Mapping[str, Any] | None] | None
    rebind: Rebinder
    merge: Callable[[RouteRequest, Mapping[str, Any]], Merged | None]
    compare: Callable[[RouteRequest, Any, Any], Comparison | None]
    on_error: Literal["control", "raise"]
    passthrough: tuple[type[BaseException], ...]
    deadline_s: float | None
    isolate: Isolate
    shared: int
    parameters: tuple[str, ...]
    outline: Outline
    item_hash: UnitHash
    secret: bytes | None
    limits: ShadowLimits
    background: ShadowPool
    spans: Spans
    record: Callable[[Any], None]
    conclude: Callable[[Any], None]
    failed: Failed
    tell: Callable[[Notice], None]
    span_name: str
    clocked: bool
    surrounds: bool
    audience: Audience
    time_ns: Callable[[], int]
    nonces: Nonces
    local_state: LocalState
    observers: Mapping[str, Sequence[Observer]]
    plugins: tuple[str, ...]
    hidden: Hidden
    failed_if: FailedIf = None
    by_row: bool = False
    surround: Sequence[Surround] = ()
    made_of: Mapping[str, Any] = field(factory=dict)
    active: set[ShadowRun] = field(factory=set)
    runs_told: dict[str, tuple[str, Mapping[str, Any]]] = field(factory=dict)
    shown: deque[tuple[str, tuple[Any, ...]]] = field(factory=lambda: deque(maxlen=_SHOWN))
    notes: dict[str, None] = field(factory=dict)
    health: ControlHealth | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Find out whose breakers hold candidates against the control."""
        self.stand_with(self.local_state)

    def stand_with(self, local_state: LocalState) -> None:
        """Share this: phase, status and circuit breakers."""
        self.local_state = local_state
        self.health = next((breaker.control for breaker in local_state.breakers.values()), None)

    def note(self, text: str) -> None:
        """Note something that people should know of its calls, once: in the log and in `status()`."""
        if text not in self.notes and len(self.notes) < _MOST_NOTES:
            self.notes[text] = None
            self.tell(Notice(self.key, text))

    @property
    def state(self) -> RolloutState:
        """Where it stands; replaced as a whole, so that whoever reads it once sees one state."""
        return self.local_state.state

    def exposure(self, phase: str) -> Mapping[str, float]:
        """Share of the calls in which every variant is seen, in the current phase; nothing is known of any other."""
        now = self.state.phase
        return now.exposure if now.name == phase else {}

    @property
    def is_async(self) -> bool:
        """Whether the variants run on an event loop."""
        return self.kind in ("coroutine", "async generator")

    @property
    def streams(self) -> bool:
        """Whether the variants give streams."""
        return self.kind in ("generator", "async generator")

    def describe(self) -> dict[str, Any]:
        """What the journal says of the rollout itself."""
        return {
            "rollout": self.key,
            "strategy": self.strategy_name,
            "control": self.control,
            "variants": list(self.functions),
            "phase": self.state.phase.name,
            "status": self.state.status,
            "shares": self.state.phase.all_shares,
            "shadow": self.state.phase.shadow or None,
            "version": self.state.version,
            "fingerprint": self.state.fingerprint,
            "made_of": dict(self.made_of),
        }
