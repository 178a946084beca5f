"""The instruments of the telemetry contract in prometheus_client, by their OpenTelemetry names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from opentelemetry.metrics import Observation
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from rollout_sdk.extending import names

__all__ = ["HISTOGRAMS", "OBSERVED", "Observed", "label_values", "make_histograms", "make_observed"]

_FLAG: Final = (names.KEY, names.VARIANT)

OBSERVED: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    names.DECISIONS: ("counter", (*_FLAG, names.REASON, names.STRATEGY, names.ERROR_TYPE)),
    names.FALLBACKS: ("counter", (*_FLAG, names.ERROR_TYPE)),
    names.COMPARISONS: ("counter", (*_FLAG, names.COMPARISON_NAME, names.COMPARISON_MATCH)),
    names.SHADOW_RUNS: ("counter", (*_FLAG, names.SHADOW_END)),
    names.SHADOW_DROPPED: ("counter", (*_FLAG, names.DROP_REASON)),
    names.TRANSITIONS: ("counter", (names.KEY, names.TRANSITION_ACTION, names.TRANSITION_REASON)),
    names.FACTS_LOST: ("counter", (names.LOSS_REASON,)),
    # Every process has the configured shares: the one that has heard of a change last is right.
    names.WEIGHT: ("mostrecent", _FLAG),
    names.SHADOW_ACTIVE: ("livesum", _FLAG),
}
"""Kind (or, of a gauge, its mode in several processes) and labels of each instrument that is read."""

HISTOGRAMS: Final[Mapping[str, tuple[tuple[str, ...], tuple[float, ...]]]] = {
    names.CALL_DURATION: ((*_FLAG, names.ROLE, names.STRATEGY, names.ERROR_TYPE), names.DURATION_BUCKETS),
    names.DECISION_DURATION: ((names.KEY, names.STRATEGY), names.DECISION_BUCKETS),
}
"""Labels and buckets, in seconds, of each histogram."""


def _named(name: str) -> str:
    """Underscores for dots, as OpenTelemetry's own exporter for Prometheus writes it; prometheus_client appends `_total`."""
    return name.replace(".", "_")


def label_values(labels: tuple[str, ...], attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """The values of these labels; "" for an attribute that is not there, which is the same to Prometheus."""
    values = (attributes.get(label, "") for label in labels)
    return tuple(value if isinstance(value, str) else json.dumps(value) for value in values)


def make_histograms(registry: CollectorRegistry) -> dict[str, Histogram]:
    """The histograms by their OpenTelemetry names."""
    return {
        name: Histogram(f"{_named(name)}_seconds", _HELP[name], list(map(_named, labels)), buckets=buckets, registry=registry)
        for name, (labels, buckets) in HISTOGRAMS.items()
    }


def make_observed(registry: CollectorRegistry) -> dict[str, Observed]:
    """The instruments that are read, by their OpenTelemetry names."""
    return {name: Observed(name, registry) for name in OBSERVED}


class Observed:
    """An instrument whose value is read from time to time, as its callbacks give it: absolute, in this process."""

    def __init__(self, name: str, registry: CollectorRegistry) -> None:
        """Make its instrument in the registry."""
        kind, self._labels = OBSERVED[name]
        about = _named(name), _HELP[name], list(map(_named, self._labels))
        self._counter = Counter(*about, registry=registry) if kind == "counter" else None
        self._gauge = None if kind == "counter" else Gauge(*about, registry=registry, multiprocess_mode=kind)  # type: ignore[arg-type]
        self._last: dict[tuple[str, ...], float] = {}

    def forget(self) -> None:
        """In a forked child: it counts from zero, and has said nothing yet."""
        self._last.clear()

    def update(self, observations: Iterable[Observation]) -> None:
        """Bring the instrument to what is observed now."""
        now: dict[tuple[str, ...], float] = {}
        for each in observations:
            labels = label_values(self._labels, each.attributes or {})
            # Two runtimes may have a rollout of the same key: counts add up, and of two weights the last one stands.
            now[labels] = now.get(labels, 0.0) * (self._counter is not None) + each.value
        for labels, value in now.items():
            self._set(labels, value, self._last.get(labels))
        for labels in self._last.keys() - now.keys():
            # A variant that is no longer there has no share, and no shadow.
            if self._gauge is not None and self._last[labels]:
                self._gauge.labels(*labels).set(0.0)
        self._last = now

    def _set(self, labels: tuple[str, ...], value: float, last: float | None) -> None:
        if value == last:
            return
        if self._gauge is not None:
            self._gauge.labels(*labels).set(value)
        elif self._counter is not None:
            # Less than before: a runtime has gone, and took its counts with it.
            self._counter.labels(*labels).inc(max(0.0, value - (last or 0.0)))


_HELP: Final = {
    names.CALL_DURATION: "Duration of one run of a variant on the caller's path.",
    names.DECISION_DURATION: "What describing and deciding took of a call.",
    names.DECISIONS: "Routing decisions.",
    names.FALLBACKS: "Calls answered by the control because a candidate failed.",
    names.COMPARISONS: "Comparisons of a shadow's output with the control's.",
    names.SHADOW_RUNS: "Shadow runs that ended, in whatever way.",
    names.SHADOW_DROPPED: "Shadow runs that did not finish.",
    names.SHADOW_ACTIVE: "Shadow runs under way.",
    names.TRANSITIONS: "Starts, and changes of phase or status.",
    names.FACTS_LOST: "Facts missing from the journal.",
    names.WEIGHT: "Configured share of a variant.",
}
