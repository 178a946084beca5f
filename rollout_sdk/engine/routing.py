"""The first two steps of a call: build the request, and decide it.

Decisions that outrank the strategy are made here, in this order: an abort, a call inside a shadow or a fallback, an override, a
missing unit, the holdout, the layer's slot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from numbers import Number
from typing import Any, Literal

from attrs import define, evolve, field

from rollout_sdk.assignment import (
    INTERVAL,
    Layer,
    Phase,
    RouteRequest,
    UnitHash,
    canonical,
    holdout_point,
    kind_of,
)
from rollout_sdk.concurrency.forking import fresh_bits
from rollout_sdk.concurrency.synchronous import answered
from rollout_sdk.control.draining import DRAINING
from rollout_sdk.control.state import RolloutState
from rollout_sdk.engine.arguments import Getter
from rollout_sdk.engine.call import Call
from rollout_sdk.engine.context import OBSERVING, in_shadow
from rollout_sdk.engine.copies.kinds import PLAIN
from rollout_sdk.engine.copies.survey import Survey, changeable
from rollout_sdk.engine.covariates import Covariate
from rollout_sdk.engine.segments import Segments
from rollout_sdk.engine.steps import NO_KWARGS
from rollout_sdk.engine.unusable import why_unusable
from rollout_sdk.exceptions import MissingUnitError
from rollout_sdk.formatting import brief
from rollout_sdk.records import Decision
from rollout_sdk.resilience.faults import STRATEGY
from rollout_sdk.resilience.interruptions import is_fault

__all__ = ["Override", "OverridesByUnit", "Router"]

Override = Mapping[Any, str] | Callable[..., str | None] | None
"""Fixed variants: by unit, or by a callable with the function's own parameters (None: not fixed)."""

_MOST_KNOWN = 256


_MAY_BE_ABSENT = (str, bytes, bytearray, Number)
"""Types of which a value can be empty, or not a number: then the call has no user, which is normal."""
_WITHOUT = {
    "control": "no_unit: the control answers them, and they are not analysed",
    "random": "each is drawn by itself",
    "raise": "an error",
}


