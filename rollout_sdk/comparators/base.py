"""What every comparator is: a function of two answers, which says whether they match, and how far they are apart."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

from attrs import field, frozen

from rollout_sdk.comparators.parts import plain
from rollout_sdk.concurrency.synchronous import answered, must_answer_at_once
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.formatting import class_name
from rollout_sdk.records import Comparison

__all__ = ["Comparator", "Compare", "Own", "as_comparator", "at_least", "share"]

Compare: TypeAlias = Callable[[Any, Any], "bool | float | Comparison"]
"""Compares the control's answer with the candidate's: whether they match, their difference (0 matches), or both."""


def share(owner: Any, attribute: Any, value: object) -> None:
    """Reject a number that is not between 0 and 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigurationError(
            f"{attribute.name}={value!r:.40} of {type(owner).__name__} is not a share. It is between 0 and 1. Write "
            f"{attribute.name}=0.05."
        )


def at_least(least: float) -> Callable[[Any, Any, object], None]:
    """Return a validator that rejects anything but finite numbers from `least` on."""

    def check(owner: Any, attribute: Any, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < math.inf:
            raise ConfigurationError(
                f"{attribute.name}={value!r:.40} of {type(owner).__name__} is not a number of at least {least:g}."
            )

    return check


@frozen
class Comparator(ABC):
    """Base class of the comparators.

    Attributes:
        noise: Share of the shadowed calls on which the control runs a second time in the background. How often it differs from
            itself is then subtracted: language models, clocks and random numbers never answer alike.
    """

    name: ClassVar[str]
    noise: float = field(default=0.0, kw_only=True, validator=share)

    @abstractmethod
    def __call__(self, control: Any, candidate: Any) -> Comparison:
        """Compare two answers to one call."""

    def found(self, reason: str | None, difference: float | None = None) -> Comparison:
        """Return a comparison by this comparator; without a reason, it matches."""
        return Comparison(match=reason is None, difference=difference, reason=reason, name=self.name)


@frozen
class Own(Comparator):
    """A function of the application."""

    function: Compare
    name = "own"

    def __call__(self, control: Any, candidate: Any) -> Comparison:
        """Compare two answers.

        Raises:
            TypeError: The function gave neither a bool, a number nor a Comparison.
            Exception: Whatever the function raises.
        """
        found: Any = answered("compare=", self.function(control, candidate), (control, candidate))
        if isinstance(found, Comparison):
            return found
        name = getattr(self.function, "__name__", class_name(self.function))
        # Functions of arrays return their library's own booleans and numbers.
        found = plain(found)
        if isinstance(found, bool):
            return Comparison(match=found, reason=None if found else "value", name=name)
        try:
            difference = float(found)
        except (TypeError, ValueError):
            difference = math.nan
        if not math.isfinite(difference):
            raise TypeError(f"compare= gave {found!r:.40}, which is neither a bool, a finite number nor a Comparison")
        return Comparison(match=difference == 0, difference=difference, reason="value" if difference else None, name=name)


def as_comparator(compare: Any) -> Comparator:
    """Return a comparator for what was passed as `compare=`, or for a field.

    Raises:
        ConfigurationError: It is not a function of two answers, or an asynchronous one.
    """
    if isinstance(compare, Comparator):
        return compare
    if not callable(compare) or isinstance(compare, type):
        raise ConfigurationError(
            f"compare={compare!r:.60} is not a comparator. It is a function of the control's and the candidate's answer, or "
            "one of rollout_sdk.comparators. Write compare=Close(rel=0.01)."
        )
    must_answer_at_once(
        "compare=", compare, "It runs in the background; a judge that waits for a network needs a lane of its own."
    )
    return Own(compare)
