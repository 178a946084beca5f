"""What a rollout is judged by: guardrails, which roll it back when they fail, and gates, which must pass before it goes on."""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import field, frozen

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.plan.checks import (
    as_burst,
    as_clip,
    as_grace,
    as_horizon,
    as_window,
    check_choice,
    check_flag,
    check_metric,
    check_number,
)

__all__ = [
    "ERROR_RATE",
    "FIRST_ITEM",
    "LATENCY",
    "LATENCY_MEAN",
    "MEASURED",
    "Better",
    "Criterion",
    "Gate",
    "Guardrail",
    "OnFail",
    "Per",
]

ERROR_RATE = "error_rate"
LATENCY = "latency"
LATENCY_MEAN = "latency_mean"
FIRST_ITEM = "first_item"

Better = Literal["higher", "lower"]
"""Which direction of a metric is the good one."""

Per = Literal["call", "outcome"]
"""What a metric's mean is taken over: all calls (a click that is recorded when it happens), or the outcomes that were
recorded (a label that comes for some calls only)."""

OnFail = Literal["rollback", "pause", "warn"]
"""What a failed guardrail does: roll the candidate back, pause until it has recovered, or only report."""

MEASURED = {ERROR_RATE: 1.0, LATENCY: 0.01, LATENCY_MEAN: 0.1, FIRST_ITEM: 0.01}
"""Metrics that the SDK measures itself, each with its default margin. Their classes are in `rollout_sdk.judging.metrics`."""

_THRESHOLDED = (LATENCY, FIRST_ITEM)
_RATIO_HARM = 0.25


