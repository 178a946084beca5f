"""Test doubles: an observer, a clock, and fixed decisions."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rollout_sdk.assignment import RouteRequest
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.records import (
    BreakerEvent,
    Decision,
    RecordedEvent,
    RoutedEvent,
    ShadowedEvent,
    TransitionedEvent,
)
from rollout_sdk.runtime import all_runtimes

__all__ = ["FakeClock", "RecordingPlugin", "set_testing"]


class RecordingPlugin:
    """An observer that keeps all events. Flush the runtime before reading them.

    Attributes:
        events: All events in order; `routed`, `shadowed`, `recorded`, `transitioned` and `tripped` have those of one kind.
        threads: Names of the threads that delivered them.
    """

    name = "recording"

    def __init__(self) -> None:
        """Start without events."""
        self.events: list[Any] = []
        self.threads: set[str] = set()

    def _keep(self, event: Any) -> None:
        self.threads.add(threading.current_thread().name)
        self.events.append(event)

    def _of(self, kind: type) -> list[Any]:
        return [event for event in list(self.events) if isinstance(event, kind)]

    @property
    def routed(self) -> list[RoutedEvent]:
        """Calls."""
        return self._of(RoutedEvent)

    @property
    def shadowed(self) -> list[ShadowedEvent]:
        """Ends of shadows."""
        return self._of(ShadowedEvent)

    @property
    def recorded(self) -> list[RecordedEvent]:
        """Outcomes."""
        return self._of(RecordedEvent)

    @property
    def transitioned(self) -> list[TransitionedEvent]:
        """Transitions."""
        return self._of(TransitionedEvent)

    @property
    def tripped(self) -> list[BreakerEvent]:
        """Openings and closings of circuit breakers."""
        return self._of(BreakerEvent)

    def rollout_routed(self, event: RoutedEvent) -> None:
        """Keep a call."""
        self._keep(event)

    def rollout_shadowed(self, event: ShadowedEvent) -> None:
        """Keep the end of a shadow."""
        self._keep(event)

    def rollout_recorded(self, event: RecordedEvent) -> None:
        """Keep an outcome."""
        self._keep(event)

    def rollout_transitioned(self, event: TransitionedEvent) -> None:
        """Keep a transition."""
        self._keep(event)

    def rollout_tripped(self, event: BreakerEvent) -> None:
        """Keep an opening or closing."""
        self._keep(event)


class FakeClock:
    """A wall clock that only moves by `advance`: `Runtime(time_ns=clock)`, `clock.advance(3600)`."""

    def __init__(self, time_s: float = 1_000_000_000.0) -> None:
        """Set the time, in seconds since 1970."""
        self._time_ns = round(time_s * 1e9)

    def __call__(self) -> int:
        """Return the time, in nanoseconds since 1970."""
        return self._time_ns

    def advance(self, seconds: float) -> None:
        """Move the time by so many seconds, which may be negative."""
        self._time_ns += round(seconds * 1e9)


@contextmanager
def set_testing(variants: Mapping[str, str] | None = None) -> Iterator[None]:
    """Fix all decisions in an application's own tests: no randomness, no shadows.

    Inside the context, the named rollouts (by key) give every unit that variant, and all others their control. Aborted rollouts
    stay aborted. It applies to functions that are already decorated.

        with set_testing({"shop.rank": "candidate"}):
            assert rank("u-1") == ...

    Args:
        variants: Variants by key.

    Raises:
        ConfigurationError: A key is unknown, or its rollout has no such variant.
    """
    variants = variants or {}
    controllers: list[Any] = [each for runtime in all_runtimes() for each in list(runtime.rollouts.values())]
    known = {each.key: (each.control, *each.candidates) for each in controllers}
    for key, variant in variants.items():
        if variant not in known.get(key, ()):
            there = [f"{name} ({', '.join(names)})" for name, names in sorted(known.items())]
            raise ConfigurationError(
                f"set_testing names variant {variant!r:.60} of rollout {key!r:.80}, which is not there. "
                f"It fixes what is decorated by now: {', '.join(there) or 'nothing'}."
            )
    before = []
    for controller in controllers:
        router = controller._router  # noqa: SLF001 - no public way to override a strategy
        decision = Decision(variants.get(controller.key, controller.control), "override")

        def route(_: RouteRequest, decision: Decision = decision) -> Decision:
            return decision

        common = controller._serving.common  # noqa: SLF001 - likewise
        before.append((router, router.route, common))
        router.route = route
        # A plan of calls has the strategy's decisions in it.
        common.stand_aside(aside=True)
    try:
        yield
    finally:
        for router, kept, common in before:
            router.route = kept
            common.stand_aside(aside=False)
