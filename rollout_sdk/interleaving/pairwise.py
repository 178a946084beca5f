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
    """Shows at position i any item that some ranker has in its top i; clicks express preferences between items.

    The credit is unbiased for many rankers, whatever they agree on. For four rankers or more: with two it needs more traffic
    than any other design here, and changes the page most.
    """

    def merge(
        self,
        rankings: Mapping[str, Sequence[T]],
        *,
        k: int | None = None,
        key: Callable[[T], Hashable] | None = None,
        seed: Seed,
    ) -> Interleaved[T]:
        """Merge two or more rankings, as `TeamDraft.merge` does."""
        read = Rankings(rankings, k, key)
        shown: dict[Hashable, T] = {}
        choices: list[int] = []
        # Items that may come next, in an order that depends on the rankings alone.
        open_: list[tuple[Hashable, T]] = []
        met: set[Hashable] = set()
        length = min(read.length, *map(len, read.orders))
        ranked = list(zip(read.orders, read.items, strict=True))
        for depth, unit in enumerate(Coins(seed).units(length)):
            for order, items in ranked:
                if order[depth] not in met:
                    met.add(order[depth])
                    open_.append((order[depth], items[depth]))
            choices.append(len(open_))
            picked, item = open_.pop(int(unit * len(open_)))
            shown[picked] = item
        return read.page(shown, "pairwise_preference", choices=choices)
