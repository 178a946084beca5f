"""Probabilistic interleaving (Hofmann, Whiteson, de Rijke, CIKM 2011; Schuth et al., SIGIR 2015), credited exactly."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from math import fsum, log
from operator import truediv
from typing import Any, TypeVar

from attrs import field, frozen, validators

from rollout_sdk.interleaving.rankings import Coins, Rankings, Seed
from rollout_sdk.interleaving.slots import Interleaved

__all__ = ["Probabilistic"]

T = TypeVar("T")

_NEXT_TO_NOTHING = 5e-324
"""Remaining weight of an exhausted ranking: an item that it does not contain then has share 0, instead of 0/0."""


@frozen
class Probabilistic:
    """Draws a ranker at random for each position, which draws an item from a softmax over its ranks.

    A click credits each ranker with the probability that the item came from it, so the chance of which ranker was drawn does
    not affect the result. Valid for any number of rankers; but any item can appear anywhere, which users notice: not a default.

    Attributes:
        tau: How strongly a ranker prefers its top: an item of rank r, from 1, is drawn in proportion to 1 / r**tau; at most
            50, where a ranker's order is almost preserved and the weights of a million ranks still differ from 0.
    """

    tau: float = field(default=3.0, converter=float, validator=[validators.ge(0), validators.le(50)])

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
        weights = [_weights(self.tau, len(order)) for order in read.orders]
        # Up to this length, no ranking can be exhausted; beyond it, a longer ranking would gain from its length.
        length, count = min(read.length, *map(len, weights)), len(weights)
        units = iter(Coins(seed).units(length + sum(map(len, weights))))
        arrivals = [iter(_in_order_of_arrival(rates, units)) for rates in weights]
        orders, items = read.orders, read.items
        for unit in units:
            drawn = int(unit * count)
            order = orders[drawn]
            for place in arrivals[drawn]:
                if (picked := order[place]) not in shown:
                    shown[picked] = items[drawn][place]
                    break
        rates_of = [dict(zip(order, rates, strict=True)) for order, rates in zip(orders, weights, strict=True)]
        return read.page(shown, "probabilistic", shares=_shares(shown, rates_of))


def _weights(tau: float, length: int) -> tuple[float, ...]:
    # Cached by powers of two, so that rankings of many lengths share few entries.
    return _weights_kept(tau, 1 << length.bit_length())[:length]


@lru_cache(32)
def _weights_kept(tau: float, length: int) -> tuple[float, ...]:
    return tuple(rank**-tau for rank in range(1, length + 1))


def _in_order_of_arrival(rates: Sequence[float], units: Iterator[float]) -> list[int]:
    """Return the indexes of exponential clocks with these rates in the order in which they ring.

    This equals drawing without replacement in proportion to the rates, and removing items does not change the order of the rest
    (Efraimidis and Spirakis, 2006).
    """
    # `rates` comes first, so that no unit is consumed once they are exhausted.
    times = [-log(unit) / rate for rate, unit in zip(rates, units)]  # noqa: B905
    return sorted(range(len(rates)), key=times.__getitem__)


def _shares(shown: dict[Hashable, Any], rates_of: Sequence[Mapping[Hashable, float]]) -> list[tuple[float, ...]]:
    """Return for every position the probability that the item came from each ranker."""
    chances = []
    for rates in rates_of:
        # Summed from the end, where the remaining weight only grows: subtracting would lose small weights.
        drawn = [rates.get(key, 0.0) for key in reversed(shown)]
        left = accumulate(drawn, initial=fsum(map(rates.__getitem__, rates.keys() - shown.keys())) or _NEXT_TO_NOTHING)
        next(left)
        chances.append(list(map(truediv, drawn, left)))
    wholes = list(map(sum, zip(*chances, strict=True)))
    shares = list(zip(*(map(truediv, each, wholes) for each in chances), strict=True))
    shares.reverse()
    return shares
