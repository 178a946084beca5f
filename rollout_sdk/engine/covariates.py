"""The covariate of a call: a number known before any variant runs, which explains part of the variance between units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from attrs import frozen

from rollout_sdk.engine.arguments import Getter
from rollout_sdk.engine.batches.rows import count_rows, each_row
from rollout_sdk.plugins.manager import Failed
from rollout_sdk.resilience.interruptions import report_fault

__all__ = ["Covariate"]

_WHAT = "covariate"


@frozen(eq=False)
class Covariate:
    """Reads the covariate from arguments; anything but a finite number is reported as a fault and recorded as None.

    Attributes:
        get: Extracts the covariate from a call's arguments.
        failed: Called with every fault.
    """

    get: Getter
    failed: Failed

    def of_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float | None:
        """Return the covariate of a call."""
        try:
            return _number(self.get(args, kwargs))
        except BaseException as error:
            report_fault(self.failed, _WHAT, error)
            return None

    def of_rows(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], count: int) -> Sequence[float | None]:
        """Return the covariate of each of `count` rows: one per row from a list, else the same value for all."""
        try:
            value = self.get(args, kwargs)
            known = count_rows(value)
            if known is None:
                return [_number(value)] * count
            if known != count:
                raise ValueError(f"{known} covariates for {count} rows")
            values = list(each_row(value))
        except BaseException as error:
            report_fault(self.failed, _WHAT, error)
            return [None] * count
        return [self._of_row(each) for each in values]

    def _of_row(self, value: Any) -> float | None:
        try:
            return _number(value)
        except BaseException as error:
            report_fault(self.failed, _WHAT, error)
            return None


def _number(value: Any) -> float:
    """Convert to float.

    Raises:
        TypeError: The value is not a number, or is a string.
        ValueError: The value is not finite.
    """
    if isinstance(value, str | bytes | bytearray):
        raise TypeError("a covariate is a number")
    number = float(value)
    if not isfinite(number):
        raise ValueError("a covariate is finite")
    return number
