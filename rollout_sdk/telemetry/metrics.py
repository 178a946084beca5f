"""Metrics: the recorder's counts are observed when a reader collects them, so that they cost a call nothing.

An SDK keeps the first instrument with a name, and ignores the callbacks of any other: so runtimes that share a meter provider
are observed by the same callbacks.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import frozen
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from rollout_sdk._version import __version__
from rollout_sdk.tally import Tally
from rollout_sdk.telemetry import names

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram, MeterProvider

    from rollout_sdk.telemetry.settings import Telemetry

__all__ = ["Metrics", "Observed", "RolloutMetrics"]

_MOST_KNOWN = 10_000
_OTHER = "_OTHER"


@frozen
class RolloutMetrics:
    """What metrics report of a rollout.

    Attributes:
        key: Its key.
        strategy: Name of its strategy.
        tally: Its counts.
        shares: Current share of every variant.
        active: Current shadow runs, by variant.
    """

    key: str
    strategy: str
    tally: Tally
    shares: Mapping[str, float]
    active: Mapping[str, int]


Observed = Callable[[], Iterable[RolloutMetrics]]
"""Returns the rollouts of a runtime."""

_Source: TypeAlias = "weakref.ref[Metrics]"

_sources: weakref.WeakKeyDictionary[MeterProvider, list[_Source]] = weakref.WeakKeyDictionary()
"""The runtimes observed by each provider's instruments."""


