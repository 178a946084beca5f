"""The base class of metrics: observe calls, compute numbers, weigh them, explain the result, and forecast.

A new measured metric is a new file here with one class, and its name and default margin in `MEASURED` of
`rollout_sdk.plan.criteria`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from attrs import define, frozen

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.judging.e_values import MIN_UNITS, Ends, Weight
from rollout_sdk.judging.look import Look
from rollout_sdk.judging.phase_evidence import PhaseEvidence
from rollout_sdk.judging.verdicts import Outcome
from rollout_sdk.plan import Criterion
from rollout_sdk.stats import Estimate, StratifiedBuckets, confidence_sequence

__all__ = [
    "METRICS",
    "Metric",
    "Numbers",
    "Traffic",
    "compared",
    "heavy_unit",
    "interval",
    "is_clustered",
    "least_mean",
    "prior_precision",
    "relative",
    "values",
]

Numbers = dict[str, Any]
"""JSON-compatible; a finding can be recomputed from the numbers in its record."""

_NAMED = 0.1
_CLUSTERED, _ROUNDING = 1.5, 1e-9
_LEAST_RHO, _MOST_RHO = 1e-200, 1e200
_LARGEST_LOG = 50.0


METRICS: dict[str, type[Metric]] = {}
"""The classes of metrics that the SDK measures itself, by name; any other name is a recorded metric."""


@frozen(kw_only=True)
class Traffic:
    """Expected traffic.

    Attributes:
        units_per_day: Distinct units (users) per day, all new to the step.
        calls_per_unit: Calls per unit and day.
        error_rate: Share of the control's units that see an error.
        slow_rate: Share of the control's calls that are slow.
        slow_rates: Slow rates by guardrail label ("latency>0.25s"), where they differ from `slow_rate`.
        latency_spread: Standard deviation of the logarithm of a call's latency.
        means: Mean and standard deviation per unit, by recorded metric.
    """

    units_per_day: float
    calls_per_unit: float = 1.0
    error_rate: float = 0.005
    slow_rate: float = 0.005
    slow_rates: Mapping[str, float] = {}
    latency_spread: float = 0.7
    means: Mapping[str, tuple[float, float]] = {}

    def __attrs_post_init__(self) -> None:
        """Reject impossible traffic."""
        if not (
            self.units_per_day > 0
            and self.calls_per_unit > 0
            and 0 <= self.error_rate < 1
            and all(0 <= rate < 1 for rate in (self.slow_rate, *self.slow_rates.values()))
            and self.latency_spread > 0
        ):
            raise ConfigurationError(
                f"The traffic {self!r:.200} is impossible. Units, calls and the spread are above 0, rates between 0 and 1."
            )


@define(eq=False)
class Metric(ABC):
    """The metric of a criterion.

    Attributes:
        criterion: The guardrail or gate.
        rate: For a metric that counts events, the field of `Traffic` with their rate; None for a mean. Forecasts use it to
            evaluate `expected` at other counts than the expected ones.
    """

    criterion: Criterion
    measures: ClassVar[tuple[str, ...]] = ()
    """Its names in a guardrail."""
    only_failures: ClassVar[bool] = False
    """Whether it observes failed calls only."""
    rate: ClassVar[Literal["error_rate", "slow_rate"] | None] = None

    @classmethod
    def __init_subclass__(cls) -> None:
        """Register the class under its names."""
        METRICS.update(dict.fromkeys(cls.measures, cls))

    def observe(
        self,
        phase: PhaseEvidence,
        phase_name: str,
        arm: str,
        cell: int,
        bucket: int,
        time_s: float,
        duration_s: float | None,
        first_item_s: float | None,
    ) -> str | None:
        """Add a call to the sums; return the label of its event, if it had one. Not called for recorded metrics.

        Args:
            phase: Evidence of the call's phase.
            phase_name: Name of the phase.
            arm: The assigned variant.
            cell: The unit's cell.
            bucket: The unit's bucket.
            time_s: Time of the decision, in seconds since 1970.
            duration_s: Seconds the caller waited; None if unknown.
            first_item_s: Seconds to the first item of a stream; None if there was none.
        """
        raise NotImplementedError

    @abstractmethod
    def add_sums(self, whole: StratifiedBuckets, name: str, phase: PhaseEvidence, until_s: float | None) -> None:
        """Add one phase's sums of decisions before `until_s` (None: of all decisions) to `whole`."""

    @abstractmethod
    def numbers(self, look: Look, candidate: str) -> Numbers:
        """Return the measured numbers that a decision needs."""

    @staticmethod
    @abstractmethod
    def weigh(numbers: Mapping[str, Any]) -> Weight:
        """Compute the evidence from the numbers. Pure: the numbers in a finding's record give the same result."""

    @abstractmethod
    def explain(self, candidate: str, numbers: Mapping[str, Any], weight: Weight) -> tuple[Outcome, str]:
        """Return the outcome, and the reason in one sentence."""

    @abstractmethod
    def expected(self, traffic: Traffic, arms: tuple[float, float], days: float, worse: float | None) -> Numbers:
        """Return the numbers expected after some days.

        Args:
            traffic: Expected traffic.
            arms: Share of the control and of the candidate.
            days: Days since the start.
            worse: How much worse the candidate is, in the criterion's own terms (a ratio of error rates, else a difference);
                None: as good as the criterion hopes for.
        """

    def expected_safe(self, traffic: Traffic, arms: tuple[float, float], days: float, worse: float | None) -> Numbers:
        """Return what `expected` does, of use only to ask whether it is good enough: a forecast asks a thousand times."""
        return self.expected(traffic, arms, days, worse)


