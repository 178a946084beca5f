"""Row-wise arguments of a batch: each row's unit, and the arguments of selected rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import Signature
from typing import Any

from attrs import frozen

from rollout_sdk.engine.arguments import Spec, UnitSpec, parameter
from rollout_sdk.engine.batches.rows import column_of, count_rows
from rollout_sdk.engine.first_present import is_rowwise
from rollout_sdk.plugins.manager import Failed

__all__ = ["RowArguments"]


@frozen(kw_only=True, eq=False)
class RowArguments:
    """Locates the rows of a batch in the arguments of a call.

    Attributes:
        key: Key of the rollout, for errors.
        names: The row-wise parameters.
        signature: The control's signature; None if it is unknown.
        unit: Specification of the unit, as passed to the decorator.
        covariate: Specification of the covariate, as passed to the decorator.
        segments: Names of the attributes by which calls are split into segments.
        failed: Called with every fault of a collaborator.
    """

    key: str
    names: tuple[str, ...]
    signature: Signature | None
    unit: UnitSpec
    covariate: Spec
    segments: tuple[str, ...]
    failed: Failed

    def units(self, unit: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Sequence[Any]:
        """Return each row's unit: its own from a list of units, else the same for all."""
        rows = parameter(self.names[0], self.signature, self.key, "batch")(args, kwargs)
        count = count_rows(rows)
        if count is None:
            return []
        if not is_rowwise(unit):
            return [unit] * count
        each = column_of(unit)
        if len(each) == count:
            return each
        self.failed("unit", ValueError(f"{len(each)} units for {count} rows"))
        return [None] * count

    def replace(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], replace: Callable[[Any], Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Replace every row-wise argument, including a list of units, covariates or segments."""
        names = set(self.names)
        units = self.unit if isinstance(self.unit, tuple) else (self.unit,)
        others = (("covariate", self.covariate), *(("segments", name) for name in self.segments))
        for option, path in (*(("unit", unit) for unit in units), *others):
            name = path.partition(".")[0] if isinstance(path, str) else ""
            if name and is_rowwise(parameter(name, self.signature, self.key, option)(args, kwargs)):
                names.add(name)
        parameters = list(self.signature.parameters) if self.signature is not None else []
        positional = [replace(value) if name in names else value for name, value in zip(parameters, args, strict=False)]
        named = {name: replace(value) if name in names else value for name, value in kwargs.items()}
        return (*positional, *args[len(positional) :]), named
