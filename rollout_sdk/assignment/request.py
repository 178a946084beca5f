"""Requests: calls as strategies see them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeAlias

from attrs import frozen

from rollout_sdk.assignment.hashing import BUCKETS
from rollout_sdk.assignment.phases import Phase

__all__ = ["Binder", "Outline", "RouteRequest"]

Binder: TypeAlias = Callable[[tuple[Any, ...], Mapping[str, Any]], Mapping[str, Any]]
"""Binds positional and keyword arguments to parameter names."""

_BUCKET_MASK = BUCKETS - 1


@frozen
class Outline:
    """The part that all requests of one rollout share.

    Attributes:
        key: Key of the rollout.
        control: Name of the control.
        candidates: Names of the candidates.
        bind: Binds arguments to parameter names.
        random: Returns a random number in [0, 1).
    """

    key: str
    control: str
    candidates: tuple[str, ...]
    bind: Binder
    random: Callable[[], float]


class RouteRequest:
    """One call (or one row of a batch) as a strategy sees it. Treat it as read-only.

    Attributes:
        args: The positional arguments; empty once the call is over.
        kwargs: The keyword arguments.
        phase: The current phase, with its shares and their precomputed split.
        digest: The 64-bit keyed hash behind point and bucket; a seed for anything that must be the same for a unit.
        point: The unit's point in [0, 1): constant for a unit, uniform over units.
        has_unit: Whether the call named a unit; without one, the call is its own unit and the point is random.
    """

    # Built for every call, so attributes are set only when needed.
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
        """A random number in [0, 1), drawn once per call on first access, for decisions that need not be sticky."""
        if self._draw is None:
            self._draw = self.outline.random()
        return self._draw

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The call's arguments by parameter name, with defaults; available while the call is in progress."""
        return self.outline.bind(self.args, self.kwargs)

    def tokens(self, items: Sequence[Hashable], credits_: Sequence[Mapping[str, float] | None]) -> Sequence[str]:  # noqa: ARG002 - of calls
        """Return tokens for the items shown for this call, with the credit of a click; empty for requests without a call."""
        return ()

    def note(self, text: str, *, is_error: bool = False) -> None:
        """Report something about this rollout's calls, with its cure: once, in the log and in `status()`.

        It must be the same text for every call (only the first 20 distinct ones are kept), without personal data. A
        request that is not a call notes nothing.

        Args:
            text: What happens, by which rule, and what to do.
            is_error: Whether the rollout does not work until then; it is logged as an error.
        """

    def about(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> RouteRequest:
        """Return the same request with other arguments, such as a shadow's copies."""
        request = RouteRequest()
        request.args, request.kwargs = args, kwargs
        request.describe_as(self)
        return request

    def describe_as(self, other: RouteRequest) -> None:
        """Copy everything but the arguments."""
        self.phase, self.digest, self.point = other.phase, other.digest, other.point
        self.has_unit, self.outline, self._draw = other.has_unit, other.outline, other._draw
