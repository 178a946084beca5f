"""Telemetry: spans, metrics and log events of every rollout, through the application's own OpenTelemetry and structlog."""

from rollout_sdk.telemetry.logs import add_trace_context
from rollout_sdk.telemetry.settings import Telemetry

__all__ = ["Telemetry", "add_trace_context"]
