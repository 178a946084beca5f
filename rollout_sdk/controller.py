"""The controller of one rollout: it decides calls, takes outcomes, says how things stand, and obeys the operator."""

from __future__ import annotations

import gc
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from typing import Any, Generic, ParamSpec, TypeVar, overload

from rollout_sdk import outcomes, switch
from rollout_sdk.assignment import Phase, Share
from rollout_sdk.control.file import WantedRollout
from rollout_sdk.control.state import RolloutState, Standing
from rollout_sdk.engine.batch import Batch, route_batch
from rollout_sdk.engine.call import Call, Flow, Row
from rollout_sdk.engine.drivers import DRIVERS
from rollout_sdk.engine.flow import bare, route
from rollout_sdk.engine.rows import one
from rollout_sdk.engine.stopping import wait_for_starts
from rollout_sdk.exceptions import ConfigurationError, ConflictError, DuplicateKeyError, MissingUnitError, OutcomeError
from rollout_sdk.records import Decision, Routed, TransitionAction, TransitionedEvent
from rollout_sdk.settings import Settings
from rollout_sdk.status import RolloutStatus

__all__ = ["RolloutController"]

_CONTROL_FILE = "control file"

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


class RolloutController(Generic[P, R_co]):
    """One rollout. `function.rollout` of a decorated function is its controller."""

    def __init__(self, settings: Settings) -> None:
        """Build the rollout and register it with its runtime.

        Args:
            settings: Everything that was said when decorating, checked.

        Raises:
            ConfigurationError: The settings cannot work; see the leaf.
        """
        self._settings = settings
        self._runtime = settings.runtime
        self._describe = settings.describe()
        self._rollout = settings.engine()
        self._register()

    def _register(self) -> None:
        if self._clash() is not None:
            # What only waits for the garbage collector, as a class does, is nobody's rollout any more.
            gc.collect()
            clash = self._clash()
            if clash is not None:
                raise DuplicateKeyError(clash)
        known = self._runtime.standing(self.key)
        if known is not None and known.described == self._settings.described:
            # The same again goes on where it is, and what happens to one happens to all.
            self._rollout.standing = known
        self._runtime.register(self, self._rollout)
        self._rollout.standing.controllers.add(self)
        if known is not None and known is not self._rollout.standing and known.controllers:
            self._take_over(known)
        self._runtime.steer(self)

    def _clash(self) -> str | None:
        """Why this rollout may not have its key; None when it may."""
        known = self._runtime.standing(self.key)
        others = [] if known is None else list(known.controllers)
        return next(filter(None, (self._settings.clash(other._settings) for other in others)), None)  # noqa: SLF001

    def _take_over(self, earlier: Standing) -> None:
        """Begin again in place of an earlier rollout with other settings, whose functions answer with their control now."""
        with earlier.changing:
            before = earlier.state
            earlier.enter(before.abort())
        standing = self._rollout.standing
        standing.enter(before.begun_again(standing.state))
        self._tell("start", before, standing.state, "", "decorated anew with other settings")

    def __repr__(self) -> str:
        """Key, strategy and phase."""
        return f"<RolloutController {self.key!r} {self.strategy_name} {self.phase.name!r}>"

    def __copy__(self) -> RolloutController[P, R_co]:
        """The same controller."""
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> RolloutController[P, R_co]:
        """The same controller: a copied model is still the same rollout."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as what was said when decorating: locks, threads and counts belong to a process."""
        return _restored, (self._settings.said,)

    @property
    def key(self) -> str:
        """Name of the rollout."""
        return self._settings.key

    @property
    def strategy(self) -> object:
        """The strategy."""
        return self._settings.strategy

    @property
    def strategy_name(self) -> str:
        """Name of the strategy, as in the records."""
        return self._rollout.strategy_name

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

    # Serving -----------------------------------------------------------------------------------------------------------

    def _call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], unit: Any, row: Row | None = None) -> Call:
        """A call (or a row), described and decided; a fault of ours sends it to the control."""
        rollout = self._rollout
        call = Call(rollout, args, kwargs)
        if row is not None:
            call.row = row
        try:
            self._describe(call, unit, rollout.state)
        except MissingUnitError:
            raise
        except (Exception, SystemExit) as error:
            self._runtime.failed("engine.describe", error)
            self._describe.give_up(call, rollout.state)
        return call

    def _begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Call | None, Flow]:
        """Describe and decide a call, and give the flow to execute; the bare control when that breaks."""
        describe, rollout = self._describe, self._rollout
        try:
            call = Call(rollout, args, kwargs)
            describe(call, None if describe.unit is None else describe.unit_of(args, kwargs), rollout.standing.state)
        except MissingUnitError:
            raise
        except (Exception, SystemExit) as error:
            return self._give_up(error, args, kwargs)
        return call, route(call)

    def _give_up(self, error: BaseException, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Call | None, Flow]:
        """Send a call whose beginning broke to the control: recorded if that is possible, else past us."""
        self._runtime.failed("engine.begin", error)
        try:
            call = Call(self._rollout, args, kwargs)
            self._describe.give_up(call, self._rollout.state)
        except (Exception, SystemExit):
            return None, bare(self._settings.function, args, kwargs)
        return call, route(call)

    def _begin_batch(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Call | None, Flow]:
        """Describe and decide every row of a batch, and give the flow to execute; the bare control when that breaks."""
        try:
            batch = self._batch(args, kwargs)
        except MissingUnitError:
            raise
        except (Exception, SystemExit) as error:
            return self._give_up(error, args, kwargs)
        return batch.call, route_batch(batch) if batch.rows else route(batch.call)

    def _batch(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Batch:
        units = self._settings.row_units(self._describe.unit_of(args, kwargs), args, kwargs)
        replace = self._settings.replace_rows

        def row_at(index: int) -> Row:
            return lambda whole, named: replace(whole, named, lambda rows: one(rows, index))

        rows = [self._call(args, kwargs, unit, row_at(index)) for index, unit in enumerate(units)]
        call = Call(self._rollout, args, kwargs)
        if rows:
            call.describe_as(rows[0])
            call.decision = rows[0].decision
        else:
            self._describe.give_up(call, self._rollout.state, reason="no_unit")
        return Batch(call, rows, replace)

    def serving_function(self) -> Callable[..., Any]:
        """The function that serves calls: of the control's kind, without its name."""
        begin = self._begin if self._settings.batch is None else self._begin_batch
        return DRIVERS[self._rollout.kind](begin, self._settings.function)

    @overload
    def route(  # type: ignore[overload-overlap] # a coroutine function's R is a coroutine: the first fits better
        self: RolloutController[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, Routed[T]]: ...

    @overload
    def route(self, *args: P.args, **kwargs: P.kwargs) -> Routed[R_co]: ...

    def route(self, *args: Any, **kwargs: Any) -> Any:
        """The same call as the decorated function's, with the decision beside the value.

        For a coroutine function, await it. For a generator, the decision is taken now and `value` is the stream.

        Raises:
            Exception: Whatever the decorated function would have raised.
        """
        calls: Sequence[Call]
        if switch.off:
            call = Call(self._rollout, args, kwargs)
            self._describe.give_up(call, self._rollout.state, reason="disabled")
            calls, flow = [call], route(call)
        elif self._settings.batch is not None:
            batch = self._batch(args, kwargs)
            calls, flow = batch.rows, route_batch(batch) if batch.rows else route(batch.call)
            call = batch.call
        else:
            call = self._call(args, kwargs, self._describe.unit_of(args, kwargs))
            calls, flow = [call], route(call)
        decisions = tuple(one.full_decision() for one in calls)
        # The decision is taken already; the driver only executes it.
        value = DRIVERS[self._rollout.kind](lambda _args, _kwargs: (call, flow), self._settings.function)(*args, **kwargs)
        if self._rollout.kind != "coroutine":
            return Routed(value, decisions)

        async def routed() -> Routed[Any]:
            return Routed(await value, decisions)

        return routed()

    def assign(self, unit: Hashable) -> Decision:
        """What a unit would get now, without a call: no model runs and nothing is recorded."""
        call = Call(self._rollout, (), {})
        self._describe(call, unit, self._rollout.state)
        return call.full_decision()

    # Outcomes ----------------------------------------------------------------------------------------------------------

    def record(
        self,
        metric: str,
        value: float,
        *,
        decision_id: str | None = None,
        unit: Hashable = None,
        item: Hashable = None,
        time_s: float | None = None,
    ) -> None:
        """Record an outcome, for a decision or for a unit; in any process, days later.

        Args:
            metric: Name of the metric: "click", "purchase", "correct".
            value: The measured value, a finite number.
            decision_id: The decision's id; or else
            unit: the unit, whose last decision before the outcome it is credited to.
            item: Key of the item, in an interleaved answer.
            time_s: When it was measured, in seconds since 1970; now by default.

        Raises:
            OutcomeError: Metric, value or unit are not valid, or not exactly one of `decision_id` and `unit` is given.
            DecisionIdError: The id is damaged, forged or another rollout's.
            UnknownItemError: The item was not shown.
        """
        if (decision_id is None) == (unit is None):
            raise OutcomeError(
                f"The outcome {metric!r:.60} of {self.key!r} names {'nobody' if unit is None else 'a decision and a unit'}. "
                "An outcome belongs to one decision or one unit. Pass decision_id= or unit=."
            )
        when = self._runtime.time_ns() / 1e9 if time_s is None else time_s
        if unit is not None:
            if item is not None:
                raise OutcomeError(
                    f"The outcome {metric!r:.60} of {self.key!r} has an item and a unit. "
                    "An item is credited in the decision that showed it. Pass decision_id= instead of unit=."
                )
            event = outcomes.by_unit(metric, value, unit, rollout=self.key, hash_=self._describe.hash, time_s=when)
        else:
            event = outcomes.by_decision(
                metric,
                value,
                decision_id,
                key=self._runtime.key,
                time_s=when,
                rollout=self.key,
                item=item,
                item_hash=self._rollout.item_hash,
                shown=self._rollout.shown,
            )
        self._runtime.conclude(event)

    # Operating ---------------------------------------------------------------------------------------------------------

    def promote(
        self, candidate: str | None = None, *, actor: str = "", reason: str = "", revision: int | None = None
    ) -> RolloutStatus:
        """Go to the next step; after the last, the candidate serves everybody.

        Args:
            candidate: Which candidate serves everybody, where there are several.
            actor: Who does it, for the journal.
            reason: Why, for the journal.
            revision: The revision you looked at; refused when somebody was faster.

        Raises:
            StateError: It is not running, or has no steps.
            ConflictError: The revision is not the current one.
        """
        return self._change("promote", lambda state: state.promote(candidate), actor, reason, revision)

    def set_share(
        self,
        share: Share,
        candidate: str | None = None,
        *,
        actor: str = "",
        reason: str = "",
        revision: int | None = None,
    ) -> RolloutStatus:
        """Give a candidate another share, outside the plan; the next promote goes to the first step above it."""
        return self._change("set_share", lambda state: state.set_share(share, candidate), actor, reason, revision)

    def pause(self, *, actor: str = "", reason: str = "", revision: int | None = None) -> RolloutStatus:
        """Keep the shares as they are, and refuse promote until resume."""
        return self._change("pause", RolloutState.pause, actor, reason, revision)

    def resume(self, *, actor: str = "", reason: str = "", revision: int | None = None) -> RolloutStatus:
        """Go on after a pause."""
        return self._change("resume", RolloutState.resume, actor, reason, revision)

    def abort(self, *, actor: str = "", reason: str = "", revision: int | None = None) -> RolloutStatus:
        """Everybody gets the control, and no candidate is shadowed; final.

        When it returns, no candidate starts any more, in any thread; one that is running runs to its end.
        """
        status = self._change("abort", RolloutState.abort, actor, reason, revision)
        wait_for_starts()
        return status

    def follow(self, *, disabled: bool, wanted: WantedRollout, version: int) -> None:
        """Do what the control file wants, as far as it is not so already.

        Raises:
            StateError: It wants what is not possible; see the transitions.
        """
        standing, reason = self._rollout.standing, f"version {version} of the control file"
        if disabled != standing.disabled:
            with standing.changing:
                standing.disable(disabled=disabled)
            wait_for_starts()
        status = standing.state.status
        if wanted.status == "aborted":
            self.abort(actor=_CONTROL_FILE, reason=reason)
            return
        now = standing.state.phase.shares
        shares = {next(iter(now)) if name is None and len(now) == 1 else name: share for name, share in wanted.shares.items()}
        # The smaller ones first: together they must never exceed 100 %.
        for name, share in sorted(shares.items(), key=lambda item: item[1] - now.get(item[0] or "", 0.0)):
            if now.get(name or "") != share:
                self.set_share(share, name, actor=_CONTROL_FILE, reason=reason)
        if wanted.status == "paused" and status == "running":
            self.pause(actor=_CONTROL_FILE, reason=reason)
        elif wanted.status == "running" and status == "paused":
            self.resume(actor=_CONTROL_FILE, reason=reason)

    def _change(
        self,
        action: TransitionAction,
        change: Callable[[RolloutState], RolloutState],
        actor: str,
        reason: str,
        revision: int | None,
    ) -> RolloutStatus:
        for option, text in (("actor", actor), ("reason", reason)):
            if not isinstance(text, str):
                raise ConfigurationError(
                    f"{option}={text!r:.60} of {action} of {self.key!r} is no text. It stands in the journal as it is. "
                    f"Write {option}='...'."
                )
        standing = self._rollout.standing
        with standing.changing:
            before = standing.state
            if revision is not None and revision != before.revision:
                raise ConflictError(
                    f"{self.key!r} is at revision {before.revision}, not {revision}. "
                    "Somebody else changed it since you looked. Look at status() again, then decide anew."
                )
            after = change(before)
            standing.enter(after)
        if after is not before:
            self._tell(action, before, after, actor, reason)
        return self.status()

    def _tell(self, action: TransitionAction, before: RolloutState, after: RolloutState, actor: str, reason: str) -> None:
        event = TransitionedEvent(
            rollout=self.key,
            strategy=self.strategy_name,
            action=action,
            status=after.status,
            revision=after.revision,
            from_phase=before.phase.name,
            to_phase=after.phase.name,
            shares=after.phase.all_shares,
            actor=actor,
            reason=reason,
            time_s=self._runtime.time_ns() / 1e9,
        )
        self._runtime.spans.transition(event, before.phase.all_shares)
        self._runtime.conclude(event)

    def status(self) -> RolloutStatus:
        """How the rollout stands, in this process; waits a moment for what the recorder has not counted yet."""
        self._runtime.recorder.flush(1.0)
        state, tally = self._rollout.state, self._runtime.tally(self.key)
        calls: dict[str, int] = {}
        excluded: dict[str, int] = {}
        for (phase, variant, reason, left_out), number in list(tally.decisions.items()):
            if phase == state.phase.name:
                calls[variant] = calls.get(variant, 0) + number
            if left_out:
                excluded[reason] = excluded.get(reason, 0) + number
        return RolloutStatus(
            key=self.key,
            strategy=self.strategy_name,
            status=state.status,
            phase=state.phase.name,
            revision=state.revision,
            shares=state.phase.all_shares,
            realised=tally.realised(state.phase.name),
            calls=calls,
            excluded=excluded,
            errors=dict(tally.errors),
            fallbacks=dict(tally.fallbacks),
            open_breakers=tuple(name for name, breaker in self._rollout.standing.breakers.items() if breaker.is_open),
            shadows=dict(tally.shadows),
            faults=self._runtime.faults,
            lost=self._runtime.recorder.dropped,
        )


def _restored(said: Mapping[str, Any]) -> RolloutController[..., Any]:
    """The controller of a decorated function that came from another process (or from this one): one for each key."""
    known = said["runtime"].rollouts.get(said["key"])
    return RolloutController(Settings(**said)) if known is None else known


def record(metric: str, value: float, *, decision_id: str, item: Hashable = None, time_s: float | None = None) -> None:
    """Record an outcome in a process that does not decorate the function; the default runtime journals it.

    See `RolloutController.record`; the rollout is read from the id.

    Raises:
        ConfigurationError: The default runtime keeps no journal, so that the outcome would be lost.
    """
    from rollout_sdk.runtime import default_runtime

    runtime = default_runtime()
    if runtime.journal is None:
        raise ConfigurationError(
            f"The outcome {metric!r:.60} has nowhere to go: the default runtime keeps no journal. "
            "Outside the deciding process, outcomes live in the journal alone. Set ROLLOUT_JOURNAL to its folder."
        )
    when = runtime.time_ns() / 1e9 if time_s is None else time_s
    event = outcomes.by_decision(metric, value, decision_id, key=runtime.key, time_s=when, item=item)
    runtime.conclude(event)
