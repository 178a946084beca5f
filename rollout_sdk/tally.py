"""Running counts of a rollout, kept by the single recorder thread: exact without a lock, in constant memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from attrs import Factory, define

from rollout_sdk.judging.ingest import has_two_answers, unit_cell
from rollout_sdk.judging.unit_sample import FirstPairs, first_pairs
from rollout_sdk.records import BreakerEvent, Decision, RecordedEvent, RoutedEvent, RoutedRows, ShadowedEvent, TransitionedEvent
from rollout_sdk.stats import bernoulli_interval

__all__ = ["QUANTILES", "Agreement", "Durations", "Tally", "failed_in_blend", "rollout_of"]

_MOST_WORDS = 1_000
_MOST_FIELDS = 100
_RAN = ("ok", "error")
QUANTILES = (0.5, 0.95, 0.99)
"""Of durations in the status."""
_STEP = math.log(1.05)
_SHORTEST_S, _LONGEST_S = 1e-7, 1e6


def _add(counter: Counter[Any], *key: Any, number: int = 1) -> None:
    """Add a number; under "_OTHER" if there are too many distinct keys, because classes and names can be created per call."""
    if len(counter) >= _MOST_WORDS and key not in counter:
        key = (*key[:-1], "_OTHER")
    counter[key] += number


def failed_in_blend(served: str, ends: Iterable[tuple[str, str | None]]) -> tuple[str, str] | None:
    """Return the candidate, with its error, whose failure made a blended call fall back to the control's own answer.

    Args:
        served: The variant that answered.
        ends: Variant, and error type or None, of each run.
    """
    failed = {variant: error for variant, error in ends if error is not None}
    # If the control itself failed, there was no answer.
    return None if served in failed else next(iter(failed.items()), None)


@define
class Durations:
    """How long the control and a candidate took for the same calls, in constant memory: counts by steps of 5 %."""

    calls: int = 0
    _control: Counter[int] = Factory(Counter)
    _candidate: Counter[int] = Factory(Counter)

    def add(self, control_s: float, candidate_s: float) -> None:
        """Add a call."""
        self.calls += 1
        for steps, duration_s in ((self._control, control_s), (self._candidate, candidate_s)):
            steps[math.floor(math.log(min(max(duration_s, _SHORTEST_S), _LONGEST_S)) / _STEP)] += 1

    def quantiles(self) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
        """The number of calls, and both arms' quantiles in seconds, each right to 2.5 %."""
        # Copied first: the recorder may go on counting.
        return self.calls, _quantiles(list(self._control.items())), _quantiles(list(self._candidate.items()))


def _quantiles(counts: list[tuple[int, int]]) -> tuple[float, ...]:
    counts.sort()
    total, passed = sum(number for _, number in counts), 0
    found: list[float] = []
    wanted = [q * total for q in QUANTILES]
    for step, number in counts:
        passed += number
        while len(found) < len(wanted) and passed >= wanted[len(found)]:
            found.append(math.exp((step + 0.5) * _STEP))
    return tuple(found)


