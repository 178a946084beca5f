"""Formats numbers for the sentences of findings."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp
from typing import Any

from rollout_sdk.judging.e_values import MIN_EVENTS, MIN_UNITS

__all__ = ["about", "chance", "lift", "missing", "percent", "signed"]

_MILLION = 13.8155
_EVEN = 0.6931
_LARGE_LIFT = 9.0


def percent(value: float) -> str:
    """Format a share with as many digits as it needs: 1 %, 0.25 %, 12 %."""
    return f"{value * 100:.3g} %"


def about(count: float) -> str:
    """Format an expected count."""
    return f"{count:.2g}" if count < 10 else f"{count:,.0f}"


def signed(value: float) -> str:
    """Format a difference."""
    return f"{value:+.4g}"


def lift(value: float) -> str:
    """Format a relative difference: +6.2 %, or as a multiple if it is large."""
    return f"{value * 100:+.1f} %" if value < _LARGE_LIFT else f"{1 + value:.3g} times"


def chance(log_e: float) -> str:
    """Format evidence as the probability of ever reaching it under the null hypothesis: "1 in 132"."""
    if log_e > _MILLION:
        return "less than 1 in a million"
    if log_e < _EVEN:
        return "likely"
    return f"1 in {exp(log_e):,.0f}"


def missing(numbers: Mapping[str, Any]) -> str | None:
    """Explain what a comparison of means still lacks; None if nothing."""
    events, needed = numbers.get("seen_events"), numbers.get("units_needed")
    if numbers["seen_units"] < MIN_UNITS:
        return f"an arm has {numbers['seen_units']:,} units; a comparison of means needs at least {MIN_UNITS}."
    if not numbers["enough_effective"] and events != 0:
        heavy = ""
        if "heaviest" in numbers:
            heavy = f": one unit makes about {percent(numbers['heaviest'])} of the calls of {numbers['heaviest_arm']}"
        return (
            f"an arm has {numbers['effective_units']:,.0f} effective units, and needs at least {MIN_UNITS}{heavy}. "
            "Leave such units out, or set max_calls_per_unit."
        )
    if needed is not None and numbers["seen_units"] < needed:
        clip = "" if numbers["clipped"] else " Set clip=(low, high), so that no single value decides."
        wanted = about(float(f"{needed:.2g}"))
        seen = f"{numbers['seen_units']:,}"
        return f"values are very unequal: an arm has {seen} units, and their mean needs about {wanted}.{clip}"
    if events is not None and events < MIN_EVENTS:
        old = "" if numbers["matured"] >= 1 else f"; {numbers['matured']:.0%} of the decisions are old enough"
        return f"an arm has {events:,} values other than 0; a comparison of means needs at least {MIN_EVENTS}{old}."
    return None
