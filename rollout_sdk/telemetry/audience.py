"""Who listens: asked a few times a second instead of on every call, because asking costs more than routing."""

from __future__ import annotations

import logging
from time import monotonic

from opentelemetry import trace

from rollout_sdk.telemetry.logs import would_log
from rollout_sdk.telemetry.settings import Telemetry

__all__ = ["Audience"]

_LOOK_EVERY_S = 0.05


class Audience:
    """Whether somebody takes spans, and log events about single calls. An application that sets its tracer provider, or
    configures logging, after the first call is noticed within 50 ms.

    Attributes:
        tracing: Whether spans go anywhere.
        debugging: Whether log events of level DEBUG could be seen.
    """

    __slots__ = ("_look_at", "_settings", "debugging", "tracing")

    def __init__(self, settings: Telemetry) -> None:
        """Look at the first call."""
        self._settings = settings
        self._look_at = 0.0
        self.tracing = False
        self.debugging = False

    def look(self) -> None:
        """Look again, when the last time was a while ago."""
        now = monotonic()
        if now < self._look_at:
            return
        settings = self._settings
        provider = settings.tracer_provider or trace.get_tracer_provider()
        silent = isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider)
        self.tracing = settings.spans != "off" and not silent
        self.debugging = settings.logs and would_log(logging.DEBUG)
        self._look_at = now + _LOOK_EVERY_S
