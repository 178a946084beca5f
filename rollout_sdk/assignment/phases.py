"""Phases: periods of constant shares, and the decisions that follow from their lanes."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from attrs import Factory, evolve, field, frozen

from rollout_sdk.assignment.hashing import INTERVAL
from rollout_sdk.assignment.placement import Lane, check_lanes, lanes, place
from rollout_sdk.assignment.shares import Share, parse_share
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.records import Decision

__all__ = ["Phase", "Split", "lanes"]


class Split:
    """The decisions of one set of shares, built once: a call costs a binary search and no new object."""

    __slots__ = ("_bounds", "_decisions", "_shadowed")

    def __init__(self, shares: Mapping[str, float], control: str, placed: Iterable[Lane] | None = None) -> None:
        """Prepare the decisions.

        Args:
            shares: Share of each candidate; the control gets what is left.
            control: Name of the control.
            placed: The lanes; by default those of a rollout that begins.
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

    def decide(self, point: float) -> Decision:
        """The decision for a point of the unit interval."""
        return self._decisions[bisect_right(self._bounds, point)]

    def decide_shadowed(self, point: float) -> Decision:
        """The same, and where the control answers, every candidate runs as a shadow."""
        return self._shadowed[bisect_right(self._bounds, point)]


def _as_shares(shares: Mapping[str, Share]) -> Mapping[str, float]:
    return MappingProxyType({name: parse_share(share, f"share of {name!r}") for name, share in shares.items()})


def _as_shadow(share: Share) -> float:
    return parse_share(share, "shadow share of a phase")


@frozen
class Phase:
    """A period of constant shares. Evidence is never pooled across phases.

    Attributes:
        name: What it is called in records; the controller numbers the phases, as in "1:5%".
        shares: Share of every candidate: a number from 0 to 1, or a text such as "5%". The control has the rest.
        control: Name of the control.
        shadow: Share of the control's calls on which the candidates also run in the background.
        lanes: The pieces of the unit interval that candidates own: first point, point after the last (of 2**32), candidate. By
            default those of a rollout that begins; a running one has them of the phase before, so that no unit goes from one
            candidate to another.
        fingerprint: What makes calls comparable beside the shares; the controller says it. Phases of two fingerprints are
            never pooled, whatever they are called.
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
        """Prepare the decisions once."""
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
        """This phase under a name of its own, with the lanes that the one before it leads to."""
        return evolve(self, name=name, lanes=place(previous.lanes, self.shares), fingerprint=fingerprint)

    @property
    def exposure(self) -> dict[str, float]:
        """Share of the calls in which every variant is seen: its share, or its shadows' while no candidate serves anybody.

        The latter add up to more than 1, because a shadow runs beside the control.
        """
        return self._exposure

    @property
    def is_shadow(self) -> bool:
        """Whether no candidate serves: they are only shadowed."""
        return self._shadowed

    @property
    def all_shares(self) -> dict[str, float]:
        """Share of every variant, the control included; empty where the strategy states none."""
        if not self.shares:
            return {}
        return {self.control: max(0.0, 1.0 - math.fsum(self.shares.values())), **self.shares}
