"""Canary: a few users, then more, and back at once when it hurts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from attrs import field, frozen

from rollout_sdk.assignment import Phase, RouteRequest, Share, parse_share, percent
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.records import Decision
from rollout_sdk.strategies.shares import make_phase

__all__ = ["Canary", "rollout_strategies"]


def _as_tuple(steps: Sequence[Share | Mapping[str, Share]]) -> tuple[Share | Mapping[str, Share], ...]:
    if isinstance(steps, str | Mapping) or not isinstance(steps, Iterable):
        raise ConfigurationError(
            f"The steps of Canary are {steps!r:.60}. A canary has a list of shares. Write Canary([{steps!r:.60}])."
        )
    return tuple(steps)


def _shadow_share(share: Share) -> float:
    return parse_share(share, "shadow share of Canary")


@frozen
class Canary:
    """The candidate's share grows step by step: `Canary(["1%", "5%", "25%", "50%"])`, and everybody after the last.

    A unit that has the candidate keeps it while the share grows. `controller.promote()` goes one step on, `pause()`
    forbids that, `abort()` sends everybody to the control, and `set_share()` leaves the plan.

    Attributes:
        steps: The shares, none smaller than the one before and no two alike; for several candidates, a share for each by
            name.
        shadow: Share of the control's calls on which the candidates also run in the background, so that users outside
            the canary are evidence too.
    """

    name = "canary"

    steps: tuple[Share | Mapping[str, Share], ...] = field(default=("1%", "5%", "25%", "50%"), converter=_as_tuple)
    shadow: float = field(default=0.0, kw_only=True, converter=_shadow_share)

    @property
    def shadows(self) -> bool:
        """Whether it may shadow, which asks for a function declared with effects="read"."""
        return self.shadow > 0

    def rollout_phases(self, control: str, candidates: tuple[str, ...]) -> Sequence[Phase]:
        """A phase for every step.

        Raises:
            ConfigurationError: There is no step, or one is smaller than the one before or the same.
        """
        phases = [
            make_phase(step, control, candidates, f"step {number} of Canary") for number, step in enumerate(self.steps, 1)
        ]
        if not phases:
            raise ConfigurationError(
                "Canary has no steps. A canary starts with a first share. Write Canary(['1%', '10%', '50%'])."
            )
        for before, after in pairwise(phases):
            if after.shares == before.shares:
                raise ConfigurationError(
                    f"Canary has the step {after.name} twice running. A step gives a candidate more. Leave one of them out."
                )
            for candidate in candidates:
                if after.shares[candidate] < before.shares[candidate]:
                    raise ConfigurationError(
                        f"Canary goes from {percent(before.shares[candidate])} back to {percent(after.shares[candidate])} "
                        f"for {candidate!r}. Steps must not shrink. To go back at run time, use set_share() or abort()."
                    )
        return phases

    def rollout_route(self, request: RouteRequest) -> Decision:
        """The variant in whose lane the unit lies."""
        if self.shadow and request.draw < self.shadow:
            return request.phase.split.decide_shadowed(request.point)
        return request.phase.split.decide(request.point)


def rollout_strategies() -> Mapping[str, type]:
    """The strategy of this module, by its name."""
    return {"canary": Canary}
