"""Values of an arm one by one, for their quantiles: eight bytes each."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain

from attrs import Factory, define

from rollout_sdk.assignment import BUCKETS

__all__ = ["Sample"]

_EITHER = frozenset((0.0, 1.0))


@define
class Sample:
    """Values, by the bucket of the unit that each belongs to."""

    _by_bucket: dict[int, array[float]] = Factory(lambda: defaultdict(lambda: array("d")))
    _ordered: array[float] = Factory(lambda: array("d"))

    def add(self, value: float, bucket: int, many: int) -> None:
        """Add a value, as so many."""
        self._by_bucket[bucket % BUCKETS].extend([value] * many)

    def extend(self, values: list[float], bucket: int, many: int) -> None:
        """Add values of a bucket, each as so many."""
        self._by_bucket[bucket % BUCKETS].extend(values * many)

    def ordered(self) -> Sequence[float]:
        """The values, ascending; they are sorted once, not for each that asks."""
        if len(self._ordered) != sum(map(len, self._by_bucket.values())):
            # Buckets first: they are in order where a database sorted them, and what is in order is sorted again in no time.
            for bucket, values in self._by_bucket.items():
                self._by_bucket[bucket] = array("d", sorted(values))
            self._ordered = array("d", sorted(chain.from_iterable(self._by_bucket.values())))
        return self._ordered

    def is_graded(self) -> bool:
        """Whether some value is neither 0 nor 1: of clicks and errors, the mean says everything."""
        return not all(_EITHER.issuperset(values) for values in self._by_bucket.values())

    def below(self, limit: float) -> Mapping[int, tuple[int, int]]:
        """For each bucket, how many values are at most a limit, and how many there are."""
        self.ordered()
        return {bucket: (bisect_right(values, limit), len(values)) for bucket, values in self._by_bucket.items()}
