"""Which of two rankers users prefer, by the clicks on interleaved lists."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from typing import Any

from attrs import define

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.judging.e_values import MIN_EVENTS, MIN_UNITS, Weight, mean_log_e, safe_needed
from rollout_sdk.judging.lists import LISTS
from rollout_sdk.judging.look import Look
from rollout_sdk.judging.metrics.base import Metric, Numbers, Traffic, compared, heavy_unit, interval
from rollout_sdk.judging.metrics.horizon import planned_looks
from rollout_sdk.judging.phase_evidence import PhaseEvidence
from rollout_sdk.judging.verdicts import Outcome
from rollout_sdk.judging.wording import missing, signed
from rollout_sdk.plan import Gate
from rollout_sdk.stats import StratifiedBuckets

__all__ = ["Preferred"]

_TIE = "tie"
"""An arm of lists that prefer neither ranker: what a preference is compared with."""


@define(eq=False)
class Preferred(Metric):
    """Chapelle's preference: the share of lists that the candidate wins, ties counted as half, minus one half.

    It runs from -0.5 to 0.5, and is 0 for equal rankers. Both rankers have the same lists, so the mean over buckets of users is
    tested against 0 by the normal mixture. Source: Chapelle, Joachims, Radlinski and Yue, TOIS 2012.
    """

    criterion: Gate

    def add_sums(self, whole: StratifiedBuckets, name: str, phase: PhaseEvidence, until_s: float | None) -> None:  # noqa: ARG002, D102
        for label in (LISTS, self.criterion.label):
            sums = phase.sums.get(label)
            for each in () if sums is None else sums.slices.values():
                whole.merge(each)
        for arm in whole.arms():
            # With as many lists; compared with, and never shown.
            if arm != _TIE and not any(whole.cell(name, _TIE)[1]):
                weights = array("d", whole.cell(name, arm)[1])
                whole.add_sums(name, _TIE, array("d", bytes(8 * len(weights))), weights)

    def numbers(self, look: Look, candidate: str) -> Numbers:  # noqa: D102
        criterion, sums = self.criterion, StratifiedBuckets()
        for name, phase in look.phases:
            self.add_sums(sums, name, phase, None)
        found = compared(sums.difference(candidate, _TIE, paired=True))
        totals = [sums.totals(phase, candidate) for phase in sums.phases()]
        lists = math.fsum(weight for _, weight in totals)
        heavy = heavy_unit(sums, _TIE, candidate)
        events = sums.nonzero(candidate)
        units = sum(sample.estimate for sample in look.current.units.values())
        if found["std_error"] is not None and not found["std_error"] and events:
            # If all units agree, half a unit more could disagree: the variance is small, not unknown.
            found["std_error"] = abs(found["estimate"] or 0.0) / math.sqrt(max(events, 1))
        enough = units >= MIN_UNITS and heavy["enough_effective"] and events >= MIN_EVENTS
        return {
            **look.shared(criterion),
            **heavy,
            **found,
            "control": 0.0 if lists else None,
            "value": math.fsum(total for total, _ in totals) / lists if lists else None,
            "value_total": math.fsum(total for total, _ in totals),
            "value_count": lists,
            "control_count": lists,
            "matured": 1.0,
            "elapsed_s": look.elapsed_s,
            "worse": 1 if criterion.better == "lower" else -1,
            "margin": -criterion.min_effect,
            "mde": criterion.mde,
            "seen_units": units,
            "seen_events": events,
            "enough": enough,
            **planned_looks(look, criterion, candidate, found, matured=1.0, enough=enough),
        }

    @staticmethod
    def weigh(numbers: Mapping[str, Any]) -> Weight:
        """Compute the evidence that the candidate is preferred, and that it is preferred by less than the `mde`.

        Args:
            numbers: "estimate", "std_error" and "df" of the preference, "worse" (-1 when a positive one is better), "margin"
                (-min_effect), "mde", "alpha", "candidates", "enough"; with a planned horizon also "looks" and "is_over".
        """
        worse, mde, margin, enough = numbers["worse"], numbers["mde"], numbers["margin"], numbers["enough"]
        looks = numbers.get("looks")
        return Weight(
            safe_log_e=mean_log_e(numbers, sign=-worse, null=-margin, mde=mde) if enough else None,
            safe_needed=safe_needed(numbers),
            futile_log_e=mean_log_e(numbers, sign=worse, null=-max(mde, -margin), mde=mde) if enough else None,
            passed=None if looks is None else any(z >= boundary for _, z, boundary, _ in looks),
            is_over=bool(numbers.get("is_over")),
            ends=interval({**numbers, "lift_std_error": None}, mde=mde, enough=enough),
        )

    def explain(self, candidate: str, numbers: Mapping[str, Any], weight: Weight) -> tuple[Outcome, str]:  # noqa: D102
        found = signed(numbers["estimate"])
        if weight.is_safe:
            return "PASS", f"users significantly prefer {candidate}: {found}."
        if weight.is_futile:
            if weight.is_over:
                return "FUTILE", f"the planned horizon is over, and users do not significantly prefer {candidate}: {found}."
            return (
                "FUTILE",
                f"users prefer {candidate} by significantly less than is worth having ({numbers['mde']:g}): {found}.",
            )
        if not numbers["enough"] and (why := missing(numbers)):
            return "INSUFFICIENT_DATA", why
        return "INCONCLUSIVE", f"users do not significantly prefer {candidate} so far: {found}."

    def expected(self, traffic: Traffic, arms: tuple[float, float], days: float, worse: float | None) -> Numbers:  # noqa: D102
        criterion = self.criterion
        if criterion.metric not in traffic.means:
            raise ConfigurationError(
                f"The forecast does not know how often lists are won by {criterion.metric!r}. Give the mean and the standard "
                f"deviation per unit: --metric {criterion.metric}=MEAN,SD."
            )
        _, deviation = traffic.means[criterion.metric]
        units = traffic.units_per_day * arms[1] * days
        sign = 1 if criterion.better == "lower" else -1
        return {
            "estimate": -sign * criterion.mde if worse is None else sign * worse,
            "std_error": deviation / math.sqrt(units) if units > 0 and deviation else None,
            "df": 511,
            "worse": sign,
            "margin": -criterion.min_effect,
            "mde": criterion.mde,
            "enough": units >= MIN_UNITS,
        }
