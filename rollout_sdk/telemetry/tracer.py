"""The SDK's tracer: taken from the application's provider once that is set, with span ids of its own, and guarded.

An OpenTelemetry SDK draws ids from the global generator of `random`. A model that seeds it would behave differently with spans.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, NoOpTracer, ProxyTracer, get_tracer

from rollout_sdk._version import __version__
from rollout_sdk.concurrency.forking import ForkSafeRandom
from rollout_sdk.resilience.interruptions import is_fault
from rollout_sdk.telemetry import names
from rollout_sdk.telemetry.attributes import without

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

    from rollout_sdk.plugins.manager import Failed
    from rollout_sdk.telemetry.settings import Telemetry

__all__ = ["SpanStarter", "guarded"]

F = TypeVar("F", bound=Callable[..., Any])

_random = ForkSafeRandom()


def guarded(method: F) -> F:
    """Decorate a method so that its faults are passed to its object's `failed`, never raised; it then returns None.

    Samplers, processors and exporters belong to the application, and may raise.
    """

    @functools.wraps(method)
    def safe(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except BaseException as error:
            if not is_fault(error):
                raise
            self.failed("telemetry.spans", error)
            return None

    return safe  # type: ignore[return-value]


class SpanStarter:
    """Starts spans by the application's tracer, once its provider is set, which may be later than the first call.

    Attributes:
        excluded: Names of attributes that no span gets.
    """

    def __init__(self, settings: Telemetry, failed: Failed) -> None:
        """Get a tracer, which is a proxy until the application sets its provider."""
        self.excluded = frozenset(settings.exclude_attributes)
        self._given: Tracer = NoOpTracer()
        self._is_final = True
        try:
            self._given = get_tracer(names.SCOPE, __version__, settings.tracer_provider, names.SCHEMA_URL)
            self._is_final = False
            self.is_ready()
        # The global provider is loaded by a name in the environment, which may be wrong.
        except BaseException as error:
            if not is_fault(error):
                raise
            failed("telemetry.spans", error)

    def is_ready(self) -> bool:
        """Whether the application has set its provider.

        It is not asked again afterwards: an application's tests set other providers temporarily, and one would be kept.
        """
        if not self._is_final and (tracer := _real_tracer(self._given)) is not None:
            self._given, self._is_final = tracer, True
            _draw_ids_apart(tracer)
        return self._is_final

    def start(
        self,
        name: str,
        attributes: Mapping[str, Any],
        context: Context | None = None,
        links: list[Link] | None = None,
        start_time: int | None = None,
    ) -> Span:
        """Start a span; INVALID_SPAN while there is no provider, because a proxy's span would hide the application's."""
        if not self.is_ready():
            return INVALID_SPAN
        return self._given.start_span(
            name,
            context=context,
            attributes=without(attributes, self.excluded),
            links=links,
            start_time=start_time,
            record_exception=False,
            set_status_on_exception=False,
        )


def _real_tracer(tracer: Tracer) -> Tracer | None:
    """Return the tracer, or the one behind a proxy; None while there is none."""
    if not isinstance(tracer, ProxyTracer):
        return tracer
    # The attribute is not public. Without it, a proxy works, but keeps its own generator of ids.
    real: Tracer = getattr(tracer, "_tracer", tracer)
    return None if isinstance(real, NoOpTracer) else real


def _draw_ids_apart(tracer: Any) -> None:
    """Replace the SDK's default generator of ids; one that the application chose stays."""
    kind = type(getattr(tracer, "id_generator", None))
    if kind.__name__ == "RandomIdGenerator" and kind.__module__.startswith("opentelemetry.sdk."):
        tracer.id_generator = _OwnIds()


class _OwnIds:
    """The interface of an SDK's generator of ids."""

    def generate_span_id(self) -> int:
        # Zero means that there is no span.
        return _random.getrandbits(64) or 1

    def generate_trace_id(self) -> int:
        return _random.getrandbits(128) or 1

    def is_trace_id_random(self) -> bool:
        return True