def compared(found: Estimate) -> dict[str, float | None]:
    """Return an estimate as JSON-compatible numbers."""
    return {
        "estimate": found.estimate,
        "std_error": found.std_error if math.isfinite(found.std_error) else None,
        "df": found.df,
        "weight": found.weight,
    }


def values(sums: StratifiedBuckets, control: str, candidate: str) -> Numbers:
    """Return the mean of each arm, for display; tests use the difference phase by phase."""
    found: Numbers = {}
    for name, arm in (("control", control), ("value", candidate)):
        totals = [sums.totals(phase, arm) for phase in sums.phases()]
        total, weight = math.fsum(each[0] for each in totals), math.fsum(each[1] for each in totals)
        found[name] = total / weight if weight else None
        found[f"{name}_total"], found[f"{name}_count"] = total, weight
    return found


def heavy_unit(sums: StratifiedBuckets, control: str, candidate: str) -> Numbers:
    """Return the smaller number of effective units of the two arms, and the largest share of a single unit in its arm."""
    found = [(sums.concentration(arm), arm) for arm in (control, candidate)]
    effective = min(each.effective_units for each, _ in found)
    heaviest, arm = max((each.heaviest, arm) for each, arm in found)
    # Shares below a tenth are not reported: the heaviest of many buckets exceeds its even share by chance alone.
    named = {"heaviest": heaviest, "heaviest_arm": arm} if heaviest >= _NAMED else {}
    return {"effective_units": min(effective, 1e12), "enough_effective": effective >= MIN_UNITS, **named}


def least_mean(sums: StratifiedBuckets, control: str, candidate: str) -> float:
    """Return a conservative estimate of the control's mean: one standard error below the measured one, at least half an event.

    The size of an event is the contribution of a bucket with one: sum x^2 / sum x over the buckets of both arms. It has the
    metric's own unit, and is 1 for rare binary values. Returns 0 if there are no values.
    """
    totals, squares = [0.0, 0.0], [0.0, 0.0]
    weight = 0.0
    for phase in sums.phases():
        for index, arm in enumerate((control, candidate)):
            values, weights = sums.cell(phase, arm)
            totals[index] += math.fsum(values)
            squares[index] += math.fsum(x * x for x in values)
            weight += math.fsum(weights) if arm == control else 0.0
    if not weight or not sum(totals):
        return 0.0
    event = sum(squares) / abs(sum(totals))
    return max(totals[0] - math.sqrt(squares[0]), event / 2) / weight


def is_clustered(sums: StratifiedBuckets, arm: str) -> bool:
    """Whether an arm's events come in clusters, with many events on a few units.

    If each call is an independent draw, the sums of binary values have variance sum p (1 - p) d over the buckets. A variance
    more than 1.5 times that indicates clusters.
    """
    varies = expected = 0.0
    for phase in sums.phases():
        values, weights = sums.cell(phase, arm)
        weight = math.fsum(weights)
        if not weight:
            continue
        mean = math.fsum(values) / weight
        varies += math.fsum((x - mean * d) ** 2 for x, d in zip(values, weights, strict=True))
        expected += max(0.0, mean * (1 - mean)) * weight
    return varies > _CLUSTERED * expected + _ROUNDING * varies


def relative(sums: StratifiedBuckets, candidate: str, control: str) -> Numbers:
    """Return the logarithm of the ratio of the means, with its standard error; empty if it is undefined."""
    found = sums.relative(candidate, control)
    return {} if found is None else {f"lift_{name}": value for name, value in compared(found).items()}


def interval(numbers: Mapping[str, Any], *, mde: float, enough: bool) -> Ends:
    """Return intervals for the difference and the relative lift that hold at every look."""
    alpha = numbers["alpha"] / numbers["candidates"]
    if not enough:
        return Ends()
    low, high = _sequence(numbers, "", mde, alpha)
    if numbers.get("lift_std_error") is None or not numbers.get("control"):
        return Ends(low, high)
    least, most = _sequence(numbers, "lift_", mde / abs(numbers["control"]), alpha)
    return Ends(
        low,
        high,
        math.expm1(min(numbers["lift_estimate"], _LARGEST_LOG)),
        None if least is None else math.expm1(least),
        None if most is None or most > _LARGEST_LOG else math.expm1(most),
    )


def prior_precision(mde: float) -> float:
    """Return the prior precision of a test that is the most sensitive to this effect, within the range of floats."""
    return min(max(mde**-2, _LEAST_RHO), _MOST_RHO) if mde > math.sqrt(1 / _MOST_RHO) else _MOST_RHO


def _sequence(numbers: Mapping[str, Any], prefix: str, mde: float, alpha: float) -> tuple[float | None, float | None]:
    """Return the ends of a confidence sequence; None if it is unbounded."""
    error = math.inf if numbers[f"{prefix}std_error"] is None else numbers[f"{prefix}std_error"]
    ends = confidence_sequence(
        numbers[f"{prefix}estimate"], error, rho=prior_precision(mde), alpha=alpha, df=numbers[f"{prefix}df"]
    )
    return ends if all(map(math.isfinite, ends)) else (None, None)
