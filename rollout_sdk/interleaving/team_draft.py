"""Team draft interleaving with neutral ties (Radlinski, Kurup, Joachims, CIKM 2008; Zhang et al., KDD 2025)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Literal, TypeVar, get_args

from attrs import field, frozen, validators

from rollout_sdk.interleaving.rankings import Coins, Rankings, Seed
from rollout_sdk.interleaving.slots import Interleaved

__all__ = ["TeamDraft"]

T = TypeVar("T")

Neutral = Literal["ties", "prefix", "off"]
Coin = Literal["pair", "list"]


@frozen
class TeamDraft:
    """Rankers take turns in an order that a fair coin decides; each picks its best item not yet shown.

    Each ranker is first with the same probability at every draft, so that neither gains from position. Where all agree on
    the next item, nobody is credited for it: that halves the traffic needed to tell two similar rankers apart.

    Known bias: none in who is shown where. Which of two items decides is not asked: a ranker that is better by one item that
    the other ranks low, too, can come out even (Hofmann et al., 2013).

    Attributes:
        neutral: "ties": every agreed pick is neutral (default). "prefix": only the common top is. "off": none is, the
            classic design of 2008.
        coin: "pair" tosses anew for every draft, "list" once for the list (competitive pairs).
    """

    neutral: Neutral = field(default="ties", validator=validators.in_(get_args(Neutral)))
    coin: Coin = field(default="pair", validator=validators.in_(get_args(Coin)))

    def merge(
        self,
        rankings: Mapping[str, Sequence[T]],
        *,
        k: int | None = None,
        key: Callable[[T], Hashable] | None = None,
        seed: Seed,
    ) -> Interleaved[T]:
        """Merge two or more rankings in O(k n).

        When a ranking is used up, what the others still have fills the list and is neutral: crediting it would favour the
        longer list.

        Args:
            rankings: Items by name of the ranker, best first; the first ranker is the control.
            k: Length of the list; by default the control's. The list is shorter only when all items are shown.
            key: Gives an item's key; by default the item itself.
            seed: The same seed gives the same list.

        Raises:
            ConfigurationError: There are fewer than two rankings, or `k` is negative.
        """
        read = Rankings(rankings, k, key)
        shown: dict[Hashable, T] = {}
        teams: list[int] = []
        pairs: list[int] = []
        counted = self._draft(read, Coins(seed), shown, teams, pairs)
        if counted < read.length:
            read.fill(shown)
            rest = len(shown) - counted
            teams += [-1] * rest
            pairs += [-1] * rest
        return Interleaved(
            items=tuple(shown.values()),
            keys=tuple(shown),
            rankers=read.names,
            design="team_draft",
            orders=read.orders,
            teams=teams,
            pairs=pairs,
            counted=counted,
            duplicates=read.duplicates,
        )

    def _draft(self, read: Rankings[T], coins: Coins, shown: dict[Hashable, T], teams: list[int], pairs: list[int]) -> int:
        """Draft until the list is full or a ranking is used up; how many positions were drafted."""
        length, orders, items = read.length, read.orders, read.items
        count, everyone = len(orders), range(len(orders))
        ends, at = [len(order) for order in orders], [0] * count
        neutral, rounds = self.neutral != "off", 0
        turns = coins.order(count)
        while len(shown) < length:
            best = []
            for index in everyone:
                order, next_, end = orders[index], at[index], ends[index]
                while next_ < end and order[next_] in shown:
                    next_ += 1
                at[index] = next_
                if next_ == end:
                    return len(shown)
                best.append(order[next_])
            first = best[0]
            if neutral and best.count(first) == count:
                shown[first] = items[0][first]
                teams.append(-1)
                pairs.append(-1)
                continue
            neutral = self.neutral == "ties"
            if rounds and self.coin == "pair":
                turns = coins.order(count)
            for index in turns:
                pick = best[index]
                if pick in shown:
                    # Taken in this round: the next best, if there is any.
                    order, next_, end = orders[index], at[index], ends[index]
                    while next_ < end and order[next_] in shown:
                        next_ += 1
                    if next_ == end:
                        continue
                    pick = order[next_]
                shown[pick] = items[index][pick]
                teams.append(index)
                pairs.append(rounds)
                if len(shown) == length:
                    break
            rounds += 1
        return len(shown)
