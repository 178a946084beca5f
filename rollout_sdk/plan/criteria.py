"""Criteria of a rollout: guardrails, which roll it back if they fail, and gates, which must pass before the next step."""

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
    "ITEMS_PER_S",
    "JUDGE_PREFERENCE",
    "LATENCY",
    "LATENCY_MEAN",
    "MEASURED",
    "SHADOW_DIFFERENCE",
    "SHADOW_MISMATCH",
    "Better",
    "Criterion",
    "Gate",
    "Guardrail",
    "OnFail",
    "Per",
    "is_compared",
    "is_judged",
    "is_measured",
]

ERROR_RATE = "error_rate"
LATENCY = "latency"
LATENCY_MEAN = "latency_mean"
FIRST_ITEM = "first_item"
ITEMS_PER_S = "items_per_s"
"""Recorded by the SDK for whole streams, like the numbers of `measure=`, where a criterion names it."""
SHADOW_MISMATCH = "shadow.mismatch"
SHADOW_DIFFERENCE = "shadow.difference"
JUDGE_PREFERENCE = "judge.preference"

Better = Literal["higher", "lower"]
"""The direction in which a metric improves."""

Per = Literal["call", "outcome", "list"]
"""What a metric's mean is over: all calls (a click that is recorded when it happens), the recorded outcomes (a label that
arrives for some calls only), or interleaved lists, of which each prefers one ranker or neither."""

OnFail = Literal["rollback", "pause", "warn"]
"""Effect of a failed guardrail: roll the candidate back, pause until it has recovered, or only report."""

MEASURED = {ERROR_RATE: 1.0, LATENCY: 0.01, LATENCY_MEAN: 0.1, FIRST_ITEM: 0.01}
"""Metrics measured by the SDK, with their default margins. Their classes are in `rollout_sdk.judging.metrics`."""

_COMPARED = (SHADOW_MISMATCH, SHADOW_DIFFERENCE)
_THRESHOLDED = (LATENCY, FIRST_ITEM)
_RATIO_HARM = 0.25
_AUDIT = 0.05


def is_compared(metric: str) -> bool:
    """Whether a metric comes from comparisons of shadows: `shadow.mismatch`, `shadow.difference`, or one of a field."""
    return metric.startswith("shadow.") and ".".join(metric.split(".")[:2]) in _COMPARED


def is_measured(metric: str) -> bool:
    """Whether the SDK measures a metric itself; values of any other come from `record` or `measure=`."""
    return metric in MEASURED or is_compared(metric)


def is_judged(metric: str) -> bool:
    """Whether a metric comes from the judge of shadows (`judge=` of the decorator), corrected by people: `judge.preference`."""
    return metric == JUDGE_PREFERENCE


def _judged_refusal(criterion: Criterion) -> str | None:
    """Return which option a judge's metric has no use for, or None; its values count once per pair."""
    if not is_judged(criterion.metric):
        if criterion.audit != _AUDIT:
            return f"has an audit share, which belongs to {JUDGE_PREFERENCE!r}. Leave it out"
        return None
    is_planned = isinstance(criterion, Gate) and criterion.horizon is not None
    if criterion.window or criterion.clip or is_planned or criterion.per == "list" or criterion.better != "higher":
        return (
            "is a preference for the candidate from -1 to 1, of pairs of answers. Leave better, per, window, clip and horizon "
            "out"
        )
    if not 0 <= criterion.audit <= 1:
        return f"has audit={criterion.audit!r}. It is the share of the judged pairs that people look at, from 0 to 1"
    object.__setattr__(criterion, "per", "outcome")
    return None


