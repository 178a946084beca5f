"""The metrics of rollout_sdk in prometheus_client, also in its multiprocess mode.

runtime = Runtime(telemetry=Telemetry(meter_provider=PrometheusMeterProvider()))
"""

from rollout_sdk_prometheus.provider import PrometheusMeterProvider

__all__ = ["PrometheusMeterProvider"]
