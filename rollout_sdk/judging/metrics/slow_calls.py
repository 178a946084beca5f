"""`latency` and `first_item`: the share of calls slower than a threshold."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from attrs import define

from rollout_sdk.assignment import BUCKETS
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
from rollout_sdk.judging.metrics.base import (
    Metric,
    Numbers,
    Traffic,
    compared,
    heavy_unit,
    interval,
    is_clustered,
    least_mean,
    relative,
    values,
)
from rollout_sdk.judging.metrics.events import Strata, add_calls, add_event, bets, strata_of
from rollout_sdk.judging.phase_evidence import PhaseEvidence
from rollout_sdk.judging.unit_sample import UnitSample
from rollout_sdk.judging.verdicts import Outcome
from rollout_sdk.judging.wording import missing, percent
from rollout_sdk.plan import FIRST_ITEM, LATENCY, Guardrail
from rollout_sdk.stats import StratifiedBuckets, rate_below_log_e

__all__ = ["UNTIMED", "SlowCalls"]

UNTIMED = "untimed "
"""Prefix of a label: units with a call of unknown duration."""


@define(eq=False)
class SlowCalls(Metric):
    """The share of calls slower than `threshold_s`, and the units that had one.

    The mean is over calls, by bucket. From the first slow call on, an exact bet compares the units with a slow call; it can
    only show harm. "Good enough" also follows if the share of units with a slow call is below the margin, because the
    difference to any control is then below it; but only while the share of slow calls is, too, since a few heavy units make
    most calls.
    """

    criterion: Guardrail
    counts_untimed: bool = True
    """Whether it counts the calls of unknown duration: one of the criteria with several thresholds does, for all of them."""
    measures = (LATENCY, FIRST_ITEM)
    rate: ClassVar[Literal["error_rate", "slow_rate"] | None] = "slow_rate"

    def observe(  # noqa: D102 - as in the base
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
        criterion = self.criterion
        waited_s = first_item_s if criterion.metric == FIRST_ITEM else duration_s
        assert criterion.threshold_s is not None
        if waited_s is None:
            # Whether a unit that left early would have waited is unknown, so it does not count as fast.
            if self.counts_untimed:
                untimed = phase.untimed if criterion.metric == LATENCY else phase.waitless
                calls = untimed.get(arm)
                if calls is None:
                    calls = untimed[arm] = array("q", bytes(8 * BUCKETS))
                calls[bucket] += 1
            phase.events.setdefault((UNTIMED + criterion.label, arm), UnitSample()).add(cell)
            return None
        if waited_s <= criterion.threshold_s:
            return None
        add_event(phase, criterion.label, phase_name, arm, cell, bucket, time_s)
        return criterion.label

    def add_sums(self, whole: StratifiedBuckets, name: str, phase: PhaseEvidence, until_s: float | None) -> None:  # noqa: ARG002, D102
        self._add(whole, name, phase, None)

    def _add(self, whole: StratifiedBuckets, name: str, phase: PhaseEvidence, look: Look | None) -> None:
        sums = phase.sums.get(self.criterion.label)
        if sums is not None:
            for each in sums.without(frozenset() if look is None else look.outages(phase)):
                whole.merge(each)
        add_calls(whole, name, phase, phase.untimed if self.criterion.metric == LATENCY else phase.waitless, look)

    def numbers(self, look: Look, candidate: str) -> Numbers:  # noqa: D102
        criterion, control = self.criterion, look.situation.control
        label = criterion.label
        assert criterion.harm is not None
        sums = StratifiedBuckets()
        for name, phase in look.phases:
            self._add(sums, name, phase, look)
        slow = [look.units_of(arm, label).estimate for arm in (control, candidate)]
        means = values(sums, control, candidate)
        heavy = heavy_unit(sums, control, candidate)
        units = look.fewest_units(candidate)
        enough = units >= MIN_UNITS and heavy["enough_effective"]
        events, of = self._slow_units(look, candidate)
        strata = strata_of(look, criterion, sums, candidate)
        # A burst of slow calls counts as one event, however many units it affects.
        seen = min(slow[1], strata.candidate_groups)
        return {
            **look.shared(criterion),
            **means,
            **heavy,
            **_with_error(compared(sums.difference(candidate, control, paired=look.is_paired)), means["value"], units),
            **relative(sums, candidate, control),
            "harm": criterion.harm,
            "margin": criterion.margin,
            "exact_harm": self._exact_harm(strata, sums, control, candidate),
            # The control may have few slow calls or none: for harm, only the precision of the candidate's rate matters.
            "enough_harm": enough and seen >= MIN_EVENTS,
            "enough_safe": enough and min(slow[0], seen) >= MIN_EVENTS,
            "seen_units": units,
            "events": events,
            "units": of,
        }

    def _exact_harm(self, strata: Strata, sums: StratifiedBuckets, control: str, candidate: str) -> float:
        """Return the evidence that more units of the candidate have a slow call than `harm` allows, given the control's calls.

        Units that call often have a slow call anyway, so their ratio is at most that of calls, and the bet is conservative. It
        does not apply if slow calls come in clusters: the same number spread over more units is not worse.
        """
        least = least_mean(sums, control, candidate)
        if not least or any(is_clustered(sums, arm) for arm in (control, candidate)):
            return 0.0
        assert self.criterion.harm is not None
        return bets(strata.groups, strata.shares, ratio=1 + self.criterion.harm / least, direction="above")

    def _slow_units(self, look: Look, candidate: str) -> tuple[int, int]:
        """Return the candidate's units with a slow call, and its units; each unit once in the rollout."""
        label = self.criterion.label
        samples = look.units_of(candidate, label), look.units_of(candidate), look.units_of(candidate, UNTIMED + label)
        level = max(each.level for each in samples)
        slow, units, unknown = (set(each.at(level)) for each in samples)
        return len(slow), len(units - (unknown - slow))

    @staticmethod
    def weigh(numbers: Mapping[str, Any]) -> Weight:
        """Weigh the difference of the shares of slow calls with the normal mixture on bucket sums, and the exact bets.

        Args:
            numbers: "estimate", "std_error", "df", "harm", "margin", "exact_harm", "enough_harm", "enough_safe", "events" and
                "units" of the candidate, "value", "alpha", "tests", "candidates", and the relative lift.
        """
        margin = numbers["margin"]
        harm = mean_log_e(numbers, sign=1, null=numbers["harm"], mde=margin) if numbers["enough_harm"] else None
        safe = mean_log_e(numbers, sign=-1, null=-margin, mde=margin) if numbers["enough_safe"] else None
        rarity = 0.0
        if numbers["value"] is not None and numbers["value"] <= margin:
            rarity = rate_below_log_e(numbers["events"], numbers["units"], limit=margin)
        return Weight(
            harm_log_e=mixed((0.5, harm), (0.5, numbers["exact_harm"])),
            harm_needed=harm_needed(numbers),
            safe_log_e=mixed((0.5, safe), (0.5, rarity)),
            safe_needed=safe_needed(numbers),
            by_rarity=rarity > (safe or 0.0),
            ends=interval(numbers, mde=margin, enough=numbers["enough_harm"]),
        )

    def explain(self, candidate: str, numbers: Mapping[str, Any], weight: Weight) -> tuple[Outcome, str]:  # noqa: D102
        what = "slow calls" if self.criterion.metric == LATENCY else "slow first items"
        control, value, margin = numbers["control"], numbers["value"], numbers["margin"]
        between = (
            "" if control is None or value is None else f" ({percent(value)} of its calls, the control's {percent(control)})"
        )
        if weight.is_harm:
            by = percent(numbers["harm"])
            return "FAIL", f"{candidate} has significantly more {what} than the control, by more than {by}{between}."
        events, units = numbers["events"], numbers["units"]
        if weight.is_safe and weight.by_rarity:
            return (
                "PASS",
                f"{events:,} of {units:,} units of {candidate} had {what}: significantly fewer than {percent(margin)}.",
            )
        if weight.is_safe:
            return "PASS", f"{candidate} has significantly less than {percent(margin)} more {what} than the control{between}."
        if not numbers["enough_harm"] and (why := missing(numbers)):
            return "INSUFFICIENT_DATA", why
        if not numbers["enough_safe"]:
            return (
                "INCONCLUSIVE",
                f"{events:,} of {units:,} units had {what}, too few units to show less than {percent(margin)}.",
            )
        return "INCONCLUSIVE", f"{candidate} has neither significantly too many {what} nor few enough{between}."

    def expected(self, traffic: Traffic, arms: tuple[float, float], days: float, worse: float | None) -> Numbers:  # noqa: D102
        criterion = self.criterion
        units = [traffic.units_per_day * arm * days for arm in arms]
        calls = [each * traffic.calls_per_unit for each in units]
        rates = [traffic.slow_rate, min(1.0, traffic.slow_rate + (worse or 0.0))]
        slow = [count * rate for count, rate in zip(calls, rates, strict=True)]
        # Assumes that the calls of a unit are alike, which is the worst case.
        variance = sum(rate * (1 - rate) / max(count, 1e-9) for rate, count in zip(rates, units, strict=True))
        enough = min(units) >= MIN_UNITS
        return {
            "estimate": rates[1] - rates[0],
            "std_error": variance**0.5 or None,
            "df": 511,
            "control": rates[0],
            "value": rates[1],
            "harm": criterion.harm,
            "margin": criterion.margin,
            "exact_harm": 0.0,
            "enough_harm": enough and slow[1] >= MIN_EVENTS,
            "enough_safe": enough and min(slow) >= MIN_EVENTS,
            "events": units[1] * rates[1],
            "units": units[1],
        }


def _with_error(found: Numbers, rate: float | None, units: int) -> Numbers:
    """Return the difference; if both arms are slow in exactly the same calls, with the standard error of unpaired arms.

    Pairs that agree in every call have a standard error of 0, which tests treat as unknown.
    """
    if found["std_error"] == 0 and rate and units:
        return {**found, "std_error": math.sqrt(2 * max(rate * (1 - rate), 0.25 / units) / units)}
    return found
