"""What spans say of how a call was decided and answered: for whom, of which list, in whose place, by which function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from rollout_sdk.formatting import class_name, plain
from rollout_sdk.records import Merged
from rollout_sdk.tally import failed_in_blend
from rollout_sdk.telemetry import names

__all__ = ["decided", "decided_batch", "exception_type", "fallen_back_from", "function_name", "interleaved"]


def decided(call: Any, version: str) -> dict[str, Any]:
    """The decision about a call, or about a row of a batch."""
    decision = call.full_decision()
    attributes = {
        names.KEY: decision.rollout,
        names.VARIANT: decision.variant,
        names.REASON: names.flag_reason(decision.reason),
        names.PROVIDER_NAME: names.PROVIDER,
        names.VERSION: version,
        names.DECISION_ID: decision.id,
        names.STRATEGY: decision.strategy,
        names.BUCKET: decision.bucket,
        names.PROPENSITY: decision.propensity,
        names.PHASE: decision.phase,
        names.FINGERPRINT: decision.fingerprint,
    }
    if candidates := call.rollout.state.version:
        attributes[names.CANDIDATES_VERSION] = candidates
    return attributes


def decided_batch(call: Any, version: str) -> dict[str, Any]:
    """What was decided about the rows of a batch: how many rows each variant got, and mostly why."""
    variants = Counter(row.decision.variant for row in call.rows)
    reasons = Counter(row.decision.reason for row in call.rows)
    said = decided(call, version)
    # A row's own, which a batch has not.
    del said[names.BUCKET], said[names.PROPENSITY]
    return said | {
        names.VARIANT: names.MIXED if len(variants) > 1 else next(iter(variants)),
        names.REASON: names.flag_reason(reasons.most_common(1)[0][0]),
        names.BATCH_SIZE: len(call.rows),
        names.BATCH_VARIANTS: [f"{name}={rows}" for name, rows in variants.items()],
    }


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
    if call.decision.blend:
        failed = None if call.served != control else failed_in_blend(control, ((run[0], run[2]) for run in runs))
        return None if failed is None else failed[1]
    if call.withheld is not None:
        return str(call.withheld)
    for index, (variant, _, error, _) in enumerate(runs):
        if error is not None and variant != control and any(later[0] == control for later in runs[index + 1 :]):
            return str(error)
    return "_OTHER" if call.served == control != call.decision.variant and not call.runs else None


def exception_type(error: BaseException) -> str:
    """The class of an exception as `exception.type` has it: with its module, unless it is built in."""
    module, name = type(error).__module__, class_name(error)
    return name if module == "builtins" else f"{plain(module)}.{name}"


def function_name(function: Callable[..., Any]) -> str:
    """Where a function is defined, as `code.function.name` has it; of a callable object, its class."""
    module = getattr(function, "__module__", None) or type(function).__module__
    return f"{module}.{getattr(function, '__qualname__', type(function).__qualname__)}"
