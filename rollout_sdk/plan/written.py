"""A plan as it was written: what was said in it, and none of the defaults, as a table for JSON and as lines for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import fields

from rollout_sdk.assignment import percent
from rollout_sdk.plan.checks import as_duration, parse_duration
from rollout_sdk.plan.criteria import MEASURED, Criterion, Gate, Guardrail
from rollout_sdk.plan.plan import Criteria, Step

__all__ = ["written"]

_DURATIONS = ("min_time", "max_time", "window", "burst", "grace", "horizon")
_DEFAULT = Criteria(steps=(0.5,))


def written(criteria: Criteria) -> dict[str, Any]:
    """The plan as a table of plain values with the names of `load_criteria`; shares and durations are texts.

    A test with constant shares has no steps. Nothing was declared: the table is empty.
    """
    table: dict[str, Any] = {"steps": [_step(step) for step in criteria.steps]} if criteria.acts else {}
    if criteria.segments:
        table["segments"] = {name: list(values) for name, values in criteria.segments.items()}
    if not criteria.acts and not criteria.all:
        return table
    for name, criteria_of_kind in (("guardrails", criteria.guardrails), ("gates", criteria.gates)):
        table[name] = [_criterion(each) for each in criteria_of_kind]
    for name in ("alpha", "max_calls_per_unit"):
        if (value := getattr(criteria, name)) != getattr(_DEFAULT, name):
            table[name] = value
    if criteria.freeze:
        table["freeze"] = [
            {"start": each.start, "end": each.end, "days": list(each.days), "zone": each.zone} for each in criteria.freeze
        ]
    if criteria.approve is not None:
        table["approve"] = True
    return table


def _step(step: Step) -> dict[str, Any]:
    share = step.share
    shares = {name: percent(each) for name, each in share.items()} if isinstance(share, Mapping) else percent(share)
    table = {"share": shares, **_differing(step, Step(0.5), ("min_units", "min_time", "max_time", "shadow"))}
    return {**table, "shadow": percent(step.shadow)} if step.shadow else table


def _criterion(each: Criterion) -> dict[str, Any]:
    bare: Criterion
    if isinstance(each, Guardrail):
        # Required options have no default.
        bare = Guardrail(each.metric, threshold_s=each.threshold_s, margin=each.margin)
    else:
        bare = Gate(each.metric)
    names = [field.name for field in fields(type(each)) if field.name != "metric"]
    table = _differing(each, bare, names)
    if isinstance(each, Guardrail):
        margin = {} if each.margin == MEASURED.get(each.metric) else {"margin": each.margin}
        threshold = {} if each.threshold_s is None else {"threshold_s": each.threshold_s}
        table = {**threshold, **margin, **table}
    return {"metric": each.metric, **table}


def _differing(value: Any, default: Any, names: Any) -> dict[str, Any]:
    """The options of a value that are not the default's."""
    found = {}
    for name in names:
        said = getattr(value, name)
        if said != getattr(default, name):
            is_time = name in _DURATIONS and isinstance(said, float)
            found[name] = _time(said) if is_time else list(said) if isinstance(said, tuple) else said
    return found


def _time(seconds: float) -> float | str:
    """A duration as a text that says it exactly; the number of seconds where none does."""
    text = as_duration(seconds)
    return text if parse_duration(text) == seconds else seconds
