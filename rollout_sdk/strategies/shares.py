"""Common to strategies with shares: parsing the shares and naming the phase."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from rollout_sdk.assignment import Phase, Share, parse_share, phase_label
from rollout_sdk.exceptions import ConfigurationError

__all__ = ["by_lanes", "make_phase"]

Route = TypeVar("Route", bound=Callable[..., Any])


def by_lanes(shadow: Callable[[Any, Phase], float]) -> Callable[[Route], Route]:
    """Mark a `rollout_route` that only splits units by the phase's lanes, so that calls may do so without calling it.

    Args:
        shadow: Returns the share of the control's calls that the strategy shadows in a phase.
    """

    def mark(route: Route) -> Route:
        # On the function: a subclass that decides otherwise is not marked.
        route.shadow_share = shadow  # type: ignore[attr-defined]
        return route

    return mark


def make_phase(shares: Share | Mapping[str, Share], control: str, candidates: tuple[str, ...], owner: str) -> Phase:
    """Build a phase with a share for every candidate.

    Args:
        shares: One share for a single candidate, or a share for each by name.
        control: Name of the control.
        candidates: Names of the candidates.
        owner: Owner of the shares, for errors: "ABTest".

    Raises:
        ConfigurationError: A candidate has no share, a share has no candidate, or they add up to more than 100 %.
    """
    if not isinstance(shares, Mapping):
        if len(candidates) != 1:
            raise ConfigurationError(
                f"{owner} has one share, {shares!r}, for {len(candidates)} candidates: {', '.join(candidates)}. "
                f"Each candidate needs its own. Write {{{', '.join(f'{name!r}: ...' for name in candidates)}}}."
            )
        shares = {candidates[0]: shares}
    unknown = [name for name in shares if name not in candidates]
    missing = [name for name in candidates if name not in shares]
    if unknown or missing:
        found = f"gives a share to {unknown[0]!r}, which is not a candidate" if unknown else f"gives no share to {missing[0]!r}"
        raise ConfigurationError(
            f"{owner} {found}. Every candidate has one share, and the control ({control!r}) gets the rest. "
            f"The candidates are: {', '.join(candidates)}."
        )
    parsed = {name: parse_share(shares[name], f"share of {name!r} in {owner}") for name in candidates}
    return Phase(phase_label(parsed), parsed, control)
