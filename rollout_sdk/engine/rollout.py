"""A rollout as the engine sees it: everything a call needs, resolved when the function is decorated."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from attrs import asdict, define, field, frozen

from rollout_sdk.engine.copies.snapshot import CopyLimits
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.records.sampling import Load
from rollout_sdk.resilience.faults import Notice

if TYPE_CHECKING:
    from rollout_sdk.assignment import Outline, RouteRequest, UnitHash
    from rollout_sdk.control.local_state import LocalState
    from rollout_sdk.control.state import RolloutState
    from rollout_sdk.engine.arguments import Rebinder
    from rollout_sdk.engine.candidate_code import CandidateCode
    from rollout_sdk.engine.copies.snapshot import Isolate
    from rollout_sdk.engine.judges.lane import JudgeLane
    from rollout_sdk.engine.likeness import FunctionKind
    from rollout_sdk.engine.shadows.caller_state import Surround
    from rollout_sdk.engine.shadows.hidden import Hidden
    from rollout_sdk.plugins.manager import Failed, Observer
    from rollout_sdk.records import Comparison, Decision, Merged
    from rollout_sdk.resilience.breaker import ControlHealth
    from rollout_sdk.telemetry.audience import Audience
    from rollout_sdk.telemetry.spans import Spans

__all__ = ["ON_A_LOOP", "STREAMING", "FailedIf", "Measure", "Nonces", "Pool", "Rollout", "Shadow", "ShadowLimits"]

ON_A_LOOP = ("coroutine", "async generator")
"""Kinds of variants that run on an event loop."""
STREAMING = ("generator", "async generator")
"""Kinds of variants that yield streams."""

_IN_FRACTIONS = frozenset({"copy_s", "timeout_s", "max_age_s", "cpu_share"})
_SHOWN = 1_000
_MOST_NOTES = 20

FailedIf: TypeAlias = Callable[[Any], Any] | None
"""Decides whether an answer (of a row, with `batch=`) is a failure."""

Measure: TypeAlias = Callable[[Any], Mapping[str, float]] | None
"""Takes numbers from an answer (of a row, with `batch=`), by metric."""


class Shadow(Protocol):
    """The methods a call uses on its shadow runs."""

    variant: str

    def submit(self, control: Any) -> None:
        """Submit the run once the control is done; `control` is the control's result."""

    def end(self, end: Any, *, error: str | None = None) -> None:
        """End the run, unless it has already ended."""


class Keeper(Protocol):
    """Keeps pairs of answers that do not match."""

    def offer(
        self, pair: tuple[Any, Any], arguments: Mapping[str, Any] | None, about: Mapping[str, Any], decision_id: str
    ) -> None:
        """Keep a pair, or not."""


class Lane(Protocol):
    """Runs a candidate in worker processes."""

    def call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, float]:
        """Return its answer, and the seconds that it took there."""


class Pool(Protocol):
    """The methods a call uses on the shadow pool."""

    def is_full(self, run: Any) -> bool:
        """Whether a run would be dropped."""

    def submit(self, run: Any) -> None:
        """Run it off the caller's path."""


