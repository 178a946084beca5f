"""`shadow.difference`: how far a shadow's answers are from the control's on the same calls, in the comparator's unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define

from rollout_sdk.judging.e_values import MIN_UNITS, Weight, harm_needed, mean_log_e, mixed, safe_needed
from rollout_sdk.judging.look import Look
from rollout_sdk.judging.metrics.base import Numbers, Traffic, interval
from rollout_sdk.judging.metrics.compared import Compared
from rollout_sdk.judging.pairs import LEAST_COMPLETE
from rollout_sdk.judging.verdicts import Outcome
from rollout_sdk.judging.wording import missing
from rollout_sdk.plan import SHADOW_DIFFERENCE
from rollout_sdk.records import Comparison
from rollout_sdk.stats import rate_below_log_e

__all__ = ["Difference"]

_KOHAVI = 355.0


@define(eq=False)
class Difference(Compared):
    """The mean of the comparator's difference over all pairs, by the normal mixture on bucket sums.

    With `clip=(0, most)` the mean is at most `most` times the share of pairs that differ at all, which is tested exactly; only
    so can answers without any difference pass.
    """

    measures = (SHADOW_DIFFERENCE,)

    def value_of(self, comparison: Comparison) -> float | None:  # noqa: D102
        if comparison.difference is None:
            return 0.0 if comparison.match else None
        low, high = self.criterion.clip or (comparison.difference, comparison.difference)
        return float(min(max(comparison.difference, low), high))

    def numbers(self, look: Look, candidate: str) -> Numbers:  # noqa: D102
        found = self._measured(look, candidate)
        clip = self.criterion.clip
        needed = _KOHAVI * found["skewness"]
        return {
            **found,
            "units_needed": needed,
            "clipped": clip is not None,
            "most": clip[1] if clip is not None and clip[0] >= 0 else None,
            "enough": found["enough"] and found["units"] >= needed,
        }

    @staticmethod
    def weigh(numbers: Mapping[str, Any]) -> Weight:
        """Weigh the mean difference, and if it is bounded, how few units have any.

        Args:
            numbers: As for `Mismatch`, where "value" is the mean difference, and "most", the largest possible value or None.
        """
        margin, enough, most = numbers["margin"], numbers["enough"], numbers["most"]
        safe = mean_log_e(numbers, sign=-1, null=-margin, mde=margin) if enough else None
        value = (numbers["value"] or 0.0) - (numbers["noise"] or 0.0)
        if most is not None:
            bound = margin / most
            rarity = rate_below_log_e(numbers["events"], numbers["units"], limit=bound) if bound < 1 else 0.0
            safe = mixed((0.5, safe), (0.5, rarity))
        return Weight(
            harm_log_e=mean_log_e(numbers, sign=1, null=numbers["harm"], mde=margin) if enough else None,
            harm_needed=harm_needed(numbers),
            safe_log_e=safe,
            safe_needed=safe_needed(numbers),
            is_held=value > margin or numbers["compared"] < LEAST_COMPLETE,
            ends=interval(numbers, mde=margin, enough=enough),
        )

    def explain(self, candidate: str, numbers: Mapping[str, Any], weight: Weight) -> tuple[Outcome, str]:  # noqa: D102
        pairs, where = numbers["value_count"], f" in {self.about!r}" if self.about else ""
        if not pairs:
            return "INSUFFICIENT_DATA", self._lacking(numbers) or ""
        noise = "" if numbers["noise"] is None else f", the control's from itself {numbers['noise']:.4g}"
        seen = f"{numbers['value']:.4g} over {pairs:,.0f} pairs{noise}"
        if weight.is_harm:
            return "FAIL", f"the mean difference{where} of {candidate} is significantly more than {numbers['harm']:g}: {seen}."
        if (why := self._lacking(numbers)) is not None:
            return "INSUFFICIENT_DATA", why
        if weight.is_safe:
            return (
                "PASS",
                f"the mean difference{where} of {candidate} is significantly less than {numbers['margin']:g}: {seen}.",
            )
        if not numbers["enough"] and (why := missing(numbers)) is not None:
            if not numbers["events"] and numbers["most"] is None:
                why = "no pair differs; with clip=(0, most), that so few do is evidence, too."
            return "INSUFFICIENT_DATA", why
        neither = "neither significantly too large nor small enough"
        return "INCONCLUSIVE", f"the mean difference{where} of {candidate} is {neither}: {seen}."

    def expected(self, traffic: Traffic, arms: tuple[float, float], days: float, worse: float | None) -> Numbers:  # noqa: D102
        units, mean = traffic.units_per_day * arms[1] * days, worse or 0.0
        clip = self.criterion.clip
        return {
            "estimate": mean,
            # Assumes that differences vary as much as the margin.
            "std_error": self.criterion.mde / max(units, 1e-9) ** 0.5,
            "df": 511,
            "value": mean,
            "value_count": units,
            "noise": None,
            "compared": 1.0,
            "missed": 0,
            "events": 0.0,
            "units": units,
            "harm": self.criterion.harm,
            "margin": self.criterion.margin,
            "most": None if clip is None else clip[1],
            "enough": units >= MIN_UNITS,
        }
