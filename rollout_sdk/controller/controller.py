"""The controller of one rollout: decides calls, records outcomes, reports the status, and executes operators' commands."""

from __future__ import annotations

import gc
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from typing import Any, Generic, Literal, ParamSpec, TypeVar, overload

from rollout_sdk.assembly import make_rollout, make_router, make_row_arguments
from rollout_sdk.assignment import Layer, Phase, UnitHash
from rollout_sdk.control.announcing import made
from rollout_sdk.control.local_state import LocalState
from rollout_sdk.control.managed import ManagedRollout
from rollout_sdk.controller.operating import Operated
from rollout_sdk.engine.batches.batch_flow import route_batch
from rollout_sdk.engine.call import Call
from rollout_sdk.engine.drivers import DRIVERS, drive_coroutine, drive_function
from rollout_sdk.engine.flow import route
from rollout_sdk.engine.serving import Serving
from rollout_sdk.exceptions import ConfigurationError, DuplicateKeyError, OutcomeError
from rollout_sdk.formatting import Shown, brief
from rollout_sdk.plan import JUDGE_PREFERENCE
from rollout_sdk.recording import outcomes
from rollout_sdk.recording.outcome_checks import odd_time
from rollout_sdk.records import INTERLEAVED, Decision, Routed
from rollout_sdk.resilience import kill_switch
from rollout_sdk.settings import Settings

__all__ = ["RolloutController"]

_CONTROL_FILE = "control file"
_OTHER_VALUES = (
    "Its candidates were decorated again in this process, with the same code and other values (closures, defaults, arguments "
    "of a partial). One key is one rollout, so their calls are one arm here; another process may begin with other values, and "
    "would be another set of arms in a journal. Give what is one candidate a version=, and another candidate another key=."
)

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


