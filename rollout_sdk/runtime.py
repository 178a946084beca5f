"""What rollouts share: the journal, telemetry, shadow workers, clock and key of a process."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakValueDictionary

from attrs import define, evolve, field, fields

from rollout_sdk.concurrency.clocks import is_wall_clock, monotonic, monotonic_ns, time_ns
from rollout_sdk.concurrency.forking import ForkSafeLock, renew_after_fork, was_announced
from rollout_sdk.concurrency.threads import WatchThread, missing_threads
from rollout_sdk.control.control_file import ControlFile
from rollout_sdk.control.plane import ControlPlane
from rollout_sdk.control.reconciler import Reconciler
from rollout_sdk.control.roles import as_allowed
from rollout_sdk.control.steering import Steered, Steering
from rollout_sdk.control.stores import GuardedStore, MemoryStore, StateStore, UnavailableStore
from rollout_sdk.control.stores.opening import store_at
from rollout_sdk.engine.context import OBSERVING, in_shadow
from rollout_sdk.engine.rollout import Nonces, Rollout, ShadowLimits
from rollout_sdk.engine.shadows.hidden import Hidden
from rollout_sdk.engine.shadows.pool import ShadowPool
from rollout_sdk.engine.stopping import wait_for_starts
from rollout_sdk.exceptions import ConfigurationError, RolloutError
from rollout_sdk.journal.sink import JournalSink
from rollout_sdk.journal.writer import JournalWriter
from rollout_sdk.plugins.discovery import load_named
from rollout_sdk.plugins.manager import PluginSet
from rollout_sdk.recording.delivery import Delivery, Unobserved
from rollout_sdk.recording.recorder import Recorder
from rollout_sdk.recording.sinks import Change
from rollout_sdk.records import RecordedEvent, TransitionedEvent
from rollout_sdk.resilience.faults import CONTROL_FILE, THREADS, Faults
from rollout_sdk.resilience.interruptions import is_fault
from rollout_sdk.resilience.queue_thread import QueueThread
from rollout_sdk.tally import Tally
from rollout_sdk.telemetry.audience import Audience
from rollout_sdk.telemetry.log_events import LogEvents
from rollout_sdk.telemetry.metrics import Metrics
from rollout_sdk.telemetry.settings import Telemetry
from rollout_sdk.telemetry.spans import Spans

if TYPE_CHECKING:
    from rollout_sdk.control.local_state import LocalState
    from rollout_sdk.control.managed import ManagedRollout

__all__ = ["Runtime", "all_runtimes", "default_runtime"]

_LONGEST_KEY = 64
_LONGEST_WAIT_S = 1.0
_UNREAD = "control file not read"
_CONTROL_EVERY_S = 0.25
"""A change of the control file is taken when two looks have found it alike: within half a second."""


def _as_key(value: str | bytes | None) -> bytes | None:
    if value is None:
        return None
    # As the environment had it, whatever its bytes are.
    key = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
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
            f"plugins={plugins!r:.60} of Runtime is not a list. It lists plugins, or names of installed ones. "
            "Write plugins=[...]."
        )
    return tuple(plugins)


def _as_places(places: Sequence[str]) -> tuple[str, ...]:
    # A text is a sequence, too: one place was meant.
    return (places,) if isinstance(places, str) else tuple(places)


@define(kw_only=True, eq=False)
class Runtime:
    """What the rollouts of a process share. Make one, pass it as `runtime=`, and close it at the end (or leave that to exit).

    Attributes:
        journal: Folder of the journal; None keeps no journal.
        key: Secret of up to 64 bytes. With it, nobody can choose ids that fall into an arm, and decision ids are signed;
            every process of the service needs the same.
        telemetry: Which spans, metrics and log events are emitted.
        shadows: What shadows may cost.
        control: A control file, by which an operator steers running processes: see `rollout_sdk.control.control_file`.
        shadow_without: Context variables that shadows do not get, as "module:name": those that carry callbacks or a
            connection of the caller. Those of well-known frameworks are left out anyway (docs/reliability.md lists them).
        plugins: Observers and comparators for all rollouts: instances, or names of installed plugins.
        exit_deadline_s: Seconds that the end of the process may take for what still waits.
        durability: When a call's line is in the journal: "flush" (within a second, in the background; what came last is lost
            on a kill -9), or "call" (before the call returns, which then takes as long as a write, and on an event loop
            nothing else runs meanwhile; a second at most, and while the disk hangs for longer, calls do not wait).
        time_ns: Wall clock, in nanoseconds since 1970.
        monotonic_ns: Clock that never jumps, in nanoseconds, for how long a step lasts. None: the system's; or `time_ns`, where
            that is not the system's.
        store: Where rollouts stand, for all processes that serve them: a store or its address, such as
            "sqlite:////var/lib/app/rollouts.db". None keeps it in this process.
        allow: Actors that may change rollouts in some ways only: `{"robot": {"abort", "pause"}}`. An actor that is not listed
            may do everything. It holds here, in `operate`, in the command and for the control file (as "control file"), by the
            name that each gives itself: docs/operating.md says what this does and does not protect.
    """

    journal: str | os.PathLike[str] | None = None
    key: bytes | None = field(default=None, converter=_as_key, repr=False)
    telemetry: Telemetry = field(factory=Telemetry)
    shadows: ShadowLimits = field(factory=ShadowLimits)
    control: str | os.PathLike[str] | None = None
    shadow_without: Sequence[str] = field(default=(), converter=_as_places)
    plugins: Sequence[object] = field(default=(), converter=_as_tuple)
    exit_deadline_s: float = 1.0
    durability: Literal["flush", "call"] = "flush"
    time_ns: Callable[[], int] = time_ns
    monotonic_ns: Callable[[], int] | None = None
    store: StateStore | str | None = None
    allow: Mapping[str, Collection[str]] | None = None
    rollouts: WeakValueDictionary[str, Steered] = field(init=False, repr=False)
    nonces: Nonces = field(init=False, factory=Nonces, repr=False)
    background: ShadowPool = field(init=False, repr=False)
    hidden: Hidden = field(init=False, repr=False)
    spans: Spans = field(init=False, repr=False)
    conclude: Callable[[Any], None] = field(init=False, repr=False)
    recorder: Recorder = field(init=False, repr=False)
    take: Callable[[Any], None] = field(init=False, repr=False)
    _origin: str = field(init=False, factory=lambda: os.urandom(8).hex(), repr=False)
    audience: Audience = field(init=False, repr=False)
    reconciler: Reconciler = field(init=False, repr=False)
    failed: Callable[..., None] = field(init=False, repr=False)
    failed_of: Callable[..., Callable[..., None]] = field(init=False, repr=False)
    thread_of: Callable[[object], QueueThread] = field(init=False, repr=False)
    _delivery: Delivery = field(init=False, repr=False)
    _faults: Faults = field(init=False, repr=False)
    _steering: Steering = field(init=False, repr=False)
    _watching: WatchThread = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Put the parts together; no thread starts and no file is made before the first call."""
        self.rollouts = WeakValueDictionary()
        if self.durability not in ("flush", "call"):
            raise ConfigurationError(
                f"durability={self.durability!r:.60} of Runtime is unknown. It must be 'flush' or 'call'. See Runtime."
            )
        if self.telemetry.unit_id == "hash" and self.key is None:
            raise ConfigurationError(
                "Telemetry(unit_id='hash') needs a key, and Runtime has none. A hash without a key is undone by trying ids: "
                "set ROLLOUT_KEY or Runtime(key=...), or leave the unit out."
            )
        self.plugins = tuple(load_named(plugin) if isinstance(plugin, str) else plugin for plugin in self.plugins)
        waits: dict[str, Any] = {"gather_s": 0.0} if self.durability == "call" else {}
        # The one is made of the other: what fails is told by the recorder, and the recorder may fail.
        self.recorder = Recorder(
            lambda facts: self._delivery(facts),  # noqa: PLW0108 - not there yet
            failed=lambda what, error: self.failed(what, error),  # noqa: PLW0108 - not there yet
            tick=self._tick,
            exit_deadline_s=self.exit_deadline_s,
            load=self.nonces.load,
            **waits,
        )
        self._faults = Faults(self.recorder.tell)
        self.failed, self.failed_of = self._faults.note, self._faults.of
        PluginSet(self.plugins, failed=self.failed)  # a plugin that does not fit is an error now, not at the first event
        self.background = ShadowPool(self.shadows)
        self.hidden = Hidden(self.shadow_without)
        self.spans = Spans(self.telemetry, self.failed)
        self.audience = Audience(self.telemetry, self.failed, self.spans.events)
        store, address = (store_at(self.store), self.store) if isinstance(self.store, str) else (self.store, "")
        plane = ControlPlane(
            store=GuardedStore(MemoryStore() if store is None else store, address),
            time_ns=self.time_ns,
            monotonic_ns=self.monotonic_ns or self._default_monotonic_ns(),
            stopped=wait_for_starts,
            announce=self.announce,
            joined=self._describe_again,
            failed=self.failed,
            failed_of=self.failed_of,
            allowed=as_allowed(self.allow),
        )
        self.reconciler = Reconciler(plane)
        self._delivery = Delivery(
            spans=self.spans,
            audience=self.audience,
            failed=self.failed,
            time_ns=self.time_ns,
            add_to_evidence=self.reconciler.add_to_evidence,
            never_came=lambda: (self.recorder.dropped, self.recorder.drawn_out),
            draw_out=self.recorder.draw_out,
        )
        sinks = self._delivery.sinks
        self.thread_of = sinks.thread_of
        file = None if self.control is None else ControlFile(self.control)
        self._steering = Steering(file, self.rollouts, self.failed_of)
        self._watching = WatchThread(self._look_at_control_file, "rollout-control", every_s=_CONTROL_EVERY_S)
        about = self._delivery.descriptions.get
        writer = None if self.journal is None else JournalWriter(self.journal)
        if writer is not None:
            sinks.journal = JournalSink(writer, describe=about, failed=self.failed)
        self._delivery.metrics = (
            Metrics(self.telemetry, self._delivery.observed, self._lost) if self.telemetry.metrics else None
        )
        sinks.log_events = (
            LogEvents(about, self.failed, version=self._delivery.version, plugins=self._delivery.plugins)
            if self.telemetry.logs
            else None
        )
        self.conclude = self._put_and_wait if waits else self.recorder.put
        self.take = self._put_and_wait if waits else self.recorder.take
        self.recorder.on_close = self.background.close
        self.recorder.on_closed = self._closed
        renew_after_fork(self)
        _runtimes[self._origin] = self
        # Known at the start, and not only by the first call, is what an operator has to fix. The service starts all the same.
        self._look_at_threads()
        if file is not None and file.refused is not None:
            self.failed(CONTROL_FILE, file.refused)
        if writer is not None:
            sinks.prepare(writer)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Runtime:
        """A runtime of the environment.

        `ROLLOUT_JOURNAL` is a folder, `ROLLOUT_CONTROL` a control file, `ROLLOUT_STORE` the address of a store, `ROLLOUT_KEY` a
        secret.

        A setting that cannot be used, a store of an unknown kind, say, stops no service: it is a fault with its cure in the
        log, and every call gets its control.
        """
        journal, control = environment.get("ROLLOUT_JOURNAL") or None, environment.get("ROLLOUT_CONTROL") or None
        store, key = environment.get("ROLLOUT_STORE") or None, environment.get("ROLLOUT_KEY") or None
        try:
            return cls(journal=journal, control=control, store=store, key=key)
        except BaseException as error:
            if not is_fault(error):
                raise
            # Others than ours, of a store's plugin, may say passwords.
            why = str(error) if isinstance(error, RolloutError) else f"{type(error).__qualname__} in the plugin of the store."
            unavailable = UnavailableStore(
                f"The settings of the environment cannot be used: {why} Until they are fixed and the process is started "
                "again, every call gets its control."
            )
            return cls(journal=journal, control=control, store=unavailable)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its settings; each process has one runtime for it, with that process's own telemetry providers."""
        telemetry = evolve(self.telemetry, tracer_provider=None, meter_provider=None, logger_provider=None)
        options = {each.name: getattr(self, each.name) for each in fields(type(self)) if each.init}
        if is_wall_clock(self.time_ns):
            # The default, which is a function of no module that pickle can find.
            del options["time_ns"]
        return _restored, (type(self), self._origin, self is _default, {**options, "telemetry": telemetry})

    def renew(self) -> None:
        """In a forked child: other decision ids, another journal file, nothing counted or told yet."""
        self.nonces.renew()
        self._faults.clear()
        self._delivery.renew()
        if self.control is not None and not was_announced():
            # When the fork was is not known: what the file said then may be old.
            self.reconciler.hold(_UNREAD)
        # Also where the parent had no such thread: no thread of ours runs in uWSGI's master.
        is_wanted = self._steering.file is not None and bool(self._delivery.rollouts) and not self._watching.has_ended
        self._watching = WatchThread(self._look_at_control_file, "rollout-control", every_s=_CONTROL_EVERY_S)
        if is_wanted:
            self._watching.start()
        self._look_at_threads()

    def _default_monotonic_ns(self) -> Callable[[], int]:
        # With a clock of a test's own, the system's would stand still, and no step would ever end.
        return monotonic_ns if is_wall_clock(self.time_ns) else self.time_ns

    @property
    def faults(self) -> dict[tuple[str, str], int]:
        """Faults of collaborators so far, by (what failed, class of exception)."""
        return self._faults.counts

    def faults_of(self, key: str) -> dict[tuple[str, str], int]:
        """The same for one rollout: its own, and those of what rollouts share, such as the journal or the store."""
        return self._faults.counts_of(key)

    def register(self, controller: Steered, rollout: Rollout) -> None:
        """Take a rollout in. Its facts are told for as long as they come, even when its function is gone by then."""
        self.rollouts[controller.key] = controller
        self._delivery.register(rollout)

    def steer(self, controller: Steered) -> None:
        """Have a rollout do what the control file wants, if there is one, now and whenever it changes."""
        self._steering.steer(controller)
        if self._steering.file is not None:
            self._watching.start()

    def local_state(self, key: str) -> LocalState | None:
        """Where the last rollout of this key stands, also when its function is gone; None when there was none."""
        rollout = self._delivery.rollouts.get(key)
        return None if rollout is None else rollout.local_state

    def tally(self, key: str) -> Tally:
        """The counts of one rollout in this process."""
        return self._delivery.tally(key)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until shadows in threads have ended, every fact so far is in the journal, and observers and logs have it.

        False when time ran out. An observer or log handler that has hung for 5 s is not waited for, and neither is any in an
        observer of its own: there, True says only that the journal is complete.
        """
        deadline = monotonic() + timeout_s
        shadows = self.background.wait(timeout_s)
        counted = self.recorder.flush(max(0.0, deadline - monotonic()))
        return self._delivery.sinks.flush(max(0.0, deadline - monotonic())) and counted and shadows

    def close(self, timeout_s: float | None = None) -> None:
        """End the shadows and deliver what waits, within so many seconds (`exit_deadline_s`); then nothing is recorded."""
        self.recorder.close(timeout_s)

    def _closed(self, timeout_s: float) -> None:
        """Once everything is counted: have it written, logged and observed, and the evidence published, all at once."""
        self._watching.end()
        self._delivery.sinks.close(timeout_s, self.reconciler.close)

    def _put_and_wait(self, fact: Any) -> None:
        """Take a fact, and wait for the journal to have it; while its disk hangs, calls do not wait."""
        sinks = self._delivery.sinks
        if sinks.can_wait:
            self.recorder.put_and_wait(fact, sinks.when_written)
        else:
            self.recorder.put(fact)

    def _describe_again(self, key: str) -> None:
        """Have the journal say where a rollout stands that this process has just joined: it has no record of the way there."""
        if (rollout := self._delivery.rollouts.get(key)) is not None:
            self._delivery.register(rollout)

    def announce(
        self, managed: ManagedRollout, event: TransitionedEvent, shares_before: Mapping[str, float], *, followed: bool = False
    ) -> None:
        """Notify everybody who listens of a transition, once in this process.

        Args:
            managed: The rollout.
            event: The transition.
            shares_before: Share of every variant before it.
            followed: Whether it was made elsewhere, and not by the code that runs here.
        """
        if followed and self.recorder.is_closed:
            # The others have it; of a process that ends, nothing is missing.
            return
        change = Change(event, shares_before, None if followed else self.spans.current())
        with managed.announced.lock:
            if not managed.announced.claim(event.id, event.revision, event.time_s):
                return
            self.recorder.put(change)
        if self.durability == "call" and not followed and self._delivery.sinks.can_wait:
            self.recorder.flush(_LONGEST_WAIT_S, self._delivery.sinks.when_written)

    def takes_outcomes(self, key: str) -> bool:
        """Whether an outcome of this rollout goes anywhere: to a journal, a judge, an observer, or into a log record."""
        if self.journal is not None or self.telemetry.evaluation_results:
            return True
        managed, rollout = self.reconciler.rollouts.get(key), self._delivery.rollouts.get(key)
        judged = managed is not None and managed.evidence is not None
        return judged or (rollout is not None and "rollout_recorded" in rollout.observers)

    def conclude_outcome(self, event: RecordedEvent) -> None:
        """Take an outcome, unless its call was not drawn under overload; of one that an observer records, no observer hears."""
        if event.drawn(event.rate) is None:
            self.recorder.draw_out()
        else:
            self.conclude(Unobserved(event) if in_shadow.get() is OBSERVING else event)

    def _lost(self) -> dict[str, int]:
        """Facts that are missing from the journal, by why; the first are missing from every count, too."""
        lost = {"queue_full": self.recorder.dropped}
        if (sinks := self._delivery.sinks).journal is not None:
            lost["journal_unwritable"] = sinks.unwritten
        return lost

    @property
    def lost(self) -> int:
        """Facts that are missing from the journal because a queue was full, also those of calls that were not drawn."""
        return self.recorder.dropped + self._delivery.sinks.dropped

    def _look_at_file(self) -> None:
        if self._steering.look():
            for managed in list(self.reconciler.rollouts.values()):
                self.reconciler.let_go(managed, _UNREAD)

    def _look_at_threads(self) -> None:
        if (why := missing_threads()) is not None:
            self.failed(THREADS, ConfigurationError(why))

    def _tick(self) -> None:
        self.background.watch()
        if self.audience.look():
            self.recorder.close_at_exit()
        self._delivery.sinks.watch()
        if self._steering.file is not None:
            # Where no thread was to be had before, as while uWSGI forks its workers.
            self._watching.start()

    def _look_at_control_file(self) -> None:
        self._delivery.guarded(CONTROL_FILE, self._look_at_file)


_default: Runtime | None = None
_runtimes: WeakValueDictionary[str, Runtime] = WeakValueDictionary()
"""Every runtime by where it came from, so that what is unpickled twice is one."""

_publishing = ForkSafeLock()


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


def all_runtimes() -> list[Runtime]:
    """Every runtime of this process that is still used."""
    return list(_runtimes.values())


def default_runtime() -> Runtime:
    """The runtime of every rollout that names none: built at the first use, from the environment."""
    global _default  # noqa: PLW0603 - the one global of the package
    if _default is None:
        built = Runtime.from_environment()
        # Two threads may both build one; both get the first, and the other is forgotten before anything starts in it.
        with _publishing:
            _default = built if _default is None else _default
    return _default