@frozen
class Guardrail:
    """A metric that must not get worse: a significant loss rolls back; only significant evidence against a loss passes.

    The SDK measures `error_rate` (calls that raised, fell back or gave a failing answer), `latency` (calls slower than
    `threshold_s`), `latency_mean` (mean of log latency) and `first_item` (streams whose first item came later than
    `threshold_s`). In phases that only shadow, it compares answers: `shadow.mismatch` is the share of pairs that do not match,
    `shadow.difference` their mean difference, and "shadow.mismatch.price" the same of one field of `compare=Fields(...)`.
    `judge.preference` is the preference of a judge, corrected by people (docs/judging.md). `items_per_s` is how many items a
    stream gives per second after its first, of streams that are read to their end. Any other metric consists of values
    passed to `record`.

    Attributes:
        metric: "error_rate", "latency", "latency_mean", "first_item", "shadow.mismatch", "shadow.difference", either of these
            with a field after another dot, "judge.preference", or the name of a recorded metric.
        margin: Acceptable loss. For error_rate and latency_mean, relative to the control's value: 1.0 accepts up to twice as
            many errors (the default), 0.1 up to 10 % more latency (the default); for latency and first_item, a share of the
            calls (0.01 by default); for shadow.mismatch a share of the pairs, and required; for other metrics in the metric's
            unit, and required.
        harm: Rollback threshold: roll back once the candidate is significantly worse by more than this. By default 0.25 for
            error_rate (at most `margin`), and `margin` for all others.
        threshold_s: For latency and first_item: a call that takes longer than this, in seconds, is slow. Take it from your
            service level objective.
        better: The good direction; "lower" for the SDK's own metrics, "higher" by default for others.
        per: What the mean is over: every call, or every recorded outcome.
        window: Time after a decision during which its outcomes count; only older decisions are evidence.
        clip: Bounds to which values are clipped (winsorising); fix them before you look. With clip=(0, most),
            shadow.difference can pass because hardly any pair differs.
        floor: For error_rate: share of the units that may see an error whatever the control's rate is, so that a model
            without errors can pass.
        ceiling: For the SDK's rates: share of the control's own calls above which no conclusion is drawn, because an outage
            says nothing about the candidate.
        burst: For the SDK's rates: errors (or slow calls) within this time count at most once, because an incident (a bad
            host) hits many units at once. By default a minute in steps in which the candidate has less than 10 %, and 0 (off)
            otherwise.
        early_harm: Also use outcomes of decisions younger than `window` as evidence of harm. Only valid if labels of both
            arms arrive equally fast.
        on_fail: "rollback" (the default), "pause" (until it has recovered), or "warn".
        audit: For judge.preference: share of the judged pairs that people look at, too, drawn by the decision's id. Without
            their labels, nothing is concluded.
        grace: Time without data after which the finding reports it.
        dry_run: Judge and report it, without effect.
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
    audit: float = field(default=_AUDIT, kw_only=True, validator=check_number)
    grace: float = field(default=600.0, kw_only=True, converter=as_grace)
    dry_run: bool = field(default=False, kw_only=True, validator=check_flag)

    def __attrs_post_init__(self) -> None:
        """Apply the metric's defaults, and reject options that cannot be judged."""
        ours = is_measured(self.metric)
        better = self.better or ("lower" if ours else "higher")
        check_choice("higher", "lower")(self, _Named("better"), better)
        margin = MEASURED.get(self.metric) if self.margin is None else self.margin
        for name, value in (("better", better), ("margin", margin)):
            object.__setattr__(self, name, value)
        why = self._refusal(margin, better) or _judged_refusal(self)
        if why is not None:
            raise ConfigurationError(f"Guardrail({self.metric!r}) {why}.")
        assert margin is not None
        default = min(_RATIO_HARM, margin) if self.metric == ERROR_RATE else margin
        harm = default if self.harm is None else self.harm
        object.__setattr__(self, "harm", harm)

    def _refusal(self, margin: float | None, better: Better) -> str | None:
        """Return why it cannot be judged, or None."""
        ours = is_measured(self.metric)
        is_share = self.metric.startswith(SHADOW_MISMATCH) and ours
        if margin is None:
            return "has no margin. Only you know how much worse is acceptable. Write margin=0.01"
        if margin < 0 or (margin == 0 and self.metric != ERROR_RATE):
            return (
                f"has the margin {margin!r}, but no test can prove that something is not worse at all. Give it a margin above 0"
            )
        if self.metric in _THRESHOLDED and self.threshold_s is None:
            return "has no threshold_s. It sets from how many seconds on a call is slow. Write threshold_s=0.25"
        if self.metric not in _THRESHOLDED and self.threshold_s is not None:
            return "has a threshold_s, which belongs to 'latency' and 'first_item'. Leave it out"
        clipped = self.clip and (is_share or not is_compared(self.metric))
        if ours and (better != "lower" or self.window or clipped or self.per != "call" or self.early_harm):
            return (
                "is measured by the SDK itself, for every call and at once. Leave better, per, window, clip and early_harm out"
            )
        if is_share and margin >= 1:
            return f"has the margin {margin!r}. It is a share of the pairs, above 0 and below 1. Write margin=0.02"
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
        """Name in records: the metric, with the threshold if there is one."""
        return self.metric if self.threshold_s is None else f"{self.metric}>{self.threshold_s:g}s"

    @property
    def decides(self) -> bool:
        """Whether a failure rolls back or pauses."""
        return not self.dry_run and self.on_fail != "warn"

    @property
    def mde(self) -> float:
        """Difference at which the test is most sensitive: the margin."""
        assert self.margin is not None
        return self.margin


