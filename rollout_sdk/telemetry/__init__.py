"""Telemetry: spans, metrics and log events of every rollout, through the application's own OpenTelemetry and structlog."""

from rollout_sdk.telemetry.logs import RolloutFilter, add_trace_context, log_fields
from rollout_sdk.telemetry.settings import Telemetry

__all__ = ["RolloutFilter", "Telemetry", "add_trace_context", "log_fields"]
