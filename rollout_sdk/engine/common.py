"""The common call, straight: one variant answers, others run in the background at most, and no span or log line is wanted.

Most calls are like that, and the flow (engine/flow.py), a generator that can do everything, costs them three times as much as
all that they need. So what depends only on the rollout, its state and its listeners is decided when one of these changes, in a
`Plan`; such a call then reads one page of code: `Common.begin`, the first branch of a driver, and `answered`. The flow stays
the specification: a call that is not common, or is not any more, is handed to it; tests/engine/test_common.py holds both alike.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextvars import copy_context
from operator import attrgetter
from sys import maxsize
from typing import TYPE_CHECKING, Any

from attrs import asdict, define, field

from rollout_sdk.assignment import INTERVAL, LONGEST_ID, canonical
from rollout_sdk.concurrency.context_vars import collected
from rollout_sdk.concurrency.forking import fresh_bits, fresh_random, notice_fork, same_process
from rollout_sdk.engine.ambient import Around, look
from rollout_sdk.engine.arguments import Named
from rollout_sdk.engine.call import Call
from rollout_sdk.engine.context import in_shadow
from rollout_sdk.engine.copies.kinds import PLAIN
from rollout_sdk.engine.copies.survey import changeable, is_lasting
from rollout_sdk.engine.current import Current, current_call, enclosing, set_call, set_call_and_copy
from rollout_sdk.engine.flow import keep_stream, resume, submit_shadows
from rollout_sdk.engine.shadows.shadow import ShadowRun, prepared
from rollout_sdk.engine.steps import NO_KWARGS, Flow, Invoke, Result
from rollout_sdk.records import Decision
from rollout_sdk.resilience.interruptions import is_fault

if TYPE_CHECKING:
    from rollout_sdk.control.state import RolloutState
    from rollout_sdk.engine.rollout import Rollout
    from rollout_sdk.engine.routing import Router
    from rollout_sdk.resilience.breaker import CircuitBreaker

__all__ = ["Arm", "Common", "CommonCall", "Plan", "answered", "continued", "step_of"]

# Bound here, and other functions to a local name where they are called: Python 3.11 looks up a method of an imported object,
# and a function in a slot, in five times the time.
_last = current_call.get
_make_current = current_call.set
_aside = in_shadow.get
_number = int.from_bytes


@define(eq=False)
class Plan:
    """What the calls of a rollout have in common for as long as it stays in one state.

    Attributes:
        rollout: The rollout.
        state: The state that the plan was made for.
        origin: The part of decision ids that the process has in common.
        has_unit: Whether calls name their unit.
        bounds: Where, on the scale of digests, each arm but the first begins.
        arms: The arms by position; empty if no call is common.
        shadow: Share of the control's calls that are shadowed.
        shadowed: As `arms`, for calls that are.
        looks: Whether it matters to any arm that an argument can change, or be read only once: the control may have to run on
            what a candidate leaves of it.
    """

    rollout: Rollout
    state: RolloutState
    origin: str
    has_unit: bool
    bounds: Sequence[bytes] = ()
    arms: Sequence[Arm] = ()
    shadow: float = 0.0
    shadowed: Sequence[Arm] = ()
    looks: bool = False


@define(eq=False)
class Arm:
    """One piece of the unit interval under a plan.

    Attributes:
        plan: The plan.
        decision: The decision of its calls.
        is_control: Whether the control answers.
        is_straight: Whether one variant answers and nothing else runs, not even in the background.
        looks: Whether it matters to its calls; see `Plan`.
        breaker: Circuit breaker of the candidate that answers; None without.
    """

    plan: Plan
    decision: Decision
    looks: bool
    is_control: bool = field(init=False)
    is_straight: bool = field(init=False)
    breaker: CircuitBreaker | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Precompute what a call asks."""
        rollout, variant = self.plan.rollout, self.decision.variant
        self.is_control = variant == rollout.control
        self.is_straight = not self.decision.shadows
        self.breaker = rollout.local_state.breakers.get(variant)


_finished: dict[int, Call] = {}
"""Calls that are being made of common ones, by the id of the common one: a slot cannot be set only where it is empty."""


