"""`shadow.mismatch`: how often a shadow's answers differ from the control's on the same calls; and what all such metrics share.

Where the control runs twice on some calls (`noise=` of a comparator), its own variation is subtracted.
"""

from __future__ import annotations

from abc import abstractmethod
from array import array
from collections.abc import Mapping
from typing import Any

from attrs import define

from rollout_sdk.assignment import BUCKETS
from rollout_sdk.judging.e_values import MIN_EVENTS, MIN_UNITS, Ends, Weight, harm_needed, mean_log_e, mixed, safe_needed
from rollout_sdk.judging.look import Look
from rollout_sdk.judging.metrics.base import Metric, Numbers, Traffic, compared, heavy_unit, interval
from rollout_sdk.judging.minutes import MINUTE_S
from rollout_sdk.judging.pairs import LEAST_COMPLETE, UNCOMPARED
from rollout_sdk.judging.phase_evidence import PhaseEvidence, Sums
from rollout_sdk.judging.unit_sample import UNTIMED_MINUTE, FirstPairs, UnitSample, first_pairs
from rollout_sdk.judging.verdicts import Outcome
from rollout_sdk.judging.wording import percent
from rollout_sdk.plan import SHADOW_MISMATCH, Guardrail
from rollout_sdk.records import Comparison
from rollout_sdk.stats import StratifiedBuckets, bernoulli_interval, rate_above_log_e, rate_below_log_e

__all__ = ["Compared", "Mismatch"]

_EXACT, _MEANS = 0.75, 0.25
_SEEN = "pairs of "
_LEAST_DIFFERING = 3
_NOTHING = ""
"""The arm that a candidate without measured noise is compared with: its values are all 0."""


