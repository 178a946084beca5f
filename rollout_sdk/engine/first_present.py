"""The unit of a call that may be known by several names: the user where somebody is logged in, or else the device."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from rollout_sdk.engine.arguments import Getter
from rollout_sdk.engine.batches.rows import count_rows, each_row

__all__ = ["FirstPresent", "is_rowwise"]


class FirstPresent:
    """Gives the first of several units that a call has; of a batch whose units are lists, the first of each row.

    Absent are None, NaN and what is empty. Anything else is taken as it is: a unit of a wrong type does not lead to the next.

    Attributes:
        seen: How many calls (or rows) had their unit from each.
    """

    __slots__ = ("_by_row", "_counts", "_getters", "seen")

    def __init__(self, getters: Mapping[str, Getter], *, by_row: bool) -> None:
        """Look for them in this order.

        Args:
            getters: What takes each out of the arguments, by how it was named.
            by_row: Whether a list gives each row its own.
        """
        self._getters = dict(getters)
        self._by_row = by_row
        self._counts = {name: count(1) for name in getters}
        self.seen: dict[str, int] = {}

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The unit of a call, or None; of a batch, a list of them where any is given by row.

        Raises:
            ValueError: Lists of units have different lengths.
        """
        if not self._by_row:
            for name, get in self._getters.items():
                value = get(args, kwargs)
                if not _is_absent(value):
                    self.seen[name] = next(self._counts[name])
                    return value
            return None
        values = {name: get(args, kwargs) for name, get in self._getters.items()}
        lengths = {len(value) for value in values.values() if is_rowwise(value)}
        if not lengths:
            return self._first(values)
        if len(lengths) > 1:
            raise ValueError(f"lists of units of {' and '.join(str(length) for length in sorted(lengths))} rows")
        columns = {
            name: list(each_row(value)) if is_rowwise(value) else [value] * max(lengths) for name, value in values.items()
        }
        return [self._first(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]

    def _first(self, values: Mapping[str, Any]) -> Any:
        for name, value in values.items():
            if not _is_absent(value):
                self.seen[name] = next(self._counts[name])
                return value
        return None


def _is_absent(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, float):
        return value != value  # noqa: PLR0124 - NaN is what differs from itself
    return isinstance(value, str | bytes | tuple) and not value


def is_rowwise(value: Any) -> bool:
    """Whether a value has a part for each row of a batch."""
    return count_rows(value) is not None
