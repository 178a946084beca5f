"""The traffic assumed in a forecast."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from rollout_sdk.exceptions import ConfigurationError

__all__ = ["Traffic"]


@frozen(kw_only=True)
class Traffic:
    """Expected traffic.

    Attributes:
        units_per_day: Distinct units (users) per day, all new to the step.
        calls_per_unit: Calls per unit and day.
        error_rate: Share of the control's units that see an error.
        slow_rate: Share of the control's calls that are slow.
        slow_rates: Slow rates by guardrail label ("latency>0.25s"), where they differ from `slow_rate`.
        latency_spread: Standard deviation of the logarithm of a call's latency.
        means: Mean and standard deviation per unit, by recorded metric.
    """

    units_per_day: float
    calls_per_unit: float = 1.0
    error_rate: float = 0.005
    slow_rate: float = 0.005
    slow_rates: Mapping[str, float] = {}
    latency_spread: float = 0.7
    means: Mapping[str, tuple[float, float]] = {}

    def __attrs_post_init__(self) -> None:
        """Reject impossible traffic."""
        if not (
            self.units_per_day > 0
            and self.calls_per_unit > 0
            and 0 <= self.error_rate < 1
            and all(0 <= rate < 1 for rate in (self.slow_rate, *self.slow_rates.values()))
            and self.latency_spread > 0
        ):
            raise ConfigurationError(
                f"The traffic {self!r:.200} is impossible. Units, calls and the spread are above 0, rates between 0 and 1."
            )
