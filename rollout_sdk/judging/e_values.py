"""What evidence comes to: how much of it a decision needs, and how several bets become one.

All tests are anytime-valid: they may be looked at after every call. Their evidence is an e-value: a bet against the hypothesis
that cannot be expected to win if it is true, so that it ever exceeds 1/alpha with probability alpha at most (Ville).
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
"""Units of each arm, and effective units, below which no test of means speaks."""

MIN_EVENTS = 30
"""Units with a value other than 0 in each arm, below which means are not normal enough: only the exact tests speak."""

_BASE_RATES = (0.1, 0.01, 0.001)


@frozen
class Ends:
    """Intervals that hold at every look; None where unknown.

    Attributes:
        low: Lower end for the difference, in the metric's unit.
        high: Upper end.
        relative: The relative lift, candidate / control - 1.
        relative_low: Lower end for it.
        relative_high: Upper end.
    """

    low: float | None = None
    high: float | None = None
    relative: float | None = None
    relative_low: float | None = None
    relative_high: float | None = None


@frozen
class Weight:
    """What numbers come to.

    Attributes:
        harm_log_e: Logarithm of the evidence that the candidate is too much worse; None where unknown.
        harm_needed: What a rollback takes.
        safe_log_e: Logarithm of the evidence that it is good enough.
        safe_needed: What a pass takes.
        futile_log_e: Logarithm of the evidence that a gate's effect is smaller than what is worth having.
        by_rarity: Whether most of the evidence for "good enough" is how rarely the candidate's units had an event.
        ends: Intervals for the difference and the relative lift.
        passed: Whether a planned look has passed; None without a planned horizon.
        is_over: Whether a planned horizon has been reached.
        is_held: Whether a pass waits for something else, whatever the evidence.
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
        """Whether the candidate is surely too much worse."""
        return _reached(self.harm_log_e, self.harm_needed)

    @property
    def is_safe(self) -> bool:
        """Whether the candidate is surely good enough."""
        passed = self.passed if self.passed is not None else _reached(self.safe_log_e, self.safe_needed)
        return passed and not self.is_held

    @property
    def is_futile(self) -> bool:
        """Whether the effect is surely smaller than what is worth having, or the planned test has ended without a pass."""
        return not self.is_safe and (self.is_over or _reached(self.futile_log_e, self.safe_needed))


def _reached(log_e: float | None, needed: float | None) -> bool:
    return log_e is not None and needed is not None and log_e >= needed


def harm_needed(numbers: Mapping[str, Any]) -> float:
    """The evidence that a rollback takes: alpha is shared by all guardrails of all candidates that decide."""
    return math.log(numbers["tests"] / numbers["alpha"])


def safe_needed(numbers: Mapping[str, Any]) -> float:
    """The evidence that a pass takes: every guardrail must pass, so only the candidates share alpha."""
    return math.log(numbers["candidates"] / numbers["alpha"])


def mixed(*bets: tuple[float, float | None]) -> float:
    """The mean of e-values, which is one again, with weights that are fixed beforehand.

    Args:
        bets: A weight and the logarithm of an e-value each; None is a bet that is not made, of e-value 1.
    """
    return mix_log_e([0.0 if log_e is None else log_e for _, log_e in bets], [weight for weight, _ in bets])


def std_error(found: Mapping[str, Any]) -> float:
    """The standard error; inf where it is not known, which JSON cannot say."""
    return math.inf if found["std_error"] is None else float(found["std_error"])


def mean_log_e(found: Mapping[str, Any], *, sign: int, null: float, mde: float) -> float:
    """Evidence that `sign` times a difference exceeds `null`, most sensitive to a distance of `mde`.

    Args:
        found: "estimate", "std_error" and "df" of a difference.
        sign: 1 or -1.
        null: What is to be exceeded, in the direction of the sign.
        mde: The effect that the test is tuned to.
    """
    return log_e_one_sided(sign * found["estimate"], std_error(found), rho=mde**-2, null=null, df=found["df"])


def ratio_bets_log_e(found: Mapping[str, Any], *, sign: int, effect: float) -> float:
    """Evidence that a rate is above (1) or below (-1) what it is compared with; most sensitive to a relative `effect`.

    How exact the data will be depends on the base rate, which is not known beforehand: a bet on each order of magnitude.
    """
    bets: Sequence[float] = [mean_log_e(found, sign=sign, null=0.0, mde=effect * rate) for rate in _BASE_RATES]
    return mix_log_e(bets, [1 / len(bets)] * len(bets))
