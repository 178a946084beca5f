"""Shares of the units: parsing, formatting, and the slots of a layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import blake2b
from numbers import Real
from typing import TypeAlias

from attrs import field, frozen

from rollout_sdk.exceptions import ConfigurationError

__all__ = ["Layer", "Share", "parse_share", "percent", "phase_label"]

Share: TypeAlias = float | str
"""A share of the units: a number between 0 and 1, or text such as "5%" or "0.05%"."""

_LONGEST_LABEL = 100


def parse_share(value: object, subject: str = "share") -> float:
    """Parse a share as a number from 0 to 1.

    Args:
        value: A number from 0 to 1, or text with a percent sign ("5%", "0.05%").
        subject: Subject of the error message.

    Raises:
        ConfigurationError: The value is neither, is not finite, or is outside 0 to 1.
    """
    share: float | None = None
    try:
        if isinstance(value, str) and value.strip().endswith("%"):
            share = float(value.strip()[:-1]) / 100
        elif not isinstance(value, bool) and isinstance(value, Real):
            share = float(value)
    # An integer larger than the largest float is not a share either.
    except (OverflowError, ValueError):
        share = None
    if share is None or not math.isfinite(share):
        raise ConfigurationError(
            f"The {subject} is {value!r:.60}. A share is a number from 0 to 1 or a text with a percent sign. "
            "Write 0.05 or '5%'."
        )
    if not 0 <= share <= 1:
        hint = f" Did you mean '{value}%'?" if not isinstance(value, str) and 1 < share <= 100 else ""
        raise ConfigurationError(f"The {subject} is {value!r:.60}. A share lies between 0 (no units) and 1 (all units).{hint}")
    # Adding zero turns -0.0 into 0.0.
    return share + 0.0


def percent(share: float) -> str:
    """Format a share: 0.05 is "5%"."""
    return f"{share * 100:.6g}%"


def phase_label(shares: Mapping[str, float]) -> str:
    """Return the label of a phase: "5%" for one candidate, "v2=5%,v3=10%" for several, "12 candidates 60%" for many.

    If many have different shares, a hash of the shares follows, so that another split has another name.
    """
    if len(shares) == 1:
        return percent(next(iter(shares.values())))
    label = ",".join(f"{name}={percent(share)}" for name, share in shares.items())
    if len(label) <= _LONGEST_LABEL:
        return label
    short = f"{len(shares)} candidates {percent(math.fsum(shares.values()))}"
    if len(set(shares.values())) == 1:
        return short
    split = ",".join(f"{name}={share!r}" for name, share in sorted(shares.items()))
    return f"{short} {blake2b(split.encode('utf-8', 'surrogatepass'), digest_size=4).hexdigest()}"


def _slot_edge(share: Share) -> float:
    return parse_share(share, "edge of a layer's slot")


@frozen
class Layer:
    """A share of the units reserved for a rollout, so that rollouts of one layer never use the same unit.

    Rollouts that name the same layer hash units alike; each has its own slot of the layer. A unit outside the slot gets the
    control and is not analysed. Shares of the rollout are shares of its slot.

    Attributes:
        name: Name of the layer.
        start: Start of the slot, from 0 to 1 (or "50%").
        end: End of the slot, exclusive.
    """

    name: str
    start: float = field(default=0.0, converter=_slot_edge)
    end: float = field(default=1.0, converter=_slot_edge)

    def __attrs_post_init__(self) -> None:
        """Reject an empty slot."""
        if self.start >= self.end:
            raise ConfigurationError(
                f"The slot of layer {self.name!r} runs from {self.start} to {self.end}. "
                "A slot must end after it starts. Give start= and end= in that order."
            )

    def has(self, point: float) -> bool:
        """Whether a unit's point lies in the slot."""
        return self.start <= point < self.end

    def position(self, point: float) -> float:
        """Return a point's position in the slot, from 0 to 1; a point outside is returned unchanged."""
        return (point - self.start) / (self.end - self.start) if self.has(point) else point

    def overlaps(self, other: Layer) -> bool:
        """Whether a unit could be in both slots."""
        return self.name == other.name and self.start < other.end and other.start < self.end