@frozen(kw_only=True)
class ShadowLimits(CopyLimits):
    """Limits on the cost of shadows. Shadows that would exceed one are dropped and counted; callers never wait.

    Attributes:
        workers: Threads that run shadows of plain functions and generators.
        max_jobs: Shadows waiting or running in threads at once.
        max_tasks: Shadows of coroutines at once per event loop; one that ignores its cancellation still counts.
        max_bytes: Bytes of arguments held for threads at once.
        timeout_s: Seconds a shadow may run; after that its result is ignored, and a thread that does not return is abandoned.
        max_age_s: Seconds a shadow may wait for a thread; an older one is dropped.
        max_abandoned: Abandoned threads at once; at this number, they are no longer replaced.
        cpu_share: CPU time of all threads together, as a share of one core: shadows compete with the control for the GIL.
        kept_items: Items of a stream kept for the comparison; longer streams are not compared.
        process_bytes: Memory that a worker process of `Shadow(where="process")` may allocate.
        copy_bytes: Bytes of the copy of a call's arguments, and of its answer; a shadow with larger ones is dropped, or is
            not compared. Callers wait for the copy.
        copy_s: Seconds that each copy may take. It is looked at from time to time, so a single large array may take longer.
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
    process_bytes: int = 4 << 30

    def __attrs_post_init__(self) -> None:
        """Reject limits under which no shadow could run."""
        for name, value in asdict(self).items():
            least = 1 if name == "workers" else 0
            is_number = isinstance(value, Real if name in _IN_FRACTIONS else Integral) and not isinstance(value, bool)
            if not is_number or not value >= least or (name == "cpu_share" and not value > 0):
                raise ConfigurationError(
                    f"ShadowLimits got {name}={value!r:.60}. Limits are numbers of at least 0, whole ones but for seconds "
                    "and cpu_share; there is at least one worker, and it has some share of a core. To run no shadows, use "
                    "Shadow(rate=0)."
                )


@define(slots=True)
class Nonces:
    """Makes decision ids unique: a random string per process, and a counter; and knows how full the recorder is."""

    origin: str = field(factory=lambda: os.urandom(5).hex())
    sequence: itertools.count[int] = field(factory=itertools.count)
    load: Load = field(factory=Load)

    def take(self, number: int) -> Sequence[int]:
        """Take so many numbers, at least one: a range, unless another thread takes some of it meanwhile."""
        first = next(self.sequence)
        if number == 1:
            return (first,)
        # Passed over, not kept.
        deque(itertools.islice(self.sequence, number - 2), maxlen=0)
        whole = range(first, next(self.sequence) + 1)
        return whole if len(whole) == number else list(itertools.islice(self.sequence, number))

    def renew(self) -> None:
        """Draw a new random string, in a forked child."""
        self.origin = os.urandom(5).hex()


@define(slots=True, kw_only=True, eq=False)
class Rollout:
    """Everything a call needs, ready to use; built by the controller.

    Attributes:
        key: Key of the rollout.
        strategy_name: Name of the strategy.
        control: Name of the control.
        functions: The variants by name, the control first.
        kind: Their kind.
        decided: `rollout_decided` of all plugins, resolved and guarded; None if no plugin implements it.
        arguments: `rollout_arguments`, resolved and guarded; None if no plugin implements it.
        rebind: Replaces some of a call's arguments, by parameter name.
        merge: `rollout_merge`, resolved and guarded.
        compare: `compare=`, or else `rollout_compare`, resolved and guarded.
        kept: Keeps some pairs that do not match for people to look at; None if none are kept.
        lanes: Worker processes by candidate, if shadows run in processes.
        noise: Share of the shadowed calls on which the control runs again in the background, to be compared with itself.
        failed_if: Decides whether an answer is a failure; None if no answer is.
        measure: Takes numbers from an answer, by metric; None if nothing is measured.
        paced: Whether the pace of streams is judged, `items_per_s`; then `measure` is never None.
        judge: Compares the answers of shadows with the control's; None if nothing does.
        audit: Share of the judged pairs that people look at.
        audited: Keeps these for them; None if nothing is kept.
        by_row: Whether calls are batches, each row of which is an answer of its own.
        on_error: When a candidate raises: the control answers ("control"), or the caller gets the exception ("raise").
        passthrough: Candidate exceptions that count as answers and reach the caller.
        deadline_s: Seconds an asynchronous candidate has for its answer or its first item; None for no deadline.
        isolate: How the arguments of shadows are isolated.
        shared: Number of leading positional arguments that shadows share (a method's `self`).
        parameters: Names of the function's parameters, without those that take any number of arguments.
        outline: The part that all its requests share.
        item_hash: Hash for the pseudonyms of items.
        secret: Key that signs decision ids, or None.
        limits: Limits on the cost of shadows.
        background: Runs shadows.
        spans: Creates spans.
        record: Queues a fact for the journal and the observers; never blocks.
        conclude: Queues a finished call; with durability="call", returns once the call is in the journal.
        take: The same for a common call.
        failed: Called with every fault of a collaborator.
        tell: Queues a notice for the log; never blocks.
        span_name: Name of the `route` span.
        clocked: Whether the time of each decision is measured.
        surrounds: Whether variants run in changed surroundings even without spans: with baggage or log fields.
        audience: Caches whether spans, and log events about single calls, are enabled.
        time_ns: Wall clock, in nanoseconds since 1970.
        nonces: Makes decision ids unique.
        local_state: Phase, status and circuit breakers, shared by all rollouts with the same key and settings.
        made_of: The parts that its fingerprint covers, and the candidates' code.
        code: The candidates' code; None if a version says what they are.
        observers: Observers of its events, by hook.
        plugins: Names of its plugins.
        active: Shadow runs in progress.
        run_spans: Cached span names and attributes of each variant's runs.
        shown: Nonces and item keys of the last blended answers, to validate the item of an outcome.
        hidden: Context variables of the caller that shadows do not get.
        surround: Context managers of plugins, entered around shadows.
        health: Health of the control, for the circuit breakers; None if there are none.
    """

    key: str
    strategy_name: str
    control: str
    functions: Mapping[str, Callable[..., Any]]
    kind: FunctionKind
    decided: Callable[[RouteRequest, Decision], None] | None
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
    background: Pool
    spans: Spans
    record: Callable[[Any], None]
    conclude: Callable[[Any], None]
    take: Callable[[Any], None]
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
    measure: Measure = None
    paced: bool = False
    judge: JudgeLane | None = None
    audit: float = 0.0
    audited: Keeper | None = None
    noise: float = 0.0
    kept: Keeper | None = None
    lanes: Mapping[str, Lane] = field(factory=dict)
    by_row: bool = False
    surround: Sequence[Surround] = ()
    made_of: Mapping[str, Any] = field(factory=dict)
    code: CandidateCode | None = None
    active: set[Shadow] = field(factory=set)
    run_spans: dict[str, tuple[str, Mapping[str, Any]]] = field(factory=dict)
    shown: deque[tuple[str, tuple[Any, ...]]] = field(factory=lambda: deque(maxlen=_SHOWN))
    health: ControlHealth | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Adopt the health of the control from the circuit breakers."""
        self.stand_with(self.local_state)

    def stand_with(self, local_state: LocalState) -> None:
        """Share this state: phase, status and circuit breakers."""
        self.local_state = local_state
        self.health = next((breaker.control for breaker in local_state.breakers.values()), None)

    def note(self, text: str, *, is_error: bool = False) -> None:
        """Report a note about its calls once, in the log and in `status()`."""
        notes = self.local_state.notes
        if text not in notes and len(notes) < _MOST_NOTES:
            notes[text] = None
            self.tell(Notice(self.key, text, is_error))

    @property
    def state(self) -> RolloutState:
        """Current state; replaced as a whole, so that a single read is consistent."""
        return self.local_state.state

    def exposure(self, phase: str) -> Mapping[str, float]:
        """Share of calls in which each variant is exposed, in the current phase; empty for any other phase."""
        now = self.state.phase
        return now.exposure if now.name == phase else {}

    @property
    def is_async(self) -> bool:
        """Whether the variants run on an event loop."""
        return self.kind in ON_A_LOOP

    @property
    def streams(self) -> bool:
        """Whether the variants yield streams."""
        return self.kind in STREAMING

    def describe(self) -> dict[str, Any]:
        """Return the journal's description of the rollout."""
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
            "plan": dict(self.local_state.plan),
            "plugins": list(self.plugins),
        }
