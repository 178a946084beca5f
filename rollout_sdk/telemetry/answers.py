"""What spans say of how a call was answered: of which list, in whose place, by which function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rollout_sdk.records import Merged
from rollout_sdk.telemetry import names

__all__ = ["fallen_back_from", "function_name", "interleaved"]


def interleaved(merged: Merged, blend: tuple[str, ...]) -> dict[str, Any]:
    """What a span says of an interleaved list: how many items of whom, and whose at every position (-1: neutral)."""
    attributes: dict[str, Any] = {
        names.INTERLEAVE_METHOD: "team_draft" if merged.rule is None else str(merged.rule.get("design", "")),
        names.INTERLEAVE_VARIANTS: list(blend),
        names.INTERLEAVE_CONTRIBUTIONS: [merged.teams.count(name) for name in blend],
        names.INTERLEAVE_SIZE: len(merged.items),
    }
    if merged.teams:
        order = {name: index for index, name in enumerate(blend)}
        attributes[names.INTERLEAVE_TEAMS] = [-1 if team is None else order.get(team, -1) for team in merged.teams]
    return attributes


def fallen_back_from(call: Any) -> str | None:
    """The error type of the candidate in whose place the control answered, for all rows of a batch or some; None if none."""
    control, runs = call.rollout.control, call.runs
    if call.withheld is not None:
        return str(call.withheld)
    for index, (variant, _, error, _) in enumerate(runs):
        if error is not None and variant != control and any(later[0] == control for later in runs[index + 1 :]):
            return str(error)
    return "_OTHER" if call.served == control != call.decision.variant and not call.runs else None


def function_name(function: Callable[..., Any]) -> str:
    """Where a function is defined, as `code.function.name` has it; of a callable object, its class."""
    module = getattr(function, "__module__", None) or type(function).__module__
    return f"{module}.{getattr(function, '__qualname__', type(function).__qualname__)}"
