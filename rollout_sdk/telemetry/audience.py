"""Who listens: asked at the first call and twice a second after it, because asking costs as much as routing."""

from __future__ import annotations

import logging

from opentelemetry import metrics, trace

from rollout_sdk.telemetry.logs import would_log
from rollout_sdk.telemetry.settings import Telemetry

__all__ = ["Audience"]


class Audience:
    """Whether somebody takes spans, and log events about single calls.

    The recorder looks again at every tick, so that an application that sets its tracer provider or configures its logging
    after the first call is noticed within a second.

    Attributes:
        awake: Whether anybody has looked yet.
        tracing: Whether spans go anywhere.
        measuring: Whether metrics go anywhere.
        debugging: Whether log events of level DEBUG could be seen.
    """

    __slots__ = ("_settings", "awake", "debugging", "measuring", "tracing")

    def __init__(self, settings: Telemetry) -> None:
        """Nobody has looked yet."""
        self._settings = settings
        self.awake = False
        self.tracing = False
        self.measuring = False
        self.debugging = False

    def look(self) -> None:
        """Look who listens now."""
        settings = self._settings
        provider = settings.tracer_provider or trace.get_tracer_provider()
        silent = isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider)
        self.tracing = settings.spans != "off" and not silent
        self.debugging = settings.logs and would_log(logging.DEBUG)
        meters = settings.meter_provider or metrics.get_meter_provider()
        # The class of the placeholder for a provider to come is not public, but its name says what it is.
        self.measuring = settings.metrics and "Proxy" not in type(meters).__name__
        self.awake = True
