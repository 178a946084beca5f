"""Recorded metrics: the mean over calls, or over outcomes, of the values given to `record`."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from typing import Any

from attrs import define

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.judging.e_values import (
    MIN_EVENTS,
    MIN_UNITS,
    Weight,
    harm_needed,
    mean_log_e,
    mixed,
    safe_needed,
)
from rollout_sdk.judging.look import Look
from rollout_sdk.judging.metrics.base import Metric, Numbers, Traffic, compared, heavy_unit, interval, relative, values
from rollout_sdk.judging.metrics.bucket_bets import gain_log_e, harm_log_e, label_rate_log_e
from rollout_sdk.judging.metrics.events import add_calls
from rollout_sdk.judging.metrics.horizon import planned_looks
from rollout_sdk.judging.paired_labels import CONTROL, about_halves, halves, paired_numbers
from rollout_sdk.judging.phase_evidence import PhaseEvidence, is_by_minute
from rollout_sdk.judging.verdicts import Outcome
from rollout_sdk.judging.wording import lift, missing, percent, signed
from rollout_sdk.plan import Gate, Guardrail, as_duration
from rollout_sdk.stats import MISMATCH, StratifiedBuckets

__all__ = ["Recorded"]

_MEANS, _BETS = 0.75, 0.25
_KOHAVI = 355.0
_LABEL_TOLERANCE = 0.05
_NONE_AT_ALL = 20.0


@define(eq=False)
class Recorded(Metric):
    """The difference of two means, tested by the normal mixture on bucket sums, and by an exact bet.

    The test of means applies once each arm has 100 effective units, 30 units with a value other than 0, and as many as its
    skewness requires (355 skewness^2: Kohavi et al., KDD 2014). For binary metrics, the exact bet applies from the first event.
    """

    def add_sums(self, whole: StratifiedBuckets, name: str, phase: PhaseEvidence, until_s: float | None) -> None:  # noqa: D102
        self._add(whole, name, phase, until_s, None)

    def _add(self, whole: StratifiedBuckets, name: str, phase: PhaseEvidence, until_s: float | None, look: Look | None) -> None:
        sums, by_minute = phase.sums.get(self.criterion.label), is_by_minute(self.criterion)
        if sums is not None:
            for each in sums.without(look.outages(phase)) if by_minute and look is not None else sums.until(until_s):
                whole.merge(each)
        if by_minute:
            add_calls(whole, name, phase, look=look)

    def _sums(self, look: Look, until_s: float | None) -> StratifiedBuckets:
        whole = StratifiedBuckets()
        for name, phase in look.phases:
            # Users see no candidate in a shadow phase, so nothing can be recorded for one.
            if not phase.is_shadow:
                self._add(whole, name, phase, until_s, look)
        return whole

    def numbers(self, look: Look, candidate: str) -> Numbers:  # noqa: D102
        if look.situation.shadowing:
            return self._paired(look, candidate)
        criterion, control = self.criterion, look.situation.control
        sums = self._sums(look, None)
        mature = self._sums(look, look.now_s - criterion.window) if criterion.window else sums
        early = isinstance(criterion, Guardrail) and criterion.early_harm
        judged = sums if early else mature
        heavy = heavy_unit(mature, control, candidate)
        units = min(look.served_units(arm) for arm in (control, candidate))
        events = min(mature.nonzero(arm) for arm in (control, candidate))
        others = sum(phase.sums[criterion.label].others for _, phase in look.phases if criterion.label in phase.sums)
        needed = 0.0
        if others:
            needed = _KOHAVI * mature.skewness_squared(control, units=look.units_of(control).estimate)
        weight, old = (_weight(each, (control, candidate)) for each in (sums, mature))
        matured = old / weight if weight else 0.0
        enough = units >= max(MIN_UNITS, needed) and heavy["enough_effective"]
        shares = self._shares(look, candidate)
        found = compared(mature.difference(candidate, control, covariate=look.covariates))
        return {
            **look.shared(criterion),
            **values(mature, control, candidate),
            **heavy,
            **found,
            **relative(mature, candidate, control),
            "for_harm": compared(judged.difference(candidate, control, covariate=look.covariates)) if early else found,
            "exact_harm": None if others else harm_log_e(criterion, judged, shares, candidate, control),
            "exact_safe": None if others else gain_log_e(criterion, mature, shares, candidate, control),
            **self._labels(look, mature, shares, candidate),
            "matured": matured,
            "elapsed_s": look.elapsed_s,
            "worse": 1 if criterion.better == "lower" else -1,
            "harm": criterion.harm if isinstance(criterion, Guardrail) else None,
            "margin": -criterion.min_effect if isinstance(criterion, Gate) else criterion.margin,
            "mde": criterion.mde,
            "seen_units": units,
            "seen_events": events,
            "units_needed": needed if others else None,
            "clipped": criterion.clip is not None,
            "enough_harm": enough and _due_events(judged, control, candidate) >= MIN_EVENTS,
            "enough_safe": enough and events >= MIN_EVENTS,
            **planned_looks(look, criterion, candidate, found, matured=matured, enough=enough and events >= MIN_EVENTS),
        }

    def _paired(self, look: Look, candidate: str) -> Numbers:
        """Return the numbers of a shadow phase: values of both answers to one call, recorded with `variant=` or `measure=`."""
        criterion = self.criterion
        shadows = [(name, phase) for name, phase in look.phases if phase.is_shadow]
        sums, found = paired_numbers(shadows, criterion.label, candidate, None)
        mature, judged = sums, found
        if criterion.window:
            mature, judged = paired_numbers(shadows, criterion.label, candidate, look.now_s - criterion.window)
        early = isinstance(criterion, Guardrail) and criterion.early_harm
        heavy = heavy_unit(mature, CONTROL, candidate)
        enough = judged["enough_units"] and heavy["enough_effective"]
        return {
            **look.shared(criterion),
            **values(mature, CONTROL, candidate),
            **heavy,
            **judged,
            **relative(mature, candidate, CONTROL),
            "for_harm": found if early else judged,
            # Pairs are compared with each other: no arm can lack labels that the other has.
            "exact_harm": None,
            "exact_safe": None,
            "labels": 0.0,
            "label_lift": 0.0,
            "halves": halves(shadows, criterion.label, candidate),
            "matured": judged["pairs"] / found["pairs"] if found["pairs"] else 0.0,
            "elapsed_s": look.elapsed_s,
            "worse": 1 if criterion.better == "lower" else -1,
            "harm": criterion.harm if isinstance(criterion, Guardrail) else None,
            "margin": -criterion.min_effect if isinstance(criterion, Gate) else criterion.margin,
            "mde": criterion.mde,
            "seen_events": None,
            "units_needed": None,
            "clipped": criterion.clip is not None,
            "enough_harm": enough,
            "enough_safe": enough,
        }

    def _labels(self, look: Look, mature: StratifiedBuckets, shares: Mapping[str, float], candidate: str) -> Numbers:
        """Return the evidence that outcomes are missing in one arm, and the lift of outcomes per call."""
        if self.criterion.per == "call":
            return {"labels": 0.0, "label_lift": 0.0}
        control, rates = look.situation.control, StratifiedBuckets()
        for name, phase in look.phases:
            if name in shares:
                for arm in (control, candidate):
                    calls = phase.calls.get(arm)
                    if calls is not None:
                        rates.add_sums(name, arm, mature.cell(name, arm)[1], array("d", calls))
        lift = rates.relative(candidate, control)
        have = [_weight(mature, (arm,)) for arm in (control, candidate)]
        return {
            "labels": label_rate_log_e(mature, shares, candidate, control),
            # If only one arm has outcomes, the ratio is undefined.
            "label_lift": lift.estimate if lift is not None else _NONE_AT_ALL if any(have) else 0.0,
        }

    def _shares(self, look: Look, candidate: str) -> dict[str, float]:
        """Return the candidate's share of both arms, by phase."""
        shares = {name: look.share(phase, candidate) for name, phase in look.phases if not phase.is_shadow}
        return {name: share for name, share in shares.items() if share is not None}

    @staticmethod
    def weigh(numbers: Mapping[str, Any]) -> Weight:
        """Compute the evidence of harm, of "good enough", and of futility.

        Args:
            numbers: "worse" (1 when a positive difference is worse, else -1); "estimate", "std_error", "df" of the mature
                decisions, and "for_harm" with those that count for harm; "exact_harm" and "exact_safe" (logarithms of exact
                e-values, or None), "harm" (None for a gate), "margin" (for a gate, -min_effect), "mde", "alpha", "tests",
                "candidates", "enough_harm", "enough_safe"; with a planned horizon also "looks" and "is_over".
        """
        worse, mde, margin = numbers["worse"], numbers["mde"], numbers["margin"]
        is_gate = numbers["harm"] is None
        harm = safe = futile = None
        if not is_gate:
            mean = None
            if numbers["enough_harm"]:
                mean = mean_log_e(numbers["for_harm"], sign=worse, null=numbers["harm"], mde=mde)
            harm = _either(mean, numbers["exact_harm"])
        mean = mean_log_e(numbers, sign=-worse, null=-margin, mde=mde) if numbers["enough_safe"] else None
        safe = _either(mean, numbers["exact_safe"])
        # An arm that should have had thirty values and has none is the clearest case.
        is_due = numbers["enough_safe"] or (is_gate and numbers["enough_harm"])
        if is_gate and is_due:
            futile = mean_log_e(numbers, sign=worse, null=-max(mde, -margin) if margin <= 0 else margin, mde=mde)
        looks = numbers.get("looks")
        return Weight(
            harm_log_e=harm,
            harm_needed=None if is_gate else harm_needed(numbers),
            safe_log_e=safe,
            safe_needed=safe_needed(numbers),
            futile_log_e=futile,
            passed=None if looks is None else any(z >= boundary for _, z, boundary, _ in looks),
            is_over=bool(numbers.get("is_over")),
            # Missing outcomes may be the bad ones, which would make the mean of the others look too good.
            is_held=abs(numbers["label_lift"]) > _LABEL_TOLERANCE,
            ends=interval(numbers, mde=mde, enough=is_due),
        )

    def explain(self, candidate: str, numbers: Mapping[str, Any], weight: Weight) -> tuple[Outcome, str]:  # noqa: D102
        if numbers.get("halves") and not numbers["pairs"]:
            return "INSUFFICIENT_DATA", f"no pair of values yet.{about_halves(candidate, numbers)}"
        outcome, why = self._found(candidate, numbers, weight)
        return outcome, f"{why}{about_halves(candidate, numbers)}"

    def _found(self, candidate: str, numbers: Mapping[str, Any], weight: Weight) -> tuple[Outcome, str]:
        """Explain a conclusion, or why there is none."""
        found = signed(numbers["estimate"])
        if numbers["labels"] >= MISMATCH:
            return "ERROR", _unequal_labels(numbers, candidate)
        if weight.is_harm:
            beyond = f" by more than {numbers['harm']:g}" if numbers["harm"] else ""
            return "FAIL", f"{candidate} is significantly worse than the control{beyond}: {found}."
        if weight.is_safe:
            return "PASS", self._good(candidate, numbers)
        if weight.is_futile:
            if weight.is_over:
                return (
                    "FUTILE",
                    f"the planned horizon is over, and {candidate} is not significantly {self._asked(numbers)}: {found}.",
                )
            return "FUTILE", f"{candidate} has significantly less than the effect worth having ({numbers['mde']:g}): {found}."
        if not numbers["enough_safe"] and (why := self._lacking(numbers)):
            return "INSUFFICIENT_DATA", why
        if weight.is_held:
            more = lift(math.expm1(numbers["label_lift"]))
            return "INCONCLUSIVE", (
                f"{candidate} has {more} outcomes per call relative to the control, and the missing ones may be the bad "
                f"ones: a pass waits until both arms have equally many, within {percent(_LABEL_TOLERANCE)}."
            )
        return "INCONCLUSIVE", f"{candidate} is not yet significantly {self._asked(numbers)}: {found}."

    def _asked(self, numbers: Mapping[str, Any]) -> str:
        if isinstance(self.criterion, Gate):
            return "better" if numbers["margin"] <= 0 else f"less than {numbers['margin']:g} worse"
        return f"less than {numbers['margin']:g} worse"

    def _good(self, candidate: str, numbers: Mapping[str, Any]) -> str:
        found, margin = signed(numbers["estimate"]), numbers["margin"]
        if isinstance(self.criterion, Gate):
            by = f" by more than {-margin:g}" if margin < 0 else ""
            less = f", or less than {margin:g} worse" if margin > 0 else ""
            return f"{candidate} is significantly better than the control{by}{less}: {found}."
        return f"{candidate} is significantly less than {margin:g} worse than the control: {found}."

    def _lacking(self, numbers: Mapping[str, Any]) -> str | None:
        """Explain what is missing; after the grace period without any value, that there is none."""
        nothing = not numbers["value_total"] and not numbers["control_total"]
        if nothing and numbers["matured"] and numbers["elapsed_s"] > self.criterion.grace:
            return (
                f"no value other than 0 has been recorded in {as_duration(numbers['elapsed_s'])}: "
                f"is {self.criterion.metric!r} the name passed to record(), and does the job run?"
            )
        return missing(numbers)

    def expected(self, traffic: Traffic, arms: tuple[float, float], days: float, worse: float | None) -> Numbers:  # noqa: D102
        criterion = self.criterion
        if criterion.metric not in traffic.means:
            raise ConfigurationError(
                f"The forecast does not know {criterion.metric!r}. Give its mean and standard deviation per unit: "
                f"--metric {criterion.metric}=MEAN,SD (for a share, its mean is enough)."
            )
        mean, deviation = traffic.means[criterion.metric]
        units = [traffic.units_per_day * arm * days for arm in arms]
        error = deviation * math.sqrt(sum(1 / each for each in units)) if min(units) > 0 and deviation else None
        sign = 1 if criterion.better == "lower" else -1
        hoped = -sign * criterion.mde if isinstance(criterion, Gate) else 0.0
        found = {"estimate": hoped if worse is None else sign * worse, "std_error": error, "df": 511}
        # For a binary metric, this many units have a value other than 0.
        nonzero = min(units) * min(1.0, mean if 0 < mean < 1 else 1.0)
        enough = min(units) >= MIN_UNITS and nonzero >= MIN_EVENTS
        # The gain of the exact bets is unknown; assume none, to be conservative.
        betting = isinstance(criterion, Gate) and criterion.min_effect >= 0
        return {
            **found,
            "for_harm": found,
            "exact_harm": None if isinstance(criterion, Gate) else 0.0,
            "exact_safe": 0.0 if betting else None,
            "labels": 0.0,
            "label_lift": 0.0,
            "worse": sign,
            "harm": criterion.harm if isinstance(criterion, Guardrail) else None,
            "margin": -criterion.min_effect if isinstance(criterion, Gate) else criterion.margin,
            "mde": criterion.mde,
            "enough_harm": enough,
            "enough_safe": enough,
        }


