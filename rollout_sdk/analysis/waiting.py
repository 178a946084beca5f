"""How long one criterion keeps a step waiting: the probability that it has passed by some day, by the judge's own rule.

The judge is asked where its boundary is: which estimate, or how few events, would pass after so many days. How likely it is
that the data get there is then the first passage of a random walk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from attrs import evolve, field, frozen

from rollout_sdk.analysis.passage import Chances, crossed_by_counts, crossed_by_motion
from rollout_sdk.judging import Traffic
from rollout_sdk.judging.e_values import MIN_EVENTS, MIN_UNITS, Weight
from rollout_sdk.judging.metrics import Compared, Metric, metric_of
from rollout_sdk.judging.metrics.horizon import LOOKS
from rollout_sdk.plan import Criteria, Criterion, Gate
from rollout_sdk.stats import spending_boundaries

__all__ = ["LONGEST_DAYS", "Wait", "first_day"]

LONGEST_DAYS = 3650.0
"""What takes longer is as good as never."""

_DAY_S = 86_400.0
_STEP = 1.1
_MOST_STEPS = 130
_ENOUGH = 0.97
_MOST_COUNTED = 80
"""Events of the candidate above which their number is as good as normal."""

_NEVER = 10.0
"""Standard deviations beyond the mean to which a count never gets."""

_BISECTIONS = 30
_SHIFTS = (-1.2816, -0.5244, 0.0, 0.5244, 1.2816)
"""The middles of five equally likely parts of a normal distribution."""

Side: TypeAlias = Literal["safe", "futile"]
_Passes: TypeAlias = Callable[[float, float, float], bool]
"""Whether it passes after so many days, with so many events of the candidate and of the control."""


def first_day(holds: Callable[[float], bool]) -> float | None:
    """The first number of days after which something holds that holds from then on; None for more than ten years."""
    low, high = 0.0, 1e-3
    while not holds(high):
        low, high = high, 2 * high
        if high > LONGEST_DAYS:
            return None
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


@frozen
class Wait:
    """One criterion in one step.

    Attributes:
        criterion: The guardrail or gate.
        shared: What every test is given.
        traffic: What comes in.
        arms: Share of the control and of the candidate.
    """

    criterion: Criterion
    shared: Mapping[str, Any]
    traffic: Traffic
    arms: tuple[float, float]
    metric: Metric = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Know the metric, and the rate of its own threshold."""
        object.__setattr__(self, "metric", metric_of(self.criterion))
        slow = self.traffic.slow_rates.get(self.criterion.label)
        if slow is not None:
            object.__setattr__(self, "traffic", evolve(self.traffic, slow_rate=slow))

    @classmethod
    def of(cls, criterion: Criterion, criteria: Criteria, traffic: Traffic, arms: tuple[float, float]) -> Wait:
        """A criterion of a plan with one candidate."""
        tests = max(1, sum(each.decides for each in criteria.guardrails))
        return cls(criterion, {"alpha": criteria.alpha, "tests": tests, "candidates": 1}, traffic, arms)

    def weight(self, days: float, worse: float | None = None) -> Weight:
        """What the judge makes of so many days of what is expected."""
        return self.metric.weigh(self._numbers(days, worse))

    def _numbers(self, days: float, worse: float | None) -> dict[str, Any]:
        return {**self.shared, **self.metric.expected(self.traffic, self.arms, days, worse)}

    def passing(self) -> Chances:
        """The probability that it has passed by some day, with a candidate as good as the criterion hopes for."""
        if isinstance(self.criterion, Gate) and self.criterion.horizon is not None:
            return self._planned(self.criterion)
        if isinstance(self.metric, Compared):
            # Nothing is known of how often answers will differ: as if they never did.
            day = first_day(lambda days: self.weight(days).is_safe)
            return Chances((), ()) if day is None else Chances((day,), (1.0,), is_stepped=True)
        if self.metric.rate is None:
            return self._by_mean("safe", None)
        return self._by_counts(self.metric.rate)

    def futile(self) -> Chances:
        """The probability that a gate has been found futile by some day, if the candidate has no effect at all."""
        assert isinstance(self.criterion, Gate)
        if self.criterion.horizon is not None:
            return Chances((self.planned_days(self.criterion),), (1.0,), is_stepped=True).later_by(self._window)
        return self._by_mean("futile", 0.0)

    @property
    def _window(self) -> float:
        return self.criterion.window / _DAY_S

    # Means -------------------------------------------------------------------------------------------------------------------

    def _by_mean(self, side: Side, worse: float | None) -> Chances:
        """By a test of means: the score is a Brownian motion in the information, and the e-value's boundary is asked for."""
        sign = self._better()
        towards = sign if side == "safe" else -sign

        def holds(days: float, estimate: float) -> bool:
            weight = self.metric.weigh({**self._numbers(days, worse), "estimate": towards * estimate})
            return weight.is_safe if side == "safe" else weight.is_futile

        true = towards * self._numbers(1.0, worse)["estimate"]
        # Means speak from some number of units on, whatever they say then.
        begin = first_day(lambda days: holds(days, true + 1e6 * (abs(true) + 1)))
        if begin is None or first_day(lambda days: holds(days, true)) is None:
            return Chances((), ())
        days: list[float] = []
        infos: list[float] = []
        boundaries: list[float] = []
        chances: list[float] = []
        for place in range(_MOST_STEPS):
            day = begin * _STEP**place
            error = self._numbers(day, worse)["std_error"]
            low, high = true - abs(true) - 40 * error, true + 8 * error
            while not holds(day, high):
                high += high - low
            for _ in range(_BISECTIONS):
                middle = (low + high) / 2
                low, high = (low, middle) if holds(day, middle) else (middle, high)
            days.append(day)
            infos.append(error**-2)
            boundaries.append(high * error**-2)
            if place % 10 == 9:
                chances = crossed_by_motion(infos, boundaries, drift=true)
                if chances[-1] >= _ENOUGH or day > LONGEST_DAYS:
                    break
        return Chances(tuple(days), tuple(chances)).later_by(self._window)

    def _better(self) -> int:
        return -1 if self.criterion.better == "lower" else 1

    def _planned(self, gate: Gate) -> Chances:
        """By the planned looks at a gate with a horizon."""
        sign, whole = self._better(), self.planned_days(gate)
        days = [whole * (place + 1) / LOOKS for place in range(LOOKS)]
        days = [day for day in days if min(self.arms) * self.traffic.units_per_day * day >= MIN_UNITS]
        numbers = [self._numbers(day, None) for day in days]
        if not days or any(each["std_error"] is None for each in numbers):
            return Chances((), ())
        critical = spending_boundaries([day / whole for day in days], alpha=self.shared["alpha"] / self.shared["candidates"])
        infos = [each["std_error"] ** -2 for each in numbers]
        drift = sign * numbers[0]["estimate"] - gate.min_effect
        boundaries = [min(z, 38.0) * math.sqrt(info) for z, info in zip(critical, infos, strict=True)]
        chances = crossed_by_motion(infos, boundaries, drift=drift, is_watched=False)
        return Chances(tuple(days), tuple(chances), is_stepped=True).later_by(self._window)

    def smallest_planned(self, gate: Gate) -> float:
        """The smallest difference that is expected to pass at the last planned look."""
        numbers = self._numbers(self.planned_days(gate), None)
        fractions = [(place + 1) / LOOKS for place in range(LOOKS)]
        critical = spending_boundaries(fractions, alpha=self.shared["alpha"] / self.shared["candidates"])[-1]
        return gate.min_effect + critical * float(numbers["std_error"] or 0.0)

    def planned_days(self, gate: Gate) -> float:
        """Days until a gate's horizon."""
        assert gate.horizon is not None
        if isinstance(gate.horizon, int):
            return gate.horizon / (self.traffic.units_per_day * sum(self.arms))
        return gate.horizon / _DAY_S

    # Counts ------------------------------------------------------------------------------------------------------------------

    def _by_counts(self, rate: Literal["error_rate", "slow_rate"]) -> Chances:
        """By counts of events: how few of the candidate would pass, and how likely that few is.

        The limit moves with the control's count, which is random as well: the result is the mean over five equally likely
        counts of the control.
        """
        if first_day(lambda days: self.weight(days).is_safe) is None:
            return Chances((), ())
        units = [self.traffic.units_per_day * arm for arm in self.arms]
        true = getattr(self.traffic, rate)

        def passes(day: float, mine: float, other: float) -> bool:
            control = min(other / (units[0] * day), 1 - 1e-9)
            value = min(mine / (units[1] * day), 1.0)
            traffic = evolve(self.traffic, **{rate: max(control, 1e-12)})  # type: ignore[arg-type] # its own field
            worse = value / max(control, 1e-12) if rate == "error_rate" else value - control
            numbers = self.metric.expected_safe(traffic, self.arms, day, worse)
            return self.metric.weigh({**self.shared, **numbers}).is_safe

        begin = first_day(lambda day: passes(day, 0.0, units[0] * day * true))
        if begin is None:
            return Chances((), ())
        whole = [self._counted(passes, begin, [each * true for each in units], shift) for shift in _SHIFTS]
        longest = max(whole, key=lambda each: len(each.days))
        return Chances(longest.days, tuple(math.fsum(each.at(day) for each in whole) / len(whole) for day in longest.days))

    @staticmethod
    def _counted(passes: _Passes, begin: float, rates: Sequence[float], shift: float) -> Chances:
        """The same, with a count of the control that lies so many standard deviations from the expected one."""
        days: list[float] = []
        means: list[float] = []
        limits: list[tuple[int, int]] = []
        chances: list[float] = []
        limit = (0, MIN_EVENTS)
        for place in range(_MOST_STEPS):
            day = begin * _STEP**place
            other = rates[0] * day
            mean = rates[1] * day
            limit = _most(passes, day, max(0.0, other + shift * math.sqrt(other)), limit, _furthest(mean))
            days.append(day)
            means.append(mean)
            limits.append(limit)
            if place % 10 == 9:
                chances = _crossed(means, limits)
                if chances[-1] >= _ENOUGH or day > LONGEST_DAYS:
                    break
        return Chances(tuple(days), tuple(chances))


