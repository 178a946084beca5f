"""Metrics: counts that the recorder keeps anyway are observed when a reader asks, so that a call pays nothing for them.

An SDK keeps the first instrument of a name, and forgets the callbacks of any other: so the runtimes that share a meter
provider are observed by the same callbacks.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from rollout_sdk._version import __version__
from rollout_sdk.tally import Tally
from rollout_sdk.telemetry import names

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram, MeterProvider

    from rollout_sdk.telemetry.settings import Telemetry

__all__ = ["Metrics", "Observed"]

_MOST_KNOWN = 10_000
_MOST_WORDS = 100
_OTHER = "_OTHER"

Observed = Callable[[], Iterable[tuple[str, str, Tally, Mapping[str, float]]]]
"""Gives (key, strategy, tally, current shares) of every rollout of a runtime."""

_Source: TypeAlias = "weakref.ref[Metrics]"

_sources: weakref.WeakKeyDictionary[MeterProvider, list[_Source]] = weakref.WeakKeyDictionary()
"""The runtimes that are observed by each provider's instruments."""


class Metrics:
    """The metrics of a runtime."""

    def __init__(self, settings: Telemetry, observed: Observed) -> None:
        """Create no instrument yet: the application may set its meter provider later."""
        self._settings = settings
        self._observed = observed
        self._known: dict[tuple[str, str, str, str | None], dict[str, str]] = {}
        self._words: dict[str, set[str]] = {}
        self._duration: Histogram | None = None

    def _word(self, attribute: str, word: str) -> str:
        """The word, while it is one of few; else "_OTHER": a name can be made for each call, and a series never ends."""
        words = self._words.setdefault(attribute, set())
        if word in words:
            return word
        if len(words) >= _MOST_WORDS:
            return _OTHER
        words.add(word)
        return word

    def calls(self, calls: Sequence[Any]) -> None:
        """Record the durations of the runs of these calls; there is a meter provider by now."""
        duration = self._begin() if self._duration is None else self._duration
        for call in calls:
            for variant, duration_s, error, _ in call.runs:
                duration.record(duration_s, self._attributes(call.rollout, variant, error))

    def _begin(self) -> Histogram:
        """Create the instruments, or join the runtimes that share them."""
        provider = self._settings.meter_provider
        provider = metrics.get_meter_provider() if provider is None else provider
        sources = _sources.setdefault(provider, [])
        sources.append(weakref.ref(self))
        meter = metrics.get_meter(names.SCOPE, __version__, provider, names.SCHEMA_URL)
        for name, unit, description, observe in (
            (names.DECISIONS, "{decision}", "Routing decisions.", Metrics.decisions),
            (names.FALLBACKS, "{fallback}", "Calls answered by the control because a candidate failed.", Metrics.fallbacks),
            (names.COMPARISONS, "{comparison}", "Comparisons of a shadow's output with the control's.", Metrics.comparisons),
            (names.SHADOW_DROPPED, "{run}", "Shadow runs that did not finish.", Metrics.dropped),
            (names.TRANSITIONS, "{transition}", "Starts, and changes of phase or status.", Metrics.transitions),
        ):
            meter.create_observable_counter(name, [_of_all(sources, observe)], unit, description)
        weights = _of_all(sources, Metrics.weights)
        meter.create_observable_gauge(names.WEIGHT, [weights], "1", "Configured share of a variant.")
        self._duration = meter.create_histogram(
            names.CALL_DURATION,
            unit="s",
            description="Duration of one run of a variant on the caller's path.",
            explicit_bucket_boundaries_advisory=list(names.DURATION_BUCKETS),
        )
        return self._duration

    def _attributes(self, rollout: Any, variant: str, error: str | None) -> Mapping[str, str]:
        error = None if error is None else self._word(names.ERROR_TYPE, error)
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
            # Rollouts can be made at run time: what is remembered stays bounded.
            if len(self._known) < _MOST_KNOWN:
                self._known[known] = attributes
        return attributes

    def decisions(self) -> Iterable[Observation]:
        """Decisions so far."""
        for key, strategy, tally, _shares in self._observed():
            counts: dict[tuple[str, str], int] = {}
            for (_phase, variant, reason, _excluded), number in list(tally.decisions.items()):
                group = variant, names.flag_reason(reason)
                counts[group] = counts.get(group, 0) + number
            for (variant, reason), number in counts.items():
                attributes = {names.KEY: key, names.STRATEGY: strategy, names.VARIANT: variant, names.REASON: reason}
                if reason == "error":
                    attributes[names.ERROR_TYPE] = "general"
                yield Observation(number, attributes)

    def fallbacks(self) -> Iterable[Observation]:
        """Fallbacks so far."""
        for key, _strategy, tally, _shares in self._observed():
            counts: Counter[tuple[str, str]] = Counter()
            for (variant, error), number in list(tally.fallbacks.items()):
                counts[variant, self._word(names.ERROR_TYPE, error)] += number
            for (variant, error), number in counts.items():
                yield Observation(number, {names.KEY: key, names.VARIANT: variant, names.ERROR_TYPE: error})

    def comparisons(self) -> Iterable[Observation]:
        """Comparisons so far."""
        for key, _strategy, tally, _shares in self._observed():
            counts: Counter[tuple[str, str, bool]] = Counter()
            for (variant, comparator, match), number in list(tally.comparisons.items()):
                counts[variant, self._word(names.COMPARISON_NAME, comparator), match] += number
            for (variant, comparator, match), number in counts.items():
                attributes: dict[str, str | bool] = {
                    names.KEY: key,
                    names.VARIANT: variant,
                    names.COMPARISON_NAME: comparator,
                    names.COMPARISON_MATCH: match,
                }
                yield Observation(number, attributes)

    def dropped(self) -> Iterable[Observation]:
        """Shadows that did not finish, so far."""
        for key, _strategy, tally, _shares in self._observed():
            counts: dict[tuple[str, str], int] = {}
            for (variant, end), number in list(tally.shadows.items()):
                if end not in ("ok", "error"):
                    group = variant, names.drop_reason(end)
                    counts[group] = counts.get(group, 0) + number
            for (variant, reason), number in counts.items():
                yield Observation(number, {names.KEY: key, names.VARIANT: variant, names.DROP_REASON: reason})

    def transitions(self) -> Iterable[Observation]:
        """Starts and changes so far."""
        for key, _strategy, tally, _shares in self._observed():
            for action, number in list(tally.transitions.items()):
                reason = names.transition_reason(action)
                attributes = {names.KEY: key, names.TRANSITION_ACTION: action, names.TRANSITION_REASON: reason}
                yield Observation(number, attributes)

    def weights(self) -> Iterable[Observation]:
        """Configured shares now."""
        for key, _strategy, _tally, shares in self._observed():
            for variant, share in shares.items():
                yield Observation(share, {names.KEY: key, names.VARIANT: variant})


def _of_all(
    sources: list[_Source], observe: Callable[[Metrics], Iterable[Observation]]
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    """A callback that observes every runtime that is still there."""

    def callback(_: CallbackOptions) -> Iterable[Observation]:
        living = [source for reference in list(sources) if (source := reference()) is not None]
        return chain.from_iterable(map(observe, living))

    return callback
