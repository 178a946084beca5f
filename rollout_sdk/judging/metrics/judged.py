"""`judge.preference`: which of both answers to one call is better, by a judge whose bias people's labels correct."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from typing import Any

from attrs import define

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.judging.e_values import MIN_UNITS, Weight, harm_needed, mean_log_e, safe_needed, std_error
from rollout_sdk.judging.look import Look
from rollout_sdk.judging.metrics.base import Metric, Numbers, Traffic, compared, interval
from rollout_sdk.judging.pairs import LEAST_COMPLETE
from rollout_sdk.judging.phase_evidence import PhaseEvidence
from rollout_sdk.judging.preferences import ASKED, FIRST, JUDGED, PEOPLE, UNJUDGED, preferences
from rollout_sdk.judging.verdicts import Outcome
from rollout_sdk.judging.wording import signed
from rollout_sdk.plan import JUDGE_PREFERENCE, Gate, Guardrail
from rollout_sdk.stats import Estimate, StratifiedBuckets, log_e_two_sided, prediction_powered

__all__ = ["Judged"]

_ZERO = "no preference"
_NOTABLE = 0.1
_CERTAIN = math.log(1_000.0)
"""Evidence that a judge prefers a place: as for the shares of arms, an alarm is false in one of 1,000 rollouts at the most."""
_UNSEEN = math.sqrt(3.0)


@define(eq=False)
class Judged(Metric):
    """The mean preference for the candidate, from -1 (the control's answer is always better) to 1.

    A judge compares many pairs of answers, and people a random few of these. The judge's bias is the difference between both
    on the same pairs, and is subtracted: see `rollout_sdk.stats.prediction_powered`. Without labels of people, the finding is
    advisory: it neither passes nor fails.
    """

    measures = (JUDGE_PREFERENCE,)

    def add_sums(self, whole: StratifiedBuckets, name: str, phase: PhaseEvidence, until_s: float | None) -> None:  # noqa: ARG002, D102
        for candidate in phase.shares:
            whole.merge(preferences([(name, phase)], candidate))

    def numbers(self, look: Look, candidate: str) -> Numbers:  # noqa: D102
        criterion = self.criterion
        sums = preferences(look.phases, candidate)
        people, asked, judged = (_count(sums, arm) for arm in (PEOPLE, ASKED, JUDGED))
        unjudged = {
            end.removeprefix(UNJUDGED): number
            for _, phase in look.phases
            for (name, end), number in phase.ends.items()
            if name == candidate and end.startswith(UNJUDGED)
        }
        found = compared(prediction_powered(sums, labels=PEOPLE, drawn=ASKED, predicted=JUDGED))
        if people and found["std_error"] is not None:
            # Up to three unseen labels may differ from the judge: people who agreed with it so far do not make it
            # right for certain.
            found["std_error"] = math.hypot(found["std_error"], _UNSEEN / people)
        effective = min(sums.concentration(PEOPLE).effective_units, 1e12)
        return {
            **look.shared(criterion),
            **found,
            "alone": compared(_against_zero(sums, JUDGED)),
            "first": compared(_against_zero(sums, FIRST)),
            "people": people,
            "asked": asked,
            "judged": judged,
            "unjudged": unjudged,
            "complete": judged / planned if (planned := judged + sum(unjudged.values())) else 1.0,
            "audit": criterion.audit,
            "worse": -1,
            "harm": criterion.harm if isinstance(criterion, Guardrail) else None,
            "margin": -criterion.min_effect if isinstance(criterion, Gate) else criterion.margin,
            "mde": criterion.mde,
            "value_count": people,
            "effective_units": effective,
            "enough": people >= MIN_UNITS and effective >= MIN_UNITS,
        }

    @staticmethod
    def weigh(numbers: Mapping[str, Any]) -> Weight:
        """Weigh the corrected preference by the normal mixture on bucket sums, as every other mean.

        Args:
            numbers: "estimate", "std_error" and "df" of the corrected preference, "harm" (None for a gate), "margin" (for a
                gate, -min_effect), "mde", "alpha", "tests", "candidates", "enough" (labels) and "complete" (share judged).
        """
        mde, margin, harm, enough = numbers["mde"], numbers["margin"], numbers["harm"], numbers["enough"]
        safe = futile = harm_log_e = None
        if enough:
            safe = mean_log_e(numbers, sign=1, null=-margin, mde=mde)
            if harm is None:
                futile = mean_log_e(numbers, sign=-1, null=-max(mde, -margin) if margin <= 0 else margin, mde=mde)
            else:
                harm_log_e = mean_log_e(numbers, sign=-1, null=harm, mde=mde)
        return Weight(
            harm_log_e=harm_log_e,
            harm_needed=None if harm is None else harm_needed(numbers),
            safe_log_e=safe,
            safe_needed=safe_needed(numbers),
            futile_log_e=futile,
            is_held=numbers["complete"] < LEAST_COMPLETE,
            ends=interval({**numbers, "lift_std_error": None}, mde=mde, enough=enough),
        )

    def explain(self, candidate: str, numbers: Mapping[str, Any], weight: Weight) -> tuple[Outcome, str]:  # noqa: D102
        about = f"{self._arithmetic(numbers, weight)}{_position(numbers)}"
        if not numbers["judged"] and not numbers["people"]:
            return "INSUFFICIENT_DATA", f"no pair of answers has been judged yet{_unjudged(numbers)}."
        if not numbers["people"]:
            cure = "audit=0 draws none" if not numbers["audit"] else f"label some of the {numbers['asked']:,.0f} pairs drawn"
            return "INSUFFICIENT_DATA", f"judge not audited: advisory, and nothing passes on it ({cure}): {about}."
        margin, harm = numbers["margin"], numbers["harm"]
        if weight.is_harm:
            by = f" by more than {harm:g}" if harm else ""
            return "FAIL", f"the control's answers are significantly better than those of {candidate}{by}: {about}."
        if numbers["judged"] and numbers["complete"] < LEAST_COMPLETE:
            return "INSUFFICIENT_DATA", (
                f"only {numbers['complete']:.0%} of the pairs were judged, and at least {LEAST_COMPLETE:.0%} must be, because "
                f"the others are not missing at random{_unjudged(numbers)}: {about}."
            )
        if weight.is_safe:
            than = f"less than {margin:g} worse" if margin > 0 else f"better by more than {-margin:g}" if margin else "better"
            return "PASS", f"the answers of {candidate} are significantly {than}: {about}."
        if weight.is_futile:
            return "FUTILE", f"the answers of {candidate} are better by significantly less than {numbers['mde']:g}: {about}."
        if numbers["people"] < MIN_UNITS:
            return "INSUFFICIENT_DATA", f"people have labelled {numbers['people']:,.0f} of at least {MIN_UNITS} pairs: {about}."
        if not numbers["enough"]:
            few = f"{numbers['effective_units']:,.0f} of at least {MIN_UNITS} units"
            return "INSUFFICIENT_DATA", f"the {numbers['people']:,.0f} labels of people count for {few}: {about}."
        return "INCONCLUSIVE", f"the preference for {candidate} is not yet certain enough: {about}."

    def _arithmetic(self, numbers: Mapping[str, Any], weight: Weight) -> str:
        """Format the judge's preference, and what people made of it."""
        alone = f"the judge alone says {signed(numbers['alone']['estimate'])} on {numbers['judged']:,.0f} pairs"
        if not numbers["judged"]:
            alone = "without a judge"
        if not numbers["people"]:
            return alone
        low, high = weight.ends.low, weight.ends.high
        between = "" if low is None or high is None else f" [{low:+.3g}, {high:+.3g}]"
        people = f"with {numbers['people']:,.0f} labels of people"
        return f"preference {signed(numbers['estimate'])}{between} {people} ({alone})"

    def expected(self, traffic: Traffic, arms: tuple[float, float], days: float, worse: float | None) -> Numbers:  # noqa: D102
        criterion = self.criterion
        if criterion.metric not in traffic.means:
            raise ConfigurationError(
                f"The forecast does not know how people's labels vary. Give the mean and standard deviation of a label: "
                f"--metric {criterion.metric}=0,0.7."
            )
        labels = traffic.units_per_day * traffic.calls_per_unit * arms[1] * days * criterion.audit
        _, deviation = traffic.means[criterion.metric]
        hoped = criterion.mde if isinstance(criterion, Gate) else 0.0
        return {
            "estimate": hoped if worse is None else -worse,
            "std_error": deviation / math.sqrt(labels) if labels > 0 and deviation else None,
            "df": 511,
            "harm": criterion.harm if isinstance(criterion, Guardrail) else None,
            "margin": -criterion.min_effect if isinstance(criterion, Gate) else criterion.margin,
            "mde": criterion.mde,
            "complete": 1.0,
            "enough": labels >= MIN_UNITS,
        }


def _count(sums: StratifiedBuckets, arm: str) -> float:
    return math.fsum(sums.totals(phase, arm)[1] for phase in sums.phases())


def _against_zero(sums: StratifiedBuckets, arm: str) -> Estimate:
    """Return the mean of an arm, with its precision."""
    whole = StratifiedBuckets(sums.buckets)
    for phase in sums.phases():
        values, weights = (array("d", each) for each in sums.cell(phase, arm))
        whole.add_sums(phase, arm, values, weights)
        whole.add_sums(phase, _ZERO, array("d", bytes(8 * sums.buckets)), weights)
    return whole.difference(arm, _ZERO, paired=True)


def _position(numbers: Mapping[str, Any]) -> str:
    """Explain that the judge prefers the answer that it sees first, or second, if that is certain and not small.

    The order is drawn for every pair, so that without such a bias the mean is 0, whatever the answers are.
    """
    first = numbers["first"]
    log_e = log_e_two_sided(first["estimate"], std_error(first), rho=_NOTABLE**-2, df=first["df"])
    if abs(first["estimate"]) < _NOTABLE or log_e < _CERTAIN:
        return ""
    which = "first" if first["estimate"] > 0 else "second"
    return f"; the judge prefers the answer that it sees {which}, whichever that is ({signed(abs(first['estimate']))})"


def _unjudged(numbers: Mapping[str, Any]) -> str:
    """Format why pairs were not judged."""
    ends = ", ".join(f"{end} {number:,}" for end, number in sorted(numbers["unjudged"].items()))
    return f" ({ends})" if ends else ""
