"""How long will a canary take at my traffic, and what can it see? The judge's own rules, asked about what may come.

Nothing here can promise what the judge would not do: every figure is found by giving its rules the numbers that a number of
days may bring.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from attrs import asdict, evolve, frozen

from rollout_sdk.analysis.bottleneck import Bottleneck, bottleneck, pause
from rollout_sdk.analysis.passage import Chances, Times
from rollout_sdk.analysis.waiting import LONGEST_DAYS, Wait, first_day
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.judging import Traffic
from rollout_sdk.plan import ERROR_RATE, Criteria, Criterion, Gate, Step, is_compared, is_measured

__all__ = ["Forecast", "StepForecast", "Times", "Traffic", "forecast"]

_DAY_S = 86_400.0
_RATIOS = (10.0, 3.0, 2.0)
_BISECTIONS = 50
_LIKELY, _SAFE = 0.5, 0.8


@frozen(kw_only=True)
class StepForecast:
    """One step, looked at by itself.

    Attributes:
        step: Its share.
        shadow: Share of the calls that are shadowed while no candidate serves; 0 where one does.
        days_50: Days until it has passed with a probability of one half, if the candidate is as good as the control (a gate:
            better by its mde); None: never, or not within ten years.
        days_80: The same, with a probability of .8.
        max_days: Days after which it is paused without a verdict; None: it waits.
        pause: What that means: "will be paused ..." or "may be paused ..."; empty where it has time enough.
        bottleneck: What takes longest, and what to change.
        by: The times of everything that it waits for.
        errors_seen: By ratio of the error rates: units of the candidate that see an error before it is rolled back, on average;
            None: it is not rolled back within ten years.
        effects_seen: By gate: the smallest difference that is expected to pass within `days_50` (by the planned end of one
            with a horizon), in the metric's unit.
        futile: By gate: when it is found futile, if the candidate has no effect at all.
        planned_ends: By gate with a horizon: days until its planned end.
    """

    step: str
    shadow: float
    days_50: float | None
    days_80: float | None
    max_days: float | None
    pause: str
    bottleneck: Bottleneck
    by: Mapping[str, Times]
    errors_seen: Mapping[float, float | None]
    effects_seen: Mapping[str, float]
    futile: Mapping[str, Times]
    planned_ends: Mapping[str, float]


@frozen(kw_only=True)
class Forecast:
    """The whole plan.

    Attributes:
        steps: The steps, in order.
        days_50: The sum of the steps' `days_50`; None when one never passes.
        days_80: The sum of their `days_80`: more than enough in four cases of five.
        warnings: What the plan says about itself that is hardly meant.
        traffic: What it was asked about.
    """

    steps: tuple[StepForecast, ...]
    days_50: float | None
    days_80: float | None
    warnings: tuple[str, ...]
    traffic: Traffic

    def as_dict(self) -> dict[str, Any]:
        """JSON-plain."""
        return asdict(self)


def forecast(criteria: Criteria, traffic: Traffic) -> Forecast:
    """How long every step takes with one candidate that is as good as the control, and what would be seen in it.

    Each step is looked at by itself, as if nothing had been learnt before it: the real canary is rather faster.

    Raises:
        ConfigurationError: A recorded metric has no mean and standard deviation in `traffic`, or there are several candidates.
    """
    steps = tuple(_step(criteria, traffic, index) for index in range(len(criteria.steps)))
    return Forecast(
        steps=steps,
        days_50=_sum([step.days_50 for step in steps]),
        days_80=_sum([step.days_80 for step in steps]),
        warnings=criteria.warnings,
        traffic=traffic,
    )


def _sum(days: list[float | None]) -> float | None:
    known = [each for each in days if each is not None]
    return math.fsum(known) if len(known) == len(days) else None


def _step(criteria: Criteria, traffic: Traffic, index: int) -> StepForecast:
    step = criteria.steps[index]
    share = _share(step)
    arms, traffic = _exposed(step, share, traffic)
    waits = {
        each.label: Wait.of(each, criteria, traffic, arms) for each in _asked(criteria, index, serves=bool(share)) if min(arms)
    }
    passing = {label: wait.passing() for label, wait in waits.items()}
    needed = step.min_units / (min(arms) * traffic.units_per_day) if min(arms) else None
    fixed = {"min_time": step.min_time / _DAY_S, "min_units": needed}
    by = {name: Times(days, days) for name, days in fixed.items()}
    by.update({label: _times(chances.at, _ends(chances)) for label, chances in passing.items()})
    whole = _whole(passing, fixed)
    gates = {label: wait for label, wait in waits.items() if isinstance(wait.criterion, Gate)}
    found = bottleneck(by, waits, shadows=not share)
    return StepForecast(
        step=step.label,
        shadow=step.shadow if not share else 0.0,
        days_50=whole.days_50,
        days_80=whole.days_80,
        max_days=None if step.max_time is None else step.max_time / _DAY_S,
        pause=pause(step, whole.days_50, whole.days_80, found),
        bottleneck=found,
        by=by,
        errors_seen=_errors(waits.get(ERROR_RATE)),
        effects_seen={} if whole.days_50 is None else {name: _smallest(wait, whole.days_50) for name, wait in gates.items()},
        futile={name: _times((chances := wait.futile()).at, _ends(chances)) for name, wait in gates.items()},
        planned_ends={
            name: wait.planned_days(wait.criterion)
            for name, wait in gates.items()
            if isinstance(wait.criterion, Gate) and wait.criterion.horizon is not None
        },
    )


def _asked(criteria: Criteria, index: int, *, serves: bool) -> list[Criterion]:
    """What a step waits for."""
    is_last = index == len(criteria.steps) - 1
    # Comparisons of shadows are made before any user sees the candidate.
    asked = [each for each in criteria.guardrails if not serves or not is_compared(each.metric)]
    guardrails = [each for each in asked if each.decides and (serves or is_measured(each.metric))]
    gates = [each for each in criteria.gates if serves and not each.dry_run and (is_last or each.before == "step")]
    return [*guardrails, *gates]


def _share(step: Step) -> float:
    if isinstance(step.share, Mapping):
        raise ConfigurationError(
            "A plan with several candidates has no forecast. Ask for each candidate alone, with its own shares."
        )
    return step.share


def _exposed(step: Step, share: float, traffic: Traffic) -> tuple[tuple[float, float], Traffic]:
    """Share of the units that each arm sees, and the traffic of those; of a shadow step, calls come in pairs."""
    if share:
        return (1 - share, share), traffic
    if not step.shadow:
        return (1.0, 0.0), traffic
    seen = -math.expm1(traffic.calls_per_unit * math.log1p(-step.shadow)) if step.shadow < 1 else 1.0
    return (seen, seen), evolve(traffic, calls_per_unit=traffic.calls_per_unit * step.shadow / seen)


def _ends(chances: Chances) -> tuple[float, float] | None:
    return (chances.days[0], chances.days[-1]) if chances.days else None


def _whole(passing: Mapping[str, Chances], fixed: Mapping[str, float | None]) -> Times:
    """When all of it has passed, as if one said nothing about another."""
    if any(each is None for each in fixed.values()) or not all(chances.days for chances in passing.values()):
        return Times(None, None)
    least = max(each for each in fixed.values() if each is not None)
    ends = [end for chances in passing.values() for end in (chances.days[0], chances.days[-1])]

    def at(days: float) -> float:
        return 0.0 if days < least else math.prod(chances.at(days) for chances in passing.values())

    return _times(at, (max(min(ends, default=least), 1e-9), max([least, *ends])))


def _times(at: Callable[[float], float], ends: tuple[float, float] | None) -> Times:
    if ends is None:
        return Times(None, None)
    return Times(*(_quantile(at, ends, chance) for chance in (_LIKELY, _SAFE)))


def _quantile(at: Callable[[float], float], ends: tuple[float, float], chance: float) -> float | None:
    """The first day with at least this probability."""
    low, high = ends
    if at(high) < chance or high > 2 * LONGEST_DAYS:
        return None
    low = min(low, high) * (1 - 1e-6)
    for _ in range(_BISECTIONS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if at(middle) >= chance else (middle, high)
    return high


def _errors(wait: Wait | None) -> dict[float, float | None]:
    """Errors of the candidate until the expected evidence rolls it back, by ratio of the rates."""
    found: dict[float, float | None] = {}
    if wait is None or not wait.traffic.error_rate:
        return found
    for ratio in _RATIOS:
        days = first_day(lambda days, ratio=ratio: wait.weight(days, ratio).is_harm)  # type: ignore[misc]
        rate = min(1.0, wait.traffic.error_rate * ratio)
        found[ratio] = None if days is None else wait.traffic.units_per_day * wait.arms[1] * days * rate
    return found


def _smallest(wait: Wait, days: float) -> float:
    """The smallest difference that is expected to pass a gate after so many days."""
    if isinstance(wait.criterion, Gate) and wait.criterion.horizon is not None:
        return wait.smallest_planned(wait.criterion)
    mde = wait.criterion.mde
    days = max(days - wait.criterion.window / _DAY_S, 1e-9)
    low, high = 0.0, mde
    while not wait.weight(days, -high).is_safe and high < 1e12 * mde:
        low, high = high, 2 * high
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if wait.weight(days, -middle).is_safe else (middle, high)
    return high
