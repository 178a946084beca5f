"""Caches which signals are enabled; refreshed twice a second because the check is as expensive as routing."""

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
    """Which of spans, metrics and debug log events of single calls are enabled.

    The recorder refreshes it at every tick, so that an application may set its tracer provider or configure its logging after
    the first call.

    Attributes:
        awake: Whether `look` was called yet.
        tracing: Whether spans, or log records of their events, are exported.
        measuring: Whether metrics are exported.
        debugging: Whether log events of level DEBUG are enabled.
        is_quiet: Whether `look` was called, and calls need neither spans nor their caller's context for log events.
    """

    __slots__ = ("_events", "_failed", "_settings", "awake", "debugging", "is_quiet", "measuring", "tracing")

    def __init__(self, settings: Telemetry, failed: Failed, events: Events) -> None:
        """Assume that nothing is enabled until `look`."""
        self._events = events
        self._settings = settings
        self._failed = failed
        self.awake = False
        self.tracing = False
        self.measuring = False
        self.debugging = False
        self.is_quiet = False

    def look(self) -> bool:
        """Refresh the flags; return whether a signal was enabled since the last look.

        Never raises; a signal whose check fails is disabled.
        """
        self.awake = True
        before = self.tracing, self.measuring, self._events.has_results
        settings = self._settings
        try:
            self.debugging = settings.logs and would_log(logging.DEBUG)
            # The global providers are loaded on demand, by names in the environment that may be wrong.
            tracers = trace.get_tracer_provider() if settings.tracer_provider is None else settings.tracer_provider
            silent = isinstance(tracers, trace.ProxyTracerProvider | trace.NoOpTracerProvider)
            self._events.look()
            self.tracing = (settings.spans != "off" and not silent) or self._events.is_logged
            meters = metrics.get_meter_provider() if settings.meter_provider is None else settings.meter_provider
            # The class of the placeholder is not public, but has "Proxy" in its name.
            silent = isinstance(meters, metrics.NoOpMeterProvider) or "Proxy" in type(meters).__name__
            self.measuring = settings.metrics and not silent
        except BaseException as error:
            if not is_fault(error):
                raise
            self._failed("telemetry.audience", error)
        self.is_quiet = not (self.tracing or self.debugging)
        now = self.tracing, self.measuring, self._events.has_results
        return any(is_enabled and not was_enabled for is_enabled, was_enabled in zip(now, before, strict=True))
