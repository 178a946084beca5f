"""What a rollout is judged by: guardrails, which roll it back when they fail, and gates, which must pass before it goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, Literal, TypeAlias

from attrs import Attribute, field, frozen

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.plan.durations import Duration, parse_duration

__all__ = ["ERROR_RATE", "LATENCY", "Better", "Criterion", "Gate", "Guardrail", "Per"]

ERROR_RATE, LATENCY = "error_rate", "latency"

Better = Literal["higher", "lower"]
"""Which direction of a metric is the good one."""

Per = Literal["call", "outcome"]
"""What a metric's mean is taken over: all calls (a click that is recorded when it happens), or the outcomes that were
recorded (a label that comes for some calls only)."""

_LONGEST_METRIC = 128
_MARGINS = {ERROR_RATE: 1.0, LATENCY: 0.01}


def _check_metric(owner: Any, _: Attribute[str], metric: object) -> None:
    if not (isinstance(metric, str) and 0 < len(metric) <= _LONGEST_METRIC and metric.isprintable()):
        raise ConfigurationError(
            f"{type(owner).__name__} has the metric {metric!r:.60}. A metric is a printable text of 1 to {_LONGEST_METRIC} "
            "characters. Write 'click'."
        )


def _check_number(owner: Any, attribute: Attribute[Any], value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ConfigurationError(
            f"{attribute.name}={value!r:.60} of {type(owner).__name__}({owner.metric!r:.40}) is no number. "
            "It is a finite number in the metric's own unit. Write 0.01."
        )


def _check_choice(*choices: str) -> Any:
    def check(owner: Any, attribute: Attribute[Any], value: object) -> None:
        if value not in choices:
            raise ConfigurationError(
                f"{attribute.name}={value!r:.40} of {type(owner).__name__}({owner.metric!r:.40}) is unknown. "
                f"It must be {' or '.join(map(repr, choices))}."
            )

    return check


def _check_flag(owner: Any, attribute: Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigurationError(
            f"{attribute.name}={value!r:.40} of {type(owner).__name__}({owner.metric!r:.40}) is neither True nor False."
        )


def _as_clip(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    low, high = value if isinstance(value, Sequence) and len(value) == 2 and not isinstance(value, str) else (1, 0)
    if not all(isinstance(end, Real) and not isinstance(end, bool) for end in (low, high)) or not low < high:
        raise ConfigurationError(
            f"clip={value!r:.60} is no range. Values are moved into it before they are summed, so that one outlier decides "
            "nothing. Write clip=(0, 100)."
        )
    return float(low), float(high)


def _as_window(value: Duration) -> float:
    return parse_duration(value, "window")


@frozen
class Guardrail:
    """What must not get worse: the candidate is rolled back when it surely has, and goes on only when it surely has not.

    `error_rate` (calls that raised or fell back) and `latency` (calls slower than `threshold_s`) are measured by the SDK; any
    other metric is what `record` was given.

    Attributes:
        metric: "error_rate", "latency", or the name of a recorded metric.
        margin: How much worse is acceptable. For error_rate it is a part of the control's rate: 1.0 accepts up to twice as
            many errors (the default); for latency it is a share of the calls (0.01 by default); for others it is in the
            metric's unit, and must be given.
        harm: How much worse it must surely be to be rolled back; 0 for error_rate, and `margin` for all others, by default.
        threshold_s: For latency: seconds from which on a call is slow, from your service level objective.
        better: Which direction is good; "lower" for the SDK's own metrics, "higher" by default for others.
        per: What the mean is taken over: every call, or every recorded outcome.
        window: How long after a decision outcomes count; only decisions that are older are evidence to go on.
        clip: Bounds that values are moved into (winsorising); fix them before you look.
        floor: For error_rate: share of the units that may see an error whatever the control's rate is, so that a model that
            never fails can pass.
        dry_run: Judge and report it, but let it decide nothing.
    """

    metric: str = field(validator=_check_metric)
    margin: float | None = field(default=None, kw_only=True, validator=_check_number)
    harm: float | None = field(default=None, kw_only=True, validator=_check_number)
    threshold_s: float | None = field(default=None, kw_only=True, validator=_check_number)
    better: Better | None = field(default=None, kw_only=True)
    per: Per = field(default="call", kw_only=True, validator=_check_choice("call", "outcome"))
    window: float = field(default=0.0, kw_only=True, converter=_as_window)
    clip: tuple[float, float] | None = field(default=None, kw_only=True, converter=_as_clip)
    floor: float = field(default=0.01, kw_only=True, validator=_check_number)
    dry_run: bool = field(default=False, kw_only=True, validator=_check_flag)

    def __attrs_post_init__(self) -> None:
        """Fill in what is said by the metric, and refuse what cannot be judged."""
        ours = self.metric in _MARGINS
        better = self.better or ("lower" if ours else "higher")
        _check_choice("higher", "lower")(self, _Named("better"), better)
        margin = _MARGINS.get(self.metric) if self.margin is None else self.margin
        why = None
        if margin is None:
            why = "says nothing of how much worse is acceptable. Only you know. Write margin=0.01"
        elif margin < 0 or (margin == 0 and self.metric != ERROR_RATE):
            why = f"has the margin {margin!r}, and nothing can be proven to be not at all worse. Give it a margin above 0"
        elif (self.metric == LATENCY) != (self.threshold_s is not None):
            why = (
                "has no threshold_s. A call is slow from some number of seconds on. Write threshold_s=0.25"
                if self.metric == LATENCY
                else "has a threshold_s, which belongs to 'latency'. Leave it out"
            )
        elif ours and (better != "lower" or self.window or self.clip or self.per != "call"):
            why = "is measured by the SDK itself, for every call and at once. Leave better, per, window and clip out"
        elif self.harm is not None and self.harm < 0:
            why = f"has harm={self.harm!r}. It must be 0 or more"
        elif not 0 <= self.floor < 1:
            why = f"has floor={self.floor!r}. It is a share of the units, from 0 to below 1"
        if why is not None:
            raise ConfigurationError(f"Guardrail({self.metric!r}) {why}.")
        harm = self.harm if self.harm is not None else 0.0 if self.metric == ERROR_RATE else margin
        for name, value in (("better", better), ("margin", margin), ("harm", harm)):
            object.__setattr__(self, name, value)

    @property
    def label(self) -> str:
        """What it is called in records: its metric, with the threshold where there is one."""
        return self.metric if self.threshold_s is None else f"{self.metric}>{self.threshold_s:g}s"

    @property
    def mde(self) -> float:
        """The difference at which the test is most sensitive: the margin."""
        assert self.margin is not None
        return self.margin


@frozen
class Gate:
    """What must be surely better before the candidate goes on: the mean of a recorded metric.

    Attributes:
        metric: Name of the recorded metric.
        min_effect: By how much the candidate must be better, at least; a negative number accepts that much worse.
        mde: The smallest difference that you would want to see found; the test is most sensitive there. Being wrong by a
            factor of two costs little.
        better: Which direction is good.
        before: "step": it must pass before every further step; "promotion": only before everybody gets the candidate.
        per: As in `Guardrail`.
        window: As in `Guardrail`.
        clip: As in `Guardrail`.
        dry_run: Judge and report it, but do not wait for it.
    """

    metric: str = field(validator=_check_metric)
    min_effect: float = field(default=0.0, kw_only=True, validator=_check_number)
    mde: float = field(default=0.02, kw_only=True, validator=_check_number)
    better: Better = field(default="higher", kw_only=True, validator=_check_choice("higher", "lower"))
    before: Literal["step", "promotion"] = field(default="step", kw_only=True, validator=_check_choice("step", "promotion"))
    per: Per = field(default="call", kw_only=True, validator=_check_choice("call", "outcome"))
    window: float = field(default=0.0, kw_only=True, converter=_as_window)
    clip: tuple[float, float] | None = field(default=None, kw_only=True, converter=_as_clip)
    dry_run: bool = field(default=False, kw_only=True, validator=_check_flag)

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot be judged."""
        if self.metric in _MARGINS:
            raise ConfigurationError(
                f"Gate({self.metric!r}) asks for fewer errors or less latency. The SDK's own metrics are guardrails. "
                f"Write Guardrail({self.metric!r})."
            )
        if not self.mde > 0:
            raise ConfigurationError(
                f"mde={self.mde!r} of Gate({self.metric!r}) is no difference. It must be above 0, in the metric's unit. "
                "Write mde=0.01."
            )

    @property
    def label(self) -> str:
        """What it is called in records: its metric."""
        return self.metric


Criterion: TypeAlias = Guardrail | Gate
"""What a candidate is judged by."""


@frozen
class _Named:
    """Stands for an attribute in an error."""

    name: str
