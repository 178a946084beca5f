"""Whether an interleaved test is sound: numbers that a fair coin makes equal, and shares that are large enough."""

from __future__ import annotations

import math
from typing import Any

from attrs import frozen

from rollout_sdk.interleaving.preferences import TrustCheck
from rollout_sdk.interleaving.slots import Interleaved
from rollout_sdk.stats import MISMATCH, StratifiedBuckets, log_e_one_sided, log_e_two_sided

__all__ = ["CANDIDATE", "CONTROL", "WHOLE", "Trust", "on_offer"]

_Pair = tuple[float, float]


def on_offer(page: Interleaved[Any]) -> tuple[int, _Pair | None, _Pair | None]:
    """How many positions can be credited; and what chance makes equal for both rankers: all that a click on each position could
    be credited with, and who is first. None where the design does not make it equal.
    """
    if page.teams:
        drafted = [team for team in page.teams if team >= 0]
        first = (float(drafted[0] == 0), float(drafted[0] == 1)) if drafted else None
        return len(drafted), (float(drafted.count(0)), float(drafted.count(1))), first
    if page.shares:
        mine, theirs = (math.fsum(side) for side in zip(*page.shares, strict=True))
        return sum(len(set(share)) > 1 for share in page.shares), (mine, theirs), (page.shares[0][0], page.shares[0][1])
    # Who has the top of the list is a fair coin in the designs without either, and what comes below is not.
    tops = [order[0] for order in page.orders]
    if not page.counted or tops[0] == tops[1]:
        return page.counted, None, None
    return page.counted, None, (float(page.keys[0] == tops[0]), float(page.keys[0] == tops[1]))


CONTROL, CANDIDATE = "control", "candidate"
WHOLE = ""
"""Name of the one phase of all sums."""

_EQUAL = 1e-9
"""Means that differ by less are equal: sums of the same parts in another order, or what a linear program leaves open."""
_FEWEST = 10
"""Expected events of which not one came: with fewer, that may be chance."""


@frozen
class Trust:
    """One look at whether a test is sound.

    Attributes:
        impressions: Lists shown.
        is_known: Whether enough units were shown lists: the list of a unit for a query is the same each time, so that many
            lists of one unit say no more than a few.
        mde: The difference at which the checks are most sensitive.
        latched: Checks that were broken at an earlier look.
    """

    impressions: int
    is_known: bool
    mde: float
    latched: frozenset[str]

    def fair(self, name: str, what: str, sums: StratifiedBuckets) -> TrustCheck:
        """Whether two numbers that a fair coin makes equal are equal."""
        mine, theirs = (sums.totals(WHOLE, arm)[0] for arm in (CONTROL, CANDIDATE))
        found, log_e = sums.difference(CANDIDATE, CONTROL, paired=True), 0.0
        if found.std_error == 0:
            # The same in every bucket: with a fair coin impossible, unless they are equal.
            log_e = math.inf if abs(found.estimate) > _EQUAL else 0.0
        elif math.isfinite(found.std_error):
            log_e = log_e_two_sided(found.estimate, found.std_error, rho=(2 * self.mde) ** -2, df=found.df)
        return self._check(name, what, theirs, mine, log_e)

    def enough(self, name: str, what: str, sums: StratifiedBuckets, least: float) -> TrustCheck:
        """Whether a share of all lists is as large as it should be at least."""
        total, log_e = sums.totals(WHOLE, CANDIDATE)[0], 0.0
        if least and total < least * self.impressions:
            limit = StratifiedBuckets(sums.buckets)
            limit.merge(sums)
            limit.add_sums(WHOLE, CONTROL, [0.0] * sums.buckets, sums.cell(WHOLE, CANDIDATE)[1])
            found = limit.difference(CANDIDATE, CONTROL, paired=True)
            if found.std_error > 0 and math.isfinite(found.std_error):
                log_e = log_e_one_sided(-found.estimate, found.std_error, rho=least**-2, null=-least, df=found.df or None)
            elif found.std_error == 0 and self.impressions * least >= _FEWEST:
                # The same everywhere, and that is too little.
                log_e = math.inf
        return self._check(name, what, total, least * self.impressions, log_e)

    def _check(self, name: str, what: str, observed: float, expected: float, log_e: float) -> TrustCheck:
        return TrustCheck(name, what, observed, expected, log_e if self.is_known else 0.0, MISMATCH, name in self.latched)
