"""`latency_mean`: the mean of log latency, which detects a general slow-down much earlier than any threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from attrs import define

from rollout_sdk.judging.e_values import MIN_UNITS, Ends, Weight, harm_needed, mean_log_e, safe_needed
from rollout_sdk.judging.look import Look
from rollout_sdk.judging.metrics.base import Metric, Numbers, Traffic, compared, heavy_unit, interval, values
from rollout_sdk.judging.minutes import MINUTE_S
from rollout_sdk.judging.phase_evidence import PhaseEvidence, Sums
from rollout_sdk.judging.verdicts import Outcome
from rollout_sdk.judging.wording import lift, missing, percent
from rollout_sdk.plan import LATENCY_MEAN, Guardrail
from rollout_sdk.stats import StratifiedBuckets

__all__ = ["LatencyMean"]

_LEAST_S = 1e-9


@define(eq=False)
class LatencyMean(Metric):
    """Geometric mean of latency; `margin` and `harm` are relative: 0.1 for 10 % more."""

    criterion: Guardrail
    measures = (LATENCY_MEAN,)

    def observe(  # noqa: D102 - as in the base
        self,
        phase: PhaseEvidence,
        phase_name: str,
        arm: str,
        cell: int,  # noqa: ARG002
        bucket: int,
        time_s: float,
        duration_s: float | None,
        first_item_s: float | None,  # noqa: ARG002
    ) -> str | None:
        if duration_s is not None:
            sums = phase.sums.get(self.criterion.label)
            if sums is None:
                sums = phase.sums[self.criterion.label] = Sums(MINUTE_S)
            sums.add(phase_name, arm, bucket, math.log(max(duration_s, _LEAST_S)), 1.0, time_s)
        return None

    def add_sums(self, whole: StratifiedBuckets, name: str, phase: PhaseEvidence, until_s: float | None) -> None:  # noqa: ARG002, D102
        sums = phase.sums.get(self.criterion.label)
        if sums is not None:
            for each in sums.slices.values():
                whole.merge(each)

    def numbers(self, look: Look, candidate: str) -> Numbers:  # noqa: D102
        criterion, control = self.criterion, look.situation.control
        assert criterion.margin is not None
        assert criterion.harm is not None
        sums = StratifiedBuckets()
        for _, phase in look.phases:
            kept = phase.sums.get(criterion.label)
            for each in () if kept is None else kept.without(look.outages(phase)):
                sums.merge(each)
        heavy = heavy_unit(sums, control, candidate)
        units = look.fewest_units(candidate)
        means = values(sums, control, candidate)
        return {
            **look.shared(criterion),
            **{name: None if means[name] is None else math.exp(means[name]) for name in ("control", "value")},
            "control_count": means["control_count"],
            "value_count": means["value_count"],
            **heavy,
            **compared(sums.difference(candidate, control, covariate=look.covariates, paired=look.is_paired)),
            "harm": math.log1p(criterion.harm),
            "margin": math.log1p(criterion.margin),
            "is_log": True,
            "seen_units": units,
            "enough": units >= MIN_UNITS and heavy["enough_effective"],
        }

    @staticmethod
    def weigh(numbers: Mapping[str, Any]) -> Weight:
        """Weigh a difference of mean logarithms with the normal mixture on bucket sums.

        Args:
            numbers: "estimate", "std_error", "df", "harm" and "margin" of the logarithm, "enough", "alpha", "tests",
                "candidates".
        """
        margin, enough = numbers["margin"], numbers["enough"]
        ends = interval(numbers, mde=margin, enough=enough)
        return Weight(
            harm_log_e=mean_log_e(numbers, sign=1, null=numbers["harm"], mde=margin) if enough else None,
            harm_needed=harm_needed(numbers),
            safe_log_e=mean_log_e(numbers, sign=-1, null=-margin, mde=margin) if enough else None,
            safe_needed=safe_needed(numbers),
            # Readable only as a lift: the difference is one of logarithms.
            ends=Ends(
                relative=math.expm1(numbers["estimate"]) if enough else None,
                relative_low=None if ends.low is None else math.expm1(ends.low),
                relative_high=None if ends.high is None else math.expm1(ends.high),
            ),
        )

    def explain(self, candidate: str, numbers: Mapping[str, Any], weight: Weight) -> tuple[Outcome, str]:  # noqa: D102
        more = "" if weight.ends.relative is None else f" ({lift(weight.ends.relative)})"
        if weight.is_harm:
            least = percent(math.expm1(numbers["harm"]))
            return "FAIL", f"{candidate} is significantly slower than the control, by more than {least}{more}."
        if weight.is_safe:
            most = percent(math.expm1(numbers["margin"]))
            return "PASS", f"{candidate} is significantly less than {most} slower than the control{more}."
        if why := missing(numbers):
            return "INSUFFICIENT_DATA", why
        return "INCONCLUSIVE", f"{candidate} is neither significantly too slow nor fast enough so far{more}."

    def expected(self, traffic: Traffic, arms: tuple[float, float], days: float, worse: float | None) -> Numbers:  # noqa: D102
        assert self.criterion.harm is not None
        assert self.criterion.margin is not None
        units = [traffic.units_per_day * arm * days for arm in arms]
        # Assumes that the calls of a unit are alike, which is the worst case.
        error = traffic.latency_spread * math.sqrt(sum(1 / max(each, 1e-9) for each in units))
        return {
            "estimate": math.log1p(worse or 0.0),
            "std_error": error,
            "df": 511,
            "harm": math.log1p(self.criterion.harm),
            "margin": math.log1p(self.criterion.margin),
            "enough": min(units) >= MIN_UNITS,
        }
