"""Phases: periods of constant shares, and the decisions derived from their lanes."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from attrs import Factory, evolve, field, frozen

from rollout_sdk.assignment.hashing import INTERVAL
from rollout_sdk.assignment.placement import Lane, check_lanes, lanes, place
from rollout_sdk.assignment.shares import Share, parse_share, phase_label
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.records import Decision

__all__ = ["Phase", "Split", "lanes", "last_step_within"]


class Split:
    """The decisions for one set of shares, precomputed: a call costs a binary search and creates no object.

    Attributes:
        bounds: Where, of 2**32 points, each decision but the first begins.
    """

    __slots__ = ("_bounds", "_decisions", "_shadowed", "bounds")

    def __init__(self, shares: Mapping[str, float], control: str, placed: Iterable[Lane] | None = None) -> None:
        """Precompute the decisions.

        Args:
            shares: Share of each candidate; the control gets the rest.
            control: Name of the control.
            placed: The lanes; by default those of a new rollout.
        """
        candidates = tuple(shares)
        rest = max(0.0, 1.0 - math.fsum(shares.values()))
        served = {name: self._decision(name, share) for name, share in shares.items()}
        served[control] = self._decision(control, rest)
        bounds: list[float] = []
        owners: list[str] = []
        position = 0
        for low, high, name in place((), shares) if placed is None else placed:
            if position < low:
                bounds.append(position / INTERVAL)
                owners.append(control)
            bounds.append(low / INTERVAL)
            owners.append(name)
            position = high
        if position < INTERVAL:
            bounds.append(position / INTERVAL)
            owners.append(control)
        self._bounds = bounds[1:]
        self.bounds = [round(bound * INTERVAL) for bound in self._bounds]
        self._decisions = [served[owner] for owner in owners]
        self._shadowed = [self._with_shadows(decision, control, candidates) for decision in self._decisions]

    @staticmethod
    def _decision(name: str, share: float) -> Decision:
        return Decision(variant=name, reason="static" if share >= 1.0 else "split", propensity=share, share=share)

    @staticmethod
    def _with_shadows(decision: Decision, control: str, candidates: tuple[str, ...]) -> Decision:
        if decision.variant != control:
            return decision
        return Decision(control, decision.reason, decision.propensity, shadows=candidates, share=decision.share)

    @property
    def decisions(self) -> Sequence[Decision]:
        """The decisions, from the first point to the last."""
        return self._decisions

    @property
    def shadowed(self) -> Sequence[Decision]:
        """The same, with every candidate as a shadow where the control answers."""
        return self._shadowed

    def decide(self, point: float) -> Decision:
        """Return the decision for a point of the unit interval."""
        return self._decisions[bisect_right(self._bounds, point)]

    def decide_shadowed(self, point: float) -> Decision:
        """As `decide`, with every candidate as a shadow where the control answers."""
        return self._shadowed[bisect_right(self._bounds, point)]


def _as_shares(shares: Mapping[str, Share]) -> Mapping[str, float]:
    return MappingProxyType({name: parse_share(share, f"share of {name!r}") for name, share in shares.items()})


def _as_shadow(share: Share) -> float:
    return parse_share(share, "shadow share of a phase")


@frozen
class Phase:
    """A period of constant shares. Evidence is never pooled across phases.

    Attributes:
        name: Name in records; the controller numbers the phases, as in "1:5%".
        shares: Share of every candidate: a number from 0 to 1, or text such as "5%". The control has the rest.
        control: Name of the control.
        shadow: Share of the control's calls on which the candidates also run in the background.
        lanes: Pieces of the unit interval owned by candidates: first point, point after the last (of 2**32), candidate. By
            default those of a new rollout; a running one derives them from the previous phase, so that no unit moves from one
            candidate to another.
        fingerprint: Fingerprint of comparable calls, set by the controller. Phases with different fingerprints are never
            pooled, even if their names are equal.
    """

    name: str
    shares: Mapping[str, float] = field(converter=_as_shares)
    control: str = "control"
    shadow: float = field(default=0.0, converter=_as_shadow)
    lanes: tuple[Lane, ...] = field(
        default=Factory(lambda self: place((), self.shares), takes_self=True), kw_only=True, eq=False, repr=False
    )
    fingerprint: str = field(default="", kw_only=True, eq=False, repr=False)
    split: Split = field(init=False, eq=False, repr=False)
    _exposure: dict[str, float] = field(init=False, eq=False, repr=False)
    _shadowed: bool = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Validate the shares and precompute the decisions."""
        total = math.fsum(self.shares.values())
        if total > 1 + 1e-9:
            listed = ", ".join(f"{name} {share:.4%}" for name, share in self.shares.items())
            raise ConfigurationError(
                f"The shares of phase {self.name!r} add up to {total:.4%} ({listed}). "
                "Together, candidates can have at most 100 %. Lower one of them."
            )
        object.__setattr__(self, "lanes", check_lanes(self.lanes, self.shares))
        object.__setattr__(self, "split", Split(self.shares, self.control, self.lanes))
        shadowed = bool(self.shadow) and not total
        object.__setattr__(self, "_shadowed", shadowed)
        exposure = {self.control: 1.0, **dict.fromkeys(self.shares, self.shadow)} if shadowed else self.all_shares
        object.__setattr__(self, "_exposure", exposure)

    def after(self, previous: Phase, name: str, fingerprint: str = "") -> Phase:
        """Return this phase with another name, and with lanes derived from the previous phase's."""
        return evolve(self, name=name, lanes=place(previous.lanes, self.shares), fingerprint=fingerprint)

    def control_only(self) -> Phase:
        """Return the phase in which every unit gets the control, and nothing is shadowed."""
        return Phase("aborted", dict.fromkeys(self.shares, 0.0), self.control)

    def candidate_only(self, winner: str) -> Phase:
        """Return the phase in which every unit gets one candidate, and nothing is shadowed."""
        return Phase("100%", {name: float(name == winner) for name in self.shares}, self.control)

    def with_shares(self, shares: Mapping[str, float]) -> Phase:
        """Return the phase with a different shares of these candidates, and without shadows.

        Raises:
            ConfigurationError: The shares exceed 100 %.
        """
        after = {**self.shares, **shares}
        return Phase(phase_label(after), after, self.control)

    def without(self, dropped: Sequence[str]) -> Phase:
        """Return the phase without these candidates; the same object if none of them has a share in it."""
        if not any(self.shares[name] for name in dropped):
            return self
        shares = {name: 0.0 if name in dropped else share for name, share in self.shares.items()}
        return Phase(phase_label(shares), shares, self.control, self.shadow)

    @property
    def exposure(self) -> dict[str, float]:
        """Share of calls in which each variant is exposed: its share, or its shadows' share while no candidate serves.

        The latter add up to more than 1, because a shadow runs in addition to the control.
        """
        return self._exposure

    @property
    def is_shadow(self) -> bool:
        """Whether candidates are only shadowed, and none serves."""
        return self._shadowed

    @property
    def all_shares(self) -> dict[str, float]:
        """Share of every variant, the control included; empty if the strategy defines none."""
        if not self.shares:
            return {}
        return {self.control: max(0.0, 1.0 - math.fsum(self.shares.values())), **self.shares}


def last_step_within(plan: Sequence[Phase], shares: Mapping[str, float]) -> int:
    """Return the index of the last planned phase in which no candidate exceeds these shares; -1 if there is none."""
    within = [
        index for index, phase in enumerate(plan) if all(phase.shares.get(name, 0.0) <= share for name, share in shares.items())
    ]
    return within[-1] if within else -1
