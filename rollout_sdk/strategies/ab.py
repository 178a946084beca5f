"""A/B test: a randomised split with constant shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from rollout_sdk.assignment import Phase, RouteRequest, Share, parse_share
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.plan import Criteria, Gate, Guardrail, is_compared
from rollout_sdk.records import Decision
from rollout_sdk.strategies.phases import by_lanes, make_phase

__all__ = ["ABTest", "rollout_strategies"]


def _shadow_share(share: Share) -> float:
    return parse_share(share, "shadow share of ABTest")


@frozen
class ABTest:
    """Assigns each unit one variant, at random and for good: `ABTest(0.1)`, `ABTest("10%")`, `ABTest({"v2": 0.1, "v3": 0.1})`.

    Without a unit, each call is drawn separately.

    With gates and guardrails, `judge()` and `rollout report` conclude: they may be looked at as often as you like. A verdict
    changes nothing by itself; you decide. Without them, a report shows differences and concludes nothing but harm.

    Attributes:
        shares: Share of the candidate, or of each candidate by name; the control gets the rest.
        gates: Metrics that must get better for the candidate to be shipped.
        guardrails: Metrics that must not get worse.
        horizon: Planned end of every gate without one of its own: units of both arms together (an int), or time since the
            test started ("14d"). The test then takes hardly more data than one with a single look at its end. See `Gate`.
        alpha: Maximum probability, however often it is looked at, that a candidate which is not worse fails; and likewise that
            one which is no better, or worse than its margins, passes.
        segments: Values by which the report splits attributes of the calls, read from the arguments:
            `{"country": ["NL", "DE"], "request.user.is_member": [True, False]}`, up to 4 attributes with 20 values each; calls
            with another value are "other". It says in which segments a metric differs, corrected for how many they are. Their
            values are in the journal.
        shadow: Share of the control's calls on which the candidates also run in the background.
    """

    name = "ab"
    # Shares are included as the phase's numeric shares. What a test is judged by may be declared while it runs.
    not_fingerprinted = ("shares", "gates", "guardrails", "horizon", "alpha", "segments")

    shares: Share | Mapping[str, Share] = 0.5
    gates: Sequence[Gate] = field(default=(), kw_only=True)
    guardrails: Sequence[Guardrail] = field(default=(), kw_only=True)
    horizon: int | float | str | None = field(default=None, kw_only=True)
    alpha: float = field(default=0.05, kw_only=True)
    segments: Mapping[str, Sequence[Any]] | None = field(default=None, kw_only=True)
    shadow: float = field(default=0.0, kw_only=True, converter=_shadow_share)
    criteria: Criteria = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Build the criteria, which validates them."""
        criteria = Criteria.of_test(self.guardrails, self.gates, alpha=self.alpha, horizon=self.horizon, segments=self.segments)
        compared = next((each.metric for each in criteria.guardrails if is_compared(each.metric)), None)
        if compared is not None:
            raise ConfigurationError(
                f"Guardrail({compared!r}) of ABTest would never have data: answers of two models to one call are compared only "
                "while no candidate serves. Use Shadow(guardrails=...) before it."
            )
        object.__setattr__(self, "criteria", criteria)

    @property
    def shadows(self) -> bool:
        """Whether it may shadow, which requires effects="read"."""
        return self.shadow > 0

    def rollout_phases(self, control: str, candidates: tuple[str, ...]) -> Sequence[Phase]:
        """Return a single, permanent phase."""
        return [make_phase(self.shares, control, candidates, "ABTest")]

    @by_lanes(lambda strategy, _phase: strategy.shadow)
    def rollout_route(self, request: RouteRequest) -> Decision:
        """Return the variant whose lane contains the unit."""
        if self.shadow and request.draw < self.shadow:
            return request.phase.split.decide_shadowed(request.point)
        return request.phase.split.decide(request.point)


def rollout_strategies() -> Mapping[str, type]:
    """Return the strategy of this module, by name."""
    return {"ab": ABTest}