class Metrics:
    """The metrics of a runtime."""

    def __init__(self, settings: Telemetry, observed: Observed, lost: Callable[[], Mapping[str, int]]) -> None:
        """Create no instrument yet: the application may set its meter provider later.

        Args:
            settings: The settings.
            observed: Returns the rollouts.
            lost: Returns the number of facts missing from the journal and the counts, by reason.
        """
        self._settings = settings
        self._observed = observed
        self._lost = lost
        self._known: dict[tuple[str, str, str, str, str | None], dict[str, str]] = {}
        self._words: dict[str, set[str]] = {}
        self._provider: MeterProvider | None = None
        self._duration: Histogram | None = None
        self._decision: Histogram | None = None

    def _variant(self, key: str, variant: str) -> str:
        """Return the variant, or "_OTHER" beyond a rollout's limit."""
        return self._word(f"{names.VARIANT} {key}", variant, names.MOST_VARIANTS)

    def _word(self, attribute: str, word: str, most: int = names.MOST_WORDS) -> str:
        """Return the word, or "_OTHER" beyond the limit: names may be unique to each call, and a series is kept forever."""
        words = self._words.setdefault(attribute, set())
        if word in words:
            return word
        if len(words) >= most:
            return _OTHER
        words.add(word)
        return word

    def calls(self, calls: Sequence[Any]) -> None:
        """Record the durations of the runs of these calls; a meter provider must be set."""
        provider = self._settings.meter_provider
        provider = metrics.get_meter_provider() if provider is None else provider
        # An application's tests set providers temporarily: none is kept permanently.
        if self._duration is None or provider is not self._provider:
            self._duration = self._begin(provider)
            self._provider = provider
        duration = self._duration
        for call in calls:
            for variant, duration_s, error, _ in call.runs if call.row is None else call.measured:
                duration.record(duration_s, self._attributes(call.rollout, variant, error))
            if call.decided_s is not None and self._decision is not None:
                about = {names.KEY: call.rollout.key, names.STRATEGY: call.rollout.strategy_name}
                self._decision.record(call.decided_s, about)

    def _begin(self, provider: MeterProvider) -> Histogram:
        """Create the instruments, or join the runtimes that share them."""
        sources = _sources.setdefault(provider, [])
        meter = metrics.get_meter(names.SCOPE, __version__, provider, names.SCHEMA_URL)
        for name, unit, description, observe in (
            (names.DECISIONS, "{decision}", "Routing decisions.", Metrics.decisions),
            (names.FALLBACKS, "{fallback}", "Calls answered by the control because a candidate failed.", Metrics.fallbacks),
            (names.COMPARISONS, "{comparison}", "Comparisons of a shadow's output with the control's.", Metrics.comparisons),
            (names.SHADOW_RUNS, "{run}", "Shadow runs that ended, in any way.", Metrics.shadows),
            (names.SHADOW_DROPPED, "{run}", "Shadow runs that did not finish.", Metrics.dropped),
            (names.TRANSITIONS, "{transition}", "Starts, and changes of phase or status.", Metrics.transitions),
            (names.FACTS_LOST, "{fact}", "Facts missing from the journal.", Metrics.lost),
        ):
            meter.create_observable_counter(name, [_of_all(sources, observe)], unit, description)
        weights = _of_all(sources, Metrics.weights)
        meter.create_observable_gauge(names.WEIGHT, [weights], "1", "Configured share of a variant.")
        active = _of_all(sources, Metrics.active)
        meter.create_observable_up_down_counter(names.SHADOW_ACTIVE, [active], "{run}", "Running shadows.")
        if self._settings.decision_duration:
            self._decision = meter.create_histogram(
                names.DECISION_DURATION,
                unit="s",
                description="Time that a call spent on its decision.",
                explicit_bucket_boundaries_advisory=list(names.DECISION_BUCKETS),
            )
        duration = meter.create_histogram(
            names.CALL_DURATION,
            unit="s",
            description="Duration of one run of a variant on the caller's path.",
            explicit_bucket_boundaries_advisory=list(names.DURATION_BUCKETS),
        )
        # Last: after a refused instrument, this runs again, and no runtime may be observed twice.
        for gone in [source for source in list(sources) if source() is None]:
            with suppress(ValueError):
                sources.remove(gone)
        if all(source() is not self for source in list(sources)):
            sources.append(weakref.ref(self))
        return duration

    def _attributes(self, rollout: Any, variant: str, error: str | None) -> Mapping[str, str]:
        error = None if error is None else self._word(names.ERROR_TYPE, error)
        # The key includes the control, because a rollout can be decorated again with the roles swapped.
        known = (rollout.key, rollout.strategy_name, rollout.control, variant, error)
        attributes = self._known.get(known)
        if attributes is None:
            attributes = {
                names.KEY: rollout.key,
                names.VARIANT: self._variant(rollout.key, variant),
                names.STRATEGY: rollout.strategy_name,
                names.ROLE: "control" if variant == rollout.control else "candidate",
            }
            if error is not None:
                attributes[names.ERROR_TYPE] = error
            # Rollouts can be created at run time: limit the cache.
            if len(self._known) < _MOST_KNOWN:
                self._known[known] = attributes
        return attributes

    def decisions(self) -> Iterable[Observation]:
        """Decisions so far."""
        for each in self._observed():
            counts: Counter[tuple[str, str]] = Counter()
            for (_phase, variant, reason, _excluded), number in list(each.tally.decisions.items()):
                counts[self._variant(each.key, variant), names.flag_reason(reason)] += number
            for (variant, reason), number in counts.items():
                attributes = {
                    names.KEY: each.key, names.STRATEGY: each.strategy, names.VARIANT: variant, names.REASON: reason
                }  # fmt: skip
                if reason == "error":
                    attributes[names.ERROR_TYPE] = "general"
                yield Observation(number, attributes)

    def fallbacks(self) -> Iterable[Observation]:
        """Fallbacks so far."""
        for each in self._observed():
            counts: Counter[tuple[str, str]] = Counter()
            for (variant, error), number in list(each.tally.fallbacks.items()):
                counts[self._variant(each.key, variant), self._word(names.ERROR_TYPE, error)] += number
            for (variant, error), number in counts.items():
                yield Observation(number, {names.KEY: each.key, names.VARIANT: variant, names.ERROR_TYPE: error})

    def comparisons(self) -> Iterable[Observation]:
        """Comparisons so far."""
        for each in self._observed():
            counts: Counter[tuple[str, str, bool]] = Counter()
            for (variant, comparator, match), number in list(each.tally.comparisons.items()):
                counts[self._variant(each.key, variant), self._word(names.COMPARISON_NAME, comparator), match] += number
            for (variant, comparator, match), number in counts.items():
                attributes: dict[str, str | bool] = {
                    names.KEY: each.key,
                    names.VARIANT: variant,
                    names.COMPARISON_NAME: comparator,
                    names.COMPARISON_MATCH: match,
                }
                yield Observation(number, attributes)

    def shadows(self) -> Iterable[Observation]:
        """Shadows that ended, so far."""
        for each in self._observed():
            counts: Counter[tuple[str, str]] = Counter()
            for (variant, end), number in list(each.tally.shadows.items()):
                counts[self._variant(each.key, variant), end] += number
            for (variant, end), number in counts.items():
                yield Observation(number, {names.KEY: each.key, names.VARIANT: variant, names.SHADOW_END: end})

    def dropped(self) -> Iterable[Observation]:
        """Shadows that did not finish, so far."""
        for each in self._observed():
            counts: Counter[tuple[str, str]] = Counter()
            for (variant, end), number in list(each.tally.shadows.items()):
                if end not in ("ok", "error"):
                    counts[self._variant(each.key, variant), names.drop_reason(end)] += number
            for (variant, reason), number in counts.items():
                yield Observation(number, {names.KEY: each.key, names.VARIANT: variant, names.DROP_REASON: reason})

    def active(self) -> Iterable[Observation]:
        """Running shadows."""
        for each in self._observed():
            counts: Counter[str] = Counter()
            for variant, number in each.active.items():
                counts[self._variant(each.key, variant)] += number
            for variant, number in counts.items():
                yield Observation(number, {names.KEY: each.key, names.VARIANT: variant})

    def transitions(self) -> Iterable[Observation]:
        """Starts and changes so far."""
        for each in self._observed():
            counts: Counter[tuple[str, str]] = Counter()
            for (action, status, judged), number in list(each.tally.transitions.items()):
                counts[names.transition_action(action, status), names.transition_reason(action, judged=judged)] += number
            for (action, reason), number in counts.items():
                attributes = {names.KEY: each.key, names.TRANSITION_ACTION: action, names.TRANSITION_REASON: reason}
                yield Observation(number, attributes)

    def weights(self) -> Iterable[Observation]:
        """Configured shares now."""
        for each in self._observed():
            for variant, share in each.shares.items():
                yield Observation(share, {names.KEY: each.key, names.VARIANT: self._variant(each.key, variant)})

    def lost(self) -> Iterable[Observation]:
        """Facts lost so far."""
        for why, number in self._lost().items():
            yield Observation(number, {names.LOSS_REASON: why})


def _of_all(
    sources: list[_Source], observe: Callable[[Metrics], Iterable[Observation]]
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    """Return a callback that observes every runtime that still exists."""

    def callback(_: CallbackOptions) -> Iterable[Observation]:
        living = [source for reference in list(sources) if (source := reference()) is not None]
        return chain.from_iterable(map(observe, living))

    return callback
