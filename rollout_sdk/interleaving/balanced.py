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
    """Takes the rankers' items in turn, with one coin toss for who starts: every prefix covers the tops of both rankings.

    A click credits the rankers that show the item within the depth that finds the lowest click. Known bias: between
    A = (a, b, c) and B = (b, c, a), a single random click prefers B two times in three. Prefer `TeamDraft`, unless you want
    a list that either ranker could nearly have made.
    """

    def merge(
        self,
        rankings: Mapping[str, Sequence[T]],
        *,
        k: int | None = None,
        key: Callable[[T], Hashable] | None = None,
        seed: Seed,
    ) -> Interleaved[T]:
        """Merge two rankings, as `TeamDraft.merge` does.

        Raises:
            ConfigurationError: There are not two rankings, or as for `TeamDraft.merge`.
        """
        return self.drafted(Rankings(rankings, k, key, most=2), Coins(seed))

    def distribution(
        self, rankings: Mapping[str, Sequence[T]], *, k: int | None = None, key: Callable[[T], Hashable] | None = None
    ) -> Iterator[tuple[Interleaved[T], float]]:
        """Yield the list for each side of the coin, with its probability; errors as for `merge`."""
        read = of_two(rankings, k, key)
        return ((self.drafted(read, Coins.from_bits(side)), 0.5) for side in (0, 1))

    def drafted(self, read: Rankings[T], coins: Coins) -> Interleaved[T]:
        """Return the list for the first of these coins."""
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
