"""Comparators of rankings: lists of items, the best first."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from attrs import field, frozen

from rollout_sdk.comparators.base import Comparator, share
from rollout_sdk.comparators.parts import column_names, plain
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.records import Comparison
from rollout_sdk.stats import rank_biased_overlap

__all__ = ["RankBiasedOverlap", "TopK"]

_Key = Callable[[Any], Hashable] | None


def _items(answer: Any, key: _Key) -> list[Hashable]:
    """Return the items' keys, each at its first place.

    Raises:
        TypeError: The answer is a frame, or not a list of distinguishable items.
    """
    if column_names(answer) is not None:
        raise TypeError("A ranking is a list of items, and this is a frame. Name the column: Fields({'item': TopK(10)}).")
    items = plain(answer)
    return list(dict.fromkeys(items if key is None else map(key, items)))


def _whole(owner: Any, attribute: Any, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(
            f"{attribute.name}={value!r:.40} of {type(owner).__name__} is not a number of places. Write TopK(10)."
        )


def _open_share(owner: Any, attribute: Any, value: object) -> None:
    share(owner, attribute, value)
    if value in (0, 1):
        raise ConfigurationError(f"{attribute.name}={value!r} of {type(owner).__name__} is not between 0 and 1. Write p=0.9.")


@frozen
class TopK(Comparator):
    """The first `k` items must be the same, in any order; the difference is the share of the places with other items.

    Attributes:
        k: Number of places.
        min: Share of common items that still matches; 1 (the default) for all of them.
        key: Takes what identifies an item from it; by default the item itself.
    """

    k: int = field(validator=_whole)
    min: float = field(default=1.0, kw_only=True, validator=share)
    key: _Key = field(default=None, kw_only=True)
    name = "top_k"

    def __call__(self, control: Any, candidate: Any) -> Comparison:
        """Compare two rankings."""
        ours, theirs = (_items(each, self.key)[: self.k] for each in (control, candidate))
        places = max(len(ours), len(theirs))
        common = len(set(ours) & set(theirs)) / places if places else 1.0
        return self.found(None if common >= self.min else "items", 1 - common)


@frozen
class RankBiasedOverlap(Comparator):
    """Rankings match if their rank-biased overlap is at least `min`; the difference is 1 minus it.

    Attributes:
        p: Persistence: how far down the list matters. See `rollout_sdk.stats.rank_biased_overlap`.
        min: Smallest overlap that matches.
        key: Takes what identifies an item from it; by default the item itself.
    """

    p: float = field(default=0.9, kw_only=True, validator=_open_share)
    min: float = field(default=0.9, kw_only=True, validator=share)
    key: _Key = field(default=None, kw_only=True)
    name = "rank_biased_overlap"

    def __call__(self, control: Any, candidate: Any) -> Comparison:
        """Compare two rankings."""
        overlap = rank_biased_overlap(*(_items(each, self.key) for each in (control, candidate)), p=self.p)
        # The sum of many small terms may miss 1 by a rounding error.
        overlap = max(0.0, min(1.0, overlap))
        return self.found(None if overlap >= self.min - 1e-12 else "order", 1 - overlap)
