"""The segments of a call: which of the declared values each attribute of its arguments has, read before any variant runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from rollout_sdk.engine.arguments import Getter
from rollout_sdk.engine.batches.rows import count_rows, each_row
from rollout_sdk.plan.checks import OTHER
from rollout_sdk.plugins.manager import Failed
from rollout_sdk.resilience.interruptions import report_fault

__all__ = ["Attribute", "Segments"]

_WHAT = "segments"

Found = tuple[tuple[str, str], ...]
"""Attributes and segments of a call."""


@frozen(eq=False)
class Attribute:
    """One attribute of calls.

    Attributes:
        name: Its name.
        get: Extracts it from a call's arguments.
        segments: The values that are distinguished, as texts; any other is "other".
    """

    name: str
    get: Getter
    segments: frozenset[str]

    def pair(self, value: Any) -> tuple[str, str]:
        """Return its name and the segment of a value."""
        text = str(value)
        return self.name, text if text in self.segments else OTHER


@frozen(eq=False)
class Segments:
    """Reads the segments of calls; an attribute that cannot be read is a fault, and its call is in none of its segments.

    Attributes:
        attributes: The attributes.
        failed: Called with every fault.
    """

    attributes: tuple[Attribute, ...]
    failed: Failed

    def of_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Found:
        """Return the segments of a call."""
        found = []
        for each in self.attributes:
            try:
                found.append(each.pair(each.get(args, kwargs)))
            except BaseException as error:
                report_fault(self.failed, _WHAT, error)
        return tuple(found)

    def of_rows(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], count: int) -> Sequence[Found]:
        """Return the segments of each of `count` rows: one value per row from a list, else the same for all."""
        columns = [column for each in self.attributes if (column := self._column(each, args, kwargs, count)) is not None]
        return list(zip(*columns, strict=True)) if columns else [()] * count

    def _column(
        self, attribute: Attribute, args: tuple[Any, ...], kwargs: Mapping[str, Any], count: int
    ) -> list[tuple[str, str]] | None:
        try:
            value = attribute.get(args, kwargs)
            known = count_rows(value)
            if known is None:
                return [attribute.pair(value)] * count
            if known != count:
                raise ValueError(f"{known} values of {attribute.name} for {count} rows")
            return [attribute.pair(each) for each in each_row(value)]
        except BaseException as error:
            report_fault(self.failed, _WHAT, error)
            return None
