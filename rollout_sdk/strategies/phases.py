"""Phases: built from shares, and requested from a strategy when a function is decorated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from rollout_sdk.assignment import Phase, Share, parse_share, phase_label
from rollout_sdk.assignment.ids import check_name
from rollout_sdk.exceptions import ConfigurationError, PluginError
from rollout_sdk.plugins.manager import PluginSet
from rollout_sdk.records import INTERLEAVED

__all__ = ["by_lanes", "make_phase", "phases_of"]

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


def phases_of(
    key: str, hooks: PluginSet, strategy: str, control: str, candidates: tuple[str, ...], *, batch: bool
) -> tuple[Phase, ...]:
    """Return the validated phases of the strategy; without a plan, one phase without shares.

    Args:
        key: Key of the rollout, for errors.
        hooks: The plugins; the first that plans phases is used.
        strategy: Name of the strategy, for errors.
        control: Name of the control.
        candidates: Names of the candidates.
        batch: Whether calls are split by row.

    Raises:
        ConfigurationError: The strategy rejects the candidates, or it blends and calls are split by row.
        PluginError: Its plan cannot be carried out.
    """
    phases: tuple[Any, ...] | None = None
    for _, plan in hooks.implementations("rollout_phases"):
        try:
            planned = plan(control, candidates)
            phases = None if planned is None else tuple(planned)
        except ConfigurationError:
            raise
        except Exception as error:
            raise _bad_plan(key, strategy, f"failed to plan its phases: {type(error).__name__}: {error}") from error
        if phases is not None:
            break
    if phases is None:
        return (Phase("whole", {}, control),)
    if not phases or not all(isinstance(phase, Phase) for phase in phases):
        raise _bad_plan(key, strategy, f"gave {phases!r:.80} as its phases")
    for phase in phases:
        check_name(phase.name, f"name of a phase of {key!r}")
        unknown = set(phase.shares) - {*candidates, INTERLEAVED}
        if phase.control != control or unknown or phase.shares.keys() != phases[0].shares.keys():
            raise _bad_plan(key, strategy, f"gave {phase!r:.200} as a phase for {control!r} and {', '.join(candidates)}")
    if batch and INTERLEAVED in phases[0].shares:
        raise ConfigurationError(
            f"batch= of {key!r} does not work with interleaving. "
            "Interleaving makes one list of a call's lists; a batch splits a call by row. Leave batch= out."
        )
    return phases


def _bad_plan(key: str, strategy: str, what: str) -> PluginError:
    return PluginError(
        f"Strategy {strategy!r} of {key!r} {what}. rollout_phases gives at least one Phase (or None): "
        "each with the control's name, and all with shares of the same candidates. Fix the strategy."
    )
