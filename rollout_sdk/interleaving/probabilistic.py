"""Probabilistic interleaving (Hofmann, Whiteson, de Rijke, CIKM 2011; Schuth et al., SIGIR 2015), credited exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

from attrs import field, frozen, validators

from rollout_sdk.interleaving.rankings import Coins, Rankings, Seed
from rollout_sdk.interleaving.slots import Interleaved

__all__ = ["Probabilistic"]

T = TypeVar("T")


@frozen
class Probabilistic:
    """At every position, a ranker drawn at random draws an item from a softmax over its ranks.

    A click credits each ranker with the probability that the item came from it, so that chance in who was drawn does not enter
    the result. Sound for any number of rankers; but any item can stand anywhere, which users see: not a default.

    Attributes:
        tau: How strongly a ranker prefers its top: an item of rank r, from 1, is drawn in proportion to 1 / r**tau.
    """

    tau: float = field(default=3.0, validator=[validators.ge(0), validators.lt(math.inf)])

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
        weights = [{item_key: (rank + 1) ** -self.tau for rank, item_key in enumerate(order)} for order in read.orders]
        # Drawing without replacement in proportion to weights is the order of arrival of exponential clocks with these rates,
        # and what others take away does not change who of the rest comes first (Efraimidis and Spirakis, 2006).
        arrivals = [_in_order_of_arrival(rates, coins) for rates in weights]
        items, shown = read.by_key(), dict[Hashable, T]()
        at = [0] * len(arrivals)
        # Down to here everybody has something left, whatever was drawn; below, the longer ranking would gain from its length.
        length = min(read.length, *map(len, arrivals))
        while len(shown) < length:
            drawn = coins.below(len(arrivals))
            arrival = arrivals[drawn]
            while arrival[at[drawn]] in shown:
                at[drawn] += 1
            pick = arrival[at[drawn]]
            shown[pick] = items[drawn][pick]
        shares = _shares(list(shown), weights)
        return read.page(shown, "probabilistic", shares=shares)


def _in_order_of_arrival(rates: Mapping[Hashable, float], coins: Coins) -> list[Hashable]:
    """The items in the order in which exponential clocks of these rates ring."""
    times = {item_key: -math.log(coins.unit()) / rate for item_key, rate in rates.items()}
    return sorted(times, key=times.__getitem__)


def _shares(shown: list[Hashable], weights: Sequence[Mapping[Hashable, float]]) -> list[list[float]]:
    """For every position, the probability that the item came from each ranker."""
    seen = set(shown)
    left = [math.fsum(weight for item_key, weight in rates.items() if item_key not in seen) for rates in weights]
    shares = []
    # From the end on, what was left to draw from only grows: differences would lose the small weights.
    for item_key in reversed(shown):
        chances = []
        for index, rates in enumerate(weights):
            weight = rates.get(item_key, 0.0)
            left[index] += weight
            chances.append(weight / left[index] if weight else 0.0)
        whole = math.fsum(chances)
        shares.append([chance / whole for chance in chances])
    return shares[::-1]
