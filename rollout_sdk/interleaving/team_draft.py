"""Team draft interleaving with neutral ties (Radlinski, Kurup, Joachims, CIKM 2008; Zhang et al., KDD 2025)."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Generic, Literal, TypeVar, get_args

from attrs import field, frozen, validators

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.interleaving.slots import Interleaved, Slot

__all__ = ["TeamDraft"]

T = TypeVar("T")

Neutral = Literal["ties", "prefix", "off"]
Coin = Literal["pair", "list"]


@frozen
class TeamDraft:
    """Rankers take turns in an order that a fair coin decides; each picks its best item not yet shown.

    Each ranker is first with the same probability at every draft, so that neither gains from position. Where all agree on
    the next item, nobody is credited for it: that halves the traffic needed to tell two similar rankers apart.

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
        seed: int | str | bytes,
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
        if len(rankings) < 2 or (k is not None and k < 0):
            raise ConfigurationError(
                f"merge got {len(rankings)} rankings and k={k!r}. Interleaving needs at least two rankings and k >= 0. "
                "Pass one ranking per ranker, by name."
            )
        drafts = [_Draft(name, ranking, key) for name, ranking in rankings.items()]
        length = len(next(iter(rankings.values()))) if k is None else k
        return _Merge(drafts, length, self, random.Random(seed)).run()


class _Draft(Generic[T]):
    """One ranker's unshown items, best first."""

    def __init__(self, name: str, ranking: Sequence[T], key: Callable[[T], Hashable] | None) -> None:
        self.name = name
        self.items: dict[Hashable, T] = {}
        for item in ranking:
            self.items.setdefault(item if key is None else key(item), item)
        self.duplicates = len(ranking) - len(self.items)
        self.ranks = {item_key: rank for rank, item_key in enumerate(self.items)}
        self._order = list(self.items)
        self._next = 0

    def best(self, shown: Mapping[Hashable, T]) -> Hashable | None:
        """Key of the best item not in `shown`; each item is passed over once in the whole merge."""
        while self._next < len(self._order):
            if self._order[self._next] not in shown:
                return self._order[self._next]
            self._next += 1
        return None


class _Merge(Generic[T]):
    """One merge under way."""

    def __init__(self, drafts: list[_Draft[T]], length: int, design: TeamDraft, coin: random.Random) -> None:
        self.drafts = drafts
        self.length = length
        self.design = design
        self.coin = coin
        self.shown: dict[Hashable, T] = {}
        self.slots: list[Slot] = []
        self.rounds = 0

    def run(self) -> Interleaved[T]:
        neutral = self.design.neutral != "off"
        order = list(self.drafts)
        self.coin.shuffle(order)
        while len(self.slots) < self.length:
            best = [draft.best(self.shown) for draft in self.drafts]
            if None in best:
                self._fill()
                break
            if neutral and best.count(best[0]) == len(best):
                self._show(self.drafts[0], best[0], None, None)
                continue
            neutral = self.design.neutral == "ties"
            if self.design.coin == "pair" and self.rounds:
                self.coin.shuffle(order)
            self._round(order)
        return Interleaved(
            items=tuple(self.shown.values()),
            slots=tuple(self.slots),
            rankers=tuple(draft.name for draft in self.drafts),
            duplicates=sum(draft.duplicates for draft in self.drafts),
        )

    def _round(self, order: list[_Draft[T]]) -> None:
        for draft in order:
            key = draft.best(self.shown)
            if key is not None and len(self.slots) < self.length:
                self._show(draft, key, draft.name, self.rounds)
        self.rounds += 1

    def _fill(self) -> None:
        for draft in self.drafts:
            while len(self.slots) < self.length and (key := draft.best(self.shown)) is not None:
                self._show(draft, key, None, None)

    def _show(self, draft: _Draft[T], key: Hashable, team: str | None, pair: int | None) -> None:
        ranks = {other.name: other.ranks[key] for other in self.drafts if key in other.ranks}
        self.slots.append(Slot(len(self.slots), key, team, ranks, pair))
        self.shown[key] = draft.items[key]
