"""A meter provider of OpenTelemetry's API that keeps the SDK's metrics in prometheus_client."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client import Histogram as PrometheusHistogram

from rollout_sdk import ConfigurationError
from rollout_sdk.extending import names, renew_after_fork
from rollout_sdk_prometheus.instruments import HISTOGRAMS, label_values, make_histograms, make_observed

__all__ = ["PrometheusMeterProvider"]

_Callback = Callable[[CallbackOptions], Iterable[Observation]]
# The API also allows generators, which rollout_sdk does not use.
_Callbacks = Sequence[_Callback | Generator[Iterable[Observation], CallbackOptions, None]]
_OPTIONS: Final = CallbackOptions()


class PrometheusMeterProvider(metrics.MeterProvider):
    """Metrics of rollout_sdk in prometheus_client: `Telemetry(meter_provider=PrometheusMeterProvider())`.

    Names, labels and buckets are those of the telemetry contract as OpenTelemetry's exporter for Prometheus writes them.
    In prometheus_client's multiprocess mode (`PROMETHEUS_MULTIPROC_DIR` is set), each process writes its counts every `every_s`
    seconds, and when it ends; a `kill -9` loses the counts since then. Otherwise a scrape of the registry is exact.

    It serves the meter of rollout_sdk only; its other meters do nothing.
    """

    def __init__(self, *, registry: CollectorRegistry = REGISTRY, every_s: float = 1.0) -> None:
        """Create the instruments.

        Args:
            registry: The registry of the metrics; it can have one such provider.
            every_s: Seconds between two writes in the multiprocess mode.

        Raises:
            ConfigurationError: `every_s` is not above 0, or the registry already has these metrics.
        """
        if isinstance(every_s, bool) or not isinstance(every_s, int | float) or not 0 < every_s < float("inf"):
            raise ConfigurationError(
                f"every_s={every_s!r:.60} of PrometheusMeterProvider is not a positive number of seconds. Write 1.0."
            )
        self._every_s = every_s
        refresh = _Refresh(weakref.ref(self))
        try:
            # Registered first: a scrape calls the collectors in this order.
            registry.register(refresh)
            self._observed = make_observed(registry)
            self._histograms = make_histograms(registry)
        except ValueError as error:
            with suppress(KeyError):
                registry.unregister(refresh)
            raise ConfigurationError(
                f"The registry already has metrics of rollout_sdk: {error}. A registry can have one PrometheusMeterProvider. "
                "Create one, and pass it to every Runtime."
            ) from error
        self._callbacks: dict[str, Sequence[_Callback]] = {}
        self._is_shared = bool(os.environ.get("PROMETHEUS_MULTIPROC_DIR"))
        self._start()
        renew_after_fork(self)
        # Functions registered later run earlier at exit: the SDK's own, registered later, has counted everything by then.
        atexit.register(_flush_at_exit, weakref.ref(self))

    def _start(self) -> None:
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None

    def renew(self) -> None:
        """Start from zero, with a new thread, in a forked child."""
        for each in self._observed.values():
            each.forget()
        self._start()

    def get_meter(
        self, name: str, version: str | None = None, schema_url: str | None = None, attributes: Mapping[str, Any] | None = None
    ) -> metrics.Meter:
        """Return the meter of rollout_sdk; for any other name, a meter that does nothing."""
        del attributes
        if name != names.SCOPE:
            return metrics.NoOpMeter(name, version, schema_url)
        return _Meter(self, name, version, schema_url)

    def flush(self) -> None:
        """Write the current counts."""
        with self._writing:
            for name, callbacks in list(self._callbacks.items()):
                self._observed[name].update([each for callback in callbacks for each in callback(_OPTIONS)])

    def observe(self, name: str, callbacks: _Callbacks | None) -> None:
        """Read an instrument by these callbacks, which replace earlier ones."""
        if name in self._observed and callbacks is not None:
            self._callbacks[name] = [each for each in callbacks if callable(each)]
            self.wake()

    def histogram(self, name: str) -> metrics.Histogram:
        """Return the histogram of this name; if the contract does not have it, one that does nothing."""
        if name not in self._histograms:
            return metrics.NoOpHistogram(name)
        return _Histogram(name, self._histograms[name], self.wake)

    def wake(self) -> None:
        """Start the writing thread, in the multiprocess mode."""
        if self._is_shared and self._thread is None:
            target = _Writer(weakref.ref(self), self._every_s)
            self._thread = threading.Thread(target=target, name="rollout-prometheus", daemon=True)
            self._thread.start()


class _Meter(metrics.NoOpMeter):
    """Implements the instruments that rollout_sdk uses; others do nothing."""

    def __init__(self, provider: PrometheusMeterProvider, name: str, version: str | None, schema_url: str | None) -> None:
        super().__init__(name, version, schema_url)
        self._provider = provider

    def create_observable_counter(
        self, name: str, callbacks: _Callbacks | None = None, unit: str = "", description: str = ""
    ) -> metrics.ObservableCounter:
        self._provider.observe(name, callbacks)
        return super().create_observable_counter(name, callbacks, unit, description)

    def create_observable_gauge(
        self, name: str, callbacks: _Callbacks | None = None, unit: str = "", description: str = ""
    ) -> metrics.ObservableGauge:
        self._provider.observe(name, callbacks)
        return super().create_observable_gauge(name, callbacks, unit, description)

    def create_observable_up_down_counter(
        self, name: str, callbacks: _Callbacks | None = None, unit: str = "", description: str = ""
    ) -> metrics.ObservableUpDownCounter:
        self._provider.observe(name, callbacks)
        return super().create_observable_up_down_counter(name, callbacks, unit, description)

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> metrics.Histogram:
        del unit, description, explicit_bucket_boundaries_advisory
        return self._provider.histogram(name)


class _Histogram(metrics.NoOpHistogram):
    def __init__(self, name: str, histogram: PrometheusHistogram, wake: Callable[[], None]) -> None:
        super().__init__(name)
        self._labels, _ = HISTOGRAMS[name]
        self._histogram = histogram
        self._wake = wake

    def record(self, amount: float, attributes: Mapping[str, Any] | None = None, context: object = None) -> None:
        del context
        self._histogram.labels(*label_values(self._labels, attributes or {})).observe(amount)
        # In a forked child, the first call starts the thread.
        self._wake()


class _Refresh:
    """A collector without metrics that brings the counts up to date when the registry is scraped."""

    def __init__(self, provider: weakref.ref[PrometheusMeterProvider]) -> None:
        self._provider = provider

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> list[Any]:
        _flush(self._provider)
        return []


class _Writer:
    """The writing thread's function; it ends with its provider."""

    def __init__(self, provider: weakref.ref[PrometheusMeterProvider], every_s: float) -> None:
        self._provider = provider
        self._pause = threading.Event()
        self._every_s = every_s

    def __call__(self) -> None:
        while self._provider() is not None:
            self._pause.wait(self._every_s)
            with suppress(Exception):
                _flush(self._provider)


def _flush(reference: weakref.ref[PrometheusMeterProvider]) -> None:
    provider = reference()
    if provider is not None:
        provider.flush()


def _flush_at_exit(reference: weakref.ref[PrometheusMeterProvider]) -> None:
    # Whatever is wrong with the folder was counted as a fault before.
    with suppress(Exception):
        _flush(reference)
