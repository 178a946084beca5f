"""A/B test: a randomised split with constant shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import field, frozen

from rollout_sdk.assignment import Phase, RouteRequest, Share, parse_share
from rollout_sdk.records import Decision
from rollout_sdk.strategies.shares import by_lanes, make_phase

__all__ = ["ABTest", "rollout_strategies"]


def _shadow_share(share: Share) -> float:
    return parse_share(share, "shadow share of ABTest")


@frozen
class ABTest:
    """Assigns each unit one variant, at random and for good: `ABTest(0.1)`, `ABTest("10%")`, `ABTest({"v2": 0.1, "v3": 0.1})`.

    Without a unit, each call is drawn separately.

    Attributes:
        shares: Share of the candidate, or of each candidate by name; the control gets the rest.
        shadow: Share of the control's calls on which the candidates also run in the background.
    """

    name = "ab"
    not_fingerprinted = ("shares",)  # included as the phase's numeric shares

    shares: Share | Mapping[str, Share] = 0.5
    shadow: float = field(default=0.0, kw_only=True, converter=_shadow_share)

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