def _crossed(means: Sequence[float], limits: Sequence[tuple[int, int]]) -> list[float]:
    """The probability that a count with these means has been within the limits by each look."""
    if not means[-1]:
        return [1.0 if few >= 0 else 0.0 for few, _ in limits]
    largest = [many if many >= MIN_EVENTS else few for few, many in limits]
    typical = next((mean for mean, most in zip(means, largest, strict=True) if most >= mean), means[-1])
    if typical <= _MOST_COUNTED:
        return crossed_by_counts(means, limits)
    # A count that is at the limit has passed: half a count is in between.
    gaps = [mean - most - 0.5 for mean, most in zip(means, largest, strict=True)]
    return crossed_by_motion(means, gaps, drift=0.0)


def _furthest(mean: float) -> int:
    """A count that is never reached: of events that nearly every call of the control has, any number may pass."""
    return MIN_EVENTS + math.ceil(mean + _NEVER * math.sqrt(mean))


def _most(passes: _Passes, day: float, other: float, guess: tuple[int, int], furthest: int) -> tuple[int, int]:
    """The largest count below `MIN_EVENTS` that passes, and the largest from there on, where means speak as well.

    One that does not exist is one below the range.
    """

    def holds(count: int) -> bool:
        return count <= furthest and passes(day, count, other)

    few = _last(lambda count: count < MIN_EVENTS and holds(count), guess[0], 0)
    return few, _last(holds, guess[1], MIN_EVENTS)


def _last(holds: Callable[[int], bool], guess: int, least: int) -> int:
    """The last whole number from `least` on for which something holds that holds up to there; found around a guess."""
    low, reach = max(guess, least), 1
    if holds(low):
        while holds(low + reach):
            low, reach = low + reach, 2 * reach
        high = low + reach
    else:
        high = low
        while high > least and not holds(max(least, high - reach)):
            high, reach = max(least, high - reach), 2 * reach
        if high == least:
            return least - 1
        low = max(least, high - reach)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
