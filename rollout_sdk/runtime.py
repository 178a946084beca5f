"""What rollouts share: the journal, telemetry, shadow workers, clock and key of a process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakValueDictionary

from attrs import define, evolve, field, fields

from rollout_sdk.control.file import ControlFile, WantedRollout
from rollout_sdk.engine.background import Background
from rollout_sdk.engine.call import Call
from rollout_sdk.engine.rollout import Nonces, Rollout, ShadowLimits
from rollout_sdk.engine.shadow import EndedShadow
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.forking import renew_after_fork
from rollout_sdk.journal.sink import JournalSink
from rollout_sdk.journal.writer import JournalWriter
from rollout_sdk.plugins import PluginSet, load_named
from rollout_sdk.recorder import Count, Fault, Recorder
from rollout_sdk.records import BreakerEvent, RecordedEvent, RoutedEvent, ShadowedEvent, TransitionedEvent
from rollout_sdk.tally import Tally, rollout_of
from rollout_sdk.telemetry.audience import Audience
from rollout_sdk.telemetry.events import LogEvents
from rollout_sdk.telemetry.metrics import Metrics
from rollout_sdk.telemetry.settings import Telemetry
from rollout_sdk.telemetry.spans import Spans

if TYPE_CHECKING:
    from rollout_sdk.control.state import Standing
    from rollout_sdk.controller import RolloutController

__all__ = ["Runtime", "default_runtime"]

_CONTROL_FILE = "control file"
_LONGEST_KEY = 64
_TELL_A_FAULT_EVERY_S = 60.0
_MOST_FAULTS = 1_000
_HOOK_OF = {
    RoutedEvent: "rollout_routed",
    ShadowedEvent: "rollout_shadowed",
    RecordedEvent: "rollout_recorded",
    TransitionedEvent: "rollout_transitioned",
    BreakerEvent: "rollout_tripped",
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


@define
class _Faults:
    """How often something failed in one way, and when that was last told."""

    count: Count = field(factory=Count)
    told_s: float = float("-inf")


@define(kw_only=True, eq=False)
class Runtime:
    """What the rollouts of a process share. Make one, pass it as `runtime=`, and close it at the end (or leave that to exit).

    Attributes:
        journal: Folder of the journal; None keeps no journal.
        key: Secret of up to 64 bytes. With it, nobody can choose ids that fall into an arm, and decision ids are signed;
            every process of the service needs the same.
        telemetry: Which spans, metrics and log events are emitted.
        shadows: What shadows may cost.
        control: A control file, by which an operator steers running processes: see `rollout_sdk.control.file`.
        plugins: Observers and comparators for all rollouts: instances, or names of installed plugins.
        exit_deadline_s: Seconds that the end of the process may take for what still waits.
        durability: When a call's line is in the journal: "flush" (within a second, in the background; what came last is lost
            on a kill -9), or "call" (before the call returns, which then takes as long as a write: up to a second when the
            disk hangs, and on an event loop nothing else runs meanwhile).
        time_ns: Wall clock, in nanoseconds since 1970.
    """

    journal: str | os.PathLike[str] | None = None
    key: bytes | None = field(default=None, converter=_as_key, repr=False)
    telemetry: Telemetry = field(factory=Telemetry)
    shadows: ShadowLimits = field(factory=ShadowLimits)
    control: str | os.PathLike[str] | None = None
    plugins: Sequence[object] = field(default=(), converter=_as_tuple)
    exit_deadline_s: float = 1.0
    durability: Literal["flush", "call"] = "flush"
    time_ns: Callable[[], int] = time.time_ns
    rollouts: WeakValueDictionary[str, RolloutController[..., Any]] = field(init=False, repr=False)
    nonces: Nonces = field(init=False, factory=Nonces, repr=False)
    background: Background = field(init=False, repr=False)
    spans: Spans = field(init=False, repr=False)
    conclude: Callable[[Any], None] = field(init=False, repr=False)
    recorder: Recorder = field(init=False, repr=False)
    _origin: str = field(init=False, factory=lambda: os.urandom(8).hex(), repr=False)
    _parts: dict[str, Rollout] = field(init=False, factory=dict, repr=False)
    _tallies: dict[str, Tally] = field(init=False, factory=dict, repr=False)
    _abouts: dict[str, dict[str, Any]] = field(init=False, factory=dict, repr=False)
    _started: set[str] = field(init=False, factory=set, repr=False)
    _faults: dict[tuple[str, str], _Faults] = field(init=False, factory=dict, repr=False)
    audience: Audience = field(init=False, repr=False)
    _control: ControlFile | None = field(init=False, default=None, repr=False)
    _journal: JournalSink | None = field(init=False, default=None, repr=False)
    _metrics: Metrics | None = field(init=False, default=None, repr=False)
    _log_events: LogEvents | None = field(init=False, default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        """Put the parts together; no thread starts and no file is made before the first call."""
        self.rollouts = WeakValueDictionary()
        if self.durability not in ("flush", "call"):
            raise ConfigurationError(
                f"durability={self.durability!r:.60} of Runtime is unknown. It must be 'flush' or 'call'. See Runtime."
            )
        self.plugins = tuple(load_named(plugin) if isinstance(plugin, str) else plugin for plugin in self.plugins)
        PluginSet(self.plugins, failed=self.failed)  # a plugin that does not fit is an error now, not at the first event
        self.background = Background(self.shadows)
        self.spans = Spans(self.telemetry, self.failed)
        self.audience = Audience(self.telemetry, self.failed)
        if self.control is not None:
            self._control = ControlFile(self.control)
        if self.journal is not None:
            self._journal = JournalSink(JournalWriter(self.journal), describe=self._abouts.get, failed=self.failed)
        self._metrics = Metrics(self.telemetry, self._observed) if self.telemetry.metrics else None
        self._log_events = LogEvents(self._abouts.get, self.failed) if self.telemetry.logs else None
        waits: dict[str, Any] = {"gather_s": 0.0} if self.durability == "call" else {}
        self.recorder = Recorder(
            self._deliver, failed=self.failed, tick=self._tick, exit_deadline_s=self.exit_deadline_s, **waits
        )
        self.conclude = self.recorder.put_and_wait if waits else self.recorder.put
        self.recorder.on_close = self.background.close
        self.recorder.on_hidden_fork = self.renew
        renew_after_fork(self)
        _runtimes[self._origin] = self

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Runtime:
        """A runtime of `ROLLOUT_JOURNAL` (a folder), `ROLLOUT_CONTROL` (a control file) and `ROLLOUT_KEY` (a secret)."""
        return cls(
            journal=environment.get("ROLLOUT_JOURNAL") or None,
            control=environment.get("ROLLOUT_CONTROL") or None,
            key=environment.get("ROLLOUT_KEY") or None,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its settings; each process has one runtime for it, with that process's own telemetry providers."""
        telemetry = evolve(self.telemetry, tracer_provider=None, meter_provider=None)
        options = {each.name: getattr(self, each.name) for each in fields(type(self)) if each.init}
        return _restored, (type(self), self._origin, self is _default, {**options, "telemetry": telemetry})

    def renew(self) -> None:
        """In a forked child: other decision ids, another journal file, nothing counted or told yet."""
        self.nonces.renew()
        self._tallies.clear()
        self._faults.clear()
        self._started.clear()
        for key, rollout in self._parts.items():
            self._abouts[key] = _about(rollout)
        if self._journal is not None:
            self._journal.renew()

    def failed(self, what: str, error: BaseException) -> None:
        """Count a collaborator's fault, and have it logged at most once a minute; never raises."""
        # Whoever calls this is handling a fault: there is nobody left to tell of another.
        with suppress(Exception, SystemExit):
            self._note_fault(what, error)

    def _note_fault(self, what: str, error: BaseException) -> None:
        kind = type(error).__qualname__
        faults = self._faults.get((what, kind))
        if faults is None:
            # Classes can be made at run time: what is remembered of them stays bounded.
            kind = kind if len(self._faults) < _MOST_FAULTS else "_OTHER"
            faults = self._faults.setdefault((what, kind), _Faults())
        faults.count.add()
        now = time.monotonic()
        # Told now and then only, because what fails on every call would crowd out the calls themselves. And the logger may
        # be what fails: its faults are counted only.
        if now - faults.told_s >= _TELL_A_FAULT_EVERY_S and what != "telemetry.logs":
            faults.told_s = now
            why = str(error) if what == _CONTROL_FILE else None
            self.recorder.tell(Fault(what, kind, int(faults.count), why))

    @property
    def faults(self) -> dict[tuple[str, str], int]:
        """Faults of collaborators so far, by (what failed, class of exception)."""
        return {fault: int(faults.count) for fault, faults in list(self._faults.items())}

    def register(self, controller: RolloutController[..., Any], rollout: Rollout) -> None:
        """Take a rollout in. Its facts are told for as long as they come, even when its function is gone by then."""
        key, about = controller.key, _about(rollout)
        self.rollouts[key] = controller
        self._parts[key] = rollout
        # As it begins: by the time of its first fact it may have moved on.
        if self._abouts.get(key) != about:
            self._abouts[key] = about
            if self._journal is not None:
                self._journal.begin_again(key)

    def steer(self, controller: RolloutController[..., Any]) -> None:
        """Have a rollout do what the control file wants, if there is one."""
        if self._control is None:
            return
        wanted = self._control.wanted
        try:
            controller.follow(
                disabled=wanted.disabled,
                wanted=wanted.rollouts.get(controller.key, WantedRollout()),
                version=wanted.version,
            )
        except (Exception, SystemExit) as error:
            self.failed(_CONTROL_FILE, error)

    def _look_at_control(self) -> None:
        if self._control is not None and self._control.poll():
            for controller in list(self.rollouts.values()):
                self.steer(controller)

    def standing(self, key: str) -> Standing | None:
        """Where the last rollout of this key stands, also when its function is gone; None when there was none."""
        rollout = self._parts.get(key)
        return None if rollout is None else rollout.standing

    def tally(self, key: str) -> Tally:
        """The counts of one rollout in this process."""
        tally = self._tallies.get(key)
        return self._tallies.setdefault(key, Tally()) if tally is None else tally

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until shadows in threads have ended and every fact so far is in the journal; False when time ran out.

        In the recorder's own thread (an observer), it does not wait.
        """
        if self.recorder.is_current:
            return self.recorder.flush(0.0)
        deadline = time.monotonic() + timeout_s
        shadows = self.background.wait(timeout_s)
        return self.recorder.flush(max(0.0, deadline - time.monotonic())) and shadows

    def close(self, timeout_s: float | None = None) -> None:
        """End the shadows and deliver what waits, within so many seconds (`exit_deadline_s`); then nothing is recorded."""
        done = self.recorder.close(self.exit_deadline_s if timeout_s is None else timeout_s)
        # While the recorder still writes, closing its file could send its lines into somebody else's.
        if (journal := self._journal) is not None and done:
            self._guarded("journal", lambda: journal.close())  # noqa: PLW0108 - looked up behind the guard

    def _observed(self) -> Iterable[tuple[str, str, Tally, Mapping[str, float]]]:
        for rollout in list(self._parts.values()):
            yield rollout.key, rollout.strategy_name, self.tally(rollout.key), rollout.state.phase.all_shares

    def _deliver(self, facts: list[Any]) -> None:
        """Hand a batch of facts to everybody who takes them, each behind its own guard; in the recorder's thread."""
        facts = [told for fact in facts if (told := self._told(fact)) is not None]
        starts = self._starts(facts)
        for fact in (*starts, *facts):
            self._guarded("tally", self._count, fact)
        calls = [fact for fact in facts if fact.__class__ is Call]
        if self._metrics is not None and self.audience.measuring:
            self._guarded("telemetry.metrics", self._metrics.calls, calls)
        events = self._events(facts)
        # In the journal, a start is the line about the rollout; for observers, nothing has changed.
        if self._journal is not None:
            self._guarded("journal", self._journal, events, self.recorder.dropped)
        if self._log_events is not None:
            for event in (*starts, *events):
                self._guarded("telemetry.logs", self._log_events, event)
        for event in events:
            self._guarded("observers", self._observe, event)

    def _starts(self, facts: Iterable[Any]) -> list[TransitionedEvent]:
        """The start of every rollout that is heard of for the first time in this process."""
        starts = []
        for fact in facts:
            key = _key_of(fact)
            if key is None or key in self._started or (about := self._abouts.get(key)) is None:
                continue
            self._started.add(key)
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
                time_s=self.time_ns() / 1e9,
            )
            self.spans.transition(start, {})
            starts.append(start)
        return starts

    def _events(self, facts: list[Any]) -> list[Any]:
        """The facts as events, without the calls that nobody wants to hear of: an event costs more than its call."""
        everything = self._journal is not None or self.audience.debugging
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
            if fact.__class__ is Call and fact.context is not None and fact.span_context is not None:
                # So that a log event about the call has the trace of the call.
                self.spans.enter(fact.context, fact.span_context)
            return fact.as_event()
        except Exception as error:
            self.failed("recorder.event", error)
            return None

    def _guarded(self, name: str, action: Callable[..., Any], *arguments: Any) -> None:
        try:
            action(*arguments)
        # Of any kind: nobody cancels or interrupts the recorder's thread.
        except BaseException as error:
            self.failed(name, error)

    def _tick(self) -> None:
        self.background.watch()
        self.audience.look()
        self._guarded(_CONTROL_FILE, self._look_at_control)
        if self._journal is not None:
            # What could not be written is told as soon as it can be, also when nothing happens any more.
            self._guarded("journal", self._journal, (), self.recorder.dropped)

    def _count(self, fact: Any) -> None:
        if fact.__class__ is Call:
            fact.count_in(self.tally(fact.rollout.key))
        elif (key := rollout_of(fact)) is not None:
            self.tally(key).add(fact)

    def _observe(self, event: Any) -> None:
        key = rollout_of(event)
        rollout = None if key is None else self._parts.get(key)
        observer = None if rollout is None else rollout.observers.get(_HOOK_OF[type(event)])
        if observer is not None:
            observer(event)