class OverridesByUnit(Mapping[Any, str]):
    """Variants by unit, compared in canonical form: 42 and "42" are the same unit."""

    def __init__(self, variants: Mapping[Any, str]) -> None:
        """Canonicalise the units that the decorator was given."""
        self._variants = {canonical(unit): variant for unit, variant in variants.items()}

    def __getitem__(self, unit: Any) -> str:
        """Return the variant of a unit."""
        return self._variants[canonical(unit)]

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the units in canonical form."""
        return iter(self._variants)

    def __len__(self) -> int:
        """Return the number of units with a variant."""
        return len(self._variants)


@define(slots=True, kw_only=True, eq=False)
class Router:
    """Builds the requests of one rollout and decides them.

    Attributes:
        key: Key of the rollout.
        control: Name of the control.
        functions: The variants by name.
        unit: Extracts the unit from the arguments; None if each call is its own unit.
        missing_unit: Treatment of a call without its unit.
        hash: The rollout's (or its layer's) hash.
        layer: The slot of the layer, or None.
        holdout: Share of the units that always get the control and are not analysed.
        override: Fixed variants.
        route: `rollout_route`, resolved and guarded.
        effects: Declared side effects of running a variant.
        runs_twice: Whether the control runs on the same arguments after a candidate failed.
        failed: Called with every fault of a collaborator.
        keeps_unit: Whether spans may name the unit.
        covariate: Reads the covariate, or None.
        segments: Reads the segments, or None.
        shared: Number of leading positional arguments to ignore (a method's `self`).
        is_asgi: Whether the function is an ASGI application, whose calls each read a request.
        shadow_share: If `route` does nothing but split units by the phase's lanes: the share of the control's calls that it
            shadows in a phase.
        drains: Whether conversations end on their candidate while the rollout is paused or replaced.
        unit_type: Type of the last unit.
        unit_path: The dotted path to the unit; empty where it is not one.
    """

    key: str
    control: str
    functions: Mapping[str, Callable[..., Any]]
    unit: Getter | None
    missing_unit: Literal["control", "random", "raise"]
    hash: UnitHash
    layer: Layer | None
    holdout: float
    override: Override
    route: Callable[[RouteRequest], Decision | None]
    effects: Literal["unknown", "read", "write"]
    runs_twice: bool
    failed: Callable[..., None]
    keeps_unit: bool = False
    covariate: Covariate | None = None
    segments: Segments | None = None
    shared: int = 0
    is_asgi: bool = False
    shadow_share: Callable[[Phase], float] | None = None
    drains: bool = False
    unit_path: str = ""
    unit_type: type | None = field(init=False, default=None)
    _candidates: frozenset[str] = field(init=False)
    _has_rules: bool = field(init=False)
    _fixed: dict[tuple[str, str], Decision] = field(init=False, factory=dict)
    _known: dict[int, Decision] = field(init=False, factory=dict)
    _unit_kinds: set[str] = field(init=False, factory=set)
    _has_missed: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        """Precompute the candidates and whether any rule outranks the strategy."""
        self._candidates = frozenset(self.functions) - {self.control}
        self._has_rules = self.override is not None or self.holdout > 0

    @property
    def has_no_rules(self) -> bool:
        """Whether only the strategy decides, and the unit is not kept."""
        return not self._has_rules and self.layer is None and not self.keeps_unit and not self.drains

    @property
    def is_plain(self) -> bool:
        """Whether only the strategy decides, and only the unit is read."""
        return self.has_no_rules and self.covariate is None and self.segments is None

    def unit_of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return the unit named by a call, or None."""
        if self.unit is None:
            return None
        try:
            return self.unit(args, kwargs)
        except BaseException as error:
            if not is_fault(error):
                raise
            self.failed("unit", error)
            return None

    def __call__(self, call: Call, unit: Any, state: RolloutState) -> None:
        """Fill in the call's request and decision. The caller reads `state` once, so that a call sees a single phase.

        Raises:
            MissingUnitError: The call has no unit, and `missing_unit` is "raise".
        """
        raw = None if unit is None else canonical(unit)
        if raw is None:
            digest = fresh_bits()
        else:
            hasher = self.hash.prepared.copy()
            hasher.update(raw)
            digest = int.from_bytes(hasher.digest(), "big")
            if type(unit) is not self.unit_type:
                self.meet(unit, call.rollout.note)
        point = (digest >> 32) / INTERVAL
        layer = self.layer
        outside = layer is not None and not layer.has(point)
        if layer is not None:
            point = layer.position(point)
        call.phase, call.digest, call.point = state.phase, digest, point
        call.has_unit = raw is not None
        if self.keeps_unit:
            call.said_unit = unit
        chosen: Decision | None = None
        # Checked inline, so that a rollout without such rules does not pay for a function call.
        if self._has_rules or raw is None or outside or in_shadow.get() is not False or state.stopped:
            chosen = self._ruled(call, unit, state, outside=outside)
        if chosen is None:
            decision = self.route(call)
            known = decision is not None and self._known.get(id(decision)) is decision
            chosen = decision if known else self._checked(decision)
        assert chosen is not None
        if self.looks_at(chosen):
            chosen = self.looked_at(call, chosen)
        if self.drains:
            chosen = self._drained(call, chosen, state)
        call.decision = chosen

    def looks_at(self, decision: Decision) -> bool:
        """Whether the arguments of a call with this decision are looked at: others may run on what one variant leaves of them.

        This applies to both arms: excluding only the candidate's calls would compare different inputs.
        """
        return (self.runs_twice and (decision.reason == "split" or decision.variant != self.control)) or bool(decision.blend)

    def looked_at(self, call: Call, chosen: Decision) -> Decision:
        """Return the decision, or the control's if an argument can be read only once; survey what can change."""
        shared = self.shared
        for value in (*call.args[shared:], *call.kwargs.values()) if call.kwargs or shared else call.args:
            if type(value) not in PLAIN:
                return self._unless_read_once(call, chosen)
        return chosen

    def _drained(self, call: Call, chosen: Decision, state: RolloutState) -> Decision:
        """Return the decision, or while the rollout drains, that of a conversation that goes on, or of the control."""
        local_state = call.rollout.local_state
        if local_state.draining is None:
            return chosen
        digest = call.digest if call.has_unit else None
        kept = local_state.draining.decide(digest, chosen, state, is_replaced=local_state.replaced)
        return chosen if kept is None else self.fixed(DRAINING, kept)

    def meet(self, unit: object, note: Callable[[str], None]) -> None:
        """Register a unit whose type differs from the last one's; report the first change of its canonical kind."""
        self.unit_type = type(unit)
        kind = kind_of(unit)
        if kind in self._unit_kinds:
            return
        self._unit_kinds.add(kind)
        if len(self._unit_kinds) == 2:
            kinds = " and as ".join(sorted(self._unit_kinds))
            note(
                f"Units of {self.key!r} come as {kinds}. A unit is its text: 42 is '42', but '042', b'42' and ('42',) are not. "
                "If both mean the same users, pass their ids in one form."
            )

    def miss(self, unit: object, note: Callable[[str], None]) -> None:
        """Report the first call whose unit cannot be one, or is not where its path says; calls without a user are normal."""
        if unit is None and self.unit_path:
            what = f"unit={self.unit_path!r} of {self.key!r} leads to nothing in a call: no such attribute or key, or None."
        elif unit is None or isinstance(unit, _MAY_BE_ABSENT) or (type(unit) is tuple and not unit):
            return
        else:
            what = (
                f"unit= of {self.key!r} gives a {type(unit).__qualname__}, which is not a unit. A unit is a non-empty text, a "
                "number, a UUID, a date, bytes or a tuple of these."
            )
        self._has_missed = True
        cure = "Name what identifies the user: a parameter, a path into one, or a callable."
        note(f"{what} Such calls have no unit ({_WITHOUT[self.missing_unit]}). {cure}")

    def _unless_read_once(self, call: Call, chosen: Decision) -> Decision:
        """Return the decision, or the control's if an argument can be read only once: a fallback could not read it again."""
        if call.survey is None:
            call.survey = Survey(changeable(call.args, call.kwargs, self.shared))
        what = "ASGI receive" if self.is_asgi else call.survey.once
        if what is None:
            return chosen
        call.rollout.note(
            f"A call of {self.key!r} has an argument that can be read only once ({what}). The control answers such calls, and "
            "they are not analysed, because a failed candidate would leave nothing to read. Read it before the call and "
            "pass the content, or set on_error='raise', with which nothing runs twice."
        )
        return self.fixed("one_shot")

    def _ruled(self, call: Call, unit: Any, state: RolloutState, *, outside: bool) -> Decision | None:
        """Return the decision of a rule that outranks the strategy, or None."""
        inside = in_shadow.get()
        if inside is OBSERVING:
            call.observed = False
        if state.stopped:
            return self.fixed("aborted")
        # The first part excludes fallbacks that have ended: a task started in one keeps its context.
        if inside is True or (inside is not False and inside.kwargs is not NO_KWARGS):
            return self.fixed("nested")
        if self.override is not None and (variant := self._overridden(unit, call.args, call.kwargs)) is not None:
            return self.fixed("override", variant)
        if not call.has_unit and self.unit is not None:
            if not self._has_missed:
                self.miss(unit, call.rollout.note)
            if self.missing_unit == "raise":
                raise MissingUnitError(
                    f"The call of {self.key!r} has no unit: got {brief(unit)}. With missing_unit='raise', every call must name "
                    "its unit. Pass it, or choose missing_unit='control' or 'random'."
                )
            if self.missing_unit == "control":
                return self.fixed("no_unit")
        if self.holdout and call.has_unit and holdout_point(call.digest) < self.holdout:
            return self.fixed("holdout")
        return self.fixed("layer") if outside else None

    def give_up(self, call: Call, state: RolloutState, reason: str = "error") -> None:
        """Route a call that cannot be described to the control, as its own unit and excluded from analysis."""
        call.phase, call.digest, call.point = state.phase, fresh_bits(), 0.0
        call.has_unit = False
        call.decision = self.fixed(reason)

    def fixed(self, reason: str, variant: str | None = None) -> Decision:
        """Return a decision that the strategy did not make."""
        name = self.control if variant is None else variant
        decision = self._fixed.get((reason, name))
        if decision is None:
            decision = self._fixed[reason, name] = Decision(name, reason)
        return decision

    def _overridden(self, unit: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
        try:
            if isinstance(self.override, Mapping):
                variant = None if unit is None else self.override.get(unit)
            else:
                variant = answered("override=", self.override(*args, **kwargs), (*args, *kwargs.values()))  # type: ignore[misc]
            if variant is None or variant in self.functions:
                return variant
        except BaseException as error:
            if not is_fault(error):
                raise
            self.failed("override", error)
            return None
        # What it gave may be personal: it is not named.
        detail = f"It gave a {type(variant).__name__} that is not one of the variants {', '.join(self.functions)}"
        self.failed("override", LookupError(f"override= gave what is not a variant of {self.key!r}"), detail=detail)
        return None

    def accepts(self, decision: Decision) -> bool:
        """Whether a decision can be executed, but for its shadows, which need effects="read"."""
        return (
            (decision.variant in self.functions or self.control in decision.blend)
            and set(decision.shadows) <= self._candidates
            and set(decision.blend) <= set(self.functions)
            and 0 < decision.propensity <= 1
            and not (decision.blend and self.effects == "write")
        )

    def _checked(self, decision: Decision | None) -> Decision:
        """Return a strategy's decision if it is valid, else the control's; valid ones are cached."""
        if isinstance(decision, Decision) and self.accepts(decision):
            if decision.shadows and self.effects != "read":
                self.failed("effects", PermissionError(f"{self.key!r} is not declared effects='read'"))
                return evolve(decision, shadows=())
            if len(self._known) < _MOST_KNOWN:
                self._known[id(decision)] = decision
            return decision
        if decision is not None:
            self.failed(STRATEGY, TypeError(why_unusable(decision, self.key, tuple(self.functions), self.control)))
        return self.fixed("error")
