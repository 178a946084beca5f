"""What interleaving gives: one list, and for every position who put the item there."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Generic, TypeVar

from attrs import frozen

from rollout_sdk.exceptions import UnknownItemError

__all__ = ["Interleaved", "Slot"]

T = TypeVar("T")


@frozen
class Slot:
    """One position of an interleaved list.

    Attributes:
        position: Position in the list, from 0.
        key: Key of the item.
        team: Name of the ranker that gets the credit, or None: the item is neutral.
        ranks: Rank of the item, from 0, in every ranking that has it.
        pair: Number of the round in which the rankers disagreed and the item was drafted, or None when neutral.
    """

    position: int
    key: Hashable
    team: str | None
    ranks: Mapping[str, int]
    pair: int | None = None


@frozen
class Interleaved(Generic[T]):
    """One list made of several rankings.

    Attributes:
        items: The caller's own objects, in order; of two with one key, the first seen.
        slots: For every item, its key and its team.
        rankers: Names of the rankers, in the order given.
        duplicates: How many items were dropped because a ranking had their key before.
    """

    items: tuple[T, ...]
    slots: tuple[Slot, ...]
    rankers: tuple[str, ...]
    duplicates: int = 0

    def __iter__(self) -> Iterator[T]:
        """The items in order."""
        return iter(self.items)

    def __len__(self) -> int:
        """How many items there are."""
        return len(self.items)

    def credit(self, clicks: Mapping[Hashable, float]) -> dict[str, float]:
        """Credit of every ranker: the summed weights of the clicked items it drafted; neutral items give none.

        Args:
            clicks: Weight of each clicked item by its key.

        Raises:
            UnknownItemError: A key is not in the list.
        """
        teams = {slot.key: slot.team for slot in self.slots}
        credit = dict.fromkeys(self.rankers, 0.0)
        for key, weight in clicks.items():
            if key not in teams:
                raise UnknownItemError(
                    f"Item {key!r:.80} is not in the interleaved list of {len(teams)} items. "
                    "Only shown items can be clicked. Pass the keys that the merge used."
                )
            team = teams[key]
            if team is not None:
                credit[team] += weight
        return credit

    def winner(self, clicks: Mapping[Hashable, float]) -> str | None:
        """The ranker with the most credit, or None on a tie; no click is a tie."""
        credit = self.credit(clicks)
        best = max(credit.values())
        leaders = [name for name, value in credit.items() if value == best]
        return leaders[0] if len(leaders) == 1 else None
