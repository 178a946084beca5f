"""The phases that transitions lead to, and where they stand in a plan.

A phase with other shares has a name made of them. It has no number yet: a rollout numbers its phases as it enters them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from rollout_sdk.assignment import Phase, phase_label

__all__ = ["candidate_only", "control_only", "going", "step_within", "with_shares", "without"]


def control_only(phase: Phase) -> Phase:
    """The phase in which every unit gets the control, and nothing is shadowed."""
    return Phase("aborted", dict.fromkeys(phase.shares, 0.0), phase.control)


def candidate_only(phase: Phase, winner: str) -> Phase:
    """The phase in which every unit gets one candidate, and nothing is shadowed."""
    return Phase("100%", {name: float(name == winner) for name in phase.shares}, phase.control)


def with_shares(phase: Phase, shares: Mapping[str, float]) -> Phase:
    """The phase with other shares of some candidates; nothing is shadowed any more.

    Raises:
        ConfigurationError: The shares exceed 100 %.
    """
    return _named(phase, {**phase.shares, **shares}, shadow=0.0)


def without(phase: Phase, dropped: Sequence[str]) -> Phase:
    """The phase without the candidates that were dropped; the same object where none of them has a share in it."""
    if not any(phase.shares[name] for name in dropped):
        return phase
    shares = {name: 0.0 if name in dropped else share for name, share in phase.shares.items()}
    return _named(phase, shares, shadow=phase.shadow)


def step_within(plan: Sequence[Phase], shares: Mapping[str, float]) -> int:
    """Index of the last planned phase that gives none of these candidates more than its share; -1 before the first."""
    within = [
        index for index, phase in enumerate(plan) if all(phase.shares.get(name, 0.0) <= share for name, share in shares.items())
    ]
    return within[-1] if within else -1


def going(phase: Phase) -> Literal["shadowing", "running"]:
    """The status of a rollout that goes on in a phase: while no unit is served by a candidate, it only shadows."""
    return "shadowing" if phase.shadow and not any(phase.shares.values()) else "running"


def _named(phase: Phase, shares: Mapping[str, float], *, shadow: float) -> Phase:
    return Phase(phase_label(shares), shares, phase.control, shadow)
