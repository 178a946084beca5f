"""Units with alternatives, such as the user id of a logged-in user, or else the device id."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from rollout_sdk.engine.arguments import Getter
from rollout_sdk.engine.batches.rows import count_rows, each_row

__all__ = ["FirstPresent", "is_rowwise"]


class FirstPresent:
    """Returns the first of several units that is present in a call; for a batch with lists of units, the first per row.

    None, NaN and empty values count as absent. Any other value is used as it is, even if its type is wrong.

    Attributes:
        seen: Number of calls (or rows) that took their unit from each.
    """

    __slots__ = ("_by_row", "_counts", "_getters", "seen")

    def __init__(self, getters: Mapping[str, Getter], *, by_row: bool) -> None:
        """Create a getter that tries the alternatives in order.

        Args:
            getters: Getter of each alternative, by its name.
            by_row: Whether a list holds one unit per row.
        """
        self._getters = dict(getters)
        self._by_row = by_row
        self._counts = {name: count(1) for name in getters}
        self.seen: dict[str, int] = {}

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return the unit of a call, or None; for a batch, a list if any alternative is given per row.

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
    """Whether a value holds one part for each row of a batch."""
    return count_rows(value) is not None