def _key_of(fact: Any) -> str | None:
    return fact.rollout.key if fact.__class__ is Call else rollout_of(fact)


def _about(rollout: Rollout) -> dict[str, Any]:
    return {**rollout.describe(), "revision": rollout.state.revision}


_default: Runtime | None = None
_runtimes: WeakValueDictionary[str, Runtime] = WeakValueDictionary()
"""Every runtime by where it came from, so that what is unpickled twice is one."""

_publishing = threading.Lock()


def _restored(kind: type[Runtime], origin: str, is_default: bool, options: Mapping[str, Any]) -> Runtime:  # noqa: FBT001 - pickle
    """The runtime of this process for one that was pickled, here or elsewhere."""
    known = _runtimes.get(origin)
    if known is None:
        if is_default:
            return default_runtime()
        known = kind(**options)
        known._origin = origin  # noqa: SLF001 - its own module
        known = _runtimes.setdefault(origin, known)
    return known


def default_runtime() -> Runtime:
    """The runtime of every rollout that names none: built at the first use, from the environment."""
    global _default  # noqa: PLW0603 - the one global of the package
    if _default is None:
        built = Runtime.from_environment()
        # Two threads may both build one; both get the first, and the other is forgotten before anything starts in it.
        with _publishing:
            _default = built if _default is None else _default
    return _default
