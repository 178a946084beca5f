"""The start of a call: describes and decides it, and returns its flow; a fault of the SDK routes it to the control."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from attrs import field, frozen

from rollout_sdk.concurrency.clocks import perf_counter
from rollout_sdk.control.state import RolloutState
from rollout_sdk.engine.batches.batch import NO_ROWS, Batch
from rollout_sdk.engine.batches.batch_flow import route_batch
from rollout_sdk.engine.batches.decided_rows import DecidedRows, column
from rollout_sdk.engine.batches.deciding import decide_by_columns, decide_one_by_one
from rollout_sdk.engine.batches.row_arguments import RowArguments
from rollout_sdk.engine.batches.rows import one
from rollout_sdk.engine.call import Call, Row
from rollout_sdk.engine.common import Common
from rollout_sdk.engine.flow import bare, route
from rollout_sdk.engine.rollout import Rollout
from rollout_sdk.engine.routing import Router
from rollout_sdk.engine.steps import Flow
from rollout_sdk.exceptions import MissingUnitError
from rollout_sdk.resilience.interruptions import is_fault

__all__ = ["Serving"]


class Configured(Protocol):
    """What a start of calls needs of the decorator's options."""

    @property
    def function(self) -> Callable[..., Any]:
        """The decorated function."""

    @property
    def options(self) -> Mapping[str, Any]:
        """The options, as they were given."""


@frozen(eq=False)
class Serving:
    """Starts the calls of one rollout.

    Attributes:
        settings: The validated options of the decorator.
        router: Describes and decides calls.
        rollout: The rollout as the engine sees it.
        rows: Locates the rows of a batch; None if calls are not split by row.
        restored: Returns this object in another process, from the options.
        common: Starts common calls.
    """

    settings: Configured
    router: Router
    rollout: Rollout
    rows: RowArguments | None
    restored: Callable[[Mapping[str, Any]], Serving]
    common: Common = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Plan the common calls."""
        object.__setattr__(self, "common", Common(self.router, self.rollout, self))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the decorator's options only."""
        return self.restored, (self.settings.options,)

    def call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], unit: Any) -> Call:
        """Describe and decide a call; a fault of the SDK routes it to the control."""
        call = self._decided(Call(self.rollout, args, kwargs), unit, self.rollout.state)
        if self.router.covariate is not None:
            call.covariate = self.router.covariate.of_call(args, kwargs)
        if self.router.segments is not None:
            call.segments = self.router.segments.of_call(args, kwargs)
        return call

    def _decided(self, call: Call, unit: Any, state: RolloutState) -> Call:
        """Describe and decide a call (or row)."""
        began = perf_counter() if self.rollout.clocked else None
        try:
            self.router(call, unit, state)
        except MissingUnitError:
            raise
        except BaseException as error:
            if not is_fault(error):
                raise
            self.rollout.failed("engine.describe", error)
            self.router.give_up(call, state)
        if began is not None:
            call.decided_s = perf_counter() - began
        return call

    def begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Call | None, Flow]:
        """Describe and decide a call, and return the flow to execute; the bare control if that fails."""
        router, rollout = self.router, self.rollout
        began = perf_counter() if rollout.clocked else None
        try:
            call = Call(rollout, args, kwargs)
            router(call, None if router.unit is None else router.unit_of(args, kwargs), rollout.local_state.state)
            if router.covariate is not None:
                call.covariate = router.covariate.of_call(args, kwargs)
            if router.segments is not None:
                call.segments = router.segments.of_call(args, kwargs)
        except MissingUnitError:
            raise
        except BaseException as error:
            if not is_fault(error):
                raise
            return self._give_up(error, args, kwargs)
        if began is not None:
            call.decided_s = perf_counter() - began
        return call, route(call)

    def _give_up(self, error: BaseException, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Call | None, Flow]:
        """Route a call that could not be started to the control: recorded if possible, else without the SDK."""
        self.rollout.failed("engine.begin", error)
        try:
            call = Call(self.rollout, args, kwargs)
            self.router.give_up(call, self.rollout.state)
        except BaseException as another:
            if not is_fault(another):
                raise
            return None, bare(self.settings.function, args, kwargs)
        return call, route(call)

    def begin_batch(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Call | None, Flow]:
        """Describe and decide every row of a batch, and return the flow to execute; the bare control if that fails."""
        try:
            batch = self.batch(args, kwargs)
        except MissingUnitError:
            raise
        except BaseException as error:
            if not is_fault(error):
                raise
            return self._give_up(error, args, kwargs)
        return batch.call, route_batch(batch) if batch.rows else route(batch.call)

    def batch(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Batch:
        """Build a call whose rows are described and decided one by one."""
        assert self.rows is not None
        units = self.rows.units(self.router.unit_of(args, kwargs), args, kwargs)
        replace = self.rows.replace

        def row_at(whole: tuple[Any, ...], named: Mapping[str, Any], index: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
            return replace(whole, named, lambda rows: one(rows, index))

        # Read once, so that all rows of a batch see the same phase and time.
        state = self.rollout.state
        call = Call(self.rollout, args, kwargs)
        if not units:
            self.router.give_up(call, state, reason="no_unit")
            return Batch(call, NO_ROWS, replace)
        rows = None if self.common.stands_aside else self._by_columns(call, units, row_at, state)
        if rows is None:
            rows = decide_one_by_one(call, units, row_at, lambda row, unit: self._decided(row, unit, state), self.router)
        if self.router.covariate is not None:
            rows.covariates = column(self.router.covariate.of_rows(args, kwargs, len(rows)))
        if self.router.segments is not None:
            rows.split(self.router.segments.of_rows(args, kwargs, len(rows)))
        first = rows[0]
        call.describe_as(first)
        call.decision = first.decision
        return Batch(call, rows, replace)

    def _by_columns(self, call: Call, units: Sequence[Any], row: Row, state: RolloutState) -> DecidedRows | None:
        """Decide the rows at once; None if they must be decided one by one, where a fault concerns its row only."""
        try:
            return decide_by_columns(call, units, row, self.router, state)
        except BaseException as error:
            if not is_fault(error):
                raise
            return None
