"""Values of an arm one by one, for their quantiles: eight bytes each, and two for the bucket of the unit."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from itertools import compress

from attrs import Factory, define

from rollout_sdk.assignment import BUCKETS

__all__ = ["Sample"]

_EITHER = frozenset((0.0, 1.0))


@define
class Sample:
    """Values, and the buckets of the units that they belong to, in their order."""

    values: array[float] = Factory(lambda: array("d"))
    buckets: array[int] = Factory(lambda: array("H"))
    _ordered: array[float] = Factory(lambda: array("d"))

    def add(self, value: float, bucket: int, many: int) -> None:
        """Add a value, as so many."""
        self.values.extend([value] * many)
        self.buckets.extend([bucket % BUCKETS] * many)

    def extend(self, values: list[float], buckets: list[int], many: int) -> None:
        """Add values, each as so many."""
        self.values.extend(values * many)
        self.buckets.extend(buckets * many)

    def ordered(self) -> Sequence[float]:
        """The values, ascending; they are sorted once, not for each that asks."""
        if len(self._ordered) != len(self.values):
            self._ordered = array("d", sorted(self.values))
        return self._ordered

    def is_graded(self) -> bool:
        """Whether some value is neither 0 nor 1: of clicks and errors, the mean says everything."""
        return not _EITHER.issuperset(self.values)

    def by_bucket(self) -> Counter[int]:
        """How many values each bucket has."""
        return Counter(self.buckets)

    def above(self, limit: float) -> Counter[int]:
        """How many values above a limit each bucket has."""
        return Counter(compress(self.buckets, map(limit.__lt__, self.values)))
