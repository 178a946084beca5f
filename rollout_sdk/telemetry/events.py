"""Log events of a rollout, emitted by the recorder in the caller's context, so that the application's processors find the
request's own context variables and trace.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from rollout_sdk.recorder import Fault
from rollout_sdk.records import RoutedEvent, ShadowedEvent, TransitionedEvent
from rollout_sdk.telemetry.logs import get_logger, would_log

__all__ = ["LogEvents"]

_ONCE_A_MINUTE_S = 60.0


class LogEvents:
    """The recorder's sink that emits structlog events. Payloads, unit ids and exception messages are in none."""

    def __init__(self) -> None:
        """Nothing is suppressed yet."""
        self._last: dict[tuple[str, ...], float] = {}
        self._suppressed: dict[tuple[str, ...], int] = {}

    def __call__(self, events: Iterable[Any]) -> None:
        """Emit what these events are worth."""
        for event in events:
            if isinstance(event, RoutedEvent):
                self._routed(event)
            elif isinstance(event, ShadowedEvent):
                self._shadowed(event)
            elif isinstance(event, TransitionedEvent):
                self._transitioned(event)
            elif isinstance(event, Fault):
                self._fault(event)

    @staticmethod
    def _in_context(event: RoutedEvent, emit: Callable[[], None]) -> None:
        if event.context is None:
            emit()
        else:
            event.context.run(emit)

    def _routed(self, event: RoutedEvent) -> None:
        decision = event.decision
        if would_log(logging.DEBUG):
            self._in_context(
                event,
                lambda: get_logger().debug(
                    "rollout.decision",
                    rollout=decision.rollout,
                    decision_id=decision.id,
                    strategy=decision.strategy,
                    variant=decision.variant,
                    reason=decision.reason,
                    bucket=decision.bucket,
                    propensity=decision.propensity,
                    phase=decision.phase,
                ),
            )
        if event.served != decision.variant and not decision.blend:
            self._in_context(
                event,
                lambda: get_logger().warning(
                    "rollout.fallback",
                    rollout=decision.rollout,
                    decision_id=decision.id,
                    from_variant=decision.variant,
                    to_variant=event.served,
                    error_type=event.runs[0].error if event.runs else None,
                ),
            )

    def _shadowed(self, event: ShadowedEvent) -> None:
        decision, comparison = event.decision, event.comparison
        base = {"rollout": decision.rollout, "decision_id": decision.id, "variant": event.variant}
        if event.end == "ok":
            get_logger().debug(
                "rollout.shadow.completed",
                **base,
                duration_s=event.duration_s,
                match=None if comparison is None else comparison.match,
                difference=None if comparison is None else comparison.difference,
            )
        elif event.end == "error":
            get_logger().warning("rollout.shadow.failed", **base, error_type=event.error, duration_s=event.duration_s)
        else:
            reason = event.end.removeprefix("dropped_")
            if (suppressed := self._once_a_minute("shadow", decision.rollout)) is not None:
                get_logger().warning("rollout.shadow.dropped", **base, reason=reason, suppressed=suppressed)

    def _transitioned(self, event: TransitionedEvent) -> None:
        logger = get_logger()
        log = logger.warning if event.action == "abort" else logger.info
        log(
            "rollout.configured" if event.action == "start" else "rollout.transition",
            rollout=event.rollout,
            strategy=event.strategy,
            action=event.action,
            reason=event.reason,
            actor=event.actor,
            from_phase=event.from_phase,
            to_phase=event.to_phase,
            weights=dict(event.shares),
        )

    def _fault(self, event: Fault) -> None:
        if (suppressed := self._once_a_minute("fault", event.what, event.error)) is None:
            return
        name = "rollout.strategy.failed" if event.what.endswith(".rollout_route") else "rollout.recorder.failed"
        name = name if "." in event.what and not event.what.startswith(("engine", "telemetry")) else "rollout.internal_error"
        get_logger().error(name, what=event.what, error_type=event.error, suppressed=suppressed)

    def _once_a_minute(self, *kind: str) -> int | None:
        """How many of this kind were passed over since the last, or None when this one must be, too."""
        now = monotonic()
        last = self._last.get(kind)
        if last is not None and now - last < _ONCE_A_MINUTE_S:
            self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
            return None
        self._last[kind] = now
        return self._suppressed.pop(kind, 0)
