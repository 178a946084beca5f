"""The covariate of a call: a number known before any variant runs, by which an analysis explains how units differ anyway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from attrs import frozen

from rollout_sdk.engine.arguments import Getter
from rollout_sdk.engine.batches.rows import count_rows, each_row
from rollout_sdk.plugins.manager import Failed
from rollout_sdk.resilience.interruptions import is_fault

__all__ = ["Covariate"]

_WHAT = "covariate"


@frozen(eq=False)
class Covariate:
    """Reads the covariate out of arguments; what is not a finite number is None and a fault, and the call is analysed.

    Attributes:
        get: Takes it out of a call's arguments.
        failed: Called with every fault.
    """

    get: Getter
    failed: Failed

    def of_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float | None:
        """The covariate of a call."""
        try:
            return _number(self.get(args, kwargs))
        except BaseException as error:
            self._note(error)
            return None

    def of_rows(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], count: int) -> Sequence[float | None]:
        """The covariate of each of so many rows: of a list each its own, else the same for all."""
        try:
            value = self.get(args, kwargs)
            known = count_rows(value)
            if known is None:
                return [_number(value)] * count
            if known != count:
                raise ValueError(f"{known} covariates for {count} rows")
            values = list(each_row(value))
        except BaseException as error:
            self._note(error)
            return [None] * count
        return [self._of_row(each) for each in values]

    def _of_row(self, value: Any) -> float | None:
        try:
            return _number(value)
        except BaseException as error:
            self._note(error)
            return None

    def _note(self, error: BaseException) -> None:
        if not is_fault(error):
            raise error
        self.failed(_WHAT, error)


def _number(value: Any) -> float:
    """A finite number as a float.

    Raises:
        TypeError: It is not a number, but a text of one, say.
        ValueError: It is not finite.
    """
    if isinstance(value, str | bytes | bytearray):
        raise TypeError("a covariate is a number")
    number = float(value)
    if not isfinite(number):
        raise ValueError("a covariate is finite")
    return number
