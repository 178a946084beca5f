"""The contract of plugins with `rollout_surround`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeAlias

from attrs import Factory, frozen

from rollout_sdk.decorator import rollout
from rollout_sdk.engine.rollout import ShadowLimits
from rollout_sdk.runtime import Runtime
from rollout_sdk.strategies.shadow import Shadow
from rollout_sdk.telemetry import Telemetry
from rollout_sdk.testing.calls import taking

__all__ = ["SurroundContract"]

_Found: TypeAlias = dict[str, list[Any]]
"""Observed states: of controls, of their shadows, and of callers while shadows wait."""


class SurroundContract:
    """Subclass it in a test module, as `class TestMine(SurroundContract)`; implement `make`, `caller` and `observe`."""

    def make(self) -> object:
        """Return a new plugin."""
        raise NotImplementedError

    def caller(self) -> AbstractContextManager[Any]:
        """Return a new context manager that sets the state that the plugin carries, in the current thread."""
        raise NotImplementedError

    def observe(self) -> Any:
        """Return the state of the current thread, as a comparable value that differs inside and outside `caller()`."""
        raise NotImplementedError

    def arguments(self) -> Mapping[str, Any]:
        """Return the arguments of the calls, by name, for a plugin that uses them; none by default."""
        return {}

    def test_a_caller_has_its_own_state(self) -> None:
        """The state inside `caller()` differs from the state outside, so that the other tests can fail."""
        outside = self.observe()
        with self.caller():
            assert self.observe() != outside, "caller() changes nothing that observe() shows"
        assert self.observe() == outside, "caller() left something behind"

    def test_a_shadow_runs_in_its_callers_state(self) -> None:
        """A shadow observes the same state as its control, in all four kinds of functions."""
        for call in (_function, _generator, _coroutine, _async_generator):
            found, faults = self._run(call, self.caller())
            assert faults == {}, f"it failed: {faults}"
            assert found["shadow"] == found["control"], f"a shadow saw {found['shadow']!r}, its control {found['control']!r}"

    def test_a_caller_without_a_state_passes_none_on(self) -> None:
        """A shadow of a caller that has set nothing observes the same as its control, too."""
        for call in (_function, _coroutine):
            found, faults = self._run(call, nullcontext())
            assert faults == {}, f"it failed: {faults}"
            assert found["shadow"] == found["control"], f"a shadow saw {found['shadow']!r}, its control {found['control']!r}"

    def test_nothing_stays_in_the_threads(self) -> None:
        """A shadow leaves its thread unchanged, and its caller's thread as well while an asynchronous shadow waits."""
        outside = self.observe()
        for call in (_function, _coroutine):
            found, _ = self._run(call, self.caller(), nullcontext())
            assert found["shadow"][-1] == outside, "a shadow observed the state of the one before it"
            assert all(seen == outside for seen in found["between"]), "a waiting shadow changed its caller's thread"
        assert self.observe() == outside

    def _run(
        self, call: Callable[[_Trial], None], *callers: AbstractContextManager[Any]
    ) -> tuple[_Found, dict[tuple[str, str], int]]:
        """Return what was observed in calls of one kind of function, and the faults."""
        silent = Telemetry(spans="off", metrics=False, logs=False)
        # One thread, so that shadows run one after the other.
        runtime = Runtime(plugins=[self.make()], telemetry=silent, shadows=ShadowLimits(workers=1, cpu_share=1.0))
        trial = _Trial(runtime, self.arguments(), callers, self.observe)
        call(trial)
        runtime.close(10.0)
        return trial.found, runtime.faults


@frozen
class _Trial:
    """Calls of a function by callers with a state, each with a shadow."""

    runtime: Runtime
    arguments: Mapping[str, Any]
    callers: Sequence[AbstractContextManager[Any]]
    observe: Callable[[], Any]
    found: _Found = Factory(lambda: {"control": [], "shadow": [], "between": []})

    def decorated(self, candidate: Callable[..., Any], control: Callable[..., Any]) -> Callable[[], Any]:
        """Return a call of a control that is shadowed by a candidate."""
        decorate = rollout(
            candidate=taking(candidate, calls=[self.arguments]),
            strategy=Shadow(1.0),
            effects="read",
            key="contract",
            runtime=self.runtime,
        )
        return partial(decorate(taking(control, calls=[self.arguments])), **self.arguments)

    async def turns(self) -> None:
        """Let a shadow on this loop run, and observe the caller's thread in between."""
        for _ in range(12):
            await asyncio.sleep(0)
            self.found["between"].append(self.observe())


def _function(trial: _Trial) -> None:
    def control(**_: Any) -> None:
        trial.found["control"].append(trial.observe())

    def candidate(**_: Any) -> None:
        trial.found["shadow"].append(trial.observe())

    model = trial.decorated(candidate, control)
    for caller in trial.callers:
        with caller:
            model()
        trial.runtime.flush(10.0)


def _generator(trial: _Trial) -> None:
    def control(**_: Any) -> Iterator[int]:
        for item in range(3):
            trial.found["control"].append(trial.observe())
            yield item

    def candidate(**_: Any) -> Iterator[int]:
        for item in range(3):
            trial.found["shadow"].append(trial.observe())
            yield item

    model = trial.decorated(candidate, control)
    for caller in trial.callers:
        with caller:
            assert list(model()) == [0, 1, 2]
        trial.runtime.flush(10.0)


def _coroutine(trial: _Trial) -> None:
    async def control(**_: Any) -> None:
        trial.found["control"].extend(trial.observe() for _ in range(3))

    async def candidate(**_: Any) -> None:
        for _turn in range(3):
            trial.found["shadow"].append(trial.observe())
            await asyncio.sleep(0)

    model = trial.decorated(candidate, control)

    async def main() -> None:
        for caller in trial.callers:
            with caller:
                await model()
            await trial.turns()

    asyncio.run(main())


def _async_generator(trial: _Trial) -> None:
    async def control(**_: Any) -> AsyncIterator[int]:
        for item in range(3):
            trial.found["control"].append(trial.observe())
            yield item

    async def candidate(**_: Any) -> AsyncIterator[int]:
        for item in range(3):
            await asyncio.sleep(0)
            trial.found["shadow"].append(trial.observe())
            yield item

    model = trial.decorated(candidate, control)

    async def main() -> None:
        for caller in trial.callers:
            with caller:
                assert [item async for item in model()] == [0, 1, 2]
            await trial.turns()

    asyncio.run(main())
