"""Traffic: callers, failures, slow calls and outcomes; alike in both arms, or worse in one by a given amount."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from attrs import field, frozen

from rollout_sdk import Gate, Guardrail, Step
from rollout_sdk.plan import ERROR_RATE, LATENCY, LATENCY_MEAN, Criterion

__all__ = ["Batch", "Mode", "Outcome", "Traffic", "World"]

Array = np.ndarray[Any, Any]

Mode = Literal["same", "margin", "harm"]
"""Candidates like the control, worse by exactly the margin of every guardrail, or worse by exactly its `harm`."""

_FAST_S, _SLOW_S = 0.1, 1.0


@frozen(kw_only=True)
class Outcome:
    """A recorded metric.

    Attributes:
        kind: "binary" (1 for a share `base` of the calls), "normal" (around 3, for every call), or for a share `base` of the
            calls a tail: "pareto" or "lognormal" of this `shape`.
        base: Share of the calls with a value.
        shape: Exponent, or sigma.
        delay_s: Mean delay of the control's and of the candidate's outcomes.
    """

    kind: Literal["binary", "normal", "pareto", "lognormal"] = "binary"
    base: float = 0.2
    shape: float = 0.0
    delay_s: tuple[float, float] = (0.0, 0.0)

    @property
    def mean(self) -> float:
        """The mean over calls."""
        if self.kind == "pareto":
            return self.base * self.shape / (self.shape - 1)
        return self.base * math.exp(self.shape**2 / 2) if self.kind == "lognormal" else self.base


@frozen(kw_only=True)
class World:
    """One kind of traffic and the plan that goes through it.

    Attributes:
        name: What it is called.
        steps: The candidate's share in each step, or each candidate's.
        guardrails: What is judged; at "margin" and "harm", candidates are worse by exactly that.
        gates: What must be better; it never is.
        candidates: The candidates.
        outcomes: Recorded metrics by name.
        by_judge: Whether steps are taken by the judge; else by a person, evenly over the looks.
        max_calls: Calls of a unit that count.
        users: Users there are; 0: every call is another's.
        calls: Calls between two looks.
        look_s: Seconds between two looks.
        error_rate: Share of the control's calls that fail.
        slow_rate: Share of the control's calls that are slow.
        spread: How different users are in what they do and in how active they are (standard deviation of a logarithm).
        zipf: Exponent of the users' activity by rank; 0: by `spread`.
        drift: By how much errors change from the first look to the last.
        failing: Users who always fail.
        bot: Share of the calls that one user makes.
        bot_does: "fails", "slow", "1" or "0" (in every recorded metric).
        outage: First and last look of an outage of everything, and the share of calls that fail in it.
        incidents: Incidents of one host between two looks, over all hosts of both arms; each hits 5 to 20 calls of one arm.
        peak: Share of the shadow runs that are dropped in every other look, in which slow calls are ten times as frequent.
        checks: Which errors are counted.
    """

    name: str
    steps: tuple[Any, ...] = (0.5,)
    guardrails: tuple[Guardrail, ...] = field()
    gates: tuple[Gate, ...] = ()
    candidates: tuple[str, ...] = ("v2",)
    outcomes: dict[str, Outcome] = field(factory=dict)
    by_judge: bool = False
    max_calls: int | None = None
    users: int = 0
    calls: int = 400
    look_s: float = 60.0
    error_rate: float = 0.02
    slow_rate: float = 0.05
    spread: float = 0.0
    zipf: float = 0.0
    drift: float = 1.0
    failing: int = 0
    bot: float = 0.0
    bot_does: str = ""
    outage: tuple[int, int, float] = (0, 0, 0.0)
    incidents: float = 0.0
    peak: float = 0.0
    checks: tuple[Mode, ...] = ("same", "margin")

    def plan(self) -> list[Step]:
        """The steps: by hand, no step ends by itself."""
        units = 100 if self.by_judge else 10**9
        return [step if isinstance(step, Step) else Step(step, min_units=units, min_time=0) for step in self.steps]


@frozen(kw_only=True)
class Batch:
    """The calls between two looks.

    Attributes:
        failed: Whether each arm would fail, by arm.
        duration_s: How long each arm would take, by arm.
        values: Recorded metrics: mask of calls with an outcome, values, and delays.
    """

    failed: list[Array]
    duration_s: list[Array]
    values: dict[str, tuple[Array, Array, Array]]


class Traffic:
    """The users of one experiment and what they do."""

    def __init__(self, world: World, rng: np.random.Generator, looks: int, mode: Mode) -> None:
        """Draw the users."""
        self.world, self.rng, self.looks, self.mode = world, rng, looks, mode
        users = self.users = world.users or world.calls * looks
        activity = rng.lognormal(0, world.spread, users)
        if world.zipf:
            activity = np.arange(1, users + 1) ** -world.zipf
        self._trouble = rng.lognormal(-(world.spread**2) / 2, world.spread, users)
        self._taste = rng.normal(0, world.spread, users)
        self._cumulative = np.cumsum(activity / activity.sum())
        self._incident_of: dict[int, float] = {}

    def worse(self, criterion: Criterion | None) -> float:
        """By how much a metric of a candidate is worse: in the criterion's own terms."""
        if self.mode == "same" or not isinstance(criterion, Guardrail):
            return 0.0
        found = criterion.margin if self.mode == "margin" else criterion.harm
        assert found is not None
        return found

    def guardrail(self, metric: str) -> Guardrail | None:
        """The guardrail of a metric."""
        return next((each for each in self.world.guardrails if each.metric == metric), None)

    def who(self, number: int) -> Array:
        """Who calls between two looks."""
        world, rng = self.world, self.rng
        if not world.users:
            return np.arange(number * world.calls, (number + 1) * world.calls)
        who = np.searchsorted(self._cumulative, rng.random(world.calls)).clip(0, self.users - 1)
        if world.bot:
            who = np.where(rng.random(world.calls) < world.bot, 0, who.clip(1))
        return who

    def batch(self, number: int, who: Array, arm: Array, times_s: Array, share: Callable[[int], float]) -> Batch:
        """What the calls come to in every arm, and what is recorded of the arm that served."""
        arms = range(len(self.world.candidates) + 1)
        # Half of what befalls a call lies in the call, and meets its shadow, too.
        luck, slowness = self._lots(len(who), len(arms)), self._lots(len(who), len(arms))
        excess = self.rng.random(len(who))
        failed = [self._failed(number, who, index, luck[index]) for index in arms]
        duration_s = [self._durations(number, who, index, slowness[index], excess) for index in arms]
        self._have_incidents(failed, arm, times_s, share)
        return Batch(
            failed=failed,
            duration_s=duration_s,
            values={name: self._recorded(name, each, who, arm) for name, each in self.world.outcomes.items()},
        )

    def _lots(self, calls: int, arms: int) -> Array:
        """Numbers between 0 and 1 by arm and call, of which half are the same in all arms."""
        apart = self.rng.random((arms, calls))
        return np.where(self.rng.random(calls) < 0.5, apart[0], apart)

    def _is_out(self, number: int) -> bool:
        return self.world.outage[0] <= number <= self.world.outage[1] and self.world.outage[2] > 0

    def _failed(self, number: int, who: Array, index: int, luck: Array) -> Array:
        world = self.world
        ratio = 1 + self.worse(self.guardrail(ERROR_RATE)) if index else 1.0
        rate = world.error_rate * world.drift ** (number / self.looks) * ratio
        failed = luck < np.minimum(1, rate * self._trouble[who])
        if self._is_out(number):
            failed |= luck < world.outage[2]
        if world.failing:
            failed |= who < round(world.failing * ratio)
        if world.bot_does == "fails":
            failed |= who == 0
        return np.asarray(failed)

    def _durations(self, number: int, who: Array, index: int, slowness: Array, excess: Array) -> Array:
        world = self.world
        rate = np.minimum(1, world.slow_rate * self._trouble[who])
        if world.peak and number % 2:
            rate = np.minimum(1, 10 * rate)
        slow = slowness < rate
        if index and (more := self.worse(self.guardrail(LATENCY))):
            slow |= excess < more / np.maximum(1 - rate, more)
        if world.bot_does == "slow":
            slow |= who == 0
        seconds = np.where(slow, _SLOW_S, _FAST_S) * np.exp(0.3 * (slowness - 0.5))
        return seconds * (1 + self.worse(self.guardrail(LATENCY_MEAN))) if index else seconds

    def _have_incidents(self, failed: list[Array], arm: Array, times_s: Array, share: Callable[[int], float]) -> None:
        """A host of one arm breaks for half a minute: 5 to 20 of its calls fail in a row. Hosts are as many as the share."""
        if not self.world.incidents:
            return
        ratio = 1 + self.worse(self.guardrail(ERROR_RATE))
        for index in range(len(failed)):
            expected = self.world.incidents * share(index) * (ratio if index else 1.0)
            calls = np.flatnonzero(arm == index)
            for _ in range(self.rng.poisson(expected)):
                begin = int(self.rng.integers(0, max(1, len(calls))))
                failed[index][calls[begin : begin + int(self.rng.integers(5, 21))]] = True

    def _recorded(self, name: str, outcome: Outcome, who: Array, arm: Array) -> tuple[Array, Array, Array]:
        rng, guardrail = self.rng, self.guardrail(name)
        more = self.worse(guardrail) / (1 - self.world.bot)
        if guardrail is not None and guardrail.better == "higher":
            more = -more
        treated, number = arm > 0, len(who)
        if outcome.kind == "normal":
            values, mask = 3 + self._taste[who] + rng.normal(0, 1, number) + np.where(treated, more, 0.0), np.ones(number, bool)
        elif outcome.kind == "binary":
            rate = outcome.base * (1 + 0.25 * np.tanh(self._taste[who])) + np.where(treated, more, 0.0)
            mask = rng.random(number) < rate
            values = np.ones(number)
        else:
            tail = (
                rng.pareto(outcome.shape, number) + 1 if outcome.kind == "pareto" else rng.lognormal(0, outcome.shape, number)
            )
            mask = rng.random(number) < outcome.base
            values = tail * np.where(treated, 1 + more / outcome.mean, 1.0)
        if self.world.bot_does in ("0", "1"):
            mask = np.where(who == 0, self.world.bot_does == "1", mask)
            values = np.where(who == 0, 1.0, values)
        means = np.where(treated, outcome.delay_s[1], outcome.delay_s[0])
        return mask, values, rng.exponential(1.0, number) * means
