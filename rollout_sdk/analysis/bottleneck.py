"""What keeps a step waiting the longest: which setting it is, and what to change."""

from __future__ import annotations

import math
from collections.abc import Mapping

from attrs import frozen

from rollout_sdk.analysis.passage import Times
from rollout_sdk.analysis.waiting import Wait
from rollout_sdk.plan import Gate, Guardrail, Step, as_duration

__all__ = ["Bottleneck", "bottleneck", "pause"]

_DAY_S = 86_400.0
_MOSTLY = 0.5


@frozen
class Bottleneck:
    """What takes longest.

    Attributes:
        name: What is waited for: "min_time", "min_units", or the label of a guardrail or gate.
        setting: The setting that decides how long that takes.
        cure: What to change if that is too long.
    """

    name: str
    setting: str
    cure: str

    def __str__(self) -> str:
        """In words."""
        return self.setting if self.setting == self.name else f"{self.name} ({self.setting})"


_SHARE = "give the step a larger share"
_CURES: Mapping[str, str] = {
    "min_time": "shorten min_time",
    "min_units": "lower min_units, or give the step a larger share",
    "share": "give the step a share, or shadow",
    "window": "a pass waits for decisions as old as its window: shorten it if outcomes come sooner",
    "floor": "raise floor (the share of units that may see an error in any case), or give the step a larger share",
    "margin": "raise its margin, or give the step a larger share",
    "margin and floor": "raise margin or floor, or give the step a larger share",
    "mde": "raise mde if only larger effects are worth having, set horizon, or give the step a larger share",
    "min_effect": "lower min_effect below mde: an effect of mde would never pass",
    "horizon": "plan a later horizon, or raise mde",
}


def bottleneck(by: Mapping[str, Times], waits: Mapping[str, Wait], *, shadows: bool) -> Bottleneck:
    """What takes longest of all that a step waits for."""

    def length(name: str) -> tuple[float, float]:
        return tuple(math.inf if each is None else each for each in (by[name].days_80, by[name].days_50))  # type: ignore[return-value]

    name = max(by, key=length)
    setting = _setting(name, by[name], waits.get(name))
    cure = _CURES[setting]
    return Bottleneck(name, setting, cure.replace(_SHARE, "shadow a larger share") if shadows else cure)


def _setting(name: str, times: Times, wait: Wait | None) -> str:
    if wait is None:
        return "share" if name == "min_units" and times.days_50 is None else name
    criterion, days = wait.criterion, times.days_80 or times.days_50
    if days is not None and criterion.window / _DAY_S > _MOSTLY * days:
        return "window"
    if isinstance(criterion, Gate):
        if criterion.mde <= criterion.min_effect:
            return "min_effect"
        return "mde" if criterion.horizon is None else "horizon"
    assert isinstance(criterion, Guardrail)
    if wait.metric.rate != "error_rate":
        return "margin"
    if days is None:
        return "margin and floor"
    return "floor" if wait.weight(days).by_rarity else "margin"


def pause(step: Step, days_50: float | None, days_80: float | None, found: Bottleneck) -> str:
    """What becomes of a step that has no verdict within its time; empty where it has time enough."""
    if step.max_time is None:
        return ""
    limit = step.max_time / _DAY_S
    if days_80 is not None and days_80 <= limit:
        return ""
    word = "will" if days_50 is None or days_50 > limit else "may"
    raised = "" if days_50 is None else "raise max_time, or "
    return f"{word} be paused after {as_duration(step.max_time)}: {raised}{found.cure}"
