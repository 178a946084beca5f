"""What chance makes equal for both rankers of a list: where it is not equal, something is broken between merge and page."""

from __future__ import annotations

import math
from typing import Any

from rollout_sdk.interleaving.slots import Interleaved

__all__ = ["on_offer"]

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
