"""What rollouts share: the journal, telemetry, shadow workers, clock and key of a process."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from attrs import define, field

from rollout_sdk.engine.background import Background
from rollout_sdk.engine.call import Call
from rollout_sdk.engine.rollout import Nonces, Rollout, ShadowLimits
from rollout_sdk.engine.shadow import EndedShadow
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.forking import renew_after_fork
from rollout_sdk.journal.schema import SCHEMA, as_record, encode
from rollout_sdk.journal.writer import JournalWriter
from rollout_sdk.plugins import PluginSet, load_named
from rollout_sdk.recorder import Fault, Recorder
from rollout_sdk.records import RecordedEvent, RoutedEvent, ShadowedEvent, TransitionedEvent
from rollout_sdk.tally import Tally
from rollout_sdk.telemetry.audience import Audience
from rollout_sdk.telemetry.events import LogEvents
from rollout_sdk.telemetry.metrics import Metrics
from rollout_sdk.telemetry.settings import Telemetry
from rollout_sdk.telemetry.spans import Spans

if TYPE_CHECKING:
    from rollout_sdk.control.state import Standing
    from rollout_sdk.controller import RolloutController

__all__ = ["Runtime", "default_runtime"]

_LONGEST_KEY = 64
_HOOK_OF = {
    RoutedEvent: "rollout_routed",
    ShadowedEvent: "rollout_shadowed",
    RecordedEvent: "rollout_recorded",
    TransitionedEvent: "rollout_transitioned",
}


def _as_key(value: str | bytes | None) -> bytes | None:
    if value is None:
        return None
    key = value.encode() if isinstance(value, str) else value
    if not 0 < len(key) <= _LONGEST_KEY:
        raise ConfigurationError(
            f"The runtime's key has {len(key)} bytes. A key has 1 to {_LONGEST_KEY}. "
            "Make one with: python -c 'import secrets; print(secrets.token_hex(16))'"
        )
    return key


def _as_tuple(plugins: Sequence[object]) -> tuple[object, ...]:
    # A text is a sequence, too: of letters, which are no plugins.
    if isinstance(plugins, str):
        raise ConfigurationError(
            f"plugins={plugins!r:.60} of Runtime is no list. It lists plugins, or names of installed ones. Write plugins=[...]."
        )
    return tuple(plugins)


@define(kw_only=True, eq=False)
class Runtime:
    """What the rollouts of a process share. Make one, pass it as `runtime=`, and close it at the end (or leave that to exit).

    Attributes:
        journal: Folder of the journal; None keeps no journal.
        key: Secret of up to 64 bytes. With it, nobody can choose ids that fall into an arm, and decision ids are signed;
            every process of the service needs the same.
        telemetry: Which spans, metrics and log events are emitted.
        shadows: What shadows may cost.
        plugins: Observers and comparators for all rollouts: instances, or names of installed plugins.
        exit_deadline_s: Seconds that the end of the process may take for what still waits.
        time_ns: Wall clock, in nanoseconds since 1970.
    """

    journal: str | os.PathLike[str] | None = None
    key: bytes | None = field(default=None, converter=_as_key, repr=False)
    telemetry: Telemetry = field(factory=Telemetry)
    shadows: ShadowLimits = field(factory=ShadowLimits)
    plugins: Sequence[object] = field(default=(), converter=_as_tuple)
    exit_deadline_s: float = 1.0
    time_ns: Callable[[], int] = time.time_ns
    rollouts: WeakValueDictionary[str, RolloutController[..., Any]] = field(init=False, repr=False)
    nonces: Nonces = field(init=False, factory=Nonces, repr=False)
    background: Background = field(init=False, repr=False)
    spans: Spans = field(init=False, repr=False)
    recorder: Recorder = field(init=False, repr=False)
    _parts: dict[str, Rollout] = field(init=False, factory=dict, repr=False)
    _tallies: dict[str, Tally] = field(init=False, factory=dict, repr=False)
    _faults: dict[tuple[str, str], itertools.count[int]] = field(init=False, factory=dict, repr=False)
    audience: Audience = field(init=False, repr=False)
    _writer: JournalWriter | None = field(init=False, default=None, repr=False)
    _metrics: Metrics | None = field(init=False, default=None, repr=False)
    _log_events: LogEvents | None = field(init=False, default=None, repr=False)
    _lost: int = field(init=False, default=0, repr=False)
    _headed: set[str] = field(init=False, factory=set, repr=False)

    def __attrs_post_init__(self) -> None:
        """Put the parts together; no thread starts and no file is made before the first call."""
        self.rollouts = WeakValueDictionary()
        self.plugins = tuple(load_named(plugin) if isinstance(plugin, str) else plugin for plugin in self.plugins)
        PluginSet(self.plugins, failed=self.failed)  # a plugin that does not fit is an error now, not at the first event
        self.background = Background(self.shadows)
        self.spans = Spans(self.telemetry, self.failed)
        self.audience = Audience(self.telemetry)
        self._writer = None if self.journal is None else JournalWriter(self.journal)
        self._metrics = Metrics(self.telemetry, self._observed) if self.telemetry.metrics else None
        self._log_events = LogEvents() if self.telemetry.logs else None
        self.recorder = Recorder(self._deliver, failed=self.failed, tick=self._tick, exit_deadline_s=self.exit_deadline_s)
        self.recorder.on_close = self.background.close
        self.recorder.on_hidden_fork = self.renew
        renew_after_fork(self)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Runtime:
        """A runtime of `ROLLOUT_JOURNAL` (a folder) and `ROLLOUT_KEY` (a secret)."""
        return cls(journal=environment.get("ROLLOUT_JOURNAL") or None, key=environment.get("ROLLOUT_KEY") or None)

    def renew(self) -> None:
        """In a forked child: other decision ids, another journal file."""
        self.nonces.renew()
        self._tallies.clear()
        self._headed.clear()
        if self._writer is not None:
            self._writer.renew()

    def failed(self, what: str, error: BaseException) -> None:
        """Count a collaborator's fault, and have it logged at most once a minute; never raises."""
        kind = type(error).__qualname__
        next(self._faults.setdefault((what, kind), itertools.count()))
        # The logger itself may be what fails: its faults are counted only.
        if what != "telemetry.logs":
            self.recorder.put(Fault(what, kind))

    @property
    def faults(self) -> dict[tuple[str, str], int]:
        """Faults of collaborators so far, by (what failed, class of exception)."""
        return {fault: int(number.__reduce__()[1][0]) for fault, number in list(self._faults.items())}

    def register(self, controller: RolloutController[..., Any], rollout: Rollout) -> None:
        """Take a rollout in. Its facts are told for as long as they come, even when its function is gone by then."""
        self.rollouts[controller.key] = controller
        self._parts[controller.key] = rollout

    def standing(self, key: str) -> Standing | None:
        """Where the last rollout of this key stands, also when its function is gone; None when there was none."""
        rollout = self._parts.get(key)
        return None if rollout is None else rollout.standing

    def tally(self, key: str) -> Tally:
        """The counts of one rollout in this process."""
        tally = self._tallies.get(key)
        return self._tallies.setdefault(key, Tally()) if tally is None else tally

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until shadows in threads have ended and every fact so far is in the journal; False when time ran out."""
        deadline = time.monotonic() + timeout_s
        shadows = self.background.wait(timeout_s)
        return self.recorder.flush(max(0.0, deadline - time.monotonic())) and shadows

    def close(self, timeout_s: float | None = None) -> None:
        """End the shadows and deliver what waits, within so many seconds (`exit_deadline_s`); then nothing is recorded."""
        self.recorder.close(self.exit_deadline_s if timeout_s is None else timeout_s)
        if self._writer is not None:
            self._writer.close()

    def _observed(self) -> Iterable[tuple[str, str, Tally, Mapping[str, float]]]:
        for rollout in list(self._parts.values()):
            yield rollout.key, rollout.strategy_name, self.tally(rollout.key), rollout.state.phase.all_shares

    def _deliver(self, facts: list[Any]) -> None:
        """Hand a batch of facts to everybody who takes them, each behind its own guard; in the recorder's thread."""
        facts = [told for fact in facts if (told := self._told(fact)) is not None]
        calls = [fact for fact in facts if fact.__class__ is Call]
        self._guarded("tally", lambda: self._count(facts))
        if self._metrics is not None and self.audience.measuring and calls:
            self._guarded("telemetry.metrics", partial(self._metrics.calls, calls))
        events = self._events(facts)
        if not events:
            return
        if self._writer is not None:
            self._guarded("journal", lambda: self._write(events))
        if self._log_events is not None:
            self._guarded("telemetry.logs", partial(self._log_events, events))
        self._guarded("observers", lambda: self._observe(events))

    def _events(self, facts: list[Any]) -> list[Any]:
        """The facts as events, without the calls that nobody wants to hear of: an event costs more than its call."""
        everything = self._writer is not None or self.audience.debugging
        events = []
        for fact in facts:
            if fact.__class__ is not Call:
                events.append(fact)
            elif everything or fact.served != fact.decision.variant or "rollout_routed" in fact.rollout.observers:
                events.append(self._as_event(fact))
        return [event for event in events if event is not None]

    def _told(self, fact: Any) -> Any:
        """The fact, with the end of a shadow as its event."""
        return self._as_event(fact) if fact.__class__ is EndedShadow else fact

    def _as_event(self, fact: Call | EndedShadow) -> Any:
        """The event of a fact; None when it cannot be told, which must not take the others with it."""
        try:
            return fact.as_event()
        except Exception as error:
            self.failed("recorder.event", error)
            return None

    def _guarded(self, name: str, action: Callable[[], Any]) -> None:
        try:
            action()
        except (Exception, SystemExit) as error:
            self.failed(name, error)

    def _tick(self) -> None:
        self.background.watch()
        self.audience.look()

    def _count(self, facts: Sequence[Any]) -> None:
        for fact in facts:
            if fact.__class__ is Call:
                fact.count_in(self.tally(fact.rollout.key))
            elif (key := _rollout_of(fact)) is not None:
                self.tally(key).add(fact)

    def _write(self, events: Sequence[Any]) -> None:
        assert self._writer is not None
        lines = []
        for event in events:
            key = _rollout_of(event)
            if key is None:
                continue
            if key not in self._headed and (rollout := self._parts.get(key)) is not None:
                lines.append(encode({"event": "rollout", "v": SCHEMA, "t": round(time.time(), 6), **rollout.describe()}))
                self._headed.add(key)
            lines.append(encode(as_record(event)))
        dropped = self.recorder.dropped
        if dropped > self._lost:
            lines.append(encode({"event": "lost", "v": SCHEMA, "t": round(time.time(), 6), "count": dropped - self._lost}))
            self._lost = dropped
        if lines:
            self._writer.write(lines)

    def _observe(self, events: Sequence[Any]) -> None:
        for event in events:
            key = _rollout_of(event)
            rollout = None if key is None else self._parts.get(key)
            observer = None if rollout is None else rollout.observers.get(_HOOK_OF[type(event)])
            if observer is not None:
                observer(event)


def _rollout_of(event: Any) -> str | None:
    """Key of the rollout that an event is about; None for what is no event of a rollout."""
    if isinstance(event, RoutedEvent | ShadowedEvent):
        return event.decision.rollout
    if isinstance(event, RecordedEvent | TransitionedEvent):
        return event.rollout
    return None


_default: Runtime | None = None


def default_runtime() -> Runtime:
    """The runtime of every rollout that names none: built at the first use, from the environment."""
    global _default  # noqa: PLW0603 - the one global of the package
    if _default is None:
        _default = Runtime.from_environment()
    return _default
