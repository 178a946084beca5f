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
"""What is left of a ranking that is used up: an item that it does not have is none of it, and not 0/0."""


@frozen
class Probabilistic:
    """At every position, a ranker drawn at random draws an item from a softmax over its ranks.

    A click credits each ranker with the probability that the item came from it, so that chance in who was drawn does not enter
    the result. Sound for any number of rankers; but any item can stand anywhere, which users see: not a default.

    Attributes:
        tau: How strongly a ranker prefers its top: an item of rank r, from 1, is drawn in proportion to 1 / r**tau; at most
            50, where a ranker's order is all but kept and the weights of a million ranks are still told from 0.
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
        """Merge two or more rankings, as `TeamDraft.merge`."""
        read = Rankings(rankings, k, key)
        shown: dict[Hashable, T] = {}
        weights = [_weights(self.tau, len(order)) for order in read.orders]
        # Down to here everybody has something left, whatever was drawn; below, the longer ranking would gain from its length.
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
    # Kept by powers of two: rankings of many lengths share few entries.
    return _weights_kept(tau, 1 << length.bit_length())[:length]


@lru_cache(32)
def _weights_kept(tau: float, length: int) -> tuple[float, ...]:
    return tuple(rank**-tau for rank in range(1, length + 1))


def _in_order_of_arrival(rates: Sequence[float], units: Iterator[float]) -> list[int]:
    """The places of exponential clocks of these rates in the order in which they ring.

    It is the order of drawing without replacement in proportion to the rates, and what others take away does not change who of
    the rest comes first (Efraimidis and Spirakis, 2006).
    """
    # The rates first: when they are used up, no more is taken.
    times = [-log(unit) / rate for rate, unit in zip(rates, units)]  # noqa: B905
    return sorted(range(len(rates)), key=times.__getitem__)


def _shares(shown: dict[Hashable, Any], rates_of: Sequence[Mapping[Hashable, float]]) -> list[tuple[float, ...]]:
    """For every position, the probability that the item came from each ranker."""
    chances = []
    for rates in rates_of:
        # From the end on, what was left to draw from only grows: differences would lose the small weights.
        drawn = [rates.get(key, 0.0) for key in reversed(shown)]
        left = accumulate(drawn, initial=fsum(map(rates.__getitem__, rates.keys() - shown.keys())) or _NEXT_TO_NOTHING)
        next(left)
        chances.append(list(map(truediv, drawn, left)))
    wholes = list(map(sum, zip(*chances, strict=True)))
    shares = list(zip(*(map(truediv, each, wholes) for each in chances), strict=True))
    shares.reverse()
    return shares