class CommonCall:
    """A common call, a quarter of the size of a `Call`; `full` makes one of it when more is asked for.

    Attributes:
        arm: Its arm.
        kwargs: Its keyword arguments; `NO_KWARGS` once it has ended.
        raw: Its digest, as bytes; it is converted to a number only if needed, after the call has ended.
        time_ns: Time of the decision, in nanoseconds since 1970.
        duration_s: Seconds that its variant ran; unset before it has answered.
        sequence: The number in its id.
        outer: As in `Call`.
        ticket: Of its candidate, the ticket of the circuit breaker; unset without one.
        around: Of its candidate, the surroundings before it ran; unset where they do not matter, None once it has answered.
        shadows: Its runs in the background; unset without any, empty once they are submitted.
    """

    __slots__ = (
        *("_full", "arm", "around", "duration_s", "kwargs", "outer", "raw", "sequence", "shadows", "ticket"),
        "time_ns",
    )

    span = None
    weight = 1
    level = 0
    is_blended = False

    arm: Arm
    kwargs: Mapping[str, Any]
    raw: bytes
    time_ns: int
    sequence: int
    duration_s: float
    outer: Current | None
    ticket: int
    around: Around | None
    shadows: Sequence[ShadowRun]
    _full: Call

    @property
    def variant(self) -> str:
        """The variant that answers."""
        return self.arm.decision.variant

    @property
    def rollout(self) -> Rollout:
        """The rollout."""
        return self.arm.plan.rollout

    @property
    def digest(self) -> int:
        """As in `RouteRequest`."""
        return _number(self.raw)

    @property
    def full(self) -> Call:
        """The call as all others are."""
        call: Call | None = getattr(self, "_full", None)
        if call is None:
            plan, rollout = self.arm.plan, self.rollout
            call = Call.__new__(Call)
            call.rollout, call.outline, call.args, call.kwargs = rollout, rollout.outline, (), self.kwargs
            call.phase, call.digest, call.has_unit = plan.state.phase, self.digest, plan.has_unit
            call.point, call.decision, call.served = (self.digest >> 32) / INTERVAL, self.arm.decision, rollout.control
            call.origin, call.sequence, call.time_ns = plan.origin, self.sequence, self.time_ns
            call.outer = self.outer
            # The recorder, shadows and the model ask in their own threads, and all get the one that was finished first.
            first = _finished.setdefault(id(self), call)
            call = self._full = getattr(self, "_full", first)
            _finished.pop(id(self), None)
        if (duration_s := getattr(self, "duration_s", None)) is not None:
            call.kwargs, call.served, call.runs = NO_KWARGS, self.variant, ((self.variant, duration_s, None, None),)
        return call

    def described(self, args: tuple[Any, ...], draw: float | None) -> Call:
        """Return the call for the flow, with its arguments and what was drawn for its shadows."""
        call = self.full
        call.args, call._draw = args, draw  # noqa: SLF001 - it is a request
        return call

    def full_decision(self) -> Decision:
        """As in `Call`."""
        return self.full.full_decision()

    @property
    def came_out(self) -> tuple[int, ...]:
        """As in `Call`."""
        return self.full.came_out

    @came_out.setter
    def came_out(self, noted: tuple[int, ...]) -> None:
        self.full.came_out = noted

    def drawn(self, rate: float) -> Call | None:
        """As in `Call`."""
        return self.full.drawn(rate)


def step_of(call: CommonCall, args: tuple[Any, ...]) -> Invoke:
    """Return the step that runs the variant of a call, as the flow makes it: with the gate and the breaker of a candidate."""
    arm = call.arm
    rollout, variant = arm.plan.rollout, arm.decision.variant
    step = Invoke(variant, rollout.functions[variant], args, call.kwargs)
    if not arm.is_control:
        step.gate, step.deadline_s, step.breaker = rollout.local_state, rollout.deadline_s, arm.breaker
        if arm.breaker is not None:
            step.ticket = call.ticket
        step.around = getattr(call, "around", None)
    return step


