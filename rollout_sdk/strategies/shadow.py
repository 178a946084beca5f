"""Shadow test: the candidate sees live traffic, and nobody sees the candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import field, frozen

from rollout_sdk.assignment import Phase, RouteRequest, Share, parse_share
from rollout_sdk.records import Decision

__all__ = ["Shadow", "rollout_strategies"]


def _rate(share: Share) -> float:
    return parse_share(share, "rate of Shadow")


@frozen
class Shadow:
    """The control answers every call; on a share of the calls every candidate runs as well, in the background.

    Attributes:
        rate: Share of the calls that are shadowed, drawn for each call.
    """

    name = "shadow"

    rate: float = field(default=0.1, converter=_rate)

    @property
    def shadows(self) -> bool:
        """Whether it may shadow, which asks for a function declared with effects="read"."""
        return self.rate > 0

    def rollout_phases(self, control: str, candidates: tuple[str, ...]) -> Sequence[Phase]:
        """One phase in which no candidate serves anybody."""
        return [Phase("shadow", dict.fromkeys(candidates, 0.0), control)]

    def rollout_route(self, request: RouteRequest) -> Decision:
        """The control, and sometimes shadows."""
        if request.draw < self.rate:
            return request.phase.split.decide_shadowed(request.point)
        return request.phase.split.decide(request.point)


def rollout_strategies() -> Mapping[str, type]:
    """The strategy of this module, by its name."""
    return {"shadow": Shadow}
