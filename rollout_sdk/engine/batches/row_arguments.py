"""The row-wise arguments of a batch: the unit of every row, and the arguments of some rows alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Signature
from typing import Any

from attrs import frozen

from rollout_sdk.engine.arguments import Spec, UnitSpec, parameter
from rollout_sdk.engine.batches.rows import count_rows, each_row
from rollout_sdk.engine.first_present import is_rowwise
from rollout_sdk.plugins.manager import Failed

__all__ = ["RowArguments"]


@frozen(kw_only=True, eq=False)
class RowArguments:
    """Where the rows of a batch are in the arguments of a call.

    Attributes:
        key: Key of the rollout, for errors.
        names: The row-wise parameters.
        signature: The control's signature; None where it is not known.
        unit: Where the unit is, as it was passed when decorating.
        covariate: Where the covariate is, as it was passed when decorating.
        failed: Notified of every fault of a collaborator.
    """

    key: str
    names: tuple[str, ...]
    signature: Signature | None
    unit: UnitSpec
    covariate: Spec
    failed: Failed

    def units(self, unit: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
        """The unit of every row: of a list of units each its own, else the same for all."""
        rows = parameter(self.names[0], self.signature, self.key, "batch")(args, kwargs)
        count = count_rows(rows)
        if count is None:
            return []
        if not is_rowwise(unit):
            return [unit] * count
        each = list(each_row(unit))
        if len(each) == count:
            return each
        self.failed("unit", ValueError(f"{len(each)} units for {count} rows"))
        return [None] * count

    def replace(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], replace: Callable[[Any], Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, with every row-wise one replaced; a list of units or covariates is row-wise, too."""
        names = set(self.names)
        units = self.unit if isinstance(self.unit, tuple) else (self.unit,)
        for option, path in (*(("unit", unit) for unit in units), ("covariate", self.covariate)):
            name = path.partition(".")[0] if isinstance(path, str) else ""
            if name and is_rowwise(parameter(name, self.signature, self.key, option)(args, kwargs)):
                names.add(name)
        parameters = list(self.signature.parameters) if self.signature is not None else []
        positional = [replace(value) if name in names else value for name, value in zip(parameters, args, strict=False)]
        named = {name: replace(value) if name in names else value for name, value in kwargs.items()}
        return (*positional, *args[len(positional) :]), named
