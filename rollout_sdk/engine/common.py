"""The common call, straight: one variant answers, nothing is copied, and no span or log line is wanted.

Most calls are like that, and the flow (engine/flow.py), a generator that can do everything, costs them three times as much as
all that they need. So what depends only on the rollout, its state and its listeners is decided when one of these changes, in a
`Plan`; such a call then reads one page of code: `Common.begin`, the first branch of a driver, and `answered`. The flow stays
the specification: a call that is not common, or is not any more, is handed to it; tests/engine/test_common.py holds both alike.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from attrs import asdict, define, field

from rollout_sdk.assignment import INTERVAL, LONGEST_ID, canonical
from rollout_sdk.concurrency.forking import notice_fork, same_process
from rollout_sdk.engine.ambient import look
from rollout_sdk.engine.arguments import Named
from rollout_sdk.engine.call import Call
from rollout_sdk.engine.context import in_shadow
from rollout_sdk.engine.copies.kinds import PLAIN
from rollout_sdk.engine.current import Current, current_call, enclosing, set_call, set_call_and_copy
from rollout_sdk.engine.flow import resume
from rollout_sdk.engine.routing import fresh_bits, fresh_random
from rollout_sdk.engine.steps import NO_KWARGS, Flow, Invoke
from rollout_sdk.records import Decision
from rollout_sdk.resilience.interruptions import is_fault

if TYPE_CHECKING:
    from rollout_sdk.control.state import RolloutState
    from rollout_sdk.engine.rollout import Rollout
    from rollout_sdk.engine.routing import Router
    from rollout_sdk.resilience.breaker import CircuitBreaker

__all__ = ["Arm", "Common", "CommonCall", "Plan", "answered", "continued"]

# Bound here, and other functions to a local name where they are called: Python 3.11 looks up a method of an imported object,
# and a function in a slot, in five times the time.
_last = current_call.get
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
        looks: Whether a call is common only if no argument can change: a candidate that fails may have changed it.
    """

    rollout: Rollout
    state: RolloutState
    origin: str
    has_unit: bool
    bounds: Sequence[int] = ()
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
        is_straight: Whether one variant answers and nothing else runs.
        breaker: Circuit breaker of the candidate that answers; None without.
    """

    plan: Plan
    decision: Decision
    is_control: bool = field(init=False)
    is_straight: bool = field(init=False)
    breaker: CircuitBreaker | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Precompute what a call asks."""
        rollout, variant = self.plan.rollout, self.decision.variant
        self.is_control = variant == rollout.control
        self.is_straight = not self.decision.shadows
        self.breaker = rollout.local_state.breakers.get(variant)


class CommonCall:
    """A common call, in a quarter of the room of a `Call`; `full` is made of it for everybody who wants to know more.

    Attributes:
        arm: Its arm.
        kwargs: Its keyword arguments; `NO_KWARGS` once it has ended.
        digest: As in `RouteRequest`.
        time_ns: Time of the decision, in nanoseconds since 1970.
        duration_s: Seconds that its variant ran; unset before it has answered.
        sequence: The number in its id.
        outer: As in `Call`.
        step: The step that runs its candidate; unset if its control runs.
    """

    __slots__ = ("_full", "arm", "digest", "duration_s", "kwargs", "outer", "sequence", "step", "time_ns")

    span = None
    weight = 1
    level = 0

    arm: Arm
    kwargs: Mapping[str, Any]
    digest: int
    time_ns: int
    sequence: int
    duration_s: float
    outer: Current | None
    step: Invoke
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
    def full(self) -> Call:
        """The call as all others are."""
        call: Call | None = getattr(self, "_full", None)
        if call is None:
            plan, rollout = self.arm.plan, self.rollout
            call = self._full = Call.__new__(Call)
            call.rollout, call.outline, call.args, call.kwargs = rollout, rollout.outline, (), self.kwargs
            call.phase, call.digest, call.has_unit = plan.state.phase, self.digest, plan.has_unit
            call.point, call.decision, call.served = (self.digest >> 32) / INTERVAL, self.arm.decision, rollout.control
            call.origin, call.sequence, call.time_ns = plan.origin, self.sequence, self.time_ns
            call.outer = self.outer
        if (duration_s := getattr(self, "duration_s", None)) is not None:
            call.kwargs, call.served, call.runs = NO_KWARGS, self.variant, ((self.variant, duration_s, None, None),)
        return call

    def described(self, args: tuple[Any, ...], draw: float | None) -> Call:
        """Return the call for the flow, with its arguments and what was drawn for its shadows."""
        call = self.full
        call.args, call._draw = args, draw  # noqa: SLF001 - it is a request
        return call

    def decided(self) -> Mapping[str, Any]:
        """Return the fields of its decision."""
        return asdict(self.full_decision(), recurse=False)

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


def _attempted(call: CommonCall, args: tuple[Any, ...]) -> Invoke:
    """Make a call current whose candidate runs next; return the step that runs it, with its gate and its circuit breaker.

    Raises:
        LookupError: The breaker has opened since it was looked at.
    """
    arm = call.arm
    rollout, variant, breaker = arm.plan.rollout, arm.decision.variant, arm.breaker
    step = Invoke(variant, rollout.functions[variant], args, call.kwargs)
    step.gate, step.deadline_s, step.breaker = rollout.local_state, rollout.deadline_s, breaker
    if breaker is not None:
        ticket = breaker.admit()
        if ticket is None:
            raise LookupError(variant)
        step.ticket = ticket
    if rollout.on_error == "control":
        step.around = look(set_call_and_copy(call))
    else:
        set_call(call)
    return step


