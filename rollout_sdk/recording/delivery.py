"""Delivery: what the recorder's thread does with facts. Each is counted, and handed to everybody who takes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from rollout_sdk.engine.answered_calls import AnsweredCalls, grouped
from rollout_sdk.engine.batches.decided_rows import DecidedRows
from rollout_sdk.engine.call import Call
from rollout_sdk.engine.shadows.ended import EndedRows, EndedShadow
from rollout_sdk.judging import AddOutcome, Evidence, add_shadowed
from rollout_sdk.recording.sinks import Change, Sinks
from rollout_sdk.records import BreakerEvent, RecordedEvent, RoutedEvent, ShadowedEvent, TransitionedEvent
from rollout_sdk.tally import Tally, rollout_of
from rollout_sdk.telemetry.audience import Audience
from rollout_sdk.telemetry.metrics import Metrics, RolloutMetrics
from rollout_sdk.telemetry.spans import Spans

if TYPE_CHECKING:
    from rollout_sdk.engine.rollout import Rollout

__all__ = ["Delivery"]

_MOST_TALLIES = 1_000
_CALLS = (Call, AnsweredCalls, DecidedRows)
_HOOK_OF = {
    RoutedEvent: "rollout_routed",
    ShadowedEvent: "rollout_shadowed",
    RecordedEvent: "rollout_recorded",
    TransitionedEvent: "rollout_transitioned",
    BreakerEvent: "rollout_tripped",
}


@frozen(eq=False)
class Unobserved:
    """An event that an observer has caused: it is counted and journalled, and no observer hears of it again."""

    event: RecordedEvent

    def drawn(self, rate: float) -> Unobserved | None:
        """See `RecordedEvent`."""
        kept = self.event.drawn(rate)
        return None if kept is None else Unobserved(kept)


@define(kw_only=True, eq=False)
class Delivery:
    """The rollouts of a runtime, and what is counted of them before facts are handed on. Used by the recorder's thread.

    Attributes:
        spans: Makes spans.
        audience: Who listens to telemetry.
        failed: Notified of every fault.
        time_ns: Wall clock, in nanoseconds since 1970.
        add_to_evidence: Takes what the facts of a rollout add to the evidence about it.
        never_came: How many facts never came here, and how many of these were of calls that were not drawn.
        draw_out: Counts facts of calls that are not drawn.
        sinks: Journal, log and observers.
        metrics: Keeps durations; None when metrics are off.
        rollouts: The rollouts by key, also those whose function is gone: their facts are delivered as long as they come.
        tallies: What is counted, by key.
        descriptions: What the journal says of each rollout, by key.
    """

    spans: Spans
    audience: Audience
    failed: Callable[..., None]
    time_ns: Callable[[], int]
    add_to_evidence: Callable[[str, Iterable[Callable[[Evidence], None]]], None]
    never_came: Callable[[], tuple[int, int]]
    draw_out: Callable[[int], None]
    sinks: Sinks = field(init=False)
    metrics: Metrics | None = None
    rollouts: dict[str, Rollout] = field(init=False, factory=dict)
    tallies: dict[str, Tally] = field(init=False, factory=dict)
    descriptions: dict[str, dict[str, Any]] = field(init=False, factory=dict)
    _started: set[str] = field(init=False, factory=set)

    def __attrs_post_init__(self) -> None:
        """Hand nothing on yet."""
        self.sinks = Sinks(failed=self.failed, events_of=self._each, never_came=self.never_came, trace=self.spans.transition)

    def register(self, rollout: Rollout) -> None:
        """Take a rollout in."""
        key, about = rollout.key, _about(rollout)
        self.rollouts[key] = rollout
        # As it begins: by the time of its first fact it may have moved on.
        if (replaced := self.descriptions.get(key)) != about:
            self.descriptions[key] = about
            if self.sinks.journal is not None:
                self.sinks.journal.begin_again(key, replaced)

    def tally(self, key: str) -> Tally:
        """The counts of one rollout in this process; those of too many that are not served here are counted together."""
        tally = self.tallies.get(key)
        if tally is not None:
            return tally
        # Without a key, anyone can make up decision ids, and with them names of rollouts.
        is_named = key in self.rollouts or len(self.tallies) < _MOST_TALLIES
        return self.tallies.setdefault(key if is_named else "_OTHER", Tally())

    def version(self, key: str, phase: str) -> str | None:
        """The version of a rollout in a phase, as spans say it; None when it is in another by now."""
        rollout = self.rollouts.get(key)
        if rollout is None or rollout.state.phase.name != phase:
            return None
        return self.spans.version(rollout.state.phase)

    def plugins(self, key: str) -> tuple[str, ...]:
        """Names of a rollout's plugins."""
        rollout = self.rollouts.get(key)
        return () if rollout is None else rollout.plugins

    def observed(self) -> Iterable[RolloutMetrics]:
        """What metrics are read from: how every rollout stands."""
        for rollout in list(self.rollouts.values()):
            # Candidates without a shadow at the moment are said to have none.
            active = Counter(dict.fromkeys(rollout.functions.keys() - {rollout.control}, 0))
            active.update(run.variant for run in rollout.active.copy())
            yield RolloutMetrics(
                rollout.key, rollout.strategy_name, self.tally(rollout.key), rollout.state.phase.all_shares, active
            )

    def renew(self) -> None:
        """Reset for a forked child: a new journal file, no counts, nothing reported."""
        self.tallies.clear()
        self._started.clear()
        for key, rollout in self.rollouts.items():
            self.descriptions[key] = _about(rollout)
            rollout.active.clear()
        self.sinks.renew()

    def guarded(self, name: str, action: Callable[..., Any], *arguments: Any) -> None:
        """Run an action that may fail in any way: the recorder's thread is never cancelled or interrupted."""
        try:
            action(*arguments)
        except BaseException as error:
            self.failed(name, error)

    def __call__(self, facts: list[Any]) -> None:
        """Count a batch of facts and add them to the evidence; then hand them to everybody who takes them."""
        if not self.audience.awake:
            # Of a process that records outcomes, and calls nothing.
            self.audience.look()
        facts = self._drawn(grouped(facts))
        unobserved = {id(fact.event) for fact in facts if fact.__class__ is Unobserved}
        changes = {id(fact.event): fact for fact in facts if fact.__class__ is Change}
        facts = [fact.event if fact.__class__ in (Unobserved, Change) else fact for fact in facts]
        facts = [event for fact in _ends_apart(facts) if (event := self._event_of(fact)) is not None]
        for fact in facts:
            self.guarded("tally", self._count, fact)
        self.guarded("judge", self._add_to_evidence, facts)
        if self.spans.events.has_results:
            for fact in facts:
                if fact.__class__ is RecordedEvent:
                    self.spans.recorded(fact)
        starts = self._starts(facts)
        for start in starts:
            self.guarded("tally", self._count, start)
        if self.metrics is not None and self.audience.measuring:
            self.guarded("telemetry.metrics", self.metrics.calls, _calls(facts))
        managed, heard = self._events(facts)
        self.guarded("recorder", self.sinks.write, managed)
        # In the journal, a start is the line about the rollout; for observers, nothing has changed.
        for start in starts:
            self.guarded("recorder", self.sinks.log, Change(start))
        for fact in heard:
            if id(fact) in unobserved:
                continue
            if fact.__class__ is not DecidedRows or any(map(self._is_for_log, fact.kinds)):
                self.guarded("recorder", self.sinks.log, changes.get(id(fact), fact))
            self.guarded("observers", self._observe, fact)

    def _drawn(self, facts: list[Any]) -> list[Any]:
        """The facts, of many rows only those that are drawn: here, because on the caller's path that would take long."""
        kept: list[Any] = []
        for fact in facts:
            if fact.__class__ not in (DecidedRows, EndedRows):
                kept.append(fact)
                continue
            thinned = fact.thinned()
            if thinned is not None:
                kept.append(thinned)
            if thinned is not fact and (missing := fact.weight - (0 if thinned is None else thinned.weight)):
                self.draw_out(missing)
        return kept

    def _starts(self, facts: Iterable[Any]) -> list[TransitionedEvent]:
        """The start of every rollout that is heard of for the first time in this process."""
        starts = []
        for fact in facts:
            key = _key_of(fact)
            if key is None or key in self._started or (about := self.descriptions.get(key)) is None:
                continue
            self._started.add(key)
            if fact.__class__ is TransitionedEvent and fact.action == "start":
                # It says so itself: it has taken another version's place.
                continue
            start = TransitionedEvent(
                rollout=key,
                strategy=about["strategy"],
                action="start",
                status=about["status"],
                revision=about["revision"],
                from_phase=None,
                to_phase=about["phase"],
                shares=about["shares"],
                actor="",
                reason="",
                # Of the fact, so that a change that was faster than this thread does not seem to come before the start.
                time_s=self._time_s(fact),
                version=about["version"],
                fingerprint=about["fingerprint"],
            )
            starts.append(start)
        return starts

    def _time_s(self, fact: Any) -> float:
        if fact.__class__ in _CALLS:
            return float(fact.time_ns / 1e9)
        return fact.time_s if fact.__class__ is TransitionedEvent else self.time_ns() / 1e9

    def _events(self, facts: list[Any]) -> tuple[list[Any], list[Any]]:
        """The facts as events, for the journal and for all others; for these, the rows of a batch are not taken apart yet.

        Calls without an interested sink are left out: an event costs more than its call.
        """
        managed: list[Any] = []
        heard: list[Any] = []
        for fact in facts:
            if fact.__class__ is AnsweredCalls:
                if self.sinks.journal is not None:
                    managed.append(fact)
                if self.audience.debugging or "rollout_routed" in fact.rollout.observers:
                    heard.extend(map(self._as_event, fact))
                continue
            if fact.__class__ is DecidedRows:
                if self.sinks.journal is not None:
                    managed.append(self._as_event(fact))
                if any(map(self._is_heard, fact.kinds)):
                    heard.append(fact)
                continue
            if fact.__class__ is Call:
                event = self._as_event(fact) if self.sinks.journal is not None or self._is_heard(fact) else None
            else:
                event = fact
            managed.append(event)
            if fact.__class__ is not Call or fact.observed:
                heard.append(event)
        return [event for event in managed if event is not None], [event for event in heard if event is not None]

    def _each(self, fact: Any) -> Iterable[Any]:
        """The events of a fact: of rows those that are heard, made where they are needed, because they take room."""
        if fact.__class__ is not DecidedRows:
            return (fact,)
        events = (self._as_event(row) for row in fact if self._is_heard(row))
        return (event for event in events if event is not None)

    def _is_heard(self, call: Call) -> bool:
        """Whether a log event or an observer wants to know of a call, and may."""
        return call.observed and (self._is_for_log(call) or "rollout_routed" in call.rollout.observers)

    def _is_for_log(self, call: Call) -> bool:
        return self.audience.debugging or _is_worth_telling(call)

    def _event_of(self, fact: Any) -> Any:
        """The fact, with the end of a shadow as its event."""
        return self._as_event(fact) if fact.__class__ is EndedShadow else fact

    def _as_event(self, fact: Call | DecidedRows | EndedShadow) -> Any:
        """Return the event of a fact; None if that fails, which must not affect the other facts."""
        try:
            if fact.__class__ is Call and fact.context is not None:
                # Rows of a batch share theirs, and no two threads can be in one at a time.
                fact.context = fact.context.copy()
                if fact.span_context is not None:
                    # So that a log event about the call has the trace of the call.
                    self.spans.enter(fact.context, fact.span_context)
            return fact.as_event()
        except Exception as error:
            self.failed("recorder.event", error)
            return None

    def _count(self, fact: Any) -> None:
        if fact.__class__ in _CALLS:
            fact.count_in(self.tally(fact.rollout.key))
        elif (key := rollout_of(fact)) is not None:
            self.tally(key).add(fact)

    def _add_to_evidence(self, facts: Iterable[Any]) -> None:
        """Have the judge see what the facts say about each rollout."""
        said: dict[str, list[Callable[[Evidence], None]]] = {}
        for fact in facts:
            if fact.__class__ in _CALLS:
                said.setdefault(fact.rollout.key, []).append(fact.add_to_evidence)
            elif fact.__class__ is RecordedEvent:
                said.setdefault(fact.rollout, []).append(AddOutcome(fact))
            elif fact.__class__ is ShadowedEvent and (rollout := self.rollouts.get(fact.decision.rollout)) is not None:
                exposure = rollout.exposure(fact.decision.phase)
                said.setdefault(rollout.key, []).append(partial(add_shadowed, event=fact, exposure=exposure))
        for key, testimonies in said.items():
            self.add_to_evidence(key, testimonies)

    def _observe(self, fact: Any) -> None:
        key = _key_of(fact)
        rollout = None if key is None else self.rollouts.get(key)
        if rollout is not None:
            hook = "rollout_routed" if fact.__class__ is DecidedRows else _HOOK_OF[type(fact)]
            self.sinks.observe(rollout.observers.get(hook, ()), fact)


def _is_worth_telling(call: Call) -> bool:
    """Whether a call is one for the log."""
    return call.served != call.decision.variant or call.unmeasured is not None


def _key_of(fact: Any) -> str | None:
    return fact.rollout.key if fact.__class__ in _CALLS else rollout_of(fact)


def _calls(facts: Iterable[Any]) -> list[Call]:
    """Return the calls among the facts."""
    calls: list[Call] = []
    for fact in facts:
        if fact.__class__ is AnsweredCalls:
            calls.extend(fact)
        elif fact.__class__ is DecidedRows:
            calls.extend(fact.timed())
        elif fact.__class__ is Call:
            calls.append(fact)
    return calls


def _ends_apart(facts: Iterable[Any]) -> Iterable[Any]:
    """The facts, with the ends of a shadow on several rows one by one."""
    for fact in facts:
        if fact.__class__ is EndedRows:
            yield from fact
        else:
            yield fact


def _about(rollout: Rollout) -> dict[str, Any]:
    return {**rollout.describe(), "revision": rollout.state.revision}
