"""How the clicks on one list credit its rankers, by design.

Every rule is a function of the list and of the clicked keys with their weights, and gives a credit for each ranker, in order.
Positions after a ranking was used up are never credited.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Protocol

from rollout_sdk.exceptions import UnknownItemError

__all__ = ["RULES", "preference"]

_MOST_SUMS = 2048

_NOTHING = 1e-9
"""A probability, or a sum of weights, that is 0 but for rounding."""


class Page(Protocol):
    """What a rule needs of an interleaved list; see `Interleaved`."""

    keys: tuple[Hashable, ...]
    rankers: tuple[str, ...]
    design: str
    orders: Sequence[Sequence[Hashable]]
    teams: Sequence[int]
    shares: Sequence[Sequence[float]]
    choices: Sequence[int]
    counted: int


def _clicked(page: Page, clicks: Mapping[Hashable, float]) -> list[tuple[int, float]]:
    """Position and weight of every click that counts."""
    found = []
    for key, weight in clicks.items():
        try:
            position = page.keys.index(key)
        except ValueError:
            raise UnknownItemError(
                f"Item {key!r:.80} is not in the interleaved list of {len(page.keys)} items. "
                "Only shown items can be clicked. Pass the keys that the merge used."
            ) from None
        if position < page.counted:
            found.append((position, weight))
    return found


def by_team(page: Page, clicks: Mapping[Hashable, float]) -> list[float]:
    """A click credits the ranker that put the item there (Radlinski, Kurup and Joachims, CIKM 2008)."""
    credit = [0.0] * len(page.rankers)
    for position, weight in _clicked(page, clicks):
        team = page.teams[position]
        if team >= 0:
            credit[team] += weight
    return credit


def by_share(page: Page, clicks: Mapping[Hashable, float]) -> list[float]:
    """A click credits every ranker with its share in the position."""
    clicked = _clicked(page, clicks)
    return [math.fsum(weight * page.shares[at][index] for at, weight in clicked) for index in range(len(page.rankers))]


def by_depth(page: Page, clicks: Mapping[Hashable, float]) -> list[float]:
    """Clicks within the top of each ranking that must be read to find the lowest clicked item (Chapelle et al., TOIS 2012)."""
    clicked = _clicked(page, clicks)
    if not clicked:
        return [0.0] * len(page.rankers)
    lowest = page.keys[max(clicked)[0]]
    depth = min(_rank(order, lowest) for order in page.orders)
    return [math.fsum(weight for at, weight in clicked if _rank(order, page.keys[at]) <= depth) for order in page.orders]


def by_pairs(page: Page, clicks: Mapping[Hashable, float]) -> list[float]:
    """Each preference inferred from the clicks credits the rankers that share it (Oosterhuis and de Rijke, CIKM 2017).

    A clicked item is preferred to every item above it that was not clicked, and to the next below. The pair counts where both
    stand no higher than the lower of their best ranks r, where they could have stood in either order, with the inverse of the
    probability that neither stood above r.
    """
    credit = [0.0] * len(page.rankers)
    weights = dict(_clicked(page, clicks))
    places = [{key: rank for rank, key in enumerate(order)} for order in page.orders]
    ranks = [[each.get(key, math.inf) for each in places] for key in page.keys[: page.counted]]
    best = [min(each) for each in ranks]
    for winner, weight in weights.items():
        for loser in range(min(winner + 2, page.counted)):
            if loser in weights:
                continue
            first, last = sorted((best[winner], best[loser]))
            if min(winner, loser) < last:
                continue
            free = math.prod(1 - 1 / page.choices[slot] for slot in range(int(first), int(last)))
            for index, (mine, other) in enumerate(zip(ranks[winner], ranks[loser], strict=True)):
                if mine != other:
                    credit[index] += (weight if mine < other else -weight) / free
    return credit


def _rank(order: Sequence[Hashable], key: Hashable) -> float:
    """Rank of an item, from 0; below everything where it is not ranked."""
    try:
        return order.index(key)
    except ValueError:
        return math.inf


RULES: Mapping[str, Callable[[Page, Mapping[Hashable, float]], list[float]]] = {
    "team_draft": by_team,
    "balanced": by_depth,
    "probabilistic": by_share,
    "optimized": by_share,
    "pairwise_preference": by_pairs,
}


def preference(page: Page, clicks: Mapping[Hashable, float]) -> float:
    """Sign of the candidate's credit less the control's; its expectation where chance decides who contributed an item."""
    if page.design == "probabilistic":
        return _expected_sign([(page.shares[at][0], page.shares[at][1], weight) for at, weight in _clicked(page, clicks)])
    control, candidate = RULES[page.design](page, clicks)
    if math.isclose(control, candidate, rel_tol=1e-12, abs_tol=1e-12):
        return 0.0
    return 1.0 if candidate > control else -1.0


def _expected_sign(clicks: Sequence[tuple[float, float, float]]) -> float:
    """Expected sign of a sum of weights, each negative and positive with its own probabilities.

    Where they do not sum to 1, the item may be another ranker's, and counts for neither.

    Given the list, who contributed an item is independent of all others, so that the distribution of the sum is the convolution
    of the single ones: of c clicks of equal weight c + 1 values, instead of 2^c assignments. Of very many different weights,
    the sums are rounded to 1/2048 of their largest.
    """
    sums, step = {0.0: 1.0}, math.fsum(abs(weight) for _, _, weight in clicks) / _MOST_SUMS
    for against, for_, weight in clicks:
        neither = 1 - for_ - against
        parts = [(weight, for_), (-weight, against), *([(0.0, neither)] if neither > _NOTHING else [])]
        convolved: dict[float, float] = {}
        for value, probability in sums.items():
            for signed, part in parts:
                convolved[value + signed] = convolved.get(value + signed, 0.0) + probability * part
        sums = convolved if len(convolved) <= 4 * _MOST_SUMS else _rounded(convolved, step)
    return math.fsum(math.copysign(probability, value) for value, probability in sums.items() if abs(value) > _NOTHING)


def _rounded(sums: Mapping[float, float], step: float) -> dict[float, float]:
    """The probabilities of the sums rounded to multiples of a step."""
    rounded: dict[float, float] = {}
    for value, probability in sums.items():
        near = round(value / step) * step
        rounded[near] = rounded.get(near, 0.0) + probability
    return rounded
