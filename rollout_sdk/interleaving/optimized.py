"""Optimized interleaving (Radlinski and Craswell, WSDM 2013): the most telling of all fair distributions over lists."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Literal, TypeVar, get_args

from attrs import evolve, field, frozen, validators

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.interleaving.rankings import Coins, Rankings, Seed
from rollout_sdk.interleaving.slots import Interleaved
from rollout_sdk.interleaving.team_draft import TeamDraft

__all__ = ["Optimized"]

T = TypeVar("T")

Credit = Literal["inverse", "linear", "binary"]
Ranks = tuple[tuple[int, int], ...]
"""Of every item that can be shown: its rank in both rankings, from 1; one more than there are where it is not ranked."""

_LONGEST = 10
_KEPT = 1024


@frozen
class Optimized:
    """Lists that always go on with the best item of either ranker not yet shown, as often as a linear program says.

    Its constraint: at every position both rankers get the same credit on average, so that clicks that do not read win nothing.
    Its aim: the lists on which a click tells most. A solution takes about 20 ms, and is kept for the next rankings of the
    same shape. For two rankers and lists of up to 10; else, and where there is no fair distribution, `TeamDraft()` makes the
    list, and `Interleaved.fallback` says why.

    Needs SciPy: pip install 'rollout-sdk[interleaving]'. Known bias: none from position; what is compared is the credit, and
    credit by rank is not the measure that you care for.

    Attributes:
        credit: What a click credits a ranker with for an item of rank r, from 1: "inverse" 1 / r, "linear" -r, "binary" 1 for
            the ranker that has it higher. An item that is not ranked has the rank after the last.
    """

    credit: Credit = field(default="inverse", validator=validators.in_(get_args(Credit)))

    def __attrs_post_init__(self) -> None:
        """Refuse to be made where it could not work."""
        try:
            import scipy.optimize  # noqa: F401
        except ImportError as error:
            raise ConfigurationError(
                "Optimized() needs SciPy, which is not installed. It solves a linear program for every pair of rankings. "
                "Run pip install 'rollout-sdk[interleaving]', or use TeamDraft()."
            ) from error

    def merge(
        self,
        rankings: Mapping[str, Sequence[T]],
        *,
        k: int | None = None,
        key: Callable[[T], Hashable] | None = None,
        seed: Seed,
    ) -> Interleaved[T]:
        """Merge two rankings, as `TeamDraft.merge`."""
        read = Rankings(rankings, k, key)
        why = ""
        if len(read.names) != 2:
            why = f"there are {len(read.names)} rankers, not two"
        elif read.length > _LONGEST:
            why = f"the list has {read.length} positions, more than {_LONGEST}"
        else:
            length = min(read.length, *map(len, read.orders))
            pool, ranks = _pool(read.orders, length)
            solved = _solve(ranks, length, self.credit)
            if solved is not None:
                return self._drawn(read, pool, ranks, solved, Coins(seed))
            why = "no distribution over the allowed lists is fair to both rankers"
        return evolve(TeamDraft().merge(rankings, k=k, key=key, seed=seed), fallback=why)

    def _drawn(
        self, read: Rankings[T], pool: Sequence[Hashable], ranks: Ranks, solved: _Solution, coins: Coins
    ) -> Interleaved[T]:
        lists, cumulated = solved
        drawn = lists[min(bisect(cumulated, coins.unit()), len(lists) - 1)]
        control, candidate = read.by_key()
        items = candidate | control
        shown = {pool[at]: items[pool[at]] for at in drawn}
        return read.page(shown, "optimized", shares=[_credits(ranks[at], self.credit) for at in drawn])


_Solution = tuple[tuple[tuple[int, ...], ...], tuple[float, ...]]
"""The lists that are ever shown, as numbers of items, and the probability of each and all before it."""


def _pool(orders: Sequence[Sequence[Hashable]], length: int) -> tuple[list[Hashable], Ranks]:
    """The items that can be shown, those of the control first, and their ranks: rankings of one shape have the same ranks."""
    places = [{item_key: rank for rank, item_key in enumerate(order, 1)} for order in orders]
    pool = list(dict.fromkeys(item_key for order in orders for item_key in order[:length]))
    absent = [len(order) + 1 for order in orders]
    return pool, tuple((places[0].get(each, absent[0]), places[1].get(each, absent[1])) for each in pool)


def _credits(ranks: tuple[int, int], credit: Credit) -> tuple[float, float]:
    mine, other = ranks
    if credit == "inverse":
        return 1 / mine, 1 / other
    if credit == "linear":
        return -float(mine), -float(other)
    return float(mine < other), float(other < mine)


@lru_cache(_KEPT)
def _solve(ranks: Ranks, length: int, credit: Credit) -> _Solution | None:
    """The distribution, or None where none is fair."""
    from scipy.optimize import linprog

    lists = tuple(_allowed(ranks, length))
    gains = [mine - other for mine, other in (_credits(each, credit) for each in ranks)]
    fair = [[gains[page[position]] for page in lists] for position in range(length)]
    found = linprog(
        [-_sensitivity(page, gains) for page in lists],
        A_eq=[[1.0] * len(lists), *fair],
        b_eq=[1.0] + [0.0] * length,
        bounds=(0, 1),
        method="highs",
    )
    if found.status != 0:
        return None
    likely = [(page, float(share)) for page, share in zip(lists, found.x, strict=True) if share > 1e-12]
    return tuple(page for page, _ in likely), tuple(accumulate(share for _, share in likely))


def _allowed(ranks: Ranks, length: int) -> Iterator[tuple[int, ...]]:
    """Every list of this length whose next item is always the best not yet shown of one of the rankings."""
    orders = [[item for _, item in sorted((each[side], item) for item, each in enumerate(ranks))] for side in (0, 1)]

    def longer(page: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(page) == length:
            yield page
            return
        for item in dict.fromkeys(next(item for item in order if item not in page) for order in orders):
            yield from longer((*page, item))

    return longer(())


def _sensitivity(page: Sequence[int], gains: Sequence[float]) -> float:
    """How much a click on the list tells, in bits: how evenly the weight of its positions is divided.

    s = (w_a + w_b) H(w_a / (w_a + w_b)), with w_x the weights 1/i, in parts of all, of the positions whose items favour x.
    """
    whole = math.fsum(1 / position for position in range(1, len(page) + 1)) or 1.0
    favours = [math.fsum(1 / at for at, item in enumerate(page, 1) if sign * gains[item] > 0) / whole for sign in (1, -1)]
    both = sum(favours)
    if min(favours) == 0:
        return 0.0
    return -math.fsum(each * math.log2(each / both) for each in favours)
