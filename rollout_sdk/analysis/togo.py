"""How long a test still takes at the traffic seen: units and days, with a probability of one half and of four fifths.

The traffic is the journal's; the rules are the judge's, asked where their boundaries are (`rollout_sdk.analysis.waiting`). What
is known already counts in one way: that it has not passed by now.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import define, field

from rollout_sdk.analysis.passage import Chances
from rollout_sdk.analysis.verdict import ToGo
from rollout_sdk.analysis.waiting import LONGEST_DAYS, Wait
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.judging import Finding, PhaseEvidence, Traffic
from rollout_sdk.plan import ERROR_RATE, LATENCY_MEAN, MEASURED, Criterion, Gate
from rollout_sdk.stats import StratifiedBuckets

__all__ = ["Forecasts", "spread_of", "to_go", "traffic_of", "traffic_of_lists", "whole"]

_DAY_S = 86_400.0
_LEAST_DAYS = 1.0 / _DAY_S
_LIKELY, _SAFE = 0.5, 0.8
_BISECTIONS = 60
_SURELY = 0.999
_ALIKE = 0.02


def spread_of(sums: StratifiedBuckets, phase: str, arm: str, units: int) -> tuple[float, float] | None:
    """Mean of an arm's metric, and the standard deviation of one unit by which the error of that mean would come about.

    By the delta method on the sums of buckets (Deng, Knoblich and Lu, KDD 2018); None without two units.
    """
    values, weights = sums.cell(phase, arm)
    cells = [(value, weight) for value, weight in zip(values, weights, strict=True) if value or weight]
    total = math.fsum(weight for _, weight in cells)
    if len(cells) < 2 or not total:
        return None
    mean = math.fsum(value for value, _ in cells) / total
    squares = math.fsum((value - mean * weight) ** 2 for value, weight in cells)
    return mean, math.sqrt(squares * len(cells) / (len(cells) - 1) * units) / total


def traffic_of(
    phase: PhaseEvidence, name: str, days: float, criteria: Iterable[Criterion], sums: Mapping[str, StratifiedBuckets]
) -> Traffic | None:
    """The traffic of one phase, as its control saw it; None where there is too little to tell.

    Args:
        phase: Evidence of the phase.
        name: Name of the phase.
        days: How long it has lasted.
        criteria: What is asked about.
        sums: Their sums over the phases, by label.
    """
    units = {arm: sample.estimate for arm, sample in phase.units.items()}
    control = phase.control
    if control not in units or days < _LEAST_DAYS or not units[control]:
        return None
    calls = sum(map(sum, phase.calls.values()))
    seen = max(units.values()) if phase.is_shadow else sum(units.values())
    found: dict[str, Any] = {}
    slow: dict[str, float] = {}
    means: dict[str, tuple[float, float]] = {}
    for each in criteria:
        if each.metric == ERROR_RATE:
            failed = phase.events.get((ERROR_RATE, control))
            share = 0.0 if failed is None else failed.estimate / units[control]
            # With none so far, as rare as it may well be.
            found["error_rate"] = min(max(share, 0.5 / units[control]), 1 - 1e-9)
            continue
        known = spread_of(sums[each.label], name, control, units[control])
        if known is None:
            continue
        if each.metric == LATENCY_MEAN:
            found["latency_spread"] = max(known[1], 1e-9)
        elif each.metric in MEASURED:
            slow[each.label] = min(max(known[0], 0.0), 1 - 1e-9)
        else:
            means[each.metric] = known
    return Traffic(
        units_per_day=seen / days,
        calls_per_unit=max(1.0, calls / max(1, sum(units.values()))),
        slow_rates=slow,
        means=means,
        **found,
    )


def traffic_of_lists(finding: Finding, days: float) -> Traffic | None:
    """The traffic of interleaved lists, which every unit has of all rankers; None where there is too little to tell.

    Args:
        finding: What was found of one ranker.
        days: How long its phase has lasted.
    """
    units, error = finding.numbers.get("seen_units"), finding.numbers.get("std_error")
    if not units or not error or days < _LEAST_DAYS:
        return None
    lists = finding.numbers["value_count"]
    return Traffic(
        units_per_day=units / days,
        calls_per_unit=max(1.0, lists / units),
        means={finding.name: (0.0, error * math.sqrt(units))},
    )


@define
class Forecasts:
    """Forecasts that were made before: of traffic that has hardly changed, none is made again. One takes a tenth of a second.

    Attributes:
        made: The last one, by metric and candidate.
    """

    made: dict[tuple[str, str | None], tuple[Wait, Chances]] = field(factory=dict)

    def passing(self, name: tuple[str, str | None], wait: Wait) -> Chances:
        """The probability that a criterion has passed by some day."""
        known = self.made.get(name)
        if known is not None and _are_alike(known[0], wait):
            return known[1]
        chances = wait.passing()
        self.made[name] = wait, chances
        return chances


def _are_alike(one: Wait, other: Wait) -> bool:
    """Whether two are the same but for a fiftieth of any number of their traffics."""
    if (one.criterion, one.shared, one.arms) != (other.criterion, other.shared, other.arms):
        return False
    mine, theirs = one.traffic, other.traffic
    if mine.means.keys() != theirs.means.keys() or mine.slow_rates.keys() != theirs.slow_rates.keys():
        return False
    return all(math.isclose(a, b, rel_tol=_ALIKE) for a, b in zip(_numbers(mine), _numbers(theirs), strict=True))


def _numbers(traffic: Traffic) -> list[float]:
    single = (traffic.units_per_day, traffic.calls_per_unit, traffic.error_rate, traffic.slow_rate, traffic.latency_spread)
    means = (number for _, each in sorted(traffic.means.items()) for number in each)
    return [*single, *(rate for _, rate in sorted(traffic.slow_rates.items())), *means]


def to_go(
    criterion: Criterion,
    finding: Finding,
    traffic: Traffic,
    arms: tuple[float, float],
    days: float,
    forecasts: Forecasts | None = None,
) -> ToGo | None:
    """How long one criterion still takes; None if that is unknown.

    Args:
        criterion: The criterion.
        finding: What was found.
        traffic: What comes in.
        arms: Share of the control and of the candidate.
        days: How long it has taken so far.
        forecasts: Those that were made before; None: make it anew.
    """
    shared = {name: finding.numbers[name] for name in ("alpha", "tests", "candidates") if name in finding.numbers}
    if len(shared) < 3 or min(arms) <= 0:
        return None
    try:
        wait = Wait(criterion, shared, traffic, arms)
        chances = wait.passing() if forecasts is None else forecasts.passing((finding.name, finding.candidate), wait)
    # A metric of which nothing is known yet, or traffic from which nothing can be computed.
    except (ConfigurationError, ArithmeticError, ValueError):
        return None
    effect = criterion.mde if isinstance(criterion, Gate) else 0.0
    left = [_left(chances, days, chance) for chance in (_LIKELY, _SAFE)]
    units = [None if each is None else math.ceil(each * traffic.units_per_day) for each in left]
    return ToGo(days_50=left[0], days_80=left[1], units_50=units[0], units_80=units[1], effect=effect)


def _left(chances: Chances, days: float, chance: float) -> float | None:
    """Days from now on until it has passed with this probability, given that it has not passed by now."""
    if not chances.days or chances.days[0] > LONGEST_DAYS:
        return None
    passed = chances.at(days)
    if passed > _SURELY:
        # It should have passed long ago: the data are not what the forecast takes them for.
        return None
    wanted = passed + chance * (1 - passed)
    if chances.chances[-1] < wanted:
        return None
    low, high = days, max(chances.days[-1], days)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if chances.at(middle) >= wanted else (middle, high)
    return high - days


def whole(each: Iterable[ToGo | None]) -> ToGo | None:
    """How long until all of them have passed: what takes longest, as others pass meanwhile."""
    known = [one for one in each if one is not None]
    if not known:
        return None

    def most(name: str) -> Any:
        values = [getattr(one, name) for one in known]
        return None if any(value is None for value in values) else max(values)

    return ToGo(
        days_50=most("days_50"),
        days_80=most("days_80"),
        units_50=most("units_50"),
        units_80=most("units_80"),
        effect=max(one.effect for one in known),
    )
