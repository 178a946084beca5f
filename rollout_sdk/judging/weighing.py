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
    confidence_sequence,
    log_e_one_sided,
    rare_event_log_e,
    rare_event_safe_log_e,
    rate_below_log_e,
    srm_log_e,
)

__all__ = ["MIN_EVENTS", "MIN_UNITS", "SRM_NEEDED", "Weight", "weigh_assignment", "weigh_difference", "weigh_rare"]

MIN_UNITS = 100
MIN_EVENTS = 30
"""Below, means are not normal enough for any test of means: only the exact ones speak."""

SRM_NEEDED = math.log(1000)


@frozen
class Weight:
    """What numbers come to.

    Attributes:
        harm_log_e: Logarithm of the evidence that the candidate is too much worse; None where nothing can be told.
        harm_needed: What a rollback takes.
        safe_log_e: Logarithm of the evidence that it is good enough.
        safe_needed: What a pass takes.
        by_rarity: Whether most of that evidence is how rarely the candidate's units had an event, whatever the control's did.
        low: Lower end of an interval for the difference.
        high: Upper end.
    """

    harm_log_e: float | None = None
    harm_needed: float | None = None
    safe_log_e: float | None = None
    safe_needed: float | None = None
    by_rarity: bool = False
    low: float | None = None
    high: float | None = None

    @property
    def is_harm(self) -> bool:
        """Whether the candidate is surely too much worse."""
        return self.harm_log_e is not None and self.harm_needed is not None and self.harm_log_e >= self.harm_needed

    @property
    def is_safe(self) -> bool:
        """Whether the candidate is surely good enough."""
        return self.safe_log_e is not None and self.safe_needed is not None and self.safe_log_e >= self.safe_needed


def _either(one: float, other: float) -> float:
    """The mean of two e-values, which is one again, by logarithms: it is large when either is."""
    high, low = max(one, other), min(one, other)
    return high + math.log((1 + math.exp(low - high)) / 2)


def weigh_rare(numbers: Mapping[str, Any]) -> Weight:
    """Errors, exactly: which arm the next erring unit is in, given the shares; base rates may drift as they like.

    Each unit counts once in a phase. Good enough is a ratio surely below 1 + margin, or a share of erring units surely below
    `floor`: the two e-values are averaged.

    Args:
        numbers: "strata" (candidate's units with an error, control's, the candidate's share of both), "harm", "margin",
            "floor", "floor_events" and "floor_units" of the candidate, "alpha", "tests" and "candidates".
    """
    alpha, strata = numbers["alpha"], [tuple(each) for each in numbers["strata"]]
    ratio = rare_event_safe_log_e(strata, margin=numbers["margin"])
    rarity = 0.0
    if numbers["floor"]:
        rarity = rate_below_log_e(numbers["floor_events"], numbers["floor_units"], limit=numbers["floor"])
    return Weight(
        harm_log_e=rare_event_log_e(strata, margin=numbers["harm"]),
        harm_needed=math.log(numbers["tests"] / alpha),
        safe_log_e=_either(ratio, rarity),
        safe_needed=math.log(numbers["candidates"] / alpha),
        by_rarity=rarity > ratio,
    )


def _error(numbers: Mapping[str, Any]) -> float:
    """The standard error; without end where it is not known, which JSON cannot say."""
    return math.inf if numbers["std_error"] is None else float(numbers["std_error"])


def weigh_difference(numbers: Mapping[str, Any]) -> Weight:
    """A difference of means or shares, by the information-indexed normal mixture on bucket sums.

    Of a share (slow calls), good enough is also a candidate's share of units below the margin: then the difference to any
    control is below it. The two e-values are averaged.

    Args:
        numbers: "worse": 1 when a positive difference is worse, else -1; "estimate", "std_error", "df" of all decisions, and
            "mature" with the same of the mature ones; "harm" (None for a gate), "margin" (a gate's is -min_effect), "mde",
            "alpha", "tests", "candidates", "enough_harm", "enough_safe" (whether there are units and events enough), and for
            shares "events" and "units" of the candidate in this phase.
    """
    alpha, worse, rho = numbers["alpha"], numbers["worse"], numbers["mde"] ** -2
    exact = numbers.get("units") is not None
    harm = None
    if numbers["harm"] is not None and numbers["enough_harm"]:
        harm = log_e_one_sided(worse * numbers["estimate"], _error(numbers), rho=rho, null=numbers["harm"], df=numbers["df"])
    mature, safe, low, high, rarity = numbers["mature"], None, None, None, 0.0
    if numbers["enough_safe"]:
        safe = log_e_one_sided(-worse * mature["estimate"], _error(mature), rho=rho, null=-numbers["margin"], df=mature["df"])
        low, high = confidence_sequence(
            numbers["estimate"], _error(numbers), rho=rho, alpha=alpha / numbers["candidates"], df=numbers["df"]
        )
    if exact:
        rarity = rate_below_log_e(numbers["events"], numbers["units"], limit=numbers["margin"])
    is_known = low is not None and high is not None and math.isfinite(low) and math.isfinite(high)
    return Weight(
        harm_log_e=harm,
        harm_needed=None if numbers["harm"] is None else math.log(numbers["tests"] / alpha),
        safe_log_e=_either(safe or 0.0, rarity) if exact else safe,
        safe_needed=math.log(numbers["candidates"] / alpha),
        by_rarity=exact and rarity > (safe or 0.0),
        low=low if is_known else None,
        high=high if is_known else None,
    )


def weigh_assignment(numbers: Mapping[str, Any]) -> Weight:
    """Whether units are in the arms in the configured shares: a Dirichlet-multinomial e-value, phases multiplied.

    Args:
        numbers: "strata": for every phase, the units of every arm and the configured shares.
    """
    log_e = math.fsum(srm_log_e(counts, shares) for counts, shares in numbers["strata"])
    return Weight(harm_log_e=log_e, harm_needed=SRM_NEEDED)
