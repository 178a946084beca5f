"""An observer: counts failed runs."""

from __future__ import annotations

from collections import Counter

from rollout_sdk import RoutedEvent, TransitionedEvent

__all__ = ["Failures"]


class Failures:
    """Counts failed runs by rollout and variant, and keeps the last status of each rollout: `counts` and `statuses`.

    Its hooks are called in their own thread, after the call: they may be slow, and may call servers (with a time-out).
    """

    name = "template-failures"

    def __init__(self) -> None:
        """Start with no failures."""
        self.counts: Counter[tuple[str, str]] = Counter()
        self.statuses: dict[str, str] = {}

    def rollout_routed(self, event: RoutedEvent) -> None:
        """Count the failed runs of a call."""
        for run in event.runs:
            if run.error is not None:
                self.counts[event.decision.rollout, run.variant] += 1

    def rollout_transitioned(self, event: TransitionedEvent) -> None:
        """Keep the rollout's new status."""
        self.statuses[event.rollout] = event.status
