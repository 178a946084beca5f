"""Balanced interleaving (Joachims, 2002 and 2003; Chapelle, Joachims, Radlinski, Yue, TOIS 2012)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

from attrs import frozen

from rollout_sdk.interleaving.rankings import Coins, Rankings, Seed, of_two
from rollout_sdk.interleaving.slots import Interleaved

__all__ = ["Balanced"]

T = TypeVar("T")


@frozen
class Balanced:
    """Two rankers' items in turn, one coin for who begins: the top of the list is always the tops of both.

    A click credits the rankers that show the item within the depth that finds the lowest click. Known bias: between
    A = (a, b, c) and B = (b, c, a), one click at random prefers B two times in three. Prefer `TeamDraft`, unless what is wanted
    is a list that both rankers could nearly have made.
    """

    def merge(
        self,
        rankings: Mapping[str, Sequence[T]],
        *,
        k: int | None = None,
        key: Callable[[T], Hashable] | None = None,
        seed: Seed,
    ) -> Interleaved[T]:
        """Merge two rankings, as `TeamDraft.merge`.

        Raises:
            ConfigurationError: There are not two rankings, or as `TeamDraft.merge`.
        """
        return self.drafted(Rankings(rankings, k, key, most=2), Coins(seed))

    def distribution(
        self, rankings: Mapping[str, Sequence[T]], *, k: int | None = None, key: Callable[[T], Hashable] | None = None
    ) -> Iterator[tuple[Interleaved[T], float]]:
        """The list of either side of the coin, with its probability; errors as `merge`."""
        read = of_two(rankings, k, key)
        return ((self.drafted(read, Coins.foretold(side)), 0.5) for side in (0, 1))

    def drafted(self, read: Rankings[T], coins: Coins) -> Interleaved[T]:
        """The list that the first of these coins makes."""
        orders, items, length = read.orders, read.items, read.length
        shown: dict[Hashable, T] = {}
        ends, at = [len(order) for order in orders], [0, 0]
        begins = coins.bits(1)
        while len(shown) < length and at[0] < ends[0] and at[1] < ends[1]:
            turn = begins if at[0] == at[1] else int(at[1] < at[0])
            place = at[turn]
            shown.setdefault(orders[turn][place], items[turn][place])
            at[turn] = place + 1
        return read.page(shown, "balanced")
