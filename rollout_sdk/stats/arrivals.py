"""Whether units arrive in the arms, and are labelled in them, as they should."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from rollout_sdk.stats.counts import srm_log_e

__all__ = ["MISMATCH", "arrivals_log_e", "labels_log_e"]

MISMATCH = math.log(1000)
"""Logarithm of the evidence from which on shares, or rates of labels, surely differ."""


_BIG_FAULTS = 100.0


def arrivals_log_e(phases: Iterable[tuple[Mapping[str, int], Mapping[str, float]]]) -> float | None:
    """The evidence for a sample ratio mismatch over several phases, `srm_log_e` of each added up; None where nothing is random.

    Each unit counts once, in the phase in which it is first seen: units that stay in their arm from phase to phase are not
    assigned anew, and the product of the phases' e-values would not be an e-value.

    Args:
        phases: For every phase, the units first seen in it by arm, and the configured share by arm. Arms without a share are
            left out, and phases with fewer than two arms (a shadow's, for one).
    """
    log_es = []
    for units, shares in phases:
        arms = [arm for arm, share in shares.items() if 0 < share < math.inf]
        if len(arms) > 1 and any(units.get(arm) for arm in arms):
            log_es.append(srm_log_e([units.get(arm, 0) for arm in arms], [shares[arm] for arm in arms]))
    return math.fsum(log_es) if log_es else None


def labels_log_e(labelled: Mapping[str, int], units: Mapping[str, int]) -> float:
    """The evidence that labels are missing more often in one arm than in another, for one look.

    Where they are missing alike, the units with a label are spread over the arms as all units are, and so are the others. Each
    is checked as shares are (`srm_log_e`), and the two e-values are averaged. Units are drawn without replacement, which
    spreads them less than the multinomial distribution of `srm_log_e` (Hoeffding 1963): the evidence is never too large on
    average.

    Args:
        labelled: Units with a label, by arm.
        units: All units, by arm.
    """
    arms = [arm for arm, count in units.items() if count > 0]
    if len(arms) < 2:
        return 0.0
    shares = [float(units[arm]) for arm in arms]
    with_label = [min(labelled.get(arm, 0), units[arm]) for arm in arms]
    without = [units[arm] - count for arm, count in zip(arms, with_label, strict=True)]
    log_es = [srm_log_e(counts, shares, concentration=_BIG_FAULTS) for counts in (with_label, without)]
    high = max(log_es)
    return high + math.log(math.fsum(math.exp(each - high) for each in log_es) / 2)
