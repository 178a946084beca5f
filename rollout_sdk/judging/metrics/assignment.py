"""Sample ratio mismatch: whether the arms have the configured shares of the units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rollout_sdk.judging.e_values import Weight
from rollout_sdk.judging.look import Look
from rollout_sdk.judging.pairs import unmeasured_calls
from rollout_sdk.judging.unit_sample import FirstUnits, first_units
from rollout_sdk.judging.verdicts import Finding, Outcome
from rollout_sdk.stats import MISMATCH, mix_log_e, srm_log_e

__all__ = ["assignment", "weigh_assignment"]


def weigh_assignment(numbers: Mapping[str, Any]) -> Weight:
    """Weigh Dirichlet-multinomial e-values: the product over all phases, and each phase alone.

    A product over phases requires that each unit counts once. To ensure that, later phases are thinned to the sampling level of
    earlier ones, which may leave a small arm with a few dozen units. Each phase alone counts all its units at each arm's own
    level. These e-values are dependent, so they are averaged, with weights 1/2, 1/6, 1/12, ... by phase.

    Args:
        numbers: "strata": for each phase, the new units of each arm and their expected shares, each arm at its own sampling
            level. "phases": the same with all units of the phase.
    """
    product = math.fsum(srm_log_e(counts, shares) for counts, shares in numbers["strata"])
    alone = [srm_log_e(counts, shares) for counts, shares in numbers["phases"]]
    weights = [1 / (number * (number + 1)) for number in range(1, len(alone) + 1)]
    # The remaining weight is on future phases, whose e-value is still 1.
    by_phase = mix_log_e([*alone, 0.0], [*weights, 1 - math.fsum(weights)])
    return Weight(harm_log_e=mix_log_e([product, by_phase], [0.5, 0.5]), harm_needed=MISMATCH)


def assignment(look: Look) -> Finding:
    """Check the realised shares against the configured ones.

    An alarm stays until a person clears it: the first crossing is the rejection, and later evidence cannot undo it. After that,
    the check restarts from the phase that begins with the clearing.
    """
    situation = look.situation
    strata: list[list[list[float]]] = []
    phases: list[list[list[float]]] = []
    # Units whose calls could not be measured are not counted, so the others cannot have the configured shares.
    checked = [phase for _, phase in look.phases if not phase.is_shadow and not unmeasured_calls(phase)]
    for phase, first in zip(checked, first_units(phase.units for phase in checked), strict=True):
        arms = [arm for arm in (situation.control, *situation.candidates) if phase.shares.get(arm, 0.0) > 0]
        if len(arms) < 2 or not phase.units:
            continue
        none = FirstUnits({}, 0)
        everyone = {arm: FirstUnits(sample.first, sample.level) for arm, sample in phase.units.items()}
        for units, listed in ((first, strata), (everyone, phases)):
            seen = [units.get(arm, none) for arm in arms]
            weights = [phase.shares[arm] / 2**each.level for arm, each in zip(arms, seen, strict=True)]
            whole = math.fsum(weights)
            listed.append([[len(each.minutes) for each in seen], [weight / whole for weight in weights]])
    numbers = {"strata": strata, "phases": phases}
    weight = weigh_assignment(numbers)
    outcome: Outcome = "PASS"
    reason = "the arms have the configured shares of the units, as far as the data show."
    if weight.is_harm or situation.invalid:
        outcome = "ERROR"
        reason = (
            "the arms do not have the configured shares of the units. The comparison cannot be trusted until the cause is "
            "known: the rollout is held, and can still be rolled back. Once the cause is fixed: "
            "resume(clear_invalid=True, actor=..., reason=...)."
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
