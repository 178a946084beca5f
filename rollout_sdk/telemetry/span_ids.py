"""Ids of our spans, drawn without the application's random numbers.

An OpenTelemetry SDK draws ids from the global generator of `random`. A model that seeds it would answer otherwise than without
spans.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import NoOpTracer, ProxyTracer, Tracer

from rollout_sdk.concurrency.forking import ForkSafeRandom

__all__ = ["draw_ids_apart", "real_tracer"]

_random = ForkSafeRandom()


def real_tracer(tracer: Tracer) -> Tracer | None:
    """The tracer itself, or the one behind a proxy; None while there is none."""
    if not isinstance(tracer, ProxyTracer):
        return tracer
    # The name is not public. Without it a proxy does all but let go of its generator of ids.
    real: Tracer = getattr(tracer, "_tracer", tracer)
    return None if isinstance(real, NoOpTracer) else real


def draw_ids_apart(tracer: Any) -> None:
    """Give a tracer of ours a generator of its own, where it has the SDK's; one that the application chose stays."""
    kind = type(getattr(tracer, "id_generator", None))
    if kind.__name__ == "RandomIdGenerator" and kind.__module__.startswith("opentelemetry.sdk."):
        tracer.id_generator = _OwnIds()


class _OwnIds:
    """What an SDK asks of a generator of ids."""

    def generate_span_id(self) -> int:
        # Zero means that there is no span.
        return _random.getrandbits(64) or 1

    def generate_trace_id(self) -> int:
        return _random.getrandbits(128) or 1

    def is_trace_id_random(self) -> bool:
        return True
