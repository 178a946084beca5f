"""Team draft interleaving with neutral ties (Radlinski, Kurup, Joachims, CIKM 2008; Zhang et al., KDD 2025)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Literal, TypeVar, get_args

from attrs import field, frozen, validators

from rollout_sdk.interleaving.rankings import Coins, Rankings, Seed, of_two
from rollout_sdk.interleaving.slots import Interleaved

__all__ = ["TeamDraft"]

T = TypeVar("T")

_USED_UP = 1 << 64

Neutral = Literal["ties", "prefix", "off"]
Coin = Literal["pair", "list"]


@frozen
class TeamDraft:
    """Rankers take turns in an order that a fair coin decides; each picks its best item not yet shown.

    Each ranker is first with the same probability at every draft, so that neither gains from position. Where all agree on
    the next item, nobody is credited for it: a click there says nothing of who is better, and would only add noise.

    Known bias: none in who is shown where. Which of two items decides is not asked: a ranker that is better by one item that
    the other ranks low, too, can come out even (Hofmann et al., 2013).

    Attributes:
        neutral: "ties": every agreed pick is neutral (default). "prefix": only the common top is. "off": none is, the
            classic design of 2008.
        coin: "pair" tosses anew for every draft, "list" once for the list (competitive pairs). The order of three rankers or
            more is drawn anew for every draft: on what they agree next depends on it, and one order would favour somebody.
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
        longer list. So is what comes below a round in which one of three rankers or more might have nothing left that the
        others do not have, too; and where ties are not neutral, what comes below as many positions as the shorter of two
        rankings has items.

        Args:
            rankings: Items by name of the ranker, best first; the first ranker is the control.
            k: Length of the list; by default the control's. The list is shorter only when all items are shown.
            key: Gives an item's key; by default the item itself.
            seed: The same seed gives the same list.

        Raises:
            ConfigurationError: There are fewer than two rankings, `k` is no number of items, the seed is neither text, bytes
                nor a whole number, or a key has no hash.
        """
        return self.drafted(Rankings(rankings, k, key), Coins(seed))

    def distribution(
        self, rankings: Mapping[str, Sequence[T]], *, k: int | None = None, key: Callable[[T], Hashable] | None = None
    ) -> Iterator[tuple[Interleaved[T], float]]:
        """The list of every toss of the coins for two rankings, with its probability: of a draft of r rounds 2^r lists, or two
        with one coin.

        Raises:
            ConfigurationError: There are not two rankings, or as `merge`.
        """
        return self.all_drafted(of_two(rankings, k, key))

    def all_drafted(self, read: Rankings[T]) -> Iterator[tuple[Interleaved[T], float]]:
        """The same of two rankings that are read."""
        # Two who disagree leave the same items, whoever is first: there are as many rounds on every list.
        rounds = (sum(team >= 0 for team in self.drafted(read, Coins.foretold(0)).teams) + 1) // 2
        coins = min(rounds, 1) if self.coin == "list" else rounds
        for bits in range(1 << coins):
            yield self.drafted(read, Coins.foretold(bits)), 0.5**coins

    def drafted(self, read: Rankings[T], coins: Coins) -> Interleaved[T]:
        """The list that these coins make."""
        shown: dict[Hashable, T] = {}
        draft = self._draft_two if len(read.orders) == 2 else self._draft
        teams = draft(read, coins, shown)
        return read.page(shown, "team_draft", teams)

    def _draft(self, read: Rankings[T], coins: Coins, shown: dict[Hashable, T]) -> list[int]:
        """Draft until the list is full or a ranking may be used up; who drafted each item."""
        orders, items, length = read.orders, read.items, read.length
        # Only a ranking shorter than the list can be used up.
        left = [set(order) for order in orders] if min(map(len, orders)) < length else []
        count, everyone = len(orders), range(len(orders))
        teams: list[int] = []
        at = [0] * count
        neutral = self.neutral != "off"
        while len(shown) < length:
            if left and _may_miss_a_turn(left, length - len(shown)):
                break
            for index in everyone:
                at[index] = _unshown(orders[index], at[index], shown)
            best = [orders[index][at[index]] for index in everyone]
            if neutral and best.count(best[0]) == count:
                shown[best[0]] = items[0][at[0]]
                teams.append(-1)
                for keys in left:
                    keys.discard(best[0])
                continue
            neutral = self.neutral == "ties"
            for index in coins.order(count):
                if len(shown) < length:
                    next_ = _unshown(orders[index], at[index], shown)
                    shown[orders[index][next_]] = items[index][next_]
                    teams.append(index)
                    for keys in left:
                        keys.discard(orders[index][next_])
        return teams

    def _draft_two(self, read: Rankings[T], coins: Coins, shown: dict[Hashable, T]) -> list[int]:
        """The same for two rankers, as nearly all are, in a third of the time."""
        (a, b), (a_items, b_items), length = read.orders, read.items, read.length
        teams: list[int] = []
        if self.neutral != "ties":
            # Down to here both have something left whenever their turn comes. Below, who takes what from whom would decide who
            # misses a turn. A pair of two who disagree leaves both as many, so that theirs goes on to the end of one.
            length = min(length, len(a), len(b))
        neutral, ties, by_pair, drafted = self.neutral != "off", self.neutral == "ties", self.coin == "pair", teams.append
        i = j = 0
        # Coins, the next one lowest, under a bit that says when they are used up.
        coin = coins.bits(64) | _USED_UP
        a_first = coin & 1
        # Not contextlib.suppress, which would take a twentieth of the time of all this.
        try:
            x, y = a[0], b[0]
            while len(shown) < length:
                while x in shown:
                    i += 1
                    x = a[i]
                while y in shown:
                    j += 1
                    y = b[j]
                if neutral and x == y:
                    shown[x] = a_items[i]
                    drafted(-1)
                else:
                    neutral = ties
                    if by_pair:
                        a_first = coin & 1
                        coin = coin >> 1 if coin > 3 else coins.bits(64) | _USED_UP
                    if a_first:
                        shown[x] = a_items[i]
                        drafted(0)
                        # Where ties are not neutral, this may have been the other's best, too.
                        while y in shown:
                            j += 1
                            y = b[j]
                        if len(shown) < length:
                            shown[y] = b_items[j]
                            drafted(1)
                    else:
                        shown[y] = b_items[j]
                        drafted(1)
                        while x in shown:
                            i += 1
                            x = a[i]
                        if len(shown) < length:
                            shown[x] = a_items[i]
                            drafted(0)
                i += 1
                j += 1
                x, y = a[i], b[j]
        except IndexError:
            # A ranking is used up: it was read past its end.
            pass
        return teams


def _may_miss_a_turn(left: Sequence[set[Hashable]], free: int) -> bool:
    """Whether in the next round a ranker may come to its turn when the others have taken all that it has left.

    Such a round credits that ranker less often than the others, however fair the coin. Asked before the order is drawn, so that
    the answer does not depend on it either.

    Args:
        left: For every ranker, its items not yet shown.
        free: Positions of the list that are free.
    """
    turns = min(len(left), free)
    return any(
        len(keys) < turns and all(any(key in others for at, others in enumerate(left) if at != index) for key in keys)
        for index, keys in enumerate(left)
    )


def _unshown(order: Sequence[Hashable], at: int, shown: Mapping[Hashable, object]) -> int:
    """The first place from `at` on whose item is not shown; there is one."""
    while order[at] in shown:
        at += 1
    return at
