"""Decisions and results: the values that hooks return, and that events consist of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from attrs import field, frozen

__all__ = [
    "ERRORS",
    "EXCLUDED_REASONS",
    "FAILED_IF",
    "INTERLEAVED",
    "UNMEASURED",
    "Comparison",
    "Decision",
    "Merged",
    "Routed",
    "Run",
]

R = TypeVar("R")

EXCLUDED_REASONS = frozenset(
    {"override", "holdout", "layer", "no_unit", "one_shot", "disabled", "aborted", "draining", "nested", "ineligible", "error"}
)
"""Reasons other than the strategy's own randomisation; such calls are recorded but never analysed."""

FAILED_IF = "failed_if"
"""Replaces an exception's class name if the run gave an answer that `failed_if=` classifies as a failure."""

ERRORS: Final = "error"
"""Name of a comparison of two runs of which at least one raised."""

INTERLEAVED: Final = "interleaved"
"""The variant name under which blended answers are recorded."""

UNMEASURED: Final = "unmeasured"
"""The end of a run whose answer has work to come that cannot be measured."""


class _Unmade:
    """Base of a value whose fields are computed when one of them is read: an id costs more than all else about a decision."""

    __slots__ = ("_make",)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # Called for what is not set: a field, before the first was read. Two threads compute the same.
            making = None if name.startswith("_") else getattr(self, "_make", None)
            if making is None:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            make, *arguments = making
            for field_name, value in make(*arguments).items():
                object.__setattr__(self, field_name, value)
            return object.__getattribute__(self, name)


@frozen
class Decision(_Unmade):
    """Which variant answers a call, which are shadowed or blended, the reason, and the probability.

    A strategy sets `variant`, `reason`, `propensity`, `shadows` and `blend`; the controller adds the rest. Strategies
    should build their few possible decisions once and return the same objects each time.

    Attributes:
        variant: Name of the variant that answers; with `blend`, the name under which the blended answer is recorded.
        reason: The reason, as a short constant: "split" (randomised), "static" (the only possibility), or one of
            `EXCLUDED_REASONS`. A strategy may use a word of its own for a rule of its own.
        propensity: Probability, between 0 and 1, that this unit got this variant, before it was drawn.
        shadows: Variants to run on the same input in the background; their output is never served.
        blend: Variants that all run and whose outputs `rollout_merge` combines into one answer.
        id: Self-describing id for outcomes; empty until the controller has made the call's own decision.
        rollout: Key of the rollout.
        strategy: Name of the strategy.
        phase: Name of the period of constant shares.
        share: Configured share of the variant in this phase, between 0 and 1; None if the strategy defines none.
        bucket: Statistics bucket of the unit, from 0 to 511.
        time_s: Time of the call, in seconds since 1970.
        fingerprint: Fingerprint of comparable calls: version, hash key, unit, layer, holdout, variants, strategy, shares. Arms
            with different fingerprints are never pooled, whatever their phases are called.
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

    @classmethod
    def later(cls, make: Callable[..., Mapping[str, Any]], *arguments: Any) -> Decision:
        """Return a decision whose fields are computed, by `make(*arguments)`, when one of them is read."""
        decision = _new(cls)
        _set_make(decision, (make, *arguments))
        return decision


_set_make = vars(_Unmade)["_make"].__set__
_new = object.__new__


@frozen
class Routed(Generic[R]):
    """The result of `controller.route(...)`: the value that the caller would have received, and the decision behind it.

    Attributes:
        value: The model's answer (for generators, the stream).
        decisions: The decisions: one, or with `batch=` one for each row, in the order of the rows.
    """

    value: R
    decisions: tuple[Decision, ...]

    @property
    def decision(self) -> Decision:
        """The only decision; ValueError for a batch of several rows."""
        (decision,) = self.decisions
        return decision


@frozen
class Comparison:
    """The result of comparing two outputs for one input.

    Attributes:
        match: Whether the two are the same for this comparator.
        difference: Distance between them, if that is meaningful; 0 is equal, and the unit is the comparator's.
        reason: Why they differ, as a short constant such as "type", "length" or "value".
        name: Name of the comparator.
        fields: Comparisons of parts of the outputs, by name: see `Fields`.
        labels: The control's label and the candidate's, if the outputs are classes: see `Label`.
    """

    # Comparators of arrays return their library's own booleans, which span attributes do not accept.
    match: bool = field(converter=bool)
    difference: float | None = None
    reason: str | None = None
    name: str = "default"
    fields: Mapping[str, Comparison] = field(factory=dict, hash=False)
    labels: tuple[str, str] | None = None


@frozen
class Merged:
    """One answer combined from several variants' outputs.

    Attributes:
        value: The value to serve.
        items: Key of each shown item, in order of position.
        teams: The variant credited for each item, or None if it is neutral.
        rule: Rule that credits clicks, if they are not credited by team: `Interleaved.rule()`.
        is_blend: False if the value is the control's alone, prepared for serving; it is not analysed.
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
        duration_s: Wall time in seconds; for a stream, until its last item.
        error: Class name of the exception, `FAILED_IF` for an answer that is a failure, or None.
        first_item_s: For a stream, seconds until its first item; None if there was none.
    """

    variant: str
    duration_s: float
    error: str | None = None
    first_item_s: float | None = None
