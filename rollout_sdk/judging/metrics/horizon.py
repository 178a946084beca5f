"""Gates with a planned end: five looks on the way to it, with O'Brien-Fleming boundaries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rollout_sdk.judging.look import Look
from rollout_sdk.judging.minutes import MINUTE_S
from rollout_sdk.plan import Criterion, Gate
from rollout_sdk.stats import spending_boundaries, student_t_quantile

__all__ = ["LOOKS", "planned_looks"]

LOOKS = 5
_NO_NEWS = 1 + 1e-9


def planned_looks(
    look: Look, criterion: Criterion, candidate: str, found: Mapping[str, Any], *, matured: float, enough: bool
) -> dict[str, Any]:
    """Return the looks taken at a gate with a horizon, including this one if it is due; empty for other gates.

    A look is taken once, when its fraction of the horizon has passed, as its boundary requires. It continues from the looks in
    the previous verdict. A look that is due while there are too few data waits for more; a look that was missed because no
    process was judging is skipped.

    The fraction of the horizon determines when a look is due and how much of the error probability it may spend. The
    correlation of looks depends on information, which grows more slowly than users if the candidate's share is small.

    Source: Lan and DeMets, Biometrika 70 (1983), and Controlled Clinical Trials 10 (1989) for the two scales.

    Args:
        look: The look.
        criterion: The gate.
        candidate: The candidate.
        found: "estimate", "std_error", "df" and "weight" (the information, up to a constant) of the difference between mature
            decisions.
        matured: Share of the decisions that are old enough to count.
        enough: Whether there are enough units and events for a test of means.

    Returns:
        "looks": for each, the fraction of the horizon, z, its boundary, and the information; and "is_over".
    """
    if not isinstance(criterion, Gate) or criterion.horizon is None:
        return {}
    fraction = min(1.0, _fraction(look, criterion, candidate, matured))
    looks = look.last_looks(criterion, candidate)
    due = math.floor(fraction * LOOKS + 1e-9)
    taken = math.floor(looks[-1][0] * LOOKS + 1e-9) if looks else 0
    error = found["std_error"]
    if due > taken and enough and error is not None:
        fractions = [*(each[0] for each in looks), fraction]
        # Time without new units adds no information and spends no error probability.
        information = [*(each[3] for each in looks), max(found["weight"], looks[-1][3] * _NO_NEWS if looks else 0.0)]
        boundary = spending_boundaries(fractions, alpha=look.alpha, information=information)[-1]
        better = 1 if criterion.better == "higher" else -1
        # A standard error of 0 means that the arms agree in every call, so there is no effect.
        z = (better * found["estimate"] - criterion.min_effect) / error if error else 0.0
        looks.append([fraction, z, _of_student(boundary, found["df"]), information[-1]])
    return {"looks": looks, "is_over": bool(looks) and looks[-1][0] >= 1.0}


def _of_student(boundary: float, df: float) -> float:
    """Convert a boundary to one for a standard error with `df` degrees of freedom."""
    tail = math.erfc(boundary / math.sqrt(2)) / 2
    return -student_t_quantile(tail, df) if tail > 0 else math.inf


def _fraction(look: Look, gate: Gate, candidate: str, matured: float) -> float:
    """Return the fraction of the horizon that has passed, counting decisions that are old enough."""
    assert gate.horizon is not None
    if isinstance(gate.horizon, int):
        return matured * sum(look.served_units(arm) for arm in (look.situation.control, candidate)) / gate.horizon
    served = [phase for _, phase in look.phases if not phase.is_shadow]
    begins = [minute for phase in served for each in phase.units.values() for minute in each.first.values() if minute]
    return max(0.0, look.now_s - gate.window - MINUTE_S * min(begins, default=look.now_s / MINUTE_S)) / gate.horizon
