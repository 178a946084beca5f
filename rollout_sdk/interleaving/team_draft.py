"""Team draft interleaving with neutral ties (Radlinski, Kurup, Joachims, CIKM 2008; Zhang et al., KDD 2025)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import islice
from typing import Literal, TypeVar, get_args

from attrs import field, frozen, validators

from rollout_sdk.interleaving.rankings import Coins, Rankings, Seed
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

        When a ranking is used up, or could be within the next round, what the others still have fills the list and is
        neutral: crediting it would favour the longer list.

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

    def drafted(self, read: Rankings[T], coins: Coins) -> Interleaved[T]:
        """The list that these coins make."""
        shown: dict[Hashable, T] = {}
        if len(read.orders) > 2:
            return read.page(shown, "team_draft", self._draft(read, coins, shown))
        teams = self._draft_two(read, coins, shown)
        if self.coin == "list" and self.neutral != "ties" and min(map(len, read.orders)) < read.length:
            # One coin decides where the draft ends, too: what is credited must be so on either side of it.
            end = min(len(self._draft_two(read, Coins.all_alike(side), {})) for side in (0, 1))
            teams[end:] = [-1] * (len(teams) - end)
        return read.page(shown, "team_draft", teams)

    def _draft(self, read: Rankings[T], coins: Coins, shown: dict[Hashable, T]) -> list[int]:
        """Draft until the list is full or a ranking is used up; who drafted each item."""
        length, orders, items = read.length, read.orders, read.items
        count, everyone, teams = len(orders), range(len(orders)), list[int]()
        at = [0] * count
        neutral = self.neutral != "off"
        # Only a ranking shorter than the list can be used up within a round.
        left = [set(order) for order in orders] if min(map(len, orders)) < length else []
        while len(shown) < length:
            for index in everyone:
                at[index] = _unshown(orders[index], at[index], shown)
                if at[index] == len(orders[index]):
                    return teams
            best = [orders[index][at[index]] for index in everyone]
            if neutral and best.count(best[0]) == count:
                shown[best[0]] = items[0][at[0]]
                teams.append(-1)
                for keys in left:
                    keys.discard(best[0])
                continue
            if left and _may_miss_a_turn(orders, at, left, shown, length - len(shown)):
                return teams
            neutral = self.neutral == "ties"
            for index in coins.order(count):
                order = orders[index]
                next_ = _unshown(order, at[index], shown)
                if next_ < len(order) and len(shown) < length:
                    shown[order[next_]] = items[index][next_]
                    teams.append(index)
                    for keys in left:
                        keys.discard(order[next_])
        return teams

    def _draft_two(self, read: Rankings[T], coins: Coins, shown: dict[Hashable, T]) -> list[int]:
        """The same for two rankers, as nearly all are, in a third of the time."""
        (a, b), (a_items, b_items), length, teams = read.orders, read.items, read.length, list[int]()
        scarce = min(len(a), len(b)) < length
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
                    continue
                # Whoever is second must have another, or who is credited below this item is not a coin's choice.
                if scarce and x == y and length > len(shown) + 1 and _has_more(a, i, shown) != _has_more(b, j, shown):
                    break
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
        except IndexError:
            # A ranking is used up: it was read past its end.
            pass
        return teams


def _has_more(order: Sequence[Hashable], at: int, shown: Mapping[Hashable, object]) -> bool:
    """Whether something is not shown yet, besides the item at `at`."""
    return _unshown(order, at + 1, shown) < len(order)


def _may_miss_a_turn(
    orders: Sequence[Sequence[Hashable]],
    at: Sequence[int],
    left: Sequence[set[Hashable]],
    shown: Mapping[Hashable, object],
    free: int,
) -> bool:
    """Whether in some order of the next round a ranker comes to its turn when the others have taken all that it has left.

    Such a round credits that ranker less often than the others, however fair the coin. Asked before the coin is tossed, so that
    the answer does not depend on it either.

    Args:
        orders: The rankings.
        at: For every ranking, the place of its best item not yet shown.
        left: For every ranking, its items not yet shown.
        shown: The items shown.
        free: Positions of the list that are free.
    """
    turns = min(len(orders), free)
    if min(map(len, left)) >= turns:
        return False
    # When nobody has anything left, the last turns are nobody's.
    turns = min(turns, len(set[Hashable]().union(*left)))
    for index, keys in enumerate(left):
        if len(keys) < turns:
            # Before a last turn there are turns - 1 others, each of whom has lost at most turns - 2 items to the rest.
            taken = {
                key for other, order in enumerate(orders) if other != index for key in _next(order, at[other], shown, turns - 1)
            }
            if keys <= taken:
                return True
    return False


def _next(order: Sequence[Hashable], at: int, shown: Mapping[Hashable, object], count: int) -> list[Hashable]:
    """The best items not yet shown, at most `count`."""
    return list(islice((key for key in islice(order, at, None) if key not in shown), count))


def _unshown(order: Sequence[Hashable], at: int, shown: Mapping[Hashable, object]) -> int:
    """The first place from `at` on whose item is not shown; the end where there is none."""
    end = len(order)
    while at < end and order[at] in shown:
        at += 1
    return at