class RolloutController(Operated, Shown, Generic[P, R_co]):
    """One rollout. A decorated function's `function.rollout` is its controller."""

    def __init__(self, settings: Settings) -> None:
        """Build the rollout and register it with its runtime.

        Args:
            settings: The validated options of the decorator.

        Raises:
            ConfigurationError: The settings are invalid; see its subclasses.
        """
        self._settings = settings
        self._runtime = settings.runtime
        self._router = make_router(settings)
        self._rollout = make_rollout(settings)
        self._serving = Serving(settings, self._router, self._rollout, make_row_arguments(settings), _restored_serving)
        self._register()

    def _register(self) -> None:
        if self._clash() is not None:
            clash = self._clash_of_survivors()
            if clash is not None:
                raise DuplicateKeyError(clash)
        known = self._runtime.local_state(self.key)
        if known is not None and known.described == self._settings.described:
            # Another decoration with the same settings continues the rollout, and shares its state.
            self._rollout.stand_with(known)
        self._runtime.register(self, self._rollout)
        self._rollout.local_state.controllers.add(self)
        if known is not self._rollout.local_state:
            self._keep(known)
        if self._settings.has_other_values:
            self._rollout.note(_OTHER_VALUES)
        self._runtime.steer(self)

    def _clash(self) -> str | None:
        """Explain why this rollout may not use its key; None if it may."""
        known = self._runtime.local_state(self.key)
        others = [] if known is None else list(known.controllers)
        return next(filter(None, (self._settings.clash(other._settings) for other in others)), None)  # noqa: SLF001

    def _clash_of_survivors(self) -> str | None:
        """Return the clash without rollouts that only wait for garbage collection, such as those of a class that is gone.

        Young objects are collected first: a handler that decorates in every request would otherwise search the whole heap.
        """
        clash = None
        for generation in range(3):
            gc.collect(generation)
            if (clash := self._clash()) is None:
                break
        return clash

    def _keep(self, known: LocalState | None) -> None:
        """Hand the rollout to the reconciler: with its state from the store, or replacing one with other settings."""
        local_state, reconciler = self._rollout.local_state, self._runtime.reconciler
        managed = ManagedRollout(
            self.key,
            local_state,
            self.strategy_name,
            criteria=getattr(self._settings.strategy, "criteria", None),
            blended=self.candidates if INTERLEAVED in self.phase.shares else (),
        )
        if known is None or not known.controllers:
            reconciler.take(managed)
            return
        reconciler.leave_alone(self.key)
        # Functions of the replaced rollout answer with their control from now on.
        with known.changing:
            before = known.state
            known.enter(before.abort())
        local_state.enter(before.begun_again(local_state.state))
        reconciler.replace(managed, local_state.state)
        event = made(
            managed.strategy,
            "start",
            before,
            local_state.state,
            actor="",
            reason="decorated again with other code or settings",
            time_s=reconciler.now_s,
        )
        self._runtime.announce(managed, event, before.phase.all_shares)

    def __repr__(self) -> str:
        """Show key, strategy and phase."""
        return f"<RolloutController {self.key!r} {self.strategy_name} {self.phase.name!r}>"

    def __copy__(self) -> RolloutController[P, R_co]:
        """Return the same controller."""
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> RolloutController[P, R_co]:
        """Return the same controller: a copied model still belongs to the same rollout."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the decorator's options only: locks, threads and counts belong to a process."""
        return _restored, (self._settings.options,)

    @property
    def strategy(self) -> object:
        """The strategy."""
        return self._settings.strategy

    @property
    def control(self) -> str:
        """Name of the control."""
        return self._settings.control_name

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of the candidates."""
        return tuple(self._settings.candidates)

    @property
    def phase(self) -> Phase:
        """The current phase."""
        return self._rollout.state.phase

    def is_of(self, function: object) -> bool:
        """Whether this is the controller of the function itself, not of a function that it wraps."""
        return getattr(function, "__wrapped__", None) is self._settings.function

    # Serving -----------------------------------------------------------------------------------------------------------

    def serving_function(self) -> Callable[..., Any]:
        """Return the function that serves calls: of the control's kind, but without its name."""
        serving = self._serving
        if self._settings.batch is not None:
            return DRIVERS[self._rollout.kind](serving.begin_batch, self._settings.function)
        common = serving.common if serving.common.is_possible else None
        if self._rollout.kind == "function":
            return drive_function(serving.begin, self._settings.function, common)
        if self._rollout.kind == "coroutine":
            return drive_coroutine(serving.begin, self._settings.function, common)
        return DRIVERS[self._rollout.kind](serving.begin, self._settings.function)

    @overload
    def route(  # type: ignore[overload-overlap] # for a coroutine function, R is a coroutine, and the first overload fits better
        self: RolloutController[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, Routed[T]]: ...

    @overload
    def route(self, *args: P.args, **kwargs: P.kwargs) -> Routed[R_co]: ...

    def route(self, *args: Any, **kwargs: Any) -> Any:
        """Make the same call as the decorated function, and return the decision with the value.

        For a coroutine function, await it. For a generator, the decision is taken now and `value` is the stream.

        Raises:
            Exception: Any exception that the decorated function would have raised.
        """
        calls: Sequence[Call]
        if kill_switch.off:
            call = Call(self._rollout, args, kwargs)
            self._router.give_up(call, self._rollout.state, reason="disabled")
            calls, flow = [call], route(call)
        elif self._settings.batch is not None:
            batch = self._serving.batch(args, kwargs)
            calls, flow = batch.rows, route_batch(batch) if batch.rows else route(batch.call)
            call = batch.call
        else:
            call = self._serving.call(args, kwargs, self._router.unit_of(args, kwargs))
            calls, flow = [call], route(call)
        decisions = tuple(one.full_decision() for one in calls)
        # The decision has been made; the driver only executes it.
        value = DRIVERS[self._rollout.kind](lambda _args, _kwargs: (call, flow), self._settings.function)(*args, **kwargs)
        if self._rollout.kind != "coroutine":
            return Routed(value, decisions)

        async def routed() -> Routed[Any]:
            return Routed(await value, decisions)

        return routed()

    def assign(self, unit: Hashable) -> Decision:
        """Return the decision that a unit would get now, without a call: no model runs and nothing is recorded."""
        decision = self._serving.common.assigned(unit)
        if decision is not None:
            return decision
        call = Call(self._rollout, (), {})
        self._router(call, unit, self._rollout.state)
        return call.full_decision()

    # Outcomes ----------------------------------------------------------------------------------------------------------

    @property
    def layer(self) -> Layer | None:
        """The layer whose units the rollout shares with others, or None."""
        return self._settings.layer

    @property
    def unit_hash(self) -> UnitHash:
        """The hash of the units: the rollout's own, or its layer's."""
        return self._router.hash

    def record(
        self,
        metric: str,
        value: float,
        *,
        decision_id: str | None = None,
        unit: Hashable = None,
        token: str | None = None,
        item: Hashable = None,
        position: int | None = None,
        event_id: Hashable = None,
        variant: str | None = None,
        source: Literal["", "human"] = "",
        time_s: float | None = None,
    ) -> None:
        """Record an outcome for a decision, a unit or a shown item, in any process and even days later.

        Args:
            metric: Name of the metric: "click", "purchase", "correct".
            value: The measured value, a finite number.
            decision_id: The decision's id; or
            unit: the unit, in which case its last decision before the outcome is credited; or
            token: the token of an item in an interleaved answer (`Interleave(stamp=)`), which identifies decision and item.
            item: Key of the item, in an interleaved answer. With `unit`, `analyze_interleaving` credits all lists that showed
                it to the unit: for instance for a purchase days after the click.
            position: With `decision_id`, the item's position in the answer, from 0, instead of `item`.
            event_id: Identifies the event that the outcome came from: an order number, the id of a message. An event that is
                recorded again counts once. Without it, outcomes with the same metric, value and millisecond for the same
                decision or unit count once.
            variant: With `decision_id`, the variant whose answer was judged: a label says of the control's answer and of a
                shadow's whether each was right. Record both: the judge compares them call by call. By default, and for every
                metric of users, it is the variant that answered.
            source: Who judged: "human" for a person, empty for the application itself. `judge.preference` is always a person's:
                1 if the candidate's answer to the call is better than the control's, -1 if the control's is, 0 for a tie.
            time_s: Time of the measurement, in seconds since 1970; now by default.

        Raises:
            OutcomeError: Metric, value or unit are invalid, or not exactly one of `decision_id`, `unit`, `token` is given.
            DecisionIdError: The id or token is damaged, forged or another rollout's.
            UnknownItemError: The item was not shown.
            ConfigurationError: There is no journal, and nothing else that uses the outcome: no plan that judges its metric (of
                a decision), and no observer.
        """
        # What is wrong with an outcome that is not valid is said below.
        is_named = isinstance(metric, str) and sum(each is not None for each in (decision_id, unit, token)) == 1
        if is_named and not self._runtime.takes_outcomes(self.key, metric, is_of_call=unit is None):
            of_unit = "" if unit is None else " by unit"
            raise ConfigurationError(
                f"The outcome {brief(metric)} of {self.key!r} has nowhere to go: its runtime keeps no journal, no plan of "
                f"{self.key!r} judges this metric{of_unit}, and no plugin observes outcomes. Set ROLLOUT_JOURNAL to a folder, "
                "or pass Runtime(journal=...)."
            )
        about = f"The outcome {brief(metric)} of {self.key!r}"
        if metric == JUDGE_PREFERENCE and variant is None and len(self.candidates) == 1:
            variant = self.candidates[0]
        if variant is not None and variant not in (self.control, *self.candidates):
            raise OutcomeError(
                f"{about} names variant {variant!r:.60}, which {self.key!r} does not have. Name one of its variants: "
                f"{', '.join((self.control, *self.candidates))}."
            )
        now_s = self._runtime.time_ns() / 1e9
        event = outcomes.outcome_of(
            about,
            metric,
            value,
            key=self._runtime.key,
            time_s=now_s if time_s is None else time_s,
            decision_id=decision_id,
            unit=unit,
            token=token,
            item=item,
            position=position,
            event_id=event_id,
            variant=variant,
            source=source,
            rollout=self.key,
            hash_of=lambda: (self.key, self.unit_hash),
            item_hash=self._rollout.item_hash,
            shown=self._rollout.shown,
        )
        if unit is not None:
            self._router.meet(unit, self._rollout.note)
        if time_s is not None and (strange := odd_time(event, now_s)) is not None:
            self._rollout.note(strange)
        self._runtime.conclude_outcome(event)


def _restored(options: Mapping[str, Any]) -> RolloutController[..., Any]:
    """Return the controller of a decorated function that was unpickled: one per key and process."""
    known = options["runtime"].rollouts.get(options["key"])
    return RolloutController(Settings(**options)) if known is None else known


def _restored_serving(options: Mapping[str, Any]) -> Serving:
    """Return the `Serving` of a decorated function that was unpickled."""
    return _restored(options)._serving  # noqa: SLF001 - its own module
