"""Findings in sentences: what was found, and what is still missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rollout_sdk.judging.verdicts import Outcome
from rollout_sdk.judging.weighing import MIN_EVENTS, MIN_UNITS, Weight
from rollout_sdk.plan import ERROR_RATE, Criterion, Gate

__all__ = ["explain"]

_SAW, _WAITED = "saw an error", "had a slow call"


def explain(criterion: Criterion, candidate: str, numbers: Mapping[str, Any], weight: Weight) -> tuple[Outcome, str]:
    """What a criterion found, and why, in a sentence."""
    if weight.is_harm:
        return "FAIL", _harm(criterion, numbers)
    if weight.is_safe:
        return "PASS", _safe(criterion, numbers, weight)
    if weight.safe_log_e is None:
        return "INSUFFICIENT_DATA", _missing(numbers)
    return "INCONCLUSIVE", _open(criterion, candidate, numbers)


def _share(value: float) -> str:
    return f"{value:.3%}"


def _about(count: float) -> str:
    return f"{count:.2g}" if count < 10 else f"{count:,.0f}"


def _harm(criterion: Criterion, numbers: Mapping[str, Any]) -> str:
    if criterion.metric == ERROR_RATE:
        mine, other = (sum(each[arm] for each in numbers["strata"]) for arm in (0, 1))
        expected = sum((each[0] + each[1]) * each[2] for each in numbers["strata"])
        more = "" if not numbers["harm"] else f" than {1 + numbers['harm']:g} times the control's rate"
        return (
            f"{mine:,} of {mine + other:,} units with an error had the candidate, where its shares give {_about(expected)}: "
            f"surely more{more}."
        )
    beyond = "" if not numbers["harm"] else f" by more than {numbers['harm']:g}"
    return f"the candidate is surely worse{beyond}: {numbers['estimate']:+.4g}."


def _safe(criterion: Criterion, numbers: Mapping[str, Any], weight: Weight) -> str:
    if weight.by_rarity:
        name = "floor" if criterion.metric == ERROR_RATE else "margin"
        prefix, what = ("floor_", _SAW) if name == "floor" else ("", _WAITED)
        events, units = numbers[f"{prefix}events"], numbers[f"{prefix}units"]
        return f"{events:,} of {units:,} units of the candidate {what}: surely fewer than {_share(numbers[name])}."
    if criterion.metric == ERROR_RATE:
        return f"the candidate surely makes fewer than {1 + numbers['margin']:g} times the control's errors."
    if isinstance(criterion, Gate):
        by = f" by at least {criterion.min_effect:g}" if criterion.min_effect > 0 else ""
        less = f", or less than {-criterion.min_effect:g} worse" if criterion.min_effect < 0 else ""
        return f"the candidate is surely better{by}{less}: {numbers['mature']['estimate']:+.4g}."
    by = f"{numbers['mature']['estimate']:+.4g}"
    return f"the candidate is surely less than {numbers['margin']:g} worse than the control: {by}."


def _missing(numbers: Mapping[str, Any]) -> str:
    if numbers["seen_units"] < MIN_UNITS:
        return f"an arm has {numbers['seen_units']:,} of at least {MIN_UNITS} units that a comparison of means takes."
    old = "" if numbers["matured"] >= 1 else f"; {numbers['matured']:.0%} of the decisions are old enough"
    return f"an arm has {numbers['seen_events']:,} of at least {MIN_EVENTS} events that a comparison of means takes{old}."


def _so_far(events: int, units: int, what: str, asked: float) -> str:
    return f"{events:,} of {units:,} units {what} in this step, too few to be sure of less than {_share(asked)}"


def _open(criterion: Criterion, candidate: str, numbers: Mapping[str, Any]) -> str:
    if criterion.metric == ERROR_RATE:
        mine, other = (sum(each[arm] for each in numbers["strata"]) for arm in (0, 1))
        floor = f"; {_so_far(numbers['floor_events'], numbers['floor_units'], _SAW, numbers['floor'])}"
        among = f"{mine:,} of {mine + other:,} units with an error had {candidate}"
        return f"{among}, neither surely too many nor surely few{floor}."
    if numbers.get("units") is not None and not numbers["enough_safe"]:
        return f"{_so_far(numbers['events'], numbers['units'], _WAITED, numbers['margin'])}."
    asked = "better" if isinstance(criterion, Gate) else f"less than {numbers['margin']:g} worse"
    return f"{candidate} is neither surely {asked} nor surely not, so far: {numbers['mature']['estimate']:+.4g}."
