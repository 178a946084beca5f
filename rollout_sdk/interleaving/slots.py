"""The result of interleaving: one list, with the ranker that contributed each position."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar

from attrs import define, evolve, frozen

from rollout_sdk.interleaving.credit import RULES, preference

__all__ = ["Interleaved", "Slot", "Unseen"]

T = TypeVar("T")

_BY_CREDIT = frozenset({"optimized", "pairwise_preference"})

_EQUAL = 1e-12
"""Credits that differ by less are equal: sums of the same parts in another order."""


@frozen
class Slot:
    """One position of an interleaved list.

    Attributes:
        position: Position in the list, from 0.
        key: Key of the item.
        team: Name of the ranker that gets the credit, or None: the item is neutral, or the design has no teams.
        ranks: Rank of the item, from 0, in every ranking that contains it.
        pair: Number of the round of disagreement in which the item was drafted, or None.
    """

    position: int
    key: Hashable
    team: str | None
    ranks: Mapping[str, int]
    pair: int | None = None


# Without slots, because cached_property needs a __dict__.
@define(kw_only=True, slots=False)
class Interleaved(Generic[T]):
    """One list made of several rankings, with everything needed to credit a click on it.

    Attributes:
        items: The caller's own objects, in order; of several with one key in a ranking, the first; if several rankers have the
            key, one of theirs.
        keys: Their keys.
        rankers: Names of the rankers, in the order given; the first is the control.
        design: Name of the design whose rule credits the clicks.
        orders: For every ranker, the keys of its ranking, best first, without duplicates.
        teams: For every position, the index of the ranker that contributed the item, or -1; empty if the design has no teams.
        shares: For every position, the credit of a click for each ranker; empty if it depends on the other clicks.
        choices: For every position, the number of items that could have been there; empty if credit does not need it.
        counted: Number of positions that can be credited. The rest fills the list after a ranking was exhausted: crediting it
            would favour the longer ranking.
        duplicates: Number of items dropped because their ranking already had their key.
        fallback: Why another design than the requested one made the list, or "".
        of_several: Whether more rankers than these two made the list (`between`).
    """

    items: tuple[T, ...]
    keys: tuple[Hashable, ...]
    rankers: tuple[str, ...]
    design: str
    orders: Sequence[Sequence[Hashable]]
    teams: Sequence[int] = ()
    shares: Sequence[Sequence[float]] = ()
    choices: Sequence[int] = ()
    counted: int = 0
    duplicates: int = 0
    fallback: str = ""
    of_several: bool = False

    def __len__(self) -> int:
        """Number of items."""
        return len(self.items)

    def __iter__(self) -> Iterator[T]:
        """Iterate over the items."""
        return iter(self.items)

    @property
    def is_interleaved(self) -> bool:
        """Whether every ranker had something to show; otherwise the list is the control's alone, and not evidence."""
        return all(self.orders)

    @property
    def is_won_fairly(self) -> bool:
        """Whether random clicks let either of two rankers win equally many lists, so that won lists can be counted.

        They do if swapping the two has equally likely coins. Credit is fair on average in every design but `Balanced`; but if
        one ranker gets it in few large parts and the other in many small ones (`Optimized`, `PairwisePreference`), or if the
        next items depend on who was first (`TeamDraft` of three or more), it is not fair list by list: then the mean credit
        decides who is better.
        """
        return not (self.design in _BY_CREDIT or (self.of_several and self.design == "team_draft"))

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """Position, key, team, and ranks of every item."""
        ranks = [{key: rank for rank, key in enumerate(order)} for order in self.orders]
        made, drafted = [], 0
        for position, (key, team) in enumerate(zip(self.keys, self.teams or [-1] * len(self.keys), strict=True)):
            where = {name: places[key] for name, places in zip(self.rankers, ranks, strict=True) if key in places}
            if team < 0:
                made.append(Slot(position, key, None, where))
            else:
                # Every ranker drafts once per round.
                made.append(Slot(position, key, self.rankers[team], where, drafted // len(self.rankers)))
                drafted += 1
        return tuple(made)

    def credit(self, clicks: Mapping[Any, float]) -> dict[str, float]:
        """Return the credit of each ranker.

        Args:
            clicks: Weight of each clicked item by its key.

        Raises:
            UnknownItemError: A key is not in the list.
        """
        return dict(zip(self.rankers, RULES[self.design](self, clicks), strict=True))

    def credit_at(self, position: int) -> dict[str, float] | None:
        """Return the credit of a click on one position for each ranker; None if it depends on the other clicks."""
        if position >= self.counted:
            return {}
        if self.teams:
            team = self.teams[position]
            return {} if team < 0 else {self.rankers[team]: 1.0}
        if self.shares:
            return dict(zip(self.rankers, self.shares[position], strict=True))
        return None

    def winner(self, clicks: Mapping[Any, float]) -> str | None:
        """Return the ranker with the most credit, or None on a tie; no click is a tie."""
        credit = self.credit(clicks)
        best = max(credit.values())
        leaders = [name for name, value in credit.items() if best - value <= _EQUAL * max(1.0, abs(best))]
        return leaders[0] if len(leaders) == 1 else None

    def preference(self, clicks: Mapping[Any, float]) -> float:
        """Return which of two rankers is preferred: 1.0 the candidate, -1.0 the control, 0.0 neither.

        If chance decides who contributed an item (`Probabilistic`), it is the expectation over the possible contributors.

        Raises:
            ValueError: There are more than two rankers: compare their credit pair by pair.
            UnknownItemError: A key is not in the list.
        """
        if len(self.rankers) != 2:
            raise ValueError(
                f"preference() compares two rankers, and this list has {len(self.rankers)}: {', '.join(self.rankers)}. "
                "With more, there is no single preference. Compare their credit() two by two."
            )
        return preference(self, clicks)

    def between(self, control: str, candidate: str) -> Interleaved[T]:
        """Return the list as a comparison of two of its rankers; contributions of the others get no credit.

        Raises:
            ValueError: One of them is not a ranker of this list.
        """
        two = [self.rankers.index(name) for name in (control, candidate)]
        if two == [0, 1] and len(self.rankers) == 2:
            return self
        return evolve(
            self,
            rankers=(control, candidate),
            orders=[self.orders[index] for index in two],
            teams=[two.index(team) if team in two else -1 for team in self.teams],
            shares=[[share[index] for index in two] for share in self.shares],
            of_several=self.of_several or len(self.rankers) > 2,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the items as JSON-compatible values; `from_dict` reads it.

        Raises:
            TypeError: A key is not text, a whole number or a boolean, which JSON would not preserve.
        """
        odd = next((key for key in self.keys if type(key) not in (str, int, bool)), None)
        if odd is not None:
            raise TypeError(
                f"Key {odd!r:.80} is a {type(odd).__qualname__}. JSON preserves only text and whole numbers. "
                "Merge with key=lambda item: ... that returns one of them."
            )
        return {"keys": list(self.keys), **self.rule()}

    def rule(self) -> dict[str, Any]:
        """Return the rule that credits clicks, without keys: positions stand for items. `from_rule` reads it."""
        at = {key: index for index, key in enumerate(self.keys)}
        return {
            "design": self.design,
            "rankers": list(self.rankers),
            # Unshown items cannot be clicked, so only their presence matters.
            "orders": [[at.get(key, -1) for key in order] for order in self.orders],
            "teams": list(self.teams),
            "shares": [list(share) for share in self.shares],
            "choices": list(self.choices),
            "counted": self.counted,
            "duplicates": self.duplicates,
            "fallback": self.fallback,
            **({"of_several": True} if self.of_several else {}),
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Interleaved[Any]:
        """Rebuild a list from `as_dict`; its items are the keys, and unshown items have no key."""
        return cls.from_rule(table, table["keys"])

    @classmethod
    def from_rule(cls, rule: Mapping[str, Any], keys: Sequence[Any]) -> Interleaved[Any]:
        """Rebuild a list from its keys and its `rule`.

        Raises:
            KeyError: A part of the rule is missing.
            IndexError: There are fewer keys than the list has positions.
        """
        return cls(
            items=tuple(keys),
            keys=tuple(keys),
            rankers=tuple(rule["rankers"]),
            design=rule["design"],
            orders=[[keys[at] if at >= 0 else Unseen() for at in order] for order in rule["orders"]],
            teams=rule["teams"],
            shares=rule["shares"],
            choices=rule["choices"],
            counted=rule["counted"],
            duplicates=rule["duplicates"],
            fallback=rule["fallback"],
            of_several=bool(rule.get("of_several")),
        )


class Unseen:
    """A ranked item that was not shown, whose key was not stored."""

    __slots__ = ()