@frozen
class Gate:
    """A recorded metric whose mean must be significantly better before the candidate takes the next step.

    Attributes:
        metric: Name of the recorded metric.
        min_effect: Minimum improvement; a negative number accepts that much loss.
        mde: The smallest improvement worth having. The test is most sensitive there (being off by a factor of two costs
            little), and once the improvement is significantly smaller, the gate is futile and the rollout is paused.
        better: The good direction.
        before: "step": must pass before every further step; "promotion": only before the promotion to all units.
        per: As in `Guardrail`; "list" for the gates of `Interleave`, which sets it.
        window: As in `Guardrail`.
        clip: As in `Guardrail`.
        audit: As in `Guardrail`.
        horizon: A planned end: units of both arms together (an int), or time since the rollout started ("14d"). The gate is
            then tested at five looks up to it (O'Brien-Fleming), which takes little more data than one test at the end;
            without a horizon, it is tested at any time.
        grace: As in `Guardrail`.
        dry_run: Judge and report it, but do not wait for it.
    """

    metric: str = field(validator=check_metric)
    min_effect: float = field(default=0.0, kw_only=True, validator=check_number)
    mde: float = field(default=0.02, kw_only=True, validator=check_number)
    better: Better = field(default="higher", kw_only=True, validator=check_choice("higher", "lower"))
    before: Literal["step", "promotion"] = field(default="step", kw_only=True, validator=check_choice("step", "promotion"))
    per: Per = field(default="call", kw_only=True, validator=check_choice("call", "outcome", "list"))
    window: float = field(default=0.0, kw_only=True, converter=as_window)
    clip: tuple[float, float] | None = field(default=None, kw_only=True, converter=as_clip)
    horizon: int | float | None = field(default=None, kw_only=True, converter=as_horizon)
    audit: float = field(default=_AUDIT, kw_only=True, validator=check_number)
    grace: float = field(default=600.0, kw_only=True, converter=as_grace)
    dry_run: bool = field(default=False, kw_only=True, validator=check_flag)

    def __attrs_post_init__(self) -> None:
        """Reject options that cannot be judged."""
        if is_measured(self.metric):
            raise ConfigurationError(
                f"Gate({self.metric!r}) asks for fewer errors, less latency or other answers. The SDK's own metrics are "
                f"guardrails. Write Guardrail({self.metric!r})."
            )
        if (why := _judged_refusal(self)) is not None:
            raise ConfigurationError(f"Gate({self.metric!r}) {why}.")
        if not self.mde > 0:
            raise ConfigurationError(
                f"mde={self.mde!r} of Gate({self.metric!r}) is not a difference. It must be above 0, in the metric's unit. "
                "Write mde=0.01."
            )

    @property
    def label(self) -> str:
        """Name in records: the metric."""
        return self.metric


Criterion: TypeAlias = Guardrail | Gate
"""A guardrail or a gate."""


@frozen
class _Named:
    """A minimal attribute, for error messages."""

    name: str
