"""Values one by one, for their quantiles: sorted by bucket, and merged only as far as needed."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import overload

from attrs import Factory, define

from rollout_sdk.assignment import BUCKETS

__all__ = ["Sample"]

_EITHER = frozenset((0.0, 1.0))
_FEW = 20_000
_STEP = 64


@define
class Sample:
    """Values of an arm one by one, for their quantiles, by the bucket of the unit that each belongs to: eight bytes each."""

    _by_bucket: dict[int, array[float]] = Factory(lambda: defaultdict(lambda: array("d")))
    _unsorted: set[int] = Factory(set)
    _ordered: Sequence[float] = ()

    def add(self, value: float, bucket: int, many: int) -> None:
        """Add a value, as so many."""
        bucket %= BUCKETS
        self._by_bucket[bucket].extend([value] * many)
        self._unsorted.add(bucket)

    def extend(self, values: list[float], bucket: int, many: int) -> None:
        """Add values of a bucket in ascending order, each as so many."""
        bucket %= BUCKETS
        known = self._by_bucket[bucket]
        if known or many > 1:
            self._unsorted.add(bucket)
        known.extend(values * many)

    def ordered(self) -> Sequence[float]:
        """The values, ascending; they are sorted once, not for each that asks."""
        if len(self._ordered) != sum(map(len, self._by_bucket.values())):
            for bucket in self._unsorted:
                self._by_bucket[bucket] = array("d", sorted(self._by_bucket[bucket]))
            self._unsorted.clear()
            merged = _Merged(list(self._by_bucket.values()))
            self._ordered = merged if len(merged) > _FEW else array("d", sorted(chain.from_iterable(self._by_bucket.values())))
        return self._ordered

    def is_graded(self) -> bool:
        """Whether some value is neither 0 nor 1: of clicks and errors, the mean says everything."""
        return not all(_EITHER.issuperset(values) for values in self._by_bucket.values())

    def below(self, limit: float) -> Mapping[int, tuple[int, int]]:
        """For each bucket, how many values are at most a limit, and how many there are."""
        self.ordered()
        return {bucket: (bisect_right(values, limit), len(values)) for bucket, values in self._by_bucket.items()}


class _Merged(Sequence[float]):
    """Sorted lists as one sorted list, of which only the values that are asked for are found: quantiles ask for some ten."""

    def __init__(self, lists: Iterable[array[float]]) -> None:
        self._lists = [each for each in lists if each]
        # Between two neighbours here, no list has more than so many values.
        self._coarse = sorted(chain.from_iterable(each[::_STEP] for each in self._lists))
        self._length = sum(map(len, self._lists))

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[float]: ...
    def __getitem__(self, index: int | slice) -> float | Sequence[float]:
        """The value at a place."""
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(self._length))]
        if not -self._length <= index < self._length:
            raise IndexError(index)
        index %= self._length
        low, high = 0, len(self._coarse)
        while low < high:
            middle = (low + high) // 2
            if self._until(self._coarse[middle]) > index:
                high = middle
            else:
                low = middle + 1
        # All values until the one before are before the place, and so are not all until this one.
        begins = [bisect_right(each, self._coarse[low - 1]) if low else 0 for each in self._lists]
        if low < len(self._coarse):
            ends = [bisect_left(each, self._coarse[low]) for each in self._lists]
        else:
            ends = [len(each) for each in self._lists]
        between = sorted(
            chain.from_iterable(each[begin:end] for each, begin, end in zip(self._lists, begins, ends, strict=True))
        )
        place = index - sum(begins)
        return between[place] if place < len(between) else self._coarse[low]

    def _until(self, value: float) -> int:
        """How many values are at most this one."""
        return sum(bisect_right(each, value) for each in self._lists)
