"""Pairwise preference multileaving (Oosterhuis and de Rijke, CIKM 2017)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

from attrs import frozen

from rollout_sdk.interleaving.rankings import Coins, Rankings, Seed
from rollout_sdk.interleaving.slots import Interleaved

__all__ = ["PairwisePreference"]

T = TypeVar("T")


@frozen
class PairwisePreference:
    """At position i, any item that some ranker has in its top i; clicks tell preferences between items.

    Its credit treats many rankers alike whatever they agree on. For four rankers and more: with two it needs more traffic than
    any other design here, and costs the page most.
    """

    def merge(
        self,
        rankings: Mapping[str, Sequence[T]],
        *,
        k: int | None = None,
        key: Callable[[T], Hashable] | None = None,
        seed: Seed,
    ) -> Interleaved[T]:
        """Merge two or more rankings, as `TeamDraft.merge`."""
        read, coins = Rankings(rankings, k, key), Coins(seed)
        all_items, shown = read.by_key(), dict[Hashable, T]()
        choices: list[int] = []
        # What may stand next, in an order that depends on the rankings alone.
        open_: list[Hashable] = []
        met: set[Hashable] = set()
        shortest = min(len(order) for order in read.orders)
        for depth in range(min(read.length, shortest)):
            for order in read.orders:
                if order[depth] not in met:
                    met.add(order[depth])
                    open_.append(order[depth])
            choices.append(len(open_))
            pick = open_.pop(coins.below(len(open_)))
            shown[pick] = next(items[pick] for items in all_items if pick in items)
        return read.page(shown, "pairwise_preference", choices=choices)
