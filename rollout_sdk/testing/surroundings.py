"""What every plugin with `rollout_surround` must hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rollout_sdk.decorator import rollout
from rollout_sdk.engine.rollout import ShadowLimits
from rollout_sdk.runtime import Runtime
from rollout_sdk.strategies import Shadow
from rollout_sdk.telemetry import Telemetry

__all__ = ["SurroundContract"]


class SurroundContract:
    """Subclass it in a test module, as `class TestMine(SurroundContract)`; say how the plugin is made and what it carries."""

    def make(self) -> object:
        """A new plugin."""
        raise NotImplementedError

    def caller(self) -> AbstractContextManager[Any]:
        """A new context manager that gives the current thread the state that the plugin carries."""
        raise NotImplementedError

    def observe(self) -> Any:
        """The state of the current thread, as something that can be compared: another one inside `caller()` than outside."""
        raise NotImplementedError

    def test_a_caller_has_a_state_of_its_own(self) -> None:
        """Inside `caller()` the state is another than outside, so that the other tests can fail."""
        outside = self.observe()
        with self.caller():
            assert self.observe() != outside, "caller() changes nothing that observe() shows"
        assert self.observe() == outside, "caller() left something behind"

    def test_a_shadow_runs_in_its_callers_state(self) -> None:
        """What a shadow observes is what its control does, in all four kinds of functions."""
        for call in (_function, _generator, _coroutine, _async_generator):
            found, faults = self._run(call, self.caller())
            assert faults == {}, f"it failed: {faults}"
            assert found["shadow"] == found["control"], f"a shadow saw {found['shadow']!r}, its control {found['control']!r}"

    def test_a_caller_without_a_state_gives_none(self) -> None:
        """A shadow of a caller that has set nothing observes what its control does, too."""
        for call in (_function, _coroutine):
            found, faults = self._run(call, nullcontext())
            assert faults == {}, f"it failed: {faults}"
            assert found["shadow"] == found["control"], f"a shadow saw {found['shadow']!r}, its control {found['control']!r}"

    def test_nothing_stays_in_the_threads(self) -> None:
        """After a shadow, its thread is as it was; and a caller is not touched while an asynchronous shadow waits."""
        outside = self.observe()
        for call in (_function, _coroutine):
            found, _ = self._run(call, self.caller(), nullcontext())
            assert found["shadow"][-1] == outside, "the next shadow found what the one before it had left"
            assert all(seen == outside for seen in found["between"]), "a waiting shadow changed its caller's thread"
        assert self.observe() == outside

    def _run(
        self, call: Callable[..., None], *callers: AbstractContextManager[Any]
    ) -> tuple[dict[str, list[Any]], dict[tuple[str, str], int]]:
        """What controls, their shadows, and callers while shadows wait observe; and the faults."""
        silent = Telemetry(spans="off", metrics=False, logs=False)
        # One thread, so that every shadow comes after the one before it.
        runtime = Runtime(plugins=[self.make()], telemetry=silent, shadows=ShadowLimits(workers=1, cpu_share=1.0))
        found: dict[str, list[Any]] = {"control": [], "shadow": [], "between": []}
        options: dict[str, Any] = {"strategy": Shadow(1.0), "effects": "read", "key": "contract", "runtime": runtime}
        call(options, callers, found, self.observe)
        runtime.close(10.0)
        return found, runtime.faults


def _function(options: dict[str, Any], callers: Any, found: dict[str, list[Any]], observe: Callable[[], Any]) -> None:
    model = rollout(candidate=lambda: found["shadow"].append(observe()), **options)(lambda: found["control"].append(observe()))
    for caller in callers:
        with caller:
            model()
        options["runtime"].flush(10.0)


def _generator(options: dict[str, Any], callers: Any, found: dict[str, list[Any]], observe: Callable[[], Any]) -> None:
    def control() -> Iterator[int]:
        for item in range(3):
            found["control"].append(observe())
            yield item

    def candidate() -> Iterator[int]:
        for item in range(3):
            found["shadow"].append(observe())
            yield item

    model = rollout(candidate=candidate, **options)(control)
    for caller in callers:
        with caller:
            assert list(model()) == [0, 1, 2]
        options["runtime"].flush(10.0)


def _coroutine(options: dict[str, Any], callers: Any, found: dict[str, list[Any]], observe: Callable[[], Any]) -> None:
    async def control() -> None:
        found["control"].extend(observe() for _ in range(3))

    async def candidate() -> None:
        for _ in range(3):
            found["shadow"].append(observe())
            await asyncio.sleep(0)

    model = rollout(candidate=candidate, **options)(control)

    async def main() -> None:
        for caller in callers:
            with caller:
                await model()
            await _turns(found, observe)

    asyncio.run(main())


def _async_generator(options: dict[str, Any], callers: Any, found: dict[str, list[Any]], observe: Callable[[], Any]) -> None:
    async def control() -> AsyncIterator[int]:
        for item in range(3):
            found["control"].append(observe())
            yield item

    async def candidate() -> AsyncIterator[int]:
        for item in range(3):
            await asyncio.sleep(0)
            found["shadow"].append(observe())
            yield item

    model = rollout(candidate=candidate, **options)(control)

    async def main() -> None:
        for caller in callers:
            with caller:
                assert [item async for item in model()] == [0, 1, 2]
            await _turns(found, observe)

    asyncio.run(main())


async def _turns(found: dict[str, list[Any]], observe: Callable[[], Any]) -> None:
    """Let the shadow have its turns, and look at the caller's thread in between."""
    for _ in range(12):
        await asyncio.sleep(0)
        found["between"].append(observe())
