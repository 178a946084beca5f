"""What a report says about segments of the calls, as frozen values."""

from __future__ import annotations

from typing import Any, Literal

from attrs import asdict, frozen

__all__ = ["SegmentDifference"]


@frozen(kw_only=True)
class SegmentDifference:
    """One metric of one candidate against the control, in one segment of the calls.

    Attributes:
        attribute: Name of the attribute.
        segment: Its value; "other" for those that were not declared.
        metric: Name of the metric.
        candidate: Name of the candidate.
        kind: "gate", "guardrail", or "exploratory" for a metric that was not declared.
        better: The direction in which the metric improves.
        unit: "share" (of the calls) or "value" (in the metric's own unit).
        counted: What the counts are of: "calls" or "outcomes".
        control: The control's mean; None without data.
        value: The candidate's mean.
        control_total: Sum of the control's values.
        control_count: What it is over.
        value_total: Sum of the candidate's values.
        value_count: What it is over.
        control_units: Units of the control in the segment.
        value_units: Units of the candidate.
        estimate: Candidate minus control.
        low: Lower end of its interval, which holds at every look, corrected for all segments; None while there is too little.
        high: Upper end.
        log_e: Logarithm of the evidence that it differs at all; 0.0 while there is too little.
        is_discovery: Whether it differs significantly, corrected over all segments, metrics and candidates (e-BH).
    """

    attribute: str
    segment: str
    metric: str
    candidate: str
    kind: Literal["gate", "guardrail", "exploratory"]
    better: Literal["higher", "lower"]
    unit: Literal["share", "value"]
    counted: Literal["calls", "outcomes"]
    control: float | None
    value: float | None
    control_total: float
    control_count: float
    value_total: float
    value_count: float
    control_units: int
    value_units: int
    estimate: float | None
    low: float | None = None
    high: float | None = None
    log_e: float = 0.0
    is_discovery: bool = False

    @property
    def is_worse(self) -> bool:
        """Whether it is significantly worse than the control."""
        return self.is_discovery and ((self.estimate or 0.0) > 0) == (self.better == "lower")

    def as_dict(self) -> dict[str, Any]:
        """JSON-compatible values."""
        return asdict(self)
