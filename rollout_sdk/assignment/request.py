"""Requests: calls as strategies see them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeAlias

from attrs import frozen

from rollout_sdk.assignment.hashing import BUCKETS
from rollout_sdk.assignment.phases import Phase

__all__ = ["Binder", "Outline", "RouteRequest"]

Binder: TypeAlias = Callable[[tuple[Any, ...], Mapping[str, Any]], Mapping[str, Any]]
"""Makes arguments by parameter name of positional and keyword arguments."""

_BUCKET_MASK = BUCKETS - 1


@frozen
class Outline:
    """What all requests of one rollout have in common.

    Attributes:
        key: Key of the rollout.
        control: Name of the control.
        candidates: Names of the candidates.
        bind: Makes the arguments by name.
        random: Gives a random number in [0, 1).
    """

    key: str
    control: str
    candidates: tuple[str, ...]
    bind: Binder
    random: Callable[[], float]


class RouteRequest:
    """One call (or one row of a batch), described: what a strategy may decide by. Read it; never change it.

    Attributes:
        args: The positional arguments as they came; none once the call is over.
        kwargs: The keyword arguments as they came.
        phase: The current phase, with the shares and their ready-made split.
        digest: The 64-bit keyed hash behind point and bucket; a seed for anything that must be the same for a unit.
        point: The unit's point in [0, 1): constant for a unit, uniform over units.
        has_unit: Whether the call named a unit; without one the call is its own unit, and point is random.
    """

    # Built for every call: what nobody asks for is not set.
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    phase: Phase
    digest: int
    point: float
    has_unit: bool
    outline: Outline
    _draw: float | None = None

    @property
    def key(self) -> str:
        """Key of the rollout."""
        return self.outline.key

    @property
    def control(self) -> str:
        """Name of the control."""
        return self.outline.control

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of the candidates."""
        return self.outline.candidates

    @property
    def bucket(self) -> int:
        """The unit's statistics bucket, from 0 to 511."""
        return self.digest & _BUCKET_MASK

    @property
    def draw(self) -> float:
        """A random number in [0, 1), drawn for this call when first asked for, for what need not be sticky."""
        if self._draw is None:
            self._draw = self.outline.random()
        return self._draw

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments of the call by parameter name, defaults applied; while the call is under way."""
        return self.outline.bind(self.args, self.kwargs)

    def tokens(self, items: Sequence[Hashable], credits_: Sequence[Mapping[str, float] | None]) -> Sequence[str]:  # noqa: ARG002 - of calls
        """Tokens of the items that are shown for this call, with what a click credits; none for what is no call of its own."""
        return ()

    def note(self, text: str, *, is_error: bool = False) -> None:
        """Note something that people should know of this rollout's calls, and its cure: once, in the log and in `status()`.

        It must be the same text for every call (only the first 20 different ones are kept), and hold nobody's data. What is no
        call of its own notes nothing.

        Args:
            text: What happens, by which rule, and what to do.
            is_error: Whether the rollout cannot do what it is for until that is done; logged as an error then.
        """

    def about(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> RouteRequest:
        """The same request about other arguments: a shadow's copies."""
        request = RouteRequest()
        request.args, request.kwargs = args, kwargs
        request.describe_as(self)
        return request

    def describe_as(self, other: RouteRequest) -> None:
        """Take over everything but the arguments."""
        self.phase, self.digest, self.point = other.phase, other.digest, other.point
        self.has_unit, self.outline, self._draw = other.has_unit, other.outline, other._draw
