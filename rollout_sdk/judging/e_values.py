"""E-values: how much evidence a decision needs, and how several bets are combined.

All tests are anytime-valid: they may be evaluated after every call. Evidence is an e-value, a bet against the hypothesis that
does not win in expectation if the hypothesis is true, so it ever exceeds 1/alpha with probability at most alpha (Ville).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from rollout_sdk.stats import log_e_one_sided, mix_log_e

__all__ = [
    "MIN_EVENTS",
    "MIN_UNITS",
    "Ends",
    "Weight",
    "harm_needed",
    "mean_log_e",
    "mixed",
    "ratio_bets_log_e",
    "safe_needed",
    "std_error",
]

MIN_UNITS = 100
"""Minimum of units, and of effective units, in each arm for a test of means."""

MIN_EVENTS = 30
"""Minimum of units with a value other than 0 in each arm; below it, means are not normal enough, and only exact tests apply."""

_BASE_RATES = (0.1, 0.01, 0.001)


@frozen
class Ends:
    """Confidence intervals that hold at every look; None where unknown.

    Attributes:
        low: Lower end of the difference, in the metric's unit.
        high: Upper end.
        relative: Relative lift, candidate / control - 1.
        relative_low: Lower end of the lift.
        relative_high: Upper end.
    """

    low: float | None = None
    high: float | None = None
    relative: float | None = None
    relative_low: float | None = None
    relative_high: float | None = None


@frozen
class Weight:
    """Evidence computed from a metric's numbers.

    Attributes:
        harm_log_e: Logarithm of the evidence that the candidate is too much worse; None where unknown.
        harm_needed: Threshold for a rollback.
        safe_log_e: Logarithm of the evidence that the candidate is good enough.
        safe_needed: Threshold for a pass.
        futile_log_e: Logarithm of the evidence that a gate's effect is smaller than the one worth having.
        by_rarity: Whether most of the evidence for "good enough" comes from how few of the candidate's units had an event.
        ends: Intervals for the difference and the relative lift.
        passed: Whether a planned look has passed; None without a planned horizon.
        is_over: Whether a planned horizon has been reached.
        is_held: Whether a pass is withheld regardless of the evidence.
    """

    harm_log_e: float | None = None
    harm_needed: float | None = None
    safe_log_e: float | None = None
    safe_needed: float | None = None
    futile_log_e: float | None = None
    by_rarity: bool = False
    ends: Ends = Ends()
    passed: bool | None = None
    is_over: bool = False
    is_held: bool = False

    @property
    def is_harm(self) -> bool:
        """Whether the candidate is significantly too much worse."""
        return _reached(self.harm_log_e, self.harm_needed)

    @property
    def is_safe(self) -> bool:
        """Whether the candidate is significantly good enough."""
        passed = self.passed if self.passed is not None else _reached(self.safe_log_e, self.safe_needed)
        return passed and not self.is_held

    @property
    def is_futile(self) -> bool:
        """Whether the effect is significantly below the one worth having, or the planned test ended without a pass."""
        return not self.is_safe and (self.is_over or _reached(self.futile_log_e, self.safe_needed))


def _reached(log_e: float | None, needed: float | None) -> bool:
    return log_e is not None and needed is not None and log_e >= needed


def harm_needed(numbers: Mapping[str, Any]) -> float:
    """Threshold for a rollback: the deciding guardrails of all candidates share alpha."""
    return math.log(numbers["tests"] / numbers["alpha"])


def safe_needed(numbers: Mapping[str, Any]) -> float:
    """Threshold for a pass: every guardrail must pass, so only the candidates share alpha."""
    return math.log(numbers["candidates"] / numbers["alpha"])


def mixed(*bets: tuple[float, float | None]) -> float:
    """Combine e-values: their mean, with weights fixed in advance, is again an e-value.

    Args:
        bets: Pairs of a weight and the logarithm of an e-value; None is a bet not made, with e-value 1.
    """
    return mix_log_e([0.0 if log_e is None else log_e for _, log_e in bets], [weight for weight, _ in bets])


def std_error(found: Mapping[str, Any]) -> float:
    """Return the standard error; inf where it is unknown, which is None in JSON."""
    return math.inf if found["std_error"] is None else float(found["std_error"])


def mean_log_e(found: Mapping[str, Any], *, sign: int, null: float, mde: float) -> float:
    """Return the evidence that `sign` times a difference exceeds `null`, most powerful at a distance of `mde`.

    Args:
        found: "estimate", "std_error" and "df" of the difference.
        sign: 1 or -1.
        null: Value to exceed, in the direction of the sign.
        mde: Effect that the test is tuned to.
    """
    return log_e_one_sided(sign * found["estimate"], std_error(found), rho=mde**-2, null=null, df=found["df"])


def ratio_bets_log_e(found: Mapping[str, Any], *, sign: int, effect: float) -> float:
    """Return the evidence that a rate is above (1) or below (-1) another; most powerful at a relative `effect`.

    The precision depends on the base rate, which is unknown in advance, so the evidence averages a bet per order of magnitude.
    """
    bets: Sequence[float] = [mean_log_e(found, sign=sign, null=0.0, mde=effect * rate) for rate in _BASE_RATES]
    return mix_log_e(bets, [1 / len(bets)] * len(bets))
