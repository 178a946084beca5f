"""A planned end: five looks at a gate on the way to it, with the boundaries of O'Brien and Fleming."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rollout_sdk.judging.e_values import MIN_UNITS
from rollout_sdk.judging.look import Look
from rollout_sdk.plan import Criterion, Gate
from rollout_sdk.stats import spending_boundaries

__all__ = ["LOOKS", "planned_looks"]

LOOKS = 5


def planned_looks(look: Look, criterion: Criterion, candidate: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """The looks that were taken at a gate with a horizon, this one included if it is due; nothing for one without.

    A look is taken once, when its part of the horizon has passed, and never again: that is what its boundary is for. It goes on
    from the looks in the verdict before. One that was missed, because no process judged, is not made up for.

    Source: Lan and DeMets, Biometrika 70 (1983).

    Returns:
        "looks": for each, the part of the horizon, z, and the boundary that z had to reach; and "is_over".
    """
    if not isinstance(criterion, Gate) or criterion.horizon is None:
        return {}
    fraction = _fraction(look, criterion.horizon, candidate)
    looks = look.last_looks(criterion, candidate)
    due = math.floor(min(1.0, fraction) * LOOKS + 1e-9)
    taken = math.floor(looks[-1][0] * LOOKS + 1e-9) if looks else 0
    error = found["std_error"]
    if due > taken and error and look.fewest_units(candidate) >= MIN_UNITS:
        fractions = [*(each[0] for each in looks), min(1.0, fraction)]
        boundary = spending_boundaries(fractions, alpha=look.alpha)[-1]
        better = 1 if criterion.better == "higher" else -1
        looks.append([fractions[-1], (better * found["estimate"] - criterion.min_effect) / error, boundary])
    return {"looks": looks, "is_over": bool(looks) and looks[-1][0] >= 1.0}


def _fraction(look: Look, horizon: float, candidate: str) -> float:
    """The part of the horizon that has passed."""
    if isinstance(horizon, int):
        return sum(look.units_of(arm).estimate for arm in (look.situation.control, candidate)) / horizon
    begins = [minute for _, phase in look.phases for each in phase.units.values() for minute in each.first.values() if minute]
    return max(0.0, look.now_s - 60 * min(begins, default=look.now_s / 60)) / horizon
