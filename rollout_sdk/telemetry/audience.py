"""Who listens: asked at the first call and twice a second after it, because asking costs as much as routing."""

from __future__ import annotations

import logging

from opentelemetry import metrics, trace

from rollout_sdk.plugins.manager import Failed
from rollout_sdk.resilience.interruptions import is_fault
from rollout_sdk.telemetry.event_records import Events
from rollout_sdk.telemetry.logs import would_log
from rollout_sdk.telemetry.settings import Telemetry

__all__ = ["Audience"]


class Audience:
    """Whether somebody takes spans, metrics, and log events about single calls.

    The recorder looks again at every tick, so that an application that sets its tracer provider or configures its logging
    after the first call is noticed within a second.

    Attributes:
        awake: Whether anybody has looked yet.
        tracing: Whether spans, or log records of their events, go anywhere.
        measuring: Whether metrics go anywhere.
        debugging: Whether log events of level DEBUG could be seen.
        is_quiet: Whether somebody has looked, and found that calls need neither spans nor their caller's context for logs.
    """

    __slots__ = ("_events", "_failed", "_settings", "awake", "debugging", "is_quiet", "measuring", "tracing")

    def __init__(self, settings: Telemetry, failed: Failed, events: Events) -> None:
        """Nobody has looked yet."""
        self._events = events
        self._settings = settings
        self._failed = failed
        self.awake = False
        self.tracing = False
        self.measuring = False
        self.debugging = False
        self.is_quiet = False

    def look(self) -> bool:
        """Look who listens now, and say whether a telemetry SDK has come since the last look.

        Never raises; what cannot be looked at does not listen.
        """
        self.awake = True
        before = self.tracing, self.measuring, self._events.has_results
        settings = self._settings
        try:
            self.debugging = settings.logs and would_log(logging.DEBUG)
            # The global providers are loaded when asked for, by names in the environment that may be wrong.
            tracers = trace.get_tracer_provider() if settings.tracer_provider is None else settings.tracer_provider
            silent = isinstance(tracers, trace.ProxyTracerProvider | trace.NoOpTracerProvider)
            self._events.look()
            self.tracing = (settings.spans != "off" and not silent) or self._events.is_logged
            meters = metrics.get_meter_provider() if settings.meter_provider is None else settings.meter_provider
            # The class of the placeholder for a provider to come is not public, but its name says what it is.
            silent = isinstance(meters, metrics.NoOpMeterProvider) or "Proxy" in type(meters).__name__
            self.measuring = settings.metrics and not silent
        except BaseException as error:
            if not is_fault(error):
                raise
            self._failed("telemetry.audience", error)
        self.is_quiet = not (self.tracing or self.debugging)
        now = self.tracing, self.measuring, self._events.has_results
        return any(listens and not listened for listens, listened in zip(now, before, strict=True))
