"""Shadow test: the candidate runs on live traffic, and its output is never served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import field, frozen

from rollout_sdk.assignment import Phase, RouteRequest, Share, parse_share
from rollout_sdk.records import Decision
from rollout_sdk.strategies.shares import by_lanes

__all__ = ["Shadow", "rollout_strategies"]


def _rate(share: Share) -> float:
    return parse_share(share, "rate of Shadow")


@frozen
class Shadow:
    """The control answers every call; on a share of the calls, every candidate also runs in the background.

    Attributes:
        rate: Share of the calls that are shadowed, drawn per call.
    """

    name = "shadow"

    rate: float = field(default=0.1, converter=_rate)

    @property
    def shadows(self) -> bool:
        """Whether it may shadow, which requires effects="read"."""
        return self.rate > 0

    def rollout_phases(self, control: str, candidates: tuple[str, ...]) -> Sequence[Phase]:
        """Return one phase in which no candidate serves."""
        return [Phase("shadow", dict.fromkeys(candidates, 0.0), control)]

    @by_lanes(lambda strategy, _phase: strategy.rate)
    def rollout_route(self, request: RouteRequest) -> Decision:
        """Return the control, with shadows on a share of the calls."""
        if request.draw < self.rate:
            return request.phase.split.decide_shadowed(request.point)
        return request.phase.split.decide(request.point)


def rollout_strategies() -> Mapping[str, type]:
    """Return the strategy of this module, by name."""
    return {"shadow": Shadow}
