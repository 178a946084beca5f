"""`on_abort="drain"`: conversations that have begun on a candidate end there, while the rollout is paused or replaced."""

from __future__ import annotations

from contextlib import suppress

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.control.state import RolloutState
from rollout_sdk.records import EXCLUDED_REASONS, Decision

__all__ = ["DRAINING", "Draining"]

DRAINING = "draining"
"""Reason of calls while a rollout drains: of those that go on with a candidate, and of those that get the control instead."""

_IDLE_S = 3_600.0
_MOST = 100_000


class Draining:
    """Which units this process has answered with which candidate, in the last hour and for up to 100,000 of them.

    While a person has paused the rollout, or another version or other settings have replaced this process's in the store, these
    units keep their candidate, and all others get the control. None of these calls is analysed, because who still has a
    candidate is not random any more. An abort or a rollback stops every candidate at once, and so does a lost store.
    """

    def __init__(self, control: str) -> None:
        """Know no unit."""
        self._control = control
        # Oldest first. Single operations on it are atomic, so that no call waits for another.
        self._begun: dict[int, tuple[str, float]] = {}

    def decide(self, digest: int | None, chosen: Decision, state: RolloutState, *, is_replaced: bool) -> str | None:
        """Return the variant of a call while the rollout drains; None if what was chosen stands.

        Args:
            digest: The unit's; None if the call has none.
            chosen: What was decided without regard to draining.
            state: The state that the call has read.
            is_replaced: Whether others have replaced this process's version or settings.
        """
        if not is_replaced and (state.status != "paused" or state.paused_by):
            if digest is not None and chosen.variant != self._control and chosen.reason not in EXCLUDED_REASONS:
                self._remember(digest, chosen.variant)
            return None
        if chosen.reason in EXCLUDED_REASONS and (chosen.variant == self._control or not is_replaced):
            # The control answers in any case, or a person has fixed the variant.
            return None
        variant, seen_s = (self._control, 0.0) if digest is None else self._begun.get(digest, (self._control, 0.0))
        if digest is None or variant == self._control or monotonic() - seen_s > _IDLE_S:
            return self._control
        self._remember(digest, variant)
        return variant

    def _remember(self, digest: int, variant: str) -> None:
        self._begun.pop(digest, None)
        self._begun[digest] = variant, monotonic()
        if len(self._begun) > _MOST:
            # Another thread may have changed it meanwhile: the next call makes room.
            with suppress(KeyError, RuntimeError, StopIteration):
                del self._begun[next(iter(self._begun))]