def _either(mean: float | None, exact: float | None) -> float | None:
    """Combine the evidence of a test of means and of an exact test; None if neither applies."""
    if exact is None:
        return mean
    return mixed((_MEANS, mean), (_BETS, exact))


def _due_events(sums: StratifiedBuckets, control: str, candidate: str) -> float:
    """Return the smaller number of units with a value other than 0, at least the number the other arm's rate predicts.

    An arm that should have thirty and has none is the clearest harm. Its variance is bounded below by the other arm's.
    """
    found = {arm: _units_behind(sums.nonzero(arm), sums.buckets) for arm in (control, candidate)}
    weights = {arm: _weight(sums, (arm,)) for arm in (control, candidate)}
    if not all(weights.values()):
        return 0.0
    due = found[control] * weights[candidate] / weights[control], found[candidate] * weights[control] / weights[candidate]
    return min(max(found[candidate], due[0]), max(found[control], due[1]))


def _units_behind(occupied: int, buckets: int) -> float:
    """Estimate the number of units from the number of buckets that they occupy."""
    return -buckets * math.log1p(-min(occupied, buckets - 0.5) / buckets)


def _weight(sums: StratifiedBuckets, arms: tuple[str, ...]) -> float:
    return math.fsum(sums.totals(phase, arm)[1] for phase in sums.phases() for arm in arms)


def _unequal_labels(numbers: Mapping[str, Any], candidate: str) -> str:
    return (
        f"outcomes do not arrive in the configured shares: {numbers['value_count']:,.0f} for {candidate} and "
        f"{numbers['control_count']:,.0f} for the control. The missing ones may be the bad ones: find the cause before you "
        f"trust this metric."
    )
