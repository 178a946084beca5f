"""An observer: counts failed runs."""

from __future__ import annotations

from collections import Counter

from rollout_sdk import RoutedEvent, TransitionedEvent

__all__ = ["Failures"]


class Failures:
    """Counts failed runs by rollout and variant, and notes what became of each rollout: `counts` and `statuses`.

    Its hooks are called in a thread of their own, after the call: they may be slow, and may call servers (with a time-out).
    """

    name = "template-failures"

    def __init__(self) -> None:
        """Nothing has failed yet."""
        self.counts: Counter[tuple[str, str]] = Counter()
        self.statuses: dict[str, str] = {}

    def rollout_routed(self, event: RoutedEvent) -> None:
        """Count the runs of a call that raised."""
        for run in event.runs:
            if run.error is not None:
                self.counts[event.decision.rollout, run.variant] += 1

    def rollout_transitioned(self, event: TransitionedEvent) -> None:
        """Note what became of a rollout."""
        self.statuses[event.rollout] = event.status
