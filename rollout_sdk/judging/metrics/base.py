"""What every metric can do: observe calls, give its numbers, weigh them, explain the result, and forecast.

A new measured metric is a new file here with one class, and a line in `METRICS` of the package.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from attrs import define

from rollout_sdk.judging.e_values import MIN_UNITS, Weight, std_error
from rollout_sdk.judging.look import Look
from rollout_sdk.judging.phase_evidence import PhaseEvidence
from rollout_sdk.judging.traffic import Traffic
from rollout_sdk.judging.verdicts import Outcome
from rollout_sdk.plan import Criterion
from rollout_sdk.stats import Estimate, StratifiedBuckets, confidence_sequence

__all__ = ["Metric", "Numbers", "compared", "heavy_unit", "interval", "relative", "values"]

Numbers = dict[str, Any]
"""JSON-plain: a finding can be computed again from the numbers in its record."""

_NAMED = 0.1
_LARGEST_LOG = 50.0


@define(eq=False)
class Metric(ABC):
    """A criterion's metric.

    Attributes:
        criterion: The guardrail or gate.
        rate: For a metric that counts events, the field of `Traffic` that has their rate; None for a mean. By it, `expected`
            can be asked about the counts that may come instead of those that are expected.
    """

    criterion: Criterion
    rate: ClassVar[Literal["error_rate", "slow_rate"] | None] = None

    def observe(
        self,
        phase: PhaseEvidence,
        phase_name: str,
        arm: str,
        cell: int,
        bucket: int,
        time_s: float,
        failed: bool,  # noqa: FBT001 - positional for speed: it is called for every call
        duration_s: float | None,
        first_item_s: float | None,
    ) -> str | None:
        """Add what a call says; the label of its event, if it had one. Recorded metrics are not observed."""
        raise NotImplementedError

    @abstractmethod
    def add_sums(self, whole: StratifiedBuckets, name: str, phase: PhaseEvidence, until_s: float | None) -> None:
        """Add the sums of one phase, of decisions before `until_s` (of all of them for None), to `whole`."""

    @abstractmethod
    def numbers(self, look: Look, candidate: str) -> Numbers:
        """What was measured, as far as a decision needs it."""

    @staticmethod
    @abstractmethod
    def weigh(numbers: Mapping[str, Any]) -> Weight:
        """What the numbers come to. Pure: a finding's record gives the same again."""

    @abstractmethod
    def explain(self, candidate: str, numbers: Mapping[str, Any], weight: Weight) -> tuple[Outcome, str]:
        """The outcome, and why in a sentence."""

    @abstractmethod
    def expected(self, traffic: Traffic, arms: tuple[float, float], days: float, worse: float | None) -> Numbers:
        """The numbers that so many days are expected to give.

        Args:
            traffic: What comes in.
            arms: Share of the control and of the candidate.
            days: Days since the beginning.
            worse: How much worse the candidate is, in the criterion's own terms (a ratio of error rates, else a difference);
                None: as good as the criterion hopes for.
        """


def compared(found: Estimate) -> dict[str, float | None]:
    """An estimate as JSON-plain numbers."""
    return {
        "estimate": found.estimate,
        "std_error": found.std_error if math.isfinite(found.std_error) else None,
        "df": found.df,
    }


def values(sums: StratifiedBuckets, control: str, candidate: str) -> Numbers:
    """The mean of both arms: for people, while the tests take the difference phase by phase."""
    found: Numbers = {}
    for name, arm in (("control", control), ("value", candidate)):
        totals = [sums.totals(phase, arm) for phase in sums.phases()]
        total, weight = math.fsum(each[0] for each in totals), math.fsum(each[1] for each in totals)
        found[name] = total / weight if weight else None
        found[f"{name}_total"], found[f"{name}_count"] = total, weight
    return found


def heavy_unit(sums: StratifiedBuckets, control: str, candidate: str) -> Numbers:
    """Effective units of the arm that has fewer, and the share of the heaviest unit's weight in its arm."""
    found = [(sums.concentration(arm), arm) for arm in (control, candidate)]
    effective = min(each.effective_units for each, _ in found)
    heaviest, arm = max((each.heaviest, arm) for each, arm in found)
    # A unit below a tenth is not named: the heaviest of many buckets is above its even share by chance alone.
    named = {"heaviest": heaviest, "heaviest_arm": arm} if heaviest >= _NAMED else {}
    return {"effective_units": min(effective, 1e12), "enough_effective": effective >= MIN_UNITS, **named}


def relative(sums: StratifiedBuckets, candidate: str, control: str) -> Numbers:
    """The logarithm of the ratio of both means, with its error; nothing where it has none."""
    found = sums.relative(candidate, control)
    return {} if found is None else {f"lift_{name}": value for name, value in compared(found).items()}


def interval(numbers: Mapping[str, Any], *, mde: float, enough: bool) -> dict[str, float | None]:
    """Intervals for the difference and the relative lift that hold at every look, as arguments of `Weight`."""
    ends: dict[str, float | None] = {}
    alpha = numbers["alpha"] / numbers["candidates"]
    if enough:
        low, high = confidence_sequence(numbers["estimate"], std_error(numbers), rho=mde**-2, alpha=alpha, df=numbers["df"])
        if math.isfinite(low) and math.isfinite(high):
            ends.update(low=low, high=high)
    if enough and numbers.get("lift_std_error") is not None and numbers.get("control"):
        ends["relative"] = math.expm1(numbers["lift_estimate"])
        rho = (mde / abs(numbers["control"])) ** -2
        low, high = confidence_sequence(
            numbers["lift_estimate"], numbers["lift_std_error"], rho=rho, alpha=alpha, df=numbers["lift_df"]
        )
        if math.isfinite(low) and math.isfinite(high) and high < _LARGEST_LOG:
            ends.update(relative_low=math.expm1(low), relative_high=math.expm1(high))
    return ends
