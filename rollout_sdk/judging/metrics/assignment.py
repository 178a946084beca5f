"""Whether units are in the arms in the configured shares: sample ratio mismatch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rollout_sdk.judging.e_values import SRM_NEEDED, Weight
from rollout_sdk.judging.look import Look
from rollout_sdk.judging.minutes import MINUTE_S
from rollout_sdk.judging.verdicts import Finding, Outcome
from rollout_sdk.stats import srm_log_e

__all__ = ["assignment", "weigh_assignment"]


def weigh_assignment(numbers: Mapping[str, Any]) -> Weight:
    """A Dirichlet-multinomial e-value, phases multiplied.

    Args:
        numbers: "strata": for every phase, the units of every arm that were never seen before, and the shares in which they
            should be there, each arm at its own sampling level.
    """
    log_e = math.fsum(srm_log_e(counts, shares) for counts, shares in numbers["strata"])
    return Weight(harm_log_e=log_e, harm_needed=SRM_NEEDED)


def assignment(look: Look) -> Finding:
    """Whether the realised shares are the configured ones.

    An alarm stays until a person clears it: the first crossing is the rejection, and later evidence cannot take it back.
    """
    situation = look.situation
    since = math.ceil(situation.valid_since_s / MINUTE_S)
    strata = []
    for (_, phase), first in zip(look.phases, look.firsts(None), strict=True):
        arms = [arm for arm in (situation.control, *situation.candidates) if phase.shares.get(arm, 0.0) > 0]
        if len(arms) < 2 or not first:
            continue
        counts, weights = [], []
        for arm in arms:
            units = first.get(arm)
            level = 0 if units is None else units.level
            if units is None:
                counts.append(0)
            elif since <= 0:
                counts.append(len(units.minutes))
            else:
                counts.append(sum(minute >= since for minute in units.minutes.values()))
            weights.append(phase.shares[arm] / 2**level)
        whole = math.fsum(weights)
        strata.append([counts, [weight / whole for weight in weights]])
    numbers = {"strata": strata}
    weight = weigh_assignment(numbers)
    outcome: Outcome = "PASS"
    reason = "units are in the arms in the configured shares, as far as can be told."
    if weight.is_harm or situation.invalid:
        outcome = "ERROR"
        reason = (
            "units are not in the arms in the configured shares. The comparison cannot be trusted until it is known why: the "
            "rollout is held, and can still be rolled back. Once the cause is fixed: resume(clear_invalid=True)."
        )
    return Finding(
        name="assignment",
        kind="assignment",
        candidate=None,
        outcome=outcome,
        reason=reason,
        harm_log_e=weight.harm_log_e,
        harm_needed=weight.harm_needed,
        numbers=numbers,
    )
