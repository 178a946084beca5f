"""From numbers to a finding: pure, so that every finding can be computed again from the numbers in its own record.

All tests are anytime-valid: they may be looked at after every call. Their evidence is an e-value: a bet against the hypothesis
that cannot be expected to win if it is true, so that it ever exceeds 1/alpha with probability alpha at most (Ville).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from rollout_sdk.stats import (
    bernoulli_interval,
    confidence_sequence,
    log_e_one_sided,
    rare_event_log_e,
    rare_event_safe_log_e,
    srm_log_e,
)

__all__ = ["MIN_EVENTS", "MIN_UNITS", "SRM_NEEDED", "Weight", "weigh_assignment", "weigh_difference", "weigh_rare"]

MIN_UNITS = 100
MIN_EVENTS = 30
"""Below, means are not normal enough for any test of means: only the exact ones speak."""

SRM_NEEDED = math.log(1000)


@frozen
class Weight:
    """What numbers come to: evidence on both sides, and an interval for the difference; None where nothing can be told.

    `bound` is what the share of the candidate's units with an event is surely below, and `bound_needed` what is low enough.
    """

    harm_log_e: float | None = None
    harm_needed: float | None = None
    safe_log_e: float | None = None
    safe_needed: float | None = None
    low: float | None = None
    high: float | None = None
    bound: float | None = None
    bound_needed: float | None = None

    @property
    def is_harm(self) -> bool:
        """Whether the candidate is surely too much worse."""
        return self.harm_log_e is not None and self.harm_needed is not None and self.harm_log_e >= self.harm_needed

    @property
    def is_safe(self) -> bool:
        """Whether the candidate is surely good enough."""
        return self.is_rare_enough or (
            self.safe_log_e is not None and self.safe_needed is not None and self.safe_log_e >= self.safe_needed
        )

    @property
    def is_rare_enough(self) -> bool:
        """Whether so few of the candidate's units had an event that the control need not be known."""
        return self.bound is not None and self.bound_needed is not None and self.bound < self.bound_needed


def weigh_rare(numbers: Mapping[str, Any]) -> Weight:
    """Errors, exactly: which arm the next erring unit is in, given the shares; base rates may drift as they like.

    Each unit counts once in a phase. Good enough is a ratio surely below 1 + margin, or a share of erring units surely below
    `floor`, each at half of alpha.

    Args:
        numbers: "strata" (candidate's units with an error, control's, the candidate's share of both), "harm", "margin",
            "floor", "floor_events" and "floor_units" of the candidate, "alpha", "tests" and "candidates".
    """
    alpha, strata = numbers["alpha"], [tuple(each) for each in numbers["strata"]]
    needed = math.log(2 * numbers["candidates"] / alpha)
    safe = rare_event_safe_log_e(strata, margin=numbers["margin"])
    bound = None
    if numbers["floor_units"]:
        # One end of an interval at alpha is a bound at half of it.
        bound = bernoulli_interval(numbers["floor_events"], numbers["floor_units"], alpha=alpha / numbers["candidates"])[1]
    return Weight(
        harm_log_e=rare_event_log_e(strata, margin=numbers["harm"]),
        harm_needed=math.log(numbers["tests"] / alpha),
        safe_log_e=safe,
        safe_needed=needed,
        bound=bound,
        bound_needed=numbers["floor"],
    )


def _error(numbers: Mapping[str, Any]) -> float:
    """The standard error; without end where it is not known, which JSON cannot say."""
    return math.inf if numbers["std_error"] is None else float(numbers["std_error"])


def weigh_difference(numbers: Mapping[str, Any]) -> Weight:
    """A difference of means or shares, by the information-indexed normal mixture on bucket sums.

    Args:
        numbers: "worse": 1 when a positive difference is worse, else -1; "estimate", "std_error", "df" of all decisions, and
            "mature" with the same of the mature ones; "harm" (None for a gate), "margin" (a gate's is -min_effect), "mde",
            "alpha", "tests", "candidates", "enough_harm", "enough_safe" (whether there are units and events enough), and for
            shares "events" and "units" of the candidate in this phase, and "floor".
    """
    alpha, worse, rho = numbers["alpha"], numbers["worse"], numbers["mde"] ** -2
    exact = numbers.get("units") is not None
    harm = None
    if numbers["harm"] is not None and numbers["enough_harm"]:
        harm = log_e_one_sided(worse * numbers["estimate"], _error(numbers), rho=rho, null=numbers["harm"], df=numbers["df"])
    needed = math.log((2 if exact else 1) * numbers["candidates"] / alpha)
    mature, safe, low, high, bound = numbers["mature"], None, None, None, None
    if numbers["enough_safe"]:
        safe = log_e_one_sided(-worse * mature["estimate"], _error(mature), rho=rho, null=-numbers["margin"], df=mature["df"])
        low, high = confidence_sequence(
            numbers["estimate"], _error(numbers), rho=rho, alpha=alpha / numbers["candidates"], df=numbers["df"]
        )
    if exact and numbers["units"]:
        # Of a share below the margin, the difference to any control is below it, too.
        bound = bernoulli_interval(numbers["events"], numbers["units"], alpha=alpha / numbers["candidates"])[1]
    is_known = low is not None and high is not None and math.isfinite(low) and math.isfinite(high)
    return Weight(
        harm_log_e=harm,
        harm_needed=None if numbers["harm"] is None else math.log(numbers["tests"] / alpha),
        safe_log_e=safe,
        safe_needed=needed,
        low=low if is_known else None,
        high=high if is_known else None,
        bound=bound,
        bound_needed=numbers["margin"] if exact else None,
    )


def weigh_assignment(numbers: Mapping[str, Any]) -> Weight:
    """Whether units are in the arms in the configured shares: a Dirichlet-multinomial e-value, phases multiplied.

    Args:
        numbers: "strata": for every phase, the units of every arm and the configured shares.
    """
    log_e = math.fsum(srm_log_e(counts, shares) for counts, shares in numbers["strata"])
    return Weight(harm_log_e=log_e, harm_needed=SRM_NEEDED)
