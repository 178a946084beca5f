"""Optimized interleaving (Radlinski and Craswell, WSDM 2013): the most informative of all fair distributions over lists."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Literal, TypeVar, get_args

from attrs import evolve, field, frozen, validators

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.interleaving.rankings import Coins, Rankings, Seed, of_two
from rollout_sdk.interleaving.slots import Interleaved
from rollout_sdk.interleaving.team_draft import TeamDraft

__all__ = ["Optimized"]

T = TypeVar("T")

Credit = Literal["inverse", "linear", "binary"]
Ranks = tuple[tuple[int, int], ...]
"""Rank of every item that can be shown in both rankings, from 1; one more than the last rank if it is not ranked."""

_LONGEST = 10
_KEPT = 1024


@frozen
class Optimized:
    """Draws lists whose next item is always the best unshown one of either ranker, with probabilities from a linear program.

    Constraint: at every position both rankers get the same credit on average, so random clicks favour neither. Objective: the
    lists whose clicks are most informative. A solution takes about 20 ms and is cached for rankings of the same shape. For two
    rankers and lists of up to 10; otherwise, or if there is no fair distribution, `TeamDraft()` makes the list, and
    `Interleaved.fallback` gives the reason.

    Needs SciPy: pip install 'rollout-sdk[interleaving]'. Known bias: none from position; but the comparison is by credit, and
    credit by rank may differ from the metric that you care about.

    Attributes:
        credit: Credit of a click for an item of rank r, from 1: "inverse" 1 / r, "linear" -r, "binary" 1 for the ranker that
            ranks it higher. An item that is not ranked has the rank after the last.
    """

    credit: Credit = field(default="inverse", validator=validators.in_(get_args(Credit)))

    def __attrs_post_init__(self) -> None:
        """Fail early if SciPy is not installed."""
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
        """Merge two rankings, as `TeamDraft.merge` does."""
        read = Rankings(rankings, k, key)
        pool, solved, why = self._solved(read)
        if solved is None:
            return evolve(TeamDraft().drafted(read, Coins(seed)), fallback=why)
        lists, cumulated = solved
        return _shown(read, pool, lists[min(bisect(cumulated, Coins(seed).unit()), len(lists) - 1)])

    def distribution(
        self, rankings: Mapping[str, Sequence[T]], *, k: int | None = None, key: Callable[[T], Hashable] | None = None
    ) -> Iterator[tuple[Interleaved[T], float]]:
        """Yield every list that can be shown for two rankings, with its probability.

        Raises:
            ConfigurationError: There are not two rankings, or as for `merge`.
        """
        read = of_two(rankings, k, key)
        pool, solved, why = self._solved(read)
        if solved is None:
            return ((evolve(page, fallback=why), probability) for page, probability in TeamDraft().all_drafted(read))
        lists, cumulated = solved
        each = zip(lists, (0.0, *cumulated), cumulated, strict=False)
        return ((_shown(read, pool, list_), (up_to - below) / cumulated[-1]) for list_, below, up_to in each)

    def _solved(self, read: Rankings[T]) -> tuple[Mapping[Hashable, T], _Solution | None, str]:
        """Return the items that can be shown, and the distribution; or None and the reason for it."""
        if len(read.names) != 2:
            return {}, None, f"there are {len(read.names)} rankers, not two"
        if read.length > _LONGEST:
            return {}, None, f"the list has {read.length} positions, more than {_LONGEST}"
        length = min(read.length, *map(len, read.orders))
        pool, ranks = _pool(read, length)
        solved = _solve(ranks, length, self.credit)
        return pool, solved, "" if solved else "no distribution over the allowed lists is fair to both rankers"


_List = tuple[tuple[int, ...], tuple[tuple[float, float], ...]]
"""A list as item numbers, and the credit of a click on each position for both rankers."""

_Solution = tuple[tuple[_List, ...], tuple[float, ...]]
"""The possible lists, and their cumulative probabilities."""


def _shown(read: Rankings[T], pool: Mapping[Hashable, T], list_: _List) -> Interleaved[T]:
    drawn, shares = list_
    open_ = list(pool.items())
    return read.page(dict([open_[at] for at in drawn]), "optimized", shares=shares)


def _pool(read: Rankings[T], length: int) -> tuple[dict[Hashable, T], Ranks]:
    """Return the items that can be shown, the control's first, and their ranks, which depend only on the rankings' shape."""
    (a, b), (a_items, b_items) = read.orders, read.items
    pool = dict(zip(a[:length], a_items, strict=False))
    for key, item in zip(b[:length], b_items, strict=False):
        pool.setdefault(key, item)
    mine, other = ([places.get(key, len(places) + 1) for key in pool] for places in (_ranks(a), _ranks(b)))
    return pool, tuple(zip(mine, other, strict=True))


def _ranks(order: Sequence[Hashable]) -> dict[Hashable, int]:
    return dict(zip(order, range(1, len(order) + 1), strict=True))


def _credits(ranks: tuple[int, int], credit: Credit) -> tuple[float, float]:
    mine, other = ranks
    if credit == "inverse":
        return 1 / mine, 1 / other
    if credit == "linear":
        return -float(mine), -float(other)
    return float(mine < other), float(other < mine)


@lru_cache(_KEPT)
def _solve(ranks: Ranks, length: int, credit: Credit) -> _Solution | None:
    """Return the distribution, or None if none is fair."""
    from scipy.optimize import linprog

    lists = tuple(_allowed(ranks, length))
    credits_ = [_credits(each, credit) for each in ranks]
    gains = [mine - other for mine, other in credits_]
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
    pages = tuple((page, tuple(credits_[at] for at in page)) for page, _ in likely)
    return pages, tuple(accumulate(share for _, share in likely))


def _allowed(ranks: Ranks, length: int) -> Iterator[tuple[int, ...]]:
    """Yield every list of this length whose next item is always the best one of a ranking not yet shown."""
    orders = [[item for _, item in sorted((each[side], item) for item, each in enumerate(ranks))] for side in (0, 1)]

    def longer(page: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(page) == length:
            yield page
            return
        for item in dict.fromkeys(next(item for item in order if item not in page) for order in orders):
            yield from longer((*page, item))

    return longer(())


def _sensitivity(page: Sequence[int], gains: Sequence[float]) -> float:
    """Return how informative a click on the list is, in bits: how evenly the weight of its positions is divided.

    s = (w_a + w_b) H(w_a / (w_a + w_b)), with w_x the total weight, 1/i normalised, of the positions whose items favour x.
    """
    whole = math.fsum(1 / position for position in range(1, len(page) + 1)) or 1.0
    favours = [math.fsum(1 / at for at, item in enumerate(page, 1) if sign * gains[item] > 0) / whole for sign in (1, -1)]
    both = sum(favours)
    if min(favours) == 0:
        return 0.0
    return -math.fsum(each * math.log2(each / both) for each in favours)
