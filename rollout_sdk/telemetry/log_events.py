"""Log events of rollouts.

Events about a call are emitted in its caller's context, so that the application's processors find the request's context
variables and trace; events about a shadow have the decision id, like its span.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.plugins.manager import Failed
from rollout_sdk.records import BreakerEvent, RoutedEvent, ShadowedEvent, TransitionedEvent
from rollout_sdk.resilience.faults import BATCH, CONTROL_FILE, OPTIONS, OUTCOME, STORE, STRATEGY, THREADS, Fault, Notice
from rollout_sdk.resilience.interruptions import is_fault
from rollout_sdk.tally import failed_in_blend
from rollout_sdk.telemetry import names
from rollout_sdk.telemetry.attributes import Versions
from rollout_sdk.telemetry.logs import get_logger, would_log
from rollout_sdk.telemetry.transitions import deciding

__all__ = ["LogEvents"]

_ONCE_A_MINUTE_S = 60.0
_MOST_KINDS = 1_000
_SINKS = frozenset({"journal", "journal.line", "observers", "recorder", "recorder.event", "tally"})


_CURE = (
    "Errors and duration of this answer cannot be measured, so no step of a canary passes on it. Return the answer itself, or "
    "a coroutine, generator or stream that the caller awaits or reads."
)


class LogEvents:
    """The sink that emits structlog events, without payloads, unit ids or exception messages."""

    def __init__(
        self,
        describe: Callable[[str], Mapping[str, Any] | None],
        failed: Failed,
        *,
        version: Callable[[str, str], str | None] = lambda _key, _phase: None,
        plugins: Callable[[str], Iterable[str]] = lambda _key: (),
    ) -> None:
        """Emit nothing yet.

        Args:
            describe: Returns the description of a rollout, by its key.
            failed: Notified if the application's logging raises.
            version: Returns the version of a rollout, by key and phase; None if it is in another phase by now.
            plugins: Returns the names of a rollout's plugins, by its key.
        """
        self._describe = describe
        self._failed = failed
        self._version = version
        self._plugins = plugins
        self._last: dict[tuple[str, ...], float] = {}
        self._suppressed: dict[tuple[str, ...], int] = {}
        self._warned: set[str] = set()

    def __call__(self, event: Any) -> None:
        """Emit the log events for a fact."""
        if isinstance(event, RoutedEvent):
            self._routed(event)
        elif isinstance(event, ShadowedEvent):
            self._shadowed(event)
        elif isinstance(event, TransitionedEvent):
            self._transitioned(event)
        elif isinstance(event, BreakerEvent):
            _tripped(event)
        elif isinstance(event, Fault):
            _fault(event)
        elif isinstance(event, Notice):
            log = get_logger().error if event.is_error else get_logger().warning
            log("rollout.noticed", rollout=event.rollout, why=event.text)

    def _routed(self, event: RoutedEvent) -> None:
        decision = event.decision
        about = {"rollout": decision.rollout, "decision_id": decision.id}
        if would_log(logging.DEBUG):
            self._in_context(
                event,
                "debug",
                "rollout.decision",
                **about,
                strategy=decision.strategy,
                variant=decision.variant,
                # A strategy's own reason may contain parts of the input.
                reason=decision.reason if decision.reason in names.FLAG_REASONS else names.flag_reason(decision.reason),
                bucket=decision.bucket,
                propensity=decision.propensity,
                phase=decision.phase,
                version=self._version(decision.rollout, decision.phase),
            )
        if event.unmeasured is not None and decision.rollout not in self._warned:
            self._warned.add(decision.rollout)
            self._in_context(
                event,
                "warning",
                "rollout.unmeasured",
                **about,
                variant=event.served,
                answer_type=event.unmeasured,
                cure=_CURE,
            )
        # There may be thousands of withheld calls; the breaker's opening was logged.
        if event.served == decision.variant or event.withheld is not None:
            return
        failed: tuple[str, str | None] | None = (decision.variant, event.runs[0].error if event.runs else None)
        if decision.blend:
            failed = failed_in_blend(event.served, ((run.variant, run.error) for run in event.runs))
        if failed is not None:
            self._in_context(
                event,
                "warning",
                "rollout.fallback",
                **about,
                from_variant=failed[0],
                error_type=failed[1],
                to_variant=event.served,
            )

    def _in_context(self, event: RoutedEvent, level: str, name: str, **fields: Any) -> None:
        """Emit in the caller's context; a failure is reported, and does not suppress later events."""

        def emit() -> None:
            getattr(get_logger(), level)(name, **fields)

        try:
            emit() if event.context is None else event.context.run(emit)
        except BaseException as error:
            if not is_fault(error):
                raise
            self._failed("telemetry.logs", error)

    def _shadowed(self, event: ShadowedEvent) -> None:
        decision, comparison = event.decision, event.comparison
        about = {"rollout": decision.rollout, "decision_id": decision.id, "variant": event.variant}
        if event.end == "ok":
            get_logger().debug(
                "rollout.shadow.completed",
                **about,
                duration_s=event.duration_s,
                match=None if comparison is None else comparison.match,
                difference=None if comparison is None else comparison.difference,
            )
        elif event.end == "error":
            suppressed = self._once_a_minute("error", decision.rollout, event.variant, event.error or "")
            if suppressed is not None:
                get_logger().warning(
                    "rollout.shadow.failed",
                    **about,
                    error_type=event.error,
                    duration_s=event.duration_s,
                    suppressed=suppressed,
                    **({} if event.exception is None else {"exc_info": event.exception}),
                )
        elif (suppressed := self._once_a_minute("dropped", decision.rollout)) is not None:
            reason = names.drop_reason(event.end)
            # Contains only the name of an argument and a type, from the application's code.
            why = event.error if event.end == "dropped_snapshot" else None
            get_logger().warning("rollout.shadow.dropped", **about, reason=reason, why=why, suppressed=suppressed)

    def _transitioned(self, event: TransitionedEvent) -> None:
        if event.action == "start":
            about = self._describe(event.rollout) or {}
            get_logger().info(
                "rollout.configured",
                rollout=event.rollout,
                strategy=event.strategy,
                control=about.get("control"),
                variants=about.get("variants"),
                weights=dict(event.shares),
                version=Versions.of(event.fingerprint, event.to_phase, event.shares),
                candidates_version=event.version or None,
                fingerprint=event.fingerprint,
                phase=event.to_phase,
                status=event.status,
            )
            for plugin in self._plugins(event.rollout):
                get_logger().debug("rollout.plugin.registered", rollout=event.rollout, plugin=plugin, strategy=event.strategy)
            return
        logger = get_logger()
        log = logger.warning if event.action in ("abort", "roll_back", "invalidate", "restore") else logger.info
        gate = deciding(event) or {}
        log(
            "rollout.transition",
            rollout=event.rollout,
            strategy=event.strategy,
            action=names.transition_action(event.action, event.status),
            reason=event.reason,
            actor=event.actor,
            from_phase=event.from_phase,
            to_phase=event.to_phase,
            weights=dict(event.shares),
            gate=gate.get("name"),
            samples=gate.get("samples"),
            value=gate.get("value"),
            threshold=gate.get("threshold"),
            transition_id=event.id,
        )

    def _once_a_minute(self, *kind: str) -> int | None:
        """Return how many events of this kind were suppressed since the last; None if this one must be suppressed."""
        now = monotonic()
        if kind not in self._last and len(self._last) >= _MOST_KINDS:
            # Exception classes can be created at run time: limit the number of kinds.
            kind = (kind[0], "_OTHER")
        last = self._last.get(kind)
        if last is not None and now - last < _ONCE_A_MINUTE_S:
            self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
            return None
        self._last[kind] = now
        return self._suppressed.pop(kind, 0)


