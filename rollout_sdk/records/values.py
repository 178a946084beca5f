"""What a call was decided, and what its models gave: the values that hooks give back, and that events are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar

from attrs import field, frozen

__all__ = ["EXCLUDED_REASONS", "FAILED_IF", "UNMEASURED", "Comparison", "Decision", "Merged", "Routed", "Run"]

R = TypeVar("R")

EXCLUDED_REASONS = frozenset(
    {"override", "holdout", "layer", "no_unit", "one_shot", "disabled", "aborted", "nested", "ineligible", "error"}
)
"""Reasons that are not the strategy's own randomisation; such calls are recorded and never analysed."""

FAILED_IF = "failed_if"
"""In the place of an exception's class name: the run gave an answer, and `failed_if=` calls that a failure."""

UNMEASURED: Final = "unmeasured"
"""How a run ended whose answer has work to come that cannot be measured."""


@frozen
class Decision:
    """Which variant answers a call, which are shadowed, which are blended; why; with what probability.

    A strategy fills `variant`, `reason`, `propensity`, `shadows` and `blend`; the controller adds the rest. Strategies
    should build their few possible decisions once and return the same objects again.

    Attributes:
        variant: Name of the variant that answers; with `blend`, the name under which the blended answer is recorded.
        reason: Why, as a short constant: "split" (randomised), "static" (the only possibility), or one of
            `EXCLUDED_REASONS`. A strategy may use a word of its own for a rule of its own.
        propensity: Probability, between 0 and 1, that this unit got this variant, before it was drawn.
        shadows: Variants to run on the same input in the background; their output is never served.
        blend: Variants that all run and whose outputs `rollout_merge` makes one answer of.
        id: Self-describing id for outcomes; empty until the controller has made the call's own decision.
        rollout: Key of the rollout.
        strategy: Name of the strategy.
        phase: Name of the period of constant shares.
        share: Configured share of the variant in this phase, between 0 and 1; None where the strategy states none.
        bucket: Statistics bucket of the unit, from 0 to 511.
        time_s: Time of the call, in seconds since 1970.
        fingerprint: What makes the call comparable: version, hash key, unit, layer, holdout, variants, strategy, shares. Arms
            of two fingerprints are never pooled, whatever their phases are called.
    """

    variant: str
    reason: str = "split"
    propensity: float = 1.0
    shadows: tuple[str, ...] = ()
    blend: tuple[str, ...] = ()
    id: str = ""
    rollout: str = ""
    strategy: str = ""
    phase: str = ""
    share: float | None = None
    bucket: int = 0
    time_s: float = 0.0
    fingerprint: str = ""


@frozen
class Routed(Generic[R]):
    """What `controller.route(...)` returns: the value the caller would have had, and the decision behind it.

    Attributes:
        value: The model's answer (for generators, the stream).
        decisions: The decisions taken: one, or with `batch=` one for each row in the rows' order.
    """

    value: R
    decisions: tuple[Decision, ...]

    @property
    def decision(self) -> Decision:
        """The decision, where there is exactly one; ValueError for a batch of several rows."""
        (decision,) = self.decisions
        return decision


@frozen
class Comparison:
    """What a comparison of two outputs for one input found.

    Attributes:
        match: Whether the two are the same for this comparator.
        difference: How far apart they are, where that has a meaning; 0 is equal, and the unit is the comparator's.
        reason: Why they differ, as a short constant such as "type", "length" or "value".
        name: Name of the comparator.
    """

    # Comparators of arrays give their library's own truth, which is no attribute of a span.
    match: bool = field(converter=bool)
    difference: float | None = None
    reason: str | None = None
    name: str = "default"


@frozen
class Merged:
    """One answer made of several variants' outputs.

    Attributes:
        value: What the caller is given.
        items: Key of each shown item, in order of position.
        teams: Who gets the credit for each item: a variant's name, or None where both agree (neutral).
        rule: How clicks are credited where it is not by team: `Interleaved.rule()`.
        is_blend: False: the value is the control's alone, made fit to be served; it is not analysed.
    """

    value: Any
    items: tuple[Any, ...] = ()
    teams: tuple[str | None, ...] = ()
    rule: Mapping[str, Any] | None = None
    is_blend: bool = True


@frozen
class Run:
    """One run of one variant on the caller's path.

    Attributes:
        variant: Name of the variant.
        duration_s: Wall time in seconds; for a stream until its last item.
        error: Class name of the exception, `FAILED_IF` for an answer that is a failure, or None.
        first_item_s: For a stream, seconds until its first item; None where none came.
    """

    variant: str
    duration_s: float
    error: str | None = None
    first_item_s: float | None = None
