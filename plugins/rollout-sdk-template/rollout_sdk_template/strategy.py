"""A strategy: a share of the units of some countries."""

from __future__ import annotations

from collections.abc import Sequence

from rollout_sdk import ConfigurationError, Decision, Phase, RouteRequest
from rollout_sdk.extending import Share, parse_share

__all__ = ["OnlyFor"]


class OnlyFor:
    """Gives the candidate to a share of some countries' units, and the control to all others: `OnlyFor("NL", share="10%")`.

    The function has a parameter `country`. Calls from other countries are recorded, and not analysed. Without countries, as
    `strategy="template"` creates it, the units of all of them have their share.
    """

    # That of the entry point: `rollout plugins` finds by it which rollouts use the plugin.
    name = "template"

    def __init__(self, *countries: str, share: Share = 0.5) -> None:
        """Keep the arguments under their own names: they are part of the rollout's fingerprint.

        Raises:
            ConfigurationError: The share is not between 0 and 1.
        """
        self.countries, self.share = countries, parse_share(share, "share of OnlyFor")
        self._elsewhere: dict[str, Decision] = {}

    def rollout_phases(self, control: str, candidates: tuple[str, ...]) -> Sequence[Phase]:
        """Plan one phase with the share.

        Raises:
            ConfigurationError: There are several candidates.
        """
        if len(candidates) != 1:
            raise ConfigurationError(
                f"OnlyFor got {len(candidates)} candidates: {', '.join(candidates)}. It has a share for one candidate. "
                "Pass candidate=."
            )
        return [Phase(f"{self.share:.0%} of {','.join(self.countries) or 'all'}", {candidates[0]: self.share}, control)]

    def rollout_route(self, request: RouteRequest) -> Decision | None:
        """Decide by the unit's point: a unit keeps its variant, and a larger share only moves units to the candidate."""
        if not self.countries:
            return request.phase.split.decide(request.point)
        try:
            country = request.arguments["country"]
        # controller.assign(unit) has no arguments, and those of a call may not fit the function, which then raises itself.
        except (TypeError, KeyError):
            return None
        if country in self.countries:
            return request.phase.split.decide(request.point)
        # It is not random, hence "override"; created once, because a new decision is validated on every call.
        return self._elsewhere.setdefault(request.control, Decision(request.control, "override"))