@define(eq=False)
class Compared(Metric):
    """A metric of comparisons.

    A unit's first pair is an independent draw, so shares of units are tested exactly. Means over all pairs are tested by the
    normal mixture on bucket sums, as every other mean.
    """

    criterion: Guardrail

    @property
    def about(self) -> str:
        """Name of the field that it is about; empty for the whole answer."""
        return ".".join(self.criterion.metric.split(".")[2:])

    @abstractmethod
    def value_of(self, comparison: Comparison) -> float | None:
        """Return a pair's value; None if it has none."""

    def compare(
        self,
        phase: PhaseEvidence,
        phase_name: str,
        arm: str,
        comparison: Comparison | None,
        *,
        cell: int,
        bucket: int,
        time_s: float,
    ) -> None:
        """Add a pair to the sums; see `Evidence.add_comparison`."""
        label = self.criterion.label
        if comparison is not None and self.about:
            comparison = comparison.fields.get(self.about)
        value = None if comparison is None else self.value_of(comparison)
        if value is None:
            phase.ends[arm, UNCOMPARED + label] += 1
            return
        sums = phase.sums.get(label)
        if sums is None:
            sums = phase.sums[label] = Sums()
        # Added first, because it refuses values that would spoil all sums.
        sums.add(phase_name, arm, bucket, value, 1.0, time_s)
        minute = int(time_s // MINUTE_S) if time_s > 0 else UNTIMED_MINUTE
        self._firsts(phase, arm, keep=True).add(cell, minute, differs=value != 0)

    def _firsts(self, phase: PhaseEvidence, arm: str, *, keep: bool = False) -> FirstPairs:
        label = self.criterion.label
        names = (_SEEN + label, arm), (label, arm)
        if keep:
            return FirstPairs(*(phase.events.setdefault(name, UnitSample()) for name in names))
        return FirstPairs(*(phase.events.get(name, UnitSample()) for name in names))

    def add_sums(self, whole: StratifiedBuckets, name: str, phase: PhaseEvidence, until_s: float | None) -> None:  # noqa: ARG002, D102
        sums = phase.sums.get(self.criterion.label)
        for each in () if sums is None else sums.slices.values():
            whole.merge(each)

    def _measured(self, look: Look, candidate: str) -> Numbers:
        """Return what both metrics need: the mean over pairs less the control's noise, and the first pairs of units."""
        criterion, control = self.criterion, look.situation.control
        sums = StratifiedBuckets()
        for name, phase in look.phases:
            self.add_sums(sums, name, phase, None)
        totals = {arm: _totals(sums, arm) for arm in (candidate, control)}
        has_noise = totals[control][1] > 0
        against = control if has_noise else _NOTHING
        if not has_noise:
            for name in sums.phases():
                sums.add_sums(name, _NOTHING, array("d", bytes(8 * BUCKETS)), array("d", sums.cell(name, candidate)[1]))
        heavy = heavy_unit(sums, against, candidate)
        events, units = first_pairs(self._firsts(phase, candidate) for _, phase in look.phases)
        missed = sum(phase.ends[candidate, UNCOMPARED + criterion.label] for _, phase in look.phases)
        total, count = totals[candidate]
        noise, noise_count = totals[control]
        return {
            **look.shared(criterion),
            **heavy,
            **compared(sums.difference(candidate, against, paired=True)),
            "value": total / count if count else None,
            "value_count": count,
            "noise": noise / noise_count if has_noise else None,
            "noise_count": noise_count,
            "compared": count / (count + missed) if count else 0.0,
            "missed": missed,
            "events": events,
            "units": units,
            "harm": criterion.harm,
            "margin": criterion.margin,
            "seen_units": units,
            "seen_events": events,
            "matured": 1.0,
            "skewness": sums.skewness_squared(candidate, units=units) if units > 1 else 0.0,
            "enough": units >= MIN_UNITS and heavy["enough_effective"] and events >= MIN_EVENTS,
            # Shown as the two arms: how often the control differs from itself, and how often the candidate does.
            **({"control": noise / noise_count, "control_count": noise_count} if has_noise else {}),
        }

    def _lacking(self, numbers: Mapping[str, Any]) -> str | None:
        """Explain why no pair could be compared, or too few; None if enough were."""
        if not numbers["value_count"] and not numbers["missed"]:
            return "no pair has been compared yet."
        if numbers["compared"] >= LEAST_COMPLETE:
            return None
        about = f"the field {self.about!r} of " if self.about else ""
        return (
            f"only {numbers['compared']:.1%} of the pairs could be compared ({numbers['missed']:,.0f} could not), and at least "
            f"{LEAST_COMPLETE:.0%} must: does compare= compare {about}every answer? See the faults in status()."
        )


def _totals(sums: StratifiedBuckets, arm: str) -> tuple[float, float]:
    totals = [sums.totals(phase, arm) for phase in sums.phases()]
    return sum(value for value, _ in totals), sum(weight for _, weight in totals)


@define(eq=False)
class Mismatch(Compared):
    """The share of pairs that do not match, tested exactly on the first pair of every unit.

    A conclusion about units holds for pairs only while the share of all pairs agrees with it, because a few heavy units may
    make most pairs.
    """

    measures = (SHADOW_MISMATCH,)

    def value_of(self, comparison: Comparison) -> float:  # noqa: D102
        return 0.0 if comparison.match else 1.0

    def numbers(self, look: Look, candidate: str) -> Numbers:  # noqa: D102
        found = self._measured(look, candidate)
        low, high = bernoulli_interval(found["events"], found["units"], alpha=look.alpha)
        return {**found, "rate_low": low, "rate_high": high}

    @staticmethod
    def weigh(numbers: Mapping[str, Any]) -> Weight:
        """Weigh an exact bet on units, and the normal mixture on bucket sums.

        Args:
            numbers: "events" and "units" (units whose first pair differs, and all), "value" (share of pairs that differ),
                "noise" (that of the control against itself, or None), "estimate", "std_error" and "df" of their difference,
                "harm", "margin", "enough", "compared", "alpha", "tests", "candidates", "rate_low" and "rate_high".
        """
        margin, harm, value = numbers["margin"], numbers["harm"], numbers["value"] or 0.0
        means: dict[str, float | None] = {"harm": None, "safe": None}
        if numbers["enough"]:
            means["harm"] = mean_log_e(numbers, sign=1, null=harm, mde=margin)
            means["safe"] = mean_log_e(numbers, sign=-1, null=-margin, mde=margin)
        # Less the noise, the share is smaller: the exact bet is conservative for "good enough", and none for harm.
        below = rate_below_log_e(numbers["events"], numbers["units"], limit=margin)
        if numbers["noise"] is not None:
            harm_log_e, safe = means["harm"], mixed((0.5, below), (0.5, means["safe"]))
            ends = interval(numbers, mde=margin, enough=numbers["enough"])
        else:
            # One odd answer may be significant, but is not worth a rollback.
            few = numbers["events"] < _LEAST_DIFFERING or value <= harm
            above = None if few else rate_above_log_e(numbers["events"], numbers["units"], limit=harm)
            harm_log_e, safe = mixed((_EXACT, above), (_MEANS, means["harm"])), below
            ends = Ends(numbers["rate_low"], numbers["rate_high"]) if numbers["units"] else Ends()
        return Weight(
            harm_log_e=harm_log_e,
            harm_needed=harm_needed(numbers),
            safe_log_e=safe,
            safe_needed=safe_needed(numbers),
            is_held=value - (numbers["noise"] or 0.0) > margin or numbers["compared"] < LEAST_COMPLETE,
            ends=ends,
        )

    def explain(self, candidate: str, numbers: Mapping[str, Any], weight: Weight) -> tuple[Outcome, str]:  # noqa: D102
        pairs, value = numbers["value_count"], numbers["value"]
        where = f" in {self.about!r}" if self.about else ""
        if not pairs:
            return "INSUFFICIENT_DATA", self._lacking(numbers) or ""
        noise = "" if numbers["noise"] is None else f"; the control differs from itself in {percent(numbers['noise'])}"
        units = f"{numbers['events']:,} of {numbers['units']:,} units in their first pair"
        between = "" if weight.ends.low is None else f" [{percent(weight.ends.low)}, {percent(weight.ends.high or 0.0)}]"
        seen = f"{percent(value)} of {pairs:,.0f} pairs{between}, {units}{noise}"
        if weight.is_harm:
            more = percent(numbers["harm"])
            return "FAIL", f"{candidate} and the control differ{where} in significantly more than {more}: {seen}."
        if (why := self._lacking(numbers)) is not None:
            return "INSUFFICIENT_DATA", why
        if weight.is_safe:
            less = percent(numbers["margin"])
            return "PASS", f"{candidate} and the control differ{where} in significantly less than {less}: {seen}."
        return "INCONCLUSIVE", f"{candidate} and the control differ{where} neither significantly too often nor rarely: {seen}."

    def expected(self, traffic: Traffic, arms: tuple[float, float], days: float, worse: float | None) -> Numbers:  # noqa: D102
        units, rate = traffic.units_per_day * arms[1] * days, min(1.0, worse or 0.0)
        pairs = max(units * traffic.calls_per_unit, 1e-9)
        return {
            "estimate": rate,
            "std_error": (rate * (1 - rate) / max(units, 1e-9)) ** 0.5 or None,
            "df": 511,
            "value": rate,
            "value_count": pairs,
            "noise": None,
            "compared": 1.0,
            "missed": 0,
            "events": units * rate,
            "units": units,
            "harm": self.criterion.harm,
            "margin": self.criterion.margin,
            "enough": units >= MIN_UNITS and units * rate >= MIN_EVENTS,
            "rate_low": 0.0,
            "rate_high": 1.0,
        }
