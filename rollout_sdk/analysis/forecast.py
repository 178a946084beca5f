"""How long will a canary take at my traffic, and what can it see? The judge's own rules, asked about what is expected.

Every figure is found by giving the judge the numbers that would be expected after some time, and looking for the first time at
which it would decide: nothing here can promise what the judge would not do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from attrs import asdict, frozen

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.judging import Traffic
from rollout_sdk.judging.e_values import Weight
from rollout_sdk.judging.metrics import metric_of
from rollout_sdk.plan import ERROR_RATE, Criteria, Criterion, Gate, Guardrail, Step

__all__ = ["Forecast", "StepForecast", "Traffic", "forecast"]

_LONGEST_DAYS = 3650.0
_DAY_S = 86_400.0
_RATIOS = (10.0, 3.0, 2.0)


@frozen
class StepForecast:
    """One step.

    Attributes:
        step: Its share.
        days: Days until it passes, if the candidate is as good as the control (a gate: better by its mde); None: never, or
            not within ten years.
        waits_for: What takes longest.
        by: Days for each thing that it waits for.
        errors_seen: By ratio of the error rates: units of the candidate that see an error before it is rolled back, on average.
        effects_seen: By gate: the smallest difference that is found within those days, in the metric's unit.
    """

    step: str
    days: float | None
    waits_for: str
    by: Mapping[str, float | None]
    errors_seen: Mapping[float, float | None]
    effects_seen: Mapping[str, float]


@frozen
class Forecast:
    """The whole plan.

    Attributes:
        steps: The steps, in order.
        days: Days for all of them; None when one never passes.
    """

    steps: tuple[StepForecast, ...]
    days: float | None

    def as_dict(self) -> dict[str, Any]:
        """JSON-plain."""
        return asdict(self)


def forecast(criteria: Criteria, traffic: Traffic) -> Forecast:
    """How long every step takes with one candidate that is as good as the control, and what would be seen in it.

    Each step is looked at by itself, as if nothing had been learnt before it: the real canary is rather faster.

    Raises:
        ConfigurationError: A gate's metric has no mean and standard deviation in `traffic`, or there are several candidates.
    """
    steps = tuple(_step(criteria, traffic, index) for index in range(len(criteria.steps)))
    known = [step.days for step in steps if step.days is not None]
    return Forecast(steps, math.fsum(known) if len(known) == len(steps) else None)


def _step(criteria: Criteria, traffic: Traffic, index: int) -> StepForecast:
    step = criteria.steps[index]
    share = _share(step)
    is_last = index == len(criteria.steps) - 1
    arms = (1.0, step.shadow) if not share else (1 - share, share)
    by: dict[str, float | None] = {
        "min_time": step.min_time / _DAY_S,
        "min_units": step.min_units / (min(arms) * traffic.units_per_day) if min(arms) else None,
    }
    effects = {}
    for each in criteria.all:
        if each.dry_run or (isinstance(each, Gate) and (not share or (each.before == "promotion" and not is_last))):
            continue
        passes = _passes(each, criteria, traffic, arms)
        by[each.label] = _first(passes)
        if by[each.label] is not None:
            by[each.label] = by[each.label] + each.window / _DAY_S  # type: ignore[operator]
    days = None if any(each is None for each in by.values()) else max(each for each in by.values() if each is not None)
    for gate in criteria.gates:
        if share and days is not None:
            effects[gate.metric] = _smallest(gate, criteria, traffic, arms, days)
    longest = next((name for name, each in by.items() if each is None), None) or max(by, key=lambda name: by[name] or 0.0)
    errors = {ratio: _errors(criteria, traffic, arms, ratio) for ratio in _RATIOS} if _guards(criteria, ERROR_RATE) else {}
    return StepForecast(step.label, days, longest, by, errors, effects)


def _share(step: Step) -> float:
    if isinstance(step.share, Mapping):
        raise ConfigurationError(
            "A plan with several candidates has no forecast. Ask for each candidate alone, with its own shares."
        )
    return step.share


def _guards(criteria: Criteria, metric: str) -> Guardrail | None:
    return next((each for each in criteria.guardrails if each.metric == metric), None)


def _common(criteria: Criteria) -> dict[str, Any]:
    return {
        "alpha": criteria.alpha,
        "tests": max(1, sum(each.decides for each in criteria.guardrails)),
        "candidates": 1,
    }


def _weight(
    criterion: Criterion, criteria: Criteria, traffic: Traffic, arms: tuple[float, float], days: float, worse: float | None
) -> Weight:
    """What the judge would make of so many days of what is expected."""
    metric = metric_of(criterion)
    return metric.weigh({**_common(criteria), **metric.expected(traffic, arms, days, worse)})


def _passes(criterion: Criterion, criteria: Criteria, traffic: Traffic, arms: tuple[float, float]) -> Callable[[float], bool]:
    """Whether the criterion would pass after so many days of what is expected."""
    return lambda days: _weight(criterion, criteria, traffic, arms, days, None).is_safe


def _first(passes: Callable[[float], bool]) -> float | None:
    """The first number of days after which something holds, which holds from then on."""
    low, high = 0.0, 1e-3
    while not passes(high):
        low, high = high, 2 * high
        if high > _LONGEST_DAYS:
            return None
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def _errors(criteria: Criteria, traffic: Traffic, arms: tuple[float, float], ratio: float) -> float | None:
    guardrail = _guards(criteria, ERROR_RATE)
    if not traffic.error_rate or guardrail is None:
        return None
    days = _first(lambda days: _weight(guardrail, criteria, traffic, arms, days, ratio).is_harm)
    return None if days is None else traffic.units_per_day * arms[1] * days * min(1.0, traffic.error_rate * ratio)


def _smallest(gate: Gate, criteria: Criteria, traffic: Traffic, arms: tuple[float, float], days: float) -> float:
    """The smallest difference that is expected to pass a gate after so many days."""

    def found(effect: float) -> bool:
        return _weight(gate, criteria, traffic, arms, days, -effect).is_safe

    low, high = 0.0, gate.mde
    while not found(high) and high < 1e12 * gate.mde:
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high