class Common:
    """Starts and ends the common calls of one rollout."""

    __slots__ = (
        *(
            "_default",
            "_has_unit",
            "_hasher",
            "_index",
            "_name",
            "_owner",
            "_plan",
            "_restores",
            "_rollout",
            "_router",
            "_shared",
        ),
        *("is_possible", "stands_aside"),
    )

    def __init__(self, router: Router, rollout: Rollout, owner: Any) -> None:
        """Make the first plan.

        Args:
            router: Describes and decides calls that are not common.
            rollout: The rollout.
            owner: Has this object as `common`, also in another process.
        """
        self._router = router
        self._rollout = rollout
        self._owner = owner
        # Of a text, whose canonical form begins with an "s".
        self._hasher = router.hash.prepared.copy()
        self._hasher.update(b"s")
        # Reading any other unit is the application's code, which must not run twice. One by keyword only is behind all others.
        named = router.unit if isinstance(router.unit, Named) else None
        self._has_unit, self._index, self._name, self._default = named is not None, maxsize, "", None
        if named is not None:
            self._name, self._default = named.name, named.default
            self._index = maxsize if named.index < 0 else named.index
        self._shared = router.shared
        self._restores = rollout.on_error == "control"
        # Whether the flow begins every call: while a test fixes decisions, by another way to route.
        self.stands_aside = False
        self.is_possible = (
            router.is_plain
            and router.shadow_share is not None
            and (router.unit is None or self._has_unit)
            and not (router.is_asgi and router.runs_twice)
            and rollout.decided is None
            and rollout.failed_if is None
            and rollout.measure is None
            and not (rollout.by_row or rollout.clocked or rollout.surrounds)
        )
        self._plan = self._planned(rollout.state)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the owner, which makes another in its process."""
        return attrgetter("common"), (self._owner,)

    def stand_aside(self, *, aside: bool) -> None:
        """Let the flow begin every call, or no longer."""
        self.stands_aside = aside
        self._plan = self._planned(self._rollout.local_state.state)

    def _planned(self, state: RolloutState) -> Plan:
        """Decide what no call has to decide."""
        router, rollout, phase = self._router, self._rollout, state.phase
        plan = Plan(rollout, state, rollout.nonces.origin, has_unit=self._has_unit)
        if not self.is_possible or self.stands_aside or router.shadow_share is None or state.stopped:
            return plan
        decisions, shadowed, shadow = phase.split.decisions, phase.split.shadowed, router.shadow_share(phase)
        if all(map(router.accepts, (*decisions, *shadowed))) and (not shadow or router.effects == "read"):
            # Digests are compared as bytes, the most significant first.
            plan.bounds = [(low << 32).to_bytes(8, "big") for low in phase.split.bounds]
            plan.arms = [self._arm(plan, decision) for decision in decisions]
            plan.shadow, plan.shadowed = shadow, [self._arm(plan, decision) for decision in shadowed]
            plan.looks = any(arm.looks for arm in (*plan.arms, *plan.shadowed))
        return plan

    def _arm(self, plan: Plan, decision: Decision) -> Arm:
        return Arm(plan, decision, looks=self._router.looks_at(decision))

    def _renewed(self) -> Plan | None:
        """Return the plan of the rollout's state as it is now; None if its calls are not common now."""
        if not same_process[0]:
            notice_fork()
        rollout, plan = self._rollout, self._plan
        state, audience, health = rollout.local_state.state, rollout.audience, rollout.health
        if plan.state is not state or plan.origin is not rollout.nonces.origin:
            plan = self._plan = self._planned(state)
        is_calm = (
            audience.is_quiet is True
            and _aside() is False
            and not rollout.nonces.load.level
            and (health is None or not health.share)
        )
        return plan if is_calm and plan.arms else None

    def begin(  # noqa: C901, PLR0912, PLR0915 - one frame, as the flow: each function more costs a tenth of the call
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> CommonCall | Call | None:
        """Describe and decide a call, and make it current.

        Returns:
            The call, if one variant is all that runs; a `Call` for the flow, if more does; None if the flow must begin it: then
            nothing observable has happened.
        """
        plan, rollout = self._plan, self._rollout
        try:
            # What may change between two calls of a plan, as one condition: nearly always, nothing has.
            if (
                not same_process[0]
                or plan.state is not rollout.local_state.state
                or rollout.audience.is_quiet is not True
                or _aside() is not False
                or (nonces := rollout.nonces).load.level
                or plan.origin is not nonces.origin
                or ((health := rollout.health) is not None and health.share)
                or not plan.arms
            ):
                renewed = self._renewed()
                if renewed is None:
                    return None
                plan, nonces = renewed, rollout.nonces
            changes = False
            if plan.looks:
                shared = self._shared
                for value in (*args[shared:], *kwargs.values()) if kwargs or shared else args:
                    if type(value) in PLAIN:
                        continue
                    # What can be read only once is the control's in every arm, and not analysed.
                    if not is_lasting(changeable(args, kwargs, shared)):
                        return None
                    changes = True
                    break
            if self._has_unit:
                # What `Named` gives, and `canonical` makes of it: almost every unit is a short text.
                index = self._index
                unit = args[index] if index < len(args) else kwargs.get(self._name, self._default)
                kind = type(unit)
                if kind is not self._router.unit_type:
                    return None
                if kind is str and unit.isascii() and 0 < len(unit) <= LONGEST_ID:
                    raw = unit.encode()
                elif (known := canonical(unit)) is not None and known.startswith(b"s"):
                    raw = known[1:]
                else:
                    return None
                hasher = self._hasher.copy()
                hasher.update(raw)
                raw = hasher.digest()
            else:
                raw = fresh_bits().to_bytes(8, "big")
            arms, draw = plan.arms, None
            if plan.shadow and (draw := fresh_random()) < plan.shadow:
                arms = plan.shadowed
            call = CommonCall()
            call.arm = arm = arms[bisect_right(plan.bounds, raw)]
            call.raw = raw
            call.kwargs = kwargs
            call.sequence = next(nonces.sequence)
            time_ns = rollout.time_ns
            call.time_ns = time_ns()
            last = _last()
            # Usually an earlier call that has ended and had no enclosing call.
            call.outer = None if last is None or (last.kwargs is NO_KWARGS and last.outer is None) else enclosing(last)
            if not arm.is_straight or (changes and not arm.is_control):
                return self._beside(call, args) if arm.is_control else self._more(call, args, draw)
            if arm.is_control:
                if collected.inside:
                    set_call(call)
                else:
                    _make_current(call)
                return call
            if (breaker := arm.breaker) is not None:
                ticket = breaker.ticket
                if ticket is None:
                    return self._more(call, args, draw)
                call.ticket = ticket
            if not self._restores:
                set_call(call)
            elif collected.inside:
                call.around = look(set_call_and_copy(call))
            else:
                _make_current(call)
                call.around = look(copy_context())
        # The flow meets the same fault, and deals with it.
        except BaseException as error:
            if not is_fault(error):
                raise
            return None
        return call

    def _beside(self, call: CommonCall, args: tuple[Any, ...]) -> CommonCall:
        """Return a call that the control answers, with what runs in the background prepared."""
        if collected.inside:
            set_call(call)
        else:
            _make_current(call)
        call.shadows = prepared(call, self._rollout, call.arm.decision.shadows, args, call.kwargs)
        return call

    def _more(self, call: CommonCall, args: tuple[Any, ...], draw: float | None) -> Call:
        """Return a call for the flow: more than one variant runs, or may have to; or its breaker is open."""
        full = call.described(args, draw)
        if call.arm.looks:
            full.decision = self._router.looked_at(full, full.decision)
        return full

    def assigned(self, unit: object) -> Decision | None:
        """Return the decision that a unit would get now, which makes its id when it is read; None if the router must decide."""
        plan, rollout = self._plan, self._rollout
        if not same_process[0] or plan.state is not rollout.local_state.state or plan.origin is not rollout.nonces.origin:
            self._renewed()
            plan = self._plan
        kind = type(unit)
        if not plan.arms or not plan.has_unit or _aside() is not False or kind is not self._router.unit_type:
            return None
        if kind is str and unit.isascii() and 0 < len(unit) <= LONGEST_ID:  # type: ignore[attr-defined, arg-type]
            hasher = self._hasher.copy()
            hasher.update(unit.encode())  # type: ignore[attr-defined]
            raw = hasher.digest()
        elif (known := canonical(unit)) is not None:
            raw = self._router.hash(known).to_bytes(8, "big")
        else:
            return None
        arms = plan.arms
        if plan.shadow and fresh_random() < plan.shadow:
            arms = plan.shadowed
        arm = arms[bisect_right(plan.bounds, raw)]
        time_ns = rollout.time_ns
        return Decision.later(_decided, arm, raw, time_ns(), next(rollout.nonces.sequence))


def _decided(arm: Arm, raw: bytes, time_ns: int, sequence: int) -> Mapping[str, Any]:
    """Return the fields of the decision that a call would have."""
    call = CommonCall()
    call.arm, call.raw, call.time_ns, call.sequence = arm, raw, time_ns, sequence
    call.kwargs, call.outer = NO_KWARGS, None
    return asdict(call.full_decision(), recurse=False)


def answered(call: CommonCall, rollout: Rollout, duration_s: float, value: Any) -> None:
    """Record a call that has been answered: what the flow does at its end, without what such a call never has.

    Args:
        call: The call.
        rollout: Its rollout.
        duration_s: Seconds that its variant ran.
        value: The answer.
    """
    arm = call.arm
    try:
        if not arm.is_control:
            if arm.breaker is not None:
                arm.breaker.note(call.ticket, failed=False)
            # They hold the call.
            call.around = None
        # A model that ran in the same context may have called another rollout.
        if _last() is not call:
            set_call(call)
        call.duration_s, call.kwargs = duration_s, NO_KWARGS
        if not arm.is_straight:
            submit_shadows(call.shadows, Result(arm.decision.variant, duration_s, value))
            call.shadows = ()
        take = rollout.take
        take(call)
    except BaseException as error:
        if not is_fault(error):
            raise
        rollout.failed("engine.flow", error)


def continued(common: CommonCall, args: tuple[Any, ...]) -> tuple[Call, Flow, Invoke]:
    """Hand a call to the flow whose variant has run, and failed or given what is still to be read.

    Args:
        common: The call.
        args: Its arguments.

    Returns:
        The call, its flow, which waits for the result of its first step, and that step.
    """
    call = common.described(args, None)
    step = step_of(common, args)
    if not common.arm.is_straight:
        call.shadows, common.shadows = common.shadows, ()
        try:
            step.keep = keep_stream(call)
        except BaseException as error:
            if not is_fault(error):
                raise
            call.rollout.failed("engine.flow", error)
    # For tasks that the control has started: they are inside this call.
    common.kwargs, common.outer, common.around = NO_KWARGS, call, None
    if _last() is common:
        set_call(call)
    flow = resume(call, step)
    next(flow)
    return call, flow, step
