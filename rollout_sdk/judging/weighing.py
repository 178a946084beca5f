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

_BASE_RATES = (0.1, 0.01, 0.001)
_DOUBLED, _LEAST_MARGIN = 1.0, 0.1


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


def _any(*log_es: float) -> float:
    """The mean of e-values, which is one again, by logarithms: it is large when any of them is."""
    high = max(log_es)
    return high + math.log(math.fsum(math.exp(each - high) for each in log_es) / len(log_es))


def weigh_rare(numbers: Mapping[str, Any]) -> Weight:
    """Errors: which arm the next erring unit is in, given the shares, and how the rates of all errors compare.

    The first is exact from the first error on; base rates may drift as they like; each unit counts once in a phase. That hides
    repeated errors: among units that come often, a candidate twice as bad looks less bad. For good enough, the candidate's
    erring units are therefore held against a share that is smaller by `firsts`: every error is charged, and none of the
    control's. The second sees all errors, and takes some dozens of them.

    Good enough is a ratio surely below 1 + margin, or a share of erring units surely below `floor`. All e-values are averaged.

    Args:
        numbers: "strata" (candidate's units with an error, control's, the candidate's share of both), "firsts" (for each, the
            part of the candidate's errors that are the first of their unit), "harm" and "margin" (relative), "over_harm" and
            "over_margin" (estimate, std_error and df of the candidate's rate minus 1 + harm, or 1 + margin, times the
            control's), "enough_harm", "enough_safe" (whether there are units and errors enough for these), "floor",
            "floor_events" and "floor_units" of the candidate, "alpha", "tests" and "candidates".
    """
    alpha, strata = numbers["alpha"], [tuple(each) for each in numbers["strata"]]
    harm, margin = numbers["harm"], numbers["margin"]
    charged = [
        (mine, other, share * firsts / (share * firsts + 1 - share))
        for (mine, other, share), firsts in zip(strata, numbers["firsts"], strict=True)
    ]
    over = _over(numbers["over_harm"], 1, _DOUBLED) if numbers["enough_harm"] else 0.0
    below = _over(numbers["over_margin"], -1, max(margin, _LEAST_MARGIN)) if numbers["enough_safe"] else 0.0
    ratios = (rare_event_safe_log_e(charged, margin=margin), below)
    rarity = 0.0
    if numbers["floor"]:
        rarity = rate_below_log_e(numbers["floor_events"], numbers["floor_units"], limit=numbers["floor"])
    return Weight(
        harm_log_e=_any(rare_event_log_e(strata, margin=harm), over),
        harm_needed=math.log(numbers["tests"] / alpha),
        safe_log_e=_any(*ratios, rarity),
        safe_needed=math.log(numbers["candidates"] / alpha),
        by_rarity=rarity > max(ratios),
    )


def _over(found: Mapping[str, Any], sign: int, effect: float) -> float:
    """Evidence that a rate is above (+1) or below (-1) what it is compared with; most sensitive to a relative `effect`."""
    # How exact the data will be depends on the base rate, which nobody knows beforehand: a bet on each order of magnitude.
    bets = ((effect * rate) ** -2 for rate in _BASE_RATES)
    return _any(*(log_e_one_sided(sign * found["estimate"], _error(found), rho=rho, df=found["df"]) for rho in bets))


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
        safe_log_e=_any(safe or 0.0, rarity) if exact else safe,
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
