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
    # Every process has the configured shares: the process that has applied the last change is right.
    names.WEIGHT: ("mostrecent", _FLAG),
    names.SHADOW_ACTIVE: ("livesum", _FLAG),
}
"""Kind (for a gauge, its multiprocess mode) and labels of each instrument that is read by callbacks."""

HISTOGRAMS: Final[Mapping[str, tuple[tuple[str, ...], tuple[float, ...]]]] = {
    names.CALL_DURATION: ((*_FLAG, names.ROLE, names.STRATEGY, names.ERROR_TYPE), names.DURATION_BUCKETS),
    names.DECISION_DURATION: ((names.KEY, names.STRATEGY), names.DECISION_BUCKETS),
}
"""Labels and buckets, in seconds, of each histogram."""


def _named(name: str) -> str:
    """Replace dots by underscores, as OpenTelemetry's exporter for Prometheus does; prometheus_client appends `_total`."""
    return name.replace(".", "_")


def label_values(labels: tuple[str, ...], attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the values of these labels; "" for a missing attribute, which Prometheus treats the same."""
    values = (attributes.get(label, "") for label in labels)
    return tuple(value if isinstance(value, str) else json.dumps(value) for value in values)


def make_histograms(registry: CollectorRegistry) -> dict[str, Histogram]:
    """Create the histograms, by their OpenTelemetry names."""
    return {
        name: Histogram(f"{_named(name)}_seconds", _HELP[name], list(map(_named, labels)), buckets=buckets, registry=registry)
        for name, (labels, buckets) in HISTOGRAMS.items()
    }


def make_observed(registry: CollectorRegistry) -> dict[str, Observed]:
    """Create the instruments that are read by callbacks, by their OpenTelemetry names."""
    return {name: Observed(name, registry) for name in OBSERVED}


class Observed:
    """An instrument whose value is read from callbacks, as an absolute value of this process."""

    def __init__(self, name: str, registry: CollectorRegistry) -> None:
        """Create the instrument in the registry."""
        kind, self._labels = OBSERVED[name]
        definition = _named(name), _HELP[name], list(map(_named, self._labels))
        self._counter = Counter(*definition, registry=registry) if kind == "counter" else None
        self._gauge = None if kind == "counter" else Gauge(*definition, registry=registry, multiprocess_mode=kind)  # type: ignore[arg-type]
        self._last: dict[tuple[str, ...], float] = {}

    def forget(self) -> None:
        """Start from zero in a forked child."""
        self._last.clear()

    def update(self, observations: Iterable[Observation]) -> None:
        """Set the instrument to the values observed now."""
        now: dict[tuple[str, ...], float] = {}
        for each in observations:
            labels = label_values(self._labels, each.attributes or {})
            # Two runtimes may have a rollout with the same key: counts are added up, and the last of two weights is used.
            now[labels] = now.get(labels, 0.0) * (self._counter is not None) + each.value
        for labels, value in now.items():
            self._set(labels, value, self._last.get(labels))
            # One by one: if a later one fails, as on a full disk, what is counted is not counted again.
            self._last[labels] = value
        for labels in self._last.keys() - now.keys():
            # A variant that no longer exists has no share, and no running shadows.
            if self._gauge is not None and self._last[labels]:
                self._gauge.labels(*labels).set(0.0)
            del self._last[labels]

    def _set(self, labels: tuple[str, ...], value: float, last: float | None) -> None:
        if value == last:
            return
        if self._gauge is not None:
            self._gauge.labels(*labels).set(value)
        elif self._counter is not None:
            # A lower value than before: a runtime was closed, and its counts are gone.
            self._counter.labels(*labels).inc(max(0.0, value - (last or 0.0)))


_HELP: Final = {
    names.CALL_DURATION: "Duration of one run of a variant on the caller's path.",
    names.DECISION_DURATION: "Time that a call spent on its decision.",
    names.DECISIONS: "Routing decisions.",
    names.FALLBACKS: "Calls answered by the control because a candidate failed.",
    names.COMPARISONS: "Comparisons of a shadow's output with the control's.",
    names.SHADOW_RUNS: "Shadow runs that ended, by end.",
    names.SHADOW_DROPPED: "Shadow runs that did not finish.",
    names.SHADOW_ACTIVE: "Running shadows.",
    names.TRANSITIONS: "Starts, and changes of phase or status.",
    names.FACTS_LOST: "Facts missing from the journal.",
    names.WEIGHT: "Configured share of a variant.",
}