@frozen
class Guardrail:
    """What must not get worse: the candidate is rolled back when it surely has, and goes on only when it surely has not.

    The SDK measures `error_rate` (calls that raised, fell back or answered a failure), `latency` (calls slower than
    `threshold_s`), `latency_mean` (mean of log latency) and `first_item` (streams whose first item came later than
    `threshold_s`); any other metric is what `record` was given.

    Attributes:
        metric: "error_rate", "latency", "latency_mean", "first_item", or the name of a recorded metric.
        margin: How much worse is acceptable. For error_rate and latency_mean it is a part of the control's value: 1.0
            accepts up to twice as many errors (the default), 0.1 up to 10 % more latency (the default); for latency and
            first_item it is a share of the calls (0.01 by default); for others it is in the metric's unit, and must be given.
        harm: Rollback threshold: roll back once the candidate is surely worse by more than this. By default 0.25 for
            error_rate (at most `margin`), and `margin` for all others.
        threshold_s: For latency and first_item: a call that takes longer than this, in seconds, is slow. Take it from your
            service level objective.
        better: Which direction is good; "lower" for the SDK's own metrics, "higher" by default for others.
        per: What the mean is taken over: every call, or every recorded outcome.
        window: How long after a decision outcomes count; only decisions that are older are evidence.
        clip: Bounds that values are moved into (winsorising); fix them before you look.
        floor: For error_rate: share of the units that may see an error whatever the control's rate is, so that a model that
            never fails can pass.
        ceiling: For the SDK's rates: share of the control's own calls above which nothing is concluded, because nothing can
            be learnt from an outage.
        burst: For the SDK's rates: errors (or slow calls) within this time count at most once, because an incident (a bad
            host) hits many units at once. By default a minute in steps in which the candidate has less than 10 %, and 0 (off)
            above.
        early_harm: Take outcomes of decisions younger than `window` as evidence of harm, too. Only valid where labels of
            both arms come equally fast.
        on_fail: "rollback" (the default), "pause" (until it has recovered), or "warn".
        grace: How long there may be no data before the finding says so.
        dry_run: Judge and report it, but let it decide nothing.
    """

    metric: str = field(validator=check_metric)
    margin: float | None = field(default=None, kw_only=True, validator=check_number)
    harm: float | None = field(default=None, kw_only=True, validator=check_number)
    threshold_s: float | None = field(default=None, kw_only=True, validator=check_number)
    better: Better | None = field(default=None, kw_only=True)
    per: Per = field(default="call", kw_only=True, validator=check_choice("call", "outcome"))
    window: float = field(default=0.0, kw_only=True, converter=as_window)
    clip: tuple[float, float] | None = field(default=None, kw_only=True, converter=as_clip)
    floor: float = field(default=0.01, kw_only=True, validator=check_number)
    ceiling: float = field(default=0.5, kw_only=True, validator=check_number)
    burst: float | None = field(default=None, kw_only=True, converter=as_burst)
    early_harm: bool = field(default=False, kw_only=True, validator=check_flag)
    on_fail: OnFail = field(default="rollback", kw_only=True, validator=check_choice("rollback", "pause", "warn"))
    grace: float = field(default=600.0, kw_only=True, converter=as_grace)
    dry_run: bool = field(default=False, kw_only=True, validator=check_flag)

    def __attrs_post_init__(self) -> None:
        """Fill in what the metric implies, and refuse what cannot be judged."""
        ours = self.metric in MEASURED
        better = self.better or ("lower" if ours else "higher")
        check_choice("higher", "lower")(self, _Named("better"), better)
        margin = MEASURED.get(self.metric) if self.margin is None else self.margin
        why = self._refusal(margin, better)
        if why is not None:
            raise ConfigurationError(f"Guardrail({self.metric!r}) {why}.")
        assert margin is not None
        default = min(_RATIO_HARM, margin) if self.metric == ERROR_RATE else margin
        harm = default if self.harm is None else self.harm
        for name, value in (("better", better), ("margin", margin), ("harm", harm)):
            object.__setattr__(self, name, value)

    def _refusal(self, margin: float | None, better: Better) -> str | None:
        """Why it cannot be judged, if so."""
        ours = self.metric in MEASURED
        if margin is None:
            return "does not say how much worse is acceptable. Only you know. Write margin=0.01"
        if margin < 0 or (margin == 0 and self.metric != ERROR_RATE):
            return f"has the margin {margin!r}, and nothing can be proven to be not at all worse. Give it a margin above 0"
        if self.metric in _THRESHOLDED and self.threshold_s is None:
            return "has no threshold_s. A call is slow from some number of seconds on. Write threshold_s=0.25"
        if self.metric not in _THRESHOLDED and self.threshold_s is not None:
            return "has a threshold_s, which belongs to 'latency' and 'first_item'. Leave it out"
        if ours and (better != "lower" or self.window or self.clip or self.per != "call" or self.early_harm):
            return (
                "is measured by the SDK itself, for every call and at once. Leave better, per, window, clip and early_harm out"
            )
        if self.harm is not None and self.harm < 0:
            return f"has harm={self.harm!r}. It must be 0 or more"
        if not 0 <= self.floor < 1:
            return f"has floor={self.floor!r}. It is a share of the units, from 0 to below 1"
        if not 0 < self.ceiling <= 1:
            return f"has ceiling={self.ceiling!r}. It is a share of the calls, above 0 and up to 1"
        if self.early_harm and not self.window:
            return "has early_harm=True and no window. Without a window every outcome is evidence at once. Leave it out"
        return None

    @property
    def label(self) -> str:
        """Its name in records: its metric, with the threshold where there is one."""
        return self.metric if self.threshold_s is None else f"{self.metric}>{self.threshold_s:g}s"

    @property
    def decides(self) -> bool:
        """Whether its failure rolls back or pauses."""
        return not self.dry_run and self.on_fail != "warn"

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
        mde: The smallest difference worth having. The test is most sensitive there (being wrong by a factor of two costs
            little), and once the candidate is surely better by less, the gate is futile and the rollout is paused.
        better: Which direction is good.
        before: "step": it must pass before every further step; "promotion": only before everybody gets the candidate.
        per: As in `Guardrail`.
        window: As in `Guardrail`.
        clip: As in `Guardrail`.
        horizon: A planned end: units of both arms together (an int), or time since the rollout began ("14d"). The gate is
            then tested at five looks up to it (O'Brien-Fleming), which takes little more data than one test at the end;
            without it, at any time.
        grace: As in `Guardrail`.
        dry_run: Judge and report it, but do not wait for it.
    """

    metric: str = field(validator=check_metric)
    min_effect: float = field(default=0.0, kw_only=True, validator=check_number)
    mde: float = field(default=0.02, kw_only=True, validator=check_number)
    better: Better = field(default="higher", kw_only=True, validator=check_choice("higher", "lower"))
    before: Literal["step", "promotion"] = field(default="step", kw_only=True, validator=check_choice("step", "promotion"))
    per: Per = field(default="call", kw_only=True, validator=check_choice("call", "outcome"))
    window: float = field(default=0.0, kw_only=True, converter=as_window)
    clip: tuple[float, float] | None = field(default=None, kw_only=True, converter=as_clip)
    horizon: int | float | None = field(default=None, kw_only=True, converter=as_horizon)
    grace: float = field(default=600.0, kw_only=True, converter=as_grace)
    dry_run: bool = field(default=False, kw_only=True, validator=check_flag)

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot be judged."""
        if self.metric in MEASURED:
            raise ConfigurationError(
                f"Gate({self.metric!r}) asks for fewer errors or less latency. The SDK's own metrics are guardrails. "
                f"Write Guardrail({self.metric!r})."
            )
        if not self.mde > 0:
            raise ConfigurationError(
                f"mde={self.mde!r} of Gate({self.metric!r}) is not a difference. It must be above 0, in the metric's unit. "
                "Write mde=0.01."
            )

    @property
    def label(self) -> str:
        """Its name in records: its metric."""
        return self.metric


Criterion: TypeAlias = Guardrail | Gate
"""What a candidate is judged by."""


@frozen
class _Named:
    """Stands for an attribute in an error."""

    name: str