@define
class Agreement:
    """How often a candidate's shadows agree with the control.

    Attributes:
        compared: Number of compared pairs.
        matching: Number of those that match.
        reasons: Pairs that do not match, by why.
        fields: Pairs, and those that match, of every field of `compare=Fields(...)`: at most 100, and "_OTHER".
        firsts: The first pair of every unit.
    """

    compared: int = 0
    matching: int = 0
    reasons: Counter[tuple[str]] = Factory(Counter)
    fields: dict[str, tuple[int, int]] = Factory(dict)
    firsts: FirstPairs = Factory(FirstPairs)

    def add(self, event: ShadowedEvent) -> None:
        """Add a compared pair."""
        assert event.comparison is not None
        match = event.comparison.match
        self.compared += 1
        self.matching += match
        if not match:
            _add(self.reasons, event.comparison.reason or "unknown")
        for path, field in event.comparison.fields.items():
            name = path if path in self.fields or len(self.fields) < _MOST_FIELDS else "_OTHER"
            pairs, matching = self.fields.get(name, (0, 0))
            self.fields[name] = pairs + 1, matching + field.match
        minute = int(event.decision.time_s // 60)
        self.firsts.add(unit_cell(event.unit, event.decision.id), minute, differs=not match)

    def interval(self) -> tuple[float, float]:
        """A 95 % interval for the share of units that agree, from their first pairs; it holds at every look."""
        differing, units = first_pairs([self.firsts])
        low, high = bernoulli_interval(differing, units)
        return 1 - high, 1 - low


@define
class Tally:
    """Counts of one rollout in this process.

    Attributes:
        decisions: Calls by (phase, variant, reason, excluded).
        errors: Failed runs by (variant, error type).
        fallbacks: Calls that the control answered instead of the variant, by (variant, error type or why it was withheld).
        shadows: Ends of shadow runs by (variant, end).
        comparisons: Shadow comparisons by (variant, comparator, match).
        outcomes: Recorded outcomes by metric.
        transitions: Transitions by (action, status after it, whether a verdict caused it).
        unmeasured: Calls whose answers could not be measured, by (variant, class of the answer).
        agreement: Agreement of each candidate's shadows with the control.
        durations: For each candidate, how long the control and its shadow took for the same calls.
        not_copied: Shadow runs without a copy of their input, by (variant, why).
        trips: Openings and closings of circuit breakers by (variant, action).
    """

    decisions: Counter[tuple[str, str, str, bool]] = Factory(Counter)
    errors: Counter[tuple[str, str]] = Factory(Counter)
    fallbacks: Counter[tuple[str, str]] = Factory(Counter)
    shadows: Counter[tuple[str, str]] = Factory(Counter)
    comparisons: Counter[tuple[str, str, bool]] = Factory(Counter)
    outcomes: Counter[str] = Factory(Counter)
    transitions: Counter[tuple[str, str, bool]] = Factory(Counter)
    unmeasured: Counter[tuple[str, str]] = Factory(Counter)
    agreement: dict[str, Agreement] = Factory(dict)
    durations: dict[str, Durations] = Factory(dict)
    not_copied: Counter[tuple[str, str]] = Factory(Counter)
    trips: Counter[tuple[str, str]] = Factory(Counter)

    def add_call(
        self,
        decision: Decision,
        phase: str,
        served: str,
        runs: Sequence[tuple[str, float, str | None, float | None]],
        withheld: str | None,
        *,
        excluded: bool,
        number: int = 1,
    ) -> None:
        """Count one call, or so many rows of a batch that were treated alike."""
        self.decisions[phase, decision.variant, decision.reason, excluded] += number
        for run in runs:
            if run[2] is not None:
                _add(self.errors, run[0], run[2], number=number)
        if served == decision.variant or not runs:
            return
        if not decision.blend:
            _add(self.fallbacks, decision.variant, withheld or runs[0][2] or "_OTHER", number=number)
        elif (failed := failed_in_blend(served, ((run[0], run[2]) for run in runs))) is not None:
            _add(self.fallbacks, *failed)

    def add_answered(self, phase: str, decision: Decision, number: int) -> None:
        """Count analysed calls that the assigned variant has answered."""
        self.decisions[phase, decision.variant, decision.reason, False] += number

    def add_unmeasured(self, variant: str, answer: str) -> None:
        """Count a call whose answer could not be measured."""
        _add(self.unmeasured, variant, answer)

    def add(self, event: object) -> None:
        """Count an event other than a call."""
        if isinstance(event, ShadowedEvent):
            self._add_shadowed(event)
        elif isinstance(event, RecordedEvent):
            metric = event.metric if event.metric in self.outcomes or len(self.outcomes) < _MOST_WORDS else "_OTHER"
            self.outcomes[metric] += 1
        elif isinstance(event, TransitionedEvent):
            self.transitions[event.action, event.status, event.evidence is not None] += 1
        elif isinstance(event, BreakerEvent):
            self.trips[event.variant, event.action] += 1

    def _add_shadowed(self, event: ShadowedEvent) -> None:
        self.shadows[event.variant, event.end] += 1
        if event.end == "dropped_snapshot" and event.error is not None:
            _add(self.not_copied, event.variant, event.error)
        if event.comparison is not None:
            name = event.comparison.name if len(self.comparisons) < _MOST_WORDS else "_OTHER"
            self.comparisons[event.variant, name, event.comparison.match] += 1
        if event.variant == event.decision.variant or event.excluded:
            return
        if event.comparison is not None and has_two_answers(event):
            self.agreement.setdefault(event.variant, Agreement()).add(event)
        if event.end in _RAN and event.duration_s is not None and event.control_duration_s is not None:
            found = self.durations.get(event.variant) or self.durations.setdefault(event.variant, Durations())
            found.add(event.control_duration_s, event.duration_s)

    def differences(self) -> dict[tuple[str, str], int]:
        """Pairs that do not match, by candidate and why."""
        agreement = list(self.agreement.items())
        return {(name, why): number for name, each in agreement for (why,), number in list(each.reasons.items())}

    def fields(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Pairs, and those that match, by candidate and field."""
        return {(name, path): found for name, each in list(self.agreement.items()) for path, found in list(each.fields.items())}

    def realised(self, phase: str) -> dict[str, float]:
        """Return the share of every variant among the analysed calls of a phase."""
        counts: Counter[str] = Counter()
        for (name, variant, _, excluded), number in list(self.decisions.items()):
            if name == phase and not excluded:
                counts[variant] += number
        total = counts.total()
        return {variant: number / total for variant, number in counts.items()}


def rollout_of(event: object) -> str | None:
    """Return the key of an event's rollout; None for other objects."""
    if isinstance(event, RoutedEvent | ShadowedEvent):
        return event.decision.rollout
    if isinstance(event, RecordedEvent | TransitionedEvent | BreakerEvent):
        return event.rollout
    if isinstance(event, RoutedRows):
        return event.like[0].decision.rollout
    return None
