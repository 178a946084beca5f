"""Subjects of benchmarks that are called in bursts and without a pause, in one process.

caller path   Short bursts, started while the background thread gathers facts and sleeps: only the caller runs. This is the cost
              of a request. The subjects take turns in another order each round, so that the machine's noise affects all alike;
              the least of all rounds, and the median.
saturated     One thread that calls without a pause: the background thread then competes for the interpreter's lock, so that its
              work is in the figure. This is the cost of a core. When the queue is full, facts are dropped and counted; their
              share is shown, because a dropped fact costs less.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter, perf_counter_ns, sleep
from typing import Any

from attrs import Factory, define

from rollout_sdk import Runtime, disable, enable, rollout

BURST_S = 0.005
"""So short that the background thread, which gathers for 20 ms, sleeps all the while."""

WARM_UP = 30
SATURATED_S = 0.2
USERS = [f"u-{number}" for number in range(1_000)]
ITEMS = [f"item-{number}" for number in range(10)]
FIRST = "decorated, no SDK, no journal"
SHADOWED = "decorated, shadow on every call"
OPENFEATURE = "openfeature-sdk, boolean details"
LABORATORY = "laboratory, control + candidate"


def bare(user_id: str, query: str) -> None:
    return None


def candidate(user_id: str, query: str) -> None:
    return None


async def abare(user_id: str, query: str) -> None:
    return None


async def acandidate(user_id: str, query: str) -> None:
    return None


@define
class Subject:
    """A function to call, and the one that it is compared with.

    Attributes:
        name: What it is.
        call: The function; None where it is not installed.
        needs: What installs it.
        base: Name of the subject whose cost is taken off.
        runtime: Whose background work is waited for between bursts.
        settle: What else is waited for.
        most: Calls of a burst, at the most.
        warm_up: Calls before a burst.
        guess: About how many nanoseconds a call takes.
        switched_off: Whether the kill switch is off meanwhile.
        costs: Nanoseconds a call, for each round.
        saturated: The same, for each saturated run.
        calls: Calls of the saturated runs.
    """

    name: str
    call: Callable[..., Any] | None
    needs: str = ""
    base: str = "bare function"
    runtime: Runtime | None = None
    settle: Callable[[], Any] | None = None
    most: int = len(USERS)
    warm_up: int = WARM_UP
    guess: float = 0.0
    switched_off: bool = False
    costs: list[float] = Factory(list)
    saturated: list[float] = Factory(list)
    calls: int = 0

    def burst(self, count: int) -> float:
        """Nanoseconds a call, of so many calls for different users."""
        assert self.call is not None
        if asyncio.iscoroutinefunction(self.call):
            return asyncio.run(self._burst_of_coroutines(count))
        users, call = USERS[:count], self.call
        call("u-0", "red shoes")
        self._let_gather()
        for user in users[: self.warm_up]:
            call(user, "red shoes")
        began = perf_counter_ns()
        for user in users:
            call(user, "red shoes")
        return (perf_counter_ns() - began) / count

    async def _burst_of_coroutines(self, count: int) -> float:
        users, call = USERS[:count], self.call
        assert call is not None
        await call("u-0", "red shoes")
        self._let_gather()
        for user in users[: self.warm_up]:
            await call(user, "red shoes")
        began = perf_counter_ns()
        for user in users:
            await call(user, "red shoes")
        return (perf_counter_ns() - began) / count

    def _let_gather(self) -> None:
        """The background thread wakes for the first fact; then it gathers."""
        sleep(0.002)

    def rest(self) -> None:
        """Let the background finish."""
        if self.runtime is not None:
            self.runtime.flush(5.0)
        if self.settle is not None:
            self.settle()

    def round(self) -> None:
        """One burst."""
        if self.switched_off:
            disable()
        if not self.costs:
            self.guess = self.burst(20)
            self.rest()
        count = max(20, min(self.most, int(BURST_S * 1e9 / self.guess)))
        self.costs.append(self.burst(count))
        enable()
        self.rest()

    def saturate(self, seconds: float) -> None:
        """Call without a pause for so long."""
        if self.switched_off:
            disable()
        calls, began = 0, perf_counter()
        if asyncio.iscoroutinefunction(self.call):
            calls = asyncio.run(self._saturate_coroutine(began + seconds))
        else:
            assert self.call is not None
            call = self.call
            while perf_counter() < began + seconds:
                for user in USERS[:200]:
                    call(user, "red shoes")
                calls += 200
        self.saturated.append((perf_counter() - began) * 1e9 / calls)
        self.calls += calls
        enable()
        self.rest()

    async def _saturate_coroutine(self, until: float) -> int:
        calls, call = 0, self.call
        assert call is not None
        while perf_counter() < until:
            for user in USERS[:200]:
                await call(user, "red shoes")
            calls += 200
        return calls


def ours(name: str, strategy: Any, control: Any = bare, other: Any = candidate, **options: Any) -> Subject:
    """Return a decorated function with its own runtime."""
    runtime = Runtime(**{option: options.pop(option) for option in ("journal", "telemetry") if option in options})
    call = rollout(candidate=other, strategy=strategy, effects="read", unit="user_id", key="bench", runtime=runtime)(control)
    return Subject(name, call, runtime=runtime, **options)
