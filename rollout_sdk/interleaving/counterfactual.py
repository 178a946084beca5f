"""Estimates the clicks that each ranking alone would have had, from the clicks on an interleaved list.

An interleaved list shows which of two rankings is preferred, but not by how much. If all lists that could have been shown are
known, a click can be corrected for the positions at which its item happened to appear.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from attrs import frozen

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.interleaving.balanced import Balanced
from rollout_sdk.interleaving.optimized import Optimized
from rollout_sdk.interleaving.slots import Interleaved, Unseen
from rollout_sdk.interleaving.team_draft import TeamDraft

__all__ = ["CounterfactualClicks", "counterfactual_clicks"]

_MOST_LISTS = 4096


@frozen
class CounterfactualClicks:
    """Estimated clicks on each ranking from one interleaved list.

    Attributes:
        depth: Number of top positions of each ranking covered.
        clicks: For each ranker, an unbiased estimate of the clicks on these positions of its own list.
    """

    depth: int
    clicks: Mapping[str, float]


def counterfactual_clicks(
    page: Interleaved[Any],
    clicks: Mapping[Any, float],
    *,
    design: Balanced | TeamDraft | Optimized,
    examination: Sequence[float],
    depth: int | None = None,
) -> CounterfactualClicks:
    """Estimate the clicks that each ranker's own list would have had; their means over many lists give the lift in clicks.

    A click on item d credits ranker X with theta(rank of d by X) / E[theta(position of d)], the expectation over all lists
    that the design could have made: unbiased if users examine positions with probability theta whatever is above (derived here;
    in the family of debiased balanced interleaving, Bi et al., CIKM 2022). It covers as many top positions of each ranking as
    the lists can show, about half of the list if the rankers have nothing in common. All these lists are generated again for
    each page: at most 32 of ten positions, and twice as many for every two positions more.

    Args:
        page: The list, made in this process.
        clicks: Weight of each clicked item by its key.
        design: The design that made it, of two rankers: `TeamDraft()`, `Balanced()` or `Optimized()`.
        examination: Relative probability that a user examines a position, from the top; the last value applies to all further
            positions. Estimate it from clicks on shuffled results.
        depth: Positions of each ranking; by default as many as can be estimated. Use the same one for all lists you compare.

    Raises:
        ConfigurationError: The design can make too many lists (`TeamDraft()` with more than 24 positions on which the rankers
            differ, also as a fallback of `Optimized()`), the list is not of this design, has more than two rankers, or lacks
            its unshown items, an examination is not above 0, or items at this depth are never shown.
    """
    seen = _examined(page, design, examination)
    covered = next(
        (depth for depth in range(len(page)) if not all(order[depth] in seen for order in page.orders if depth < len(order))),
        len(page),
    )
    if depth is not None and depth > covered:
        raise ConfigurationError(
            f"depth={depth} is deeper than the {covered} positions of which every item can be shown. Items that are never "
            "shown get no clicks to estimate from. Pass a smaller depth, or make longer lists."
        )
    deep = covered if depth is None else depth
    found = {}
    for name, order in zip(page.rankers, page.orders, strict=True):
        clicked = [(rank, key) for rank, key in enumerate(order[:deep]) if key in clicks]
        found[name] = math.fsum(clicks[key] * _at(examination, rank) / seen[key] for rank, key in clicked)
    return CounterfactualClicks(deep, found)


def _examined(
    page: Interleaved[Any], design: Balanced | TeamDraft | Optimized, examination: Sequence[float]
) -> dict[Hashable, float]:
    """Return the expected examination of every item that can be shown, over all lists of the design."""
    if not isinstance(design, Balanced | TeamDraft | Optimized):
        raise ConfigurationError(
            f"The lists of {design!r:.80} cannot all be enumerated. The clicks on each ranking are estimated over all lists "
            "that could have been made. Use TeamDraft(), Balanced() or Optimized()."
        )
    if len(page.rankers) != 2 or page.of_several:
        raise ConfigurationError(
            f"The list was made of more than two rankers, {', '.join(page.rankers)} among them. There are too many lists that "
            "could have been made. Interleave two."
        )
    if not examination or not all(0 < chance < math.inf for chance in examination):
        raise ConfigurationError(
            f"examination={examination!r:.80} is not a probability above 0 for every position. Positions that are never "
            "examined get no clicks. Give one number per position, such as 1/1, 1/2, 1/3."
        )
    if any(isinstance(key, Unseen) for order in page.orders for key in order):
        raise ConfigurationError(
            "The list was read back without its unshown items, which the other possible lists need. Counterfactual clicks are "
            "estimated over all of them. Estimate in the process that merges, or merge again."
        )
    # `Optimized` falls back to team draft.
    maker = TeamDraft() if isinstance(design, Optimized) and page.fallback else design
    seen: dict[Hashable, float] = {}
    made = False
    for each, probability in maker.distribution(dict(zip(page.rankers, page.orders, strict=True)), k=len(page)):
        if isinstance(maker, TeamDraft) and probability < 1 / _MOST_LISTS:
            raise ConfigurationError(
                f"{maker!r:.80} can make more than {_MOST_LISTS:,} lists of these rankings. The clicks on each ranking are "
                'estimated over all of them. Use TeamDraft(coin="list"), which makes two.'
            )
        made = made or (page.design, page.keys) == (each.design, each.keys)
        for position, key in enumerate(each.keys):
            seen[key] = seen.get(key, 0.0) + _at(examination, position) * probability
    if not made:
        raise ConfigurationError(
            f"{design!r:.80} does not make this list of {len(page)} items. The clicks on each ranking are estimated over the "
            "lists of its own design. Pass the design that made it."
        )
    return seen


def _at(examination: Sequence[float], position: int) -> float:
    return examination[min(position, len(examination) - 1)]