class Common:
    """Starts and ends the common calls of one rollout."""

    __slots__ = ("_hasher", "_named", "_owner", "_plan", "_rollout", "_router", "is_possible", "stands_aside")

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
        # Reading any other unit is the application's code, which must not run twice.
        self._named = router.unit if isinstance(router.unit, Named) else None
        # Whether the flow begins every call: while a test fixes decisions, by another way to route.
        self.stands_aside = False
        self.is_possible = (
            router.is_plain
            and router.shadow_share is not None
            and (router.unit is None or self._named is not None)
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
        plan = Plan(rollout, state, rollout.nonces.origin, has_unit=self._named is not None)
        if not self.is_possible or self.stands_aside or router.shadow_share is None or state.stopped:
            return plan
        decisions, shadowed, shadow = phase.split.decisions, phase.split.shadowed, router.shadow_share(phase)
        if all(map(router.accepts, (*decisions, *shadowed))) and (not shadow or router.effects == "read"):
            plan.bounds = [low << 32 for low in phase.split.bounds]
            plan.arms = [Arm(plan, decision) for decision in decisions]
            plan.shadow, plan.shadowed = shadow, [Arm(plan, decision) for decision in shadowed]
            plan.looks = router.runs_twice and any(
                decision.reason == "split" or decision.variant != rollout.control for decision in decisions
            )
        return plan

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

    def begin(  # noqa: C901, PLR0912 - one frame, as the flow: each function more costs a tenth of the call
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
                plan = renewed
            if plan.looks:
                shared = self._router.shared
                for value in (*args[shared:], *kwargs.values()) if kwargs or shared else args:
                    if type(value) not in PLAIN:
                        return None
            named = self._named
            if named is None:
                digest = fresh_bits()
            else:
                # What `named(args, kwargs)` gives, and `canonical` makes of it: almost every unit is a short text.
                unit = args[named.index] if 0 <= named.index < len(args) else kwargs.get(named.name, named.default)
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
                digest = _number(hasher.digest(), "big")
            arms, draw = plan.arms, None
            if plan.shadow and (draw := fresh_random()) < plan.shadow:
                arms = plan.shadowed
            call = CommonCall()
            call.arm = arm = arms[bisect_right(plan.bounds, digest)]
            time_ns = rollout.time_ns
            call.kwargs, call.digest, call.time_ns, call.sequence = kwargs, digest, time_ns(), next(rollout.nonces.sequence)
            last = _last()
            # Usually an earlier call that has ended and had no enclosing call.
            call.outer = None if last is None or (last.kwargs is NO_KWARGS and last.outer is None) else enclosing(last)
            if not arm.is_straight or ((breaker := arm.breaker) is not None and breaker.is_open):
                return call.described(args, draw)
            if arm.is_control:
                set_call(call)
            else:
                call.step = _attempted(call, args)
        # The flow meets the same fault, and deals with it.
        except BaseException as error:
            if not is_fault(error):
                raise
            return None
        return call

    def assigned(self, unit: object) -> Decision | None:
        """Return the decision that a unit would get now, which makes its id when it is read; None if the router must decide."""
        plan, rollout = self._plan, self._rollout
        if not same_process[0] or plan.state is not rollout.local_state.state or plan.origin is not rollout.nonces.origin:
            self._renewed()
            plan = self._plan
        if not plan.arms or not plan.has_unit or _aside() is not False or type(unit) is not self._router.unit_type:
            return None
        raw = canonical(unit)
        if raw is None:
            return None
        call, arms = CommonCall(), plan.arms
        if plan.shadow and fresh_random() < plan.shadow:
            arms = plan.shadowed
        call.digest = digest = self._router.hash(raw)
        call.arm, call.kwargs, call.outer = arms[bisect_right(plan.bounds, digest)], NO_KWARGS, None
        call.time_ns, call.sequence = rollout.time_ns(), next(rollout.nonces.sequence)
        return Decision.later(call.decided)


def answered(call: CommonCall, duration_s: float) -> None:
    """Record a call that has been answered: what the flow does at its end, without what such a call never has.

    Args:
        call: The call.
        duration_s: Seconds that its variant ran.
    """
    arm = call.arm
    rollout = arm.plan.rollout
    try:
        if not arm.is_control:
            if arm.breaker is not None:
                arm.breaker.note(call.step.ticket, failed=False)
            # It holds the arguments.
            del call.step
        # A model that ran in the same context may have called another rollout.
        if _last() is not call:
            set_call(call)
        call.duration_s, call.kwargs = duration_s, NO_KWARGS
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
    # For tasks that the control has started: they are inside this call.
    common.kwargs, common.outer = NO_KWARGS, call
    if _last() is common:
        set_call(call)
    step = call.invoke(call.served) if common.arm.is_control else common.step
    flow = resume(call, step)
    next(flow)
    return call, flow, step
