"""Metrics: counts that the recorder keeps anyway are observed when a reader asks, so that a call pays nothing for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from rollout_sdk._version import __version__
from rollout_sdk.tally import Tally
from rollout_sdk.telemetry import names

if TYPE_CHECKING:
    from rollout_sdk.telemetry.settings import Telemetry

__all__ = ["Metrics", "Observed"]

_MOST_KNOWN = 10_000

Observed = Callable[[], Iterable[tuple[str, str, Tally, Mapping[str, float]]]]
"""Gives (key, strategy, tally, current shares) of every rollout of a runtime."""


class Metrics:
    """The instruments of a runtime."""

    def __init__(self, settings: Telemetry, observed: Observed) -> None:
        """Create the instruments on the application's meter provider, which may be set later."""
        self._observed = observed
        self._known: dict[tuple[str, str, str, str | None], dict[str, str]] = {}
        meter = metrics.get_meter(names.SCOPE, __version__, settings.meter_provider, names.SCHEMA_URL)
        self._duration = meter.create_histogram(
            names.CALL_DURATION,
            unit="s",
            description="Duration of one run of a variant on the caller's path.",
            explicit_bucket_boundaries_advisory=list(names.DURATION_BUCKETS),
        )
        for name, unit, description, observe in (
            (names.DECISIONS, "{decision}", "Routing decisions.", self._decisions),
            (
                names.FALLBACKS,
                "{fallback}",
                "Calls answered by the control because a candidate failed.",
                self._fallbacks,
            ),
            (
                names.COMPARISONS,
                "{comparison}",
                "Comparisons of a shadow's output with the control's.",
                self._comparisons,
            ),
            (names.SHADOW_DROPPED, "{run}", "Shadow runs that did not finish.", self._dropped),
            (names.TRANSITIONS, "{transition}", "Changes of phase or status.", self._transitions),
        ):
            meter.create_observable_counter(name, [observe], unit, description)
        meter.create_observable_gauge(names.WEIGHT, [self._weights], "1", "Configured share of a variant.")

    def calls(self, calls: Iterable[Any]) -> None:
        """Record the durations of the runs of these calls."""
        for call in calls:
            for variant, duration_s, error, _ in call.runs:
                self._duration.record(duration_s, self._attributes(call.rollout, variant, error))

    def _attributes(self, rollout: Any, variant: str, error: str | None) -> Mapping[str, str]:
        known = (rollout.key, rollout.strategy_name, variant, error)
        attributes = self._known.get(known)
        if attributes is None:
            attributes = {
                names.KEY: rollout.key,
                names.VARIANT: variant,
                names.STRATEGY: rollout.strategy_name,
                names.ROLE: "control" if variant == rollout.control else "candidate",
            }
            if error is not None:
                attributes[names.ERROR_TYPE] = error
            # Exception classes can be made at run time: what is remembered stays bounded.
            if len(self._known) < _MOST_KNOWN:
                self._known[known] = attributes
        return attributes

    def _decisions(self, _: CallbackOptions) -> Iterable[Observation]:
        for key, strategy, tally, _shares in self._observed():
            counts: dict[tuple[str, str], int] = {}
            for (_phase, variant, reason, _excluded), number in list(tally.decisions.items()):
                group = variant, names.flag_reason(reason)
                counts[group] = counts.get(group, 0) + number
            for (variant, reason), number in counts.items():
                attributes = {names.KEY: key, names.STRATEGY: strategy, names.VARIANT: variant, names.REASON: reason}
                yield Observation(number, attributes)

    def _fallbacks(self, _: CallbackOptions) -> Iterable[Observation]:
        for key, _strategy, tally, _shares in self._observed():
            for (variant, error), number in list(tally.fallbacks.items()):
                yield Observation(number, {names.KEY: key, names.VARIANT: variant, names.ERROR_TYPE: error})

    def _comparisons(self, _: CallbackOptions) -> Iterable[Observation]:
        for key, _strategy, tally, _shares in self._observed():
            for (variant, comparator, match), number in list(tally.comparisons.items()):
                attributes: dict[str, str | bool] = {
                    names.KEY: key,
                    names.VARIANT: variant,
                    names.COMPARISON_NAME: comparator,
                    names.COMPARISON_MATCH: match,
                }
                yield Observation(number, attributes)

    def _dropped(self, _: CallbackOptions) -> Iterable[Observation]:
        for key, _strategy, tally, _shares in self._observed():
            for (variant, end), number in list(tally.shadows.items()):
                if end not in ("ok", "error"):
                    reason = end.removeprefix("dropped_")
                    yield Observation(number, {names.KEY: key, names.VARIANT: variant, names.DROP_REASON: reason})

    def _transitions(self, _: CallbackOptions) -> Iterable[Observation]:
        for key, _strategy, tally, _shares in self._observed():
            for action, number in list(tally.transitions.items()):
                attributes = {names.KEY: key, names.TRANSITION_ACTION: action, names.TRANSITION_REASON: "manual"}
                yield Observation(number, attributes)

    def _weights(self, _: CallbackOptions) -> Iterable[Observation]:
        for key, _strategy, _tally, shares in self._observed():
            for variant, share in shares.items():
                yield Observation(share, {names.KEY: key, names.VARIANT: variant})
