"""The tracer of each process: Ray pickles a deployment with the values that it uses, and a module by its name."""

from opentelemetry.sdk.trace import TracerProvider

TRACER = TracerProvider().get_tracer("shop")