def _tripped(event: BreakerEvent) -> None:
    fields = {"rollout": event.rollout, "variant": event.variant}
    if event.action == "open":
        counts = {"failures": event.failures, "runs": event.runs, "cooldown_s": event.cooldown_s}
        get_logger().warning("rollout.breaker.opened", **fields, **counts)
    else:
        get_logger().info("rollout.breaker.closed", **fields)


def _fault(fault: Fault) -> None:
    """Emit a fault; the runtime limits how often."""
    logger, fields = get_logger(), {"error_type": fault.error, "count": fault.count}
    about = {"rollout": fault.rollout}
    name, _, hook = fault.what.rpartition(".")
    if fault.what == CONTROL_FILE:
        logger.error("rollout.control.refused", **about, why=fault.why, **fields)
    elif fault.what == BATCH:
        logger.error("rollout.batch.refused", **about, why=fault.why, **fields)
    elif fault.what.startswith("telemetry."):
        logger.debug("rollout.telemetry.failed", **about, what=fault.what, **fields)
    elif fault.what == OUTCOME:
        logger.error("rollout.outcome.odd", **about, why=fault.why, **fields)
    elif fault.what == THREADS:
        logger.error("rollout.threads.missing", **about, why=fault.why, **fields)
    elif fault.what == STORE:
        logger.error("rollout.store.failed", **about, why=fault.why, **fields)
    elif fault.what in _SINKS:
        logger.error("rollout.recorder.failed", **about, sink=fault.what, why=fault.why, **fields)
    elif hook == "rollout_route" or fault.what == STRATEGY:
        logger.error("rollout.strategy.failed", **about, strategy=name or None, served="control", why=fault.why, **fields)
    elif fault.what in OPTIONS:
        logger.error("rollout.option.failed", **about, option=fault.what, why=fault.why, **fields)
    elif hook.startswith("rollout_"):
        logger.error("rollout.plugin.failed", **about, plugin=name, hook=hook, why=fault.why, **fields)
    else:
        logger.error("rollout.internal_error", **about, what=fault.what, **fields)
