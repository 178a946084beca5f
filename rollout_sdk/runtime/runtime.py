"""What rollouts share: the journal, telemetry, shadow workers, clock and key of a process."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakValueDictionary

from attrs import define, evolve, field, fields

from rollout_sdk.concurrency.clocks import is_wall_clock, monotonic, monotonic_ns, time_ns
from rollout_sdk.concurrency.forking import renew_after_fork
from rollout_sdk.concurrency.threads import missing_threads
from rollout_sdk.control.control_file import ControlFile
from rollout_sdk.control.plane import ControlPlane
from rollout_sdk.control.reconciler import Reconciler
from rollout_sdk.control.roles import as_allowed
from rollout_sdk.control.steering import Steered, Steering
from rollout_sdk.control.stores import GuardedStore, MemoryStore, StateStore, UnavailableStore
from rollout_sdk.control.stores.opening import store_at
from rollout_sdk.engine.context import OBSERVING, in_shadow
from rollout_sdk.engine.judges.lanes import JudgeLanes
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
from rollout_sdk.runtime import registry
from rollout_sdk.runtime.options import as_key, as_places, as_plugins, check
from rollout_sdk.tally import Tally
from rollout_sdk.telemetry.audience import Audience
from rollout_sdk.telemetry.log_events import LogEvents
from rollout_sdk.telemetry.metrics import Metrics
from rollout_sdk.telemetry.settings import Telemetry
from rollout_sdk.telemetry.spans import Spans

if TYPE_CHECKING:
    from rollout_sdk.control.local_state import LocalState
    from rollout_sdk.control.managed import ManagedRollout
    from rollout_sdk.engine.candidate_code import CandidateCode

__all__ = ["Runtime", "all_runtimes", "default_runtime"]

_LONGEST_WAIT_S = 1.0


@define(kw_only=True, eq=False)
class Runtime:
    """What the rollouts of a process share. Create one, pass it as `runtime=`, and close it at the end (or leave that to exit).

    Attributes:
        journal: Folder of the journal; None for no journal.
        key: Secret of up to 64 bytes, the same in all processes of the service. With it, ids cannot be chosen to fall into an
            arm, and decision ids are signed.
        telemetry: Which spans, metrics and log events are emitted.
        shadows: Limits of the resources for shadows.
        control: A control file, with which an operator steers running processes: see `rollout_sdk.control.control_file`.
        shadow_without: Context variables that shadows do not get, as "module:name": those with callbacks or a connection of
            the caller. Those of well-known frameworks are always left out (docs/reliability.md lists them).
        plugins: Observers and comparators for all rollouts: instances, or names of installed plugins.
        exit_deadline_s: Seconds that the exit of the process may wait for pending work.
        durability: When a call's line is in the journal. "flush": within a second, in the background; a kill -9 loses the
            latest lines. "call": before the call returns, which then takes as long as a write and blocks an event loop; a
            second at most, and not at all while the disk hangs for longer.
        time_ns: Wall clock, in nanoseconds since 1970.
        monotonic_ns: Clock that never jumps, in nanoseconds, for the duration of steps. None: the system's, or `time_ns` if
            that is not the system's.
        store: The state of rollouts, for all processes that serve them: a store or its address, such as
            "sqlite:////var/lib/app/rollouts.db". None keeps it in this process.
        allow: Allowed actions of actors with restrictions: `{"robot": {"abort", "pause"}}`. Actors that are not listed may do
            everything. It applies here, in `operate`, in the command and to the control file (as "control file"), by the names
            that actors give themselves: docs/operating.md explains what this does and does not protect.
    """

    journal: str | os.PathLike[str] | None = None
    key: bytes | None = field(default=None, converter=as_key, repr=False)
    telemetry: Telemetry = field(factory=Telemetry)
    shadows: ShadowLimits = field(factory=ShadowLimits)
    control: str | os.PathLike[str] | None = None
    shadow_without: Sequence[str] = field(default=(), converter=as_places)
    plugins: Sequence[object] = field(default=(), converter=as_plugins)
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
    judges: JudgeLanes = field(init=False, repr=False)
    failed: Callable[..., None] = field(init=False, repr=False)
    failed_of: Callable[..., Callable[..., None]] = field(init=False, repr=False)
    thread_of: Callable[[object], QueueThread] = field(init=False, repr=False)
    _delivery: Delivery = field(init=False, repr=False)
    _faults: Faults = field(init=False, repr=False)
    _steering: Steering = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Assemble the parts; no thread starts and no file is created before the first call."""
        self.rollouts = WeakValueDictionary()
        check(self.durability, self.telemetry, self.key, self.exit_deadline_s)
        self.plugins = tuple(load_named(plugin) if isinstance(plugin, str) else plugin for plugin in self.plugins)
        waits: dict[str, Any] = {"gather_s": 0.0} if self.durability == "call" else {}
        # They depend on each other: faults are recorded, and the recorder may fail.
        self.recorder = Recorder(
            lambda facts: self._delivery(facts),  # noqa: PLW0108 - not set yet
            failed=lambda what, error: self.failed(what, error),  # noqa: PLW0108 - not set yet
            tick=self._tick,
            exit_deadline_s=self.exit_deadline_s,
            load=self.nonces.load,
            **waits,
        )
        self._faults = Faults(self.recorder.tell)
        self.failed, self.failed_of = self._faults.note, self._faults.of
        PluginSet(self.plugins, failed=self.failed)  # an invalid plugin is an error now, not at the first event
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
            note=self._note,
            failed=self.failed,
            failed_of=self.failed_of,
            allowed=as_allowed(self.allow),
        )
        self.reconciler = Reconciler(plane)
        self.judges = JudgeLanes(self.reconciler.store, time_ns=self.time_ns, failed=self.failed)
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
        self._steering = Steering(file, self.rollouts, self.reconciler, failed=self.failed, failed_of=self.failed_of)
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
        self.recorder.on_close = self._end_background
        self.recorder.on_closed = self._closed
        renew_after_fork(self)
        registry.add(self._origin, self)
        # Report at the start what an operator has to fix; the service starts anyway.
        self._look_at_threads()
        if file is not None and file.refused is not None:
            self.failed(CONTROL_FILE, file.refused)
        if writer is not None:
            sinks.prepare(writer)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Runtime:
        """Create a runtime from environment variables.

        `ROLLOUT_JOURNAL` is a folder, `ROLLOUT_CONTROL` a control file, `ROLLOUT_STORE` the address of a store, `ROLLOUT_KEY` a
        secret.

        An invalid setting, such as a store of an unknown kind, does not stop the service: it is a fault with its cure in the
        log, and every call gets its control.
        """
        journal, control = environment.get("ROLLOUT_JOURNAL") or None, environment.get("ROLLOUT_CONTROL") or None
        store, key = environment.get("ROLLOUT_STORE") or None, environment.get("ROLLOUT_KEY") or None
        try:
            return cls(journal=journal, control=control, store=store, key=key)
        except BaseException as error:
            if not is_fault(error):
                raise
            # Exceptions of a store's plugin may contain passwords.
            why = str(error) if isinstance(error, RolloutError) else f"{type(error).__qualname__} in the plugin of the store."
            unavailable = UnavailableStore(
                f"The settings of the environment are not valid: {why} Until they are fixed and the process is restarted, "
                "every call gets its control."
            )
            return cls(journal=journal, control=control, store=unavailable)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the settings; each process has one runtime for them, with its own telemetry providers."""
        telemetry = evolve(self.telemetry, tracer_provider=None, meter_provider=None, logger_provider=None)
        options = {each.name: getattr(self, each.name) for each in fields(type(self)) if each.init}
        if is_wall_clock(self.time_ns):
            # The default, which pickle cannot find in a module.
            del options["time_ns"]
        return registry.restored, (type(self), self._origin, registry.is_default(self), {**options, "telemetry": telemetry})

    def renew(self) -> None:
        """Reset for a forked child: new decision ids, a new journal file, no counts, no reported faults."""
        self.nonces.renew()
        self._faults.clear()
        self._delivery.renew()
        self._steering.renew(is_used=bool(self._delivery.rollouts))
        self._look_at_threads()

    def _default_monotonic_ns(self) -> Callable[[], int]:
        # With a test's own wall clock, steps must last by that clock.
        return monotonic_ns if is_wall_clock(self.time_ns) else self.time_ns

    @property
    def faults(self) -> dict[tuple[str, str], int]:
        """Faults of collaborators so far, by (what failed, class of exception)."""
        return self._faults.counts

    def faults_of(self, key: str) -> dict[tuple[str, str], int]:
        """Faults of one rollout: its own, and those of shared parts, such as the journal or the store."""
        return self._faults.counts_of(key)

    def register(self, controller: Steered, rollout: Rollout) -> None:
        """Register a rollout. Its facts are processed as long as they come, even after its function is gone."""
        self._delivery.register(rollout)
        # Last: other threads look for controllers, and ask for the state of those that they find.
        self.rollouts[controller.key] = controller

    def steer(self, controller: Steered) -> None:
        """Apply the control file to a rollout, if there is one, now and whenever it changes."""
        self._steering.steer(controller)

    def local_state(self, key: str) -> LocalState | None:
        """Return the state of the last rollout with this key, even after its function is gone; None if there was none."""
        rollout = self._delivery.rollouts.get(key)
        return None if rollout is None else rollout.local_state

    def code_of(self, key: str) -> CandidateCode | None:
        """Return the code of the last rollout with this key, even after its function is gone; None if it has a version."""
        rollout = self._delivery.rollouts.get(key)
        return None if rollout is None else rollout.code

    def tally(self, key: str) -> Tally:
        """Return the counts of one rollout in this process."""
        return self._delivery.tally(key)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until shadows in threads and their judges have ended, and all facts are in the journal, with observers and logs.

        Return False if the time ran out. It does not wait for an observer or log handler that has hung for 5 s, nor for any
        when called from an observer: there, True means only that the journal is complete.
        """
        deadline = monotonic() + timeout_s
        shadows = self.background.wait(timeout_s)
        shadows = self.judges.wait(deadline) and shadows
        counted = self.recorder.flush(max(0.0, deadline - monotonic()))
        return self._delivery.sinks.flush(max(0.0, deadline - monotonic())) and counted and shadows

    def close(self, timeout_s: float | None = None) -> None:
        """End shadows and deliver pending facts within `timeout_s` (default: `exit_deadline_s`); nothing is recorded later."""
        self.recorder.close(timeout_s)

    def _closed(self, timeout_s: float) -> None:
        """After all facts are counted, deliver them and publish the evidence, concurrently."""
        self._steering.end()
        self._delivery.sinks.close(timeout_s, self.reconciler.close)

    def _put_and_wait(self, fact: Any) -> None:
        """Record a fact and wait until it is in the journal, unless the disk hangs."""
        sinks = self._delivery.sinks
        if sinks.can_wait:
            self.recorder.put_and_wait(fact, sinks.when_written)
        else:
            self.recorder.put(fact)

    def _describe_again(self, key: str) -> None:
        """Write the state of a rollout that this process has just joined to the journal, which has no earlier record."""
        if (rollout := self._delivery.rollouts.get(key)) is not None:
            self._delivery.register(rollout)

    def _note(self, key: str, text: str) -> None:
        """Report what a person should know about a rollout."""
        if (rollout := self._delivery.rollouts.get(key)) is not None:
            rollout.note(text)

    def announce(
        self, managed: ManagedRollout, event: TransitionedEvent, shares_before: Mapping[str, float], *, followed: bool = False
    ) -> None:
        """Record a transition for all sinks, once in this process.

        Args:
            managed: The rollout.
            event: The transition.
            shares_before: Share of every variant before it.
            followed: Whether another process made it.
        """
        if followed and self.recorder.is_closed:
            # The other processes announce it.
            return
        change = Change(event, shares_before, None if followed else self.spans.current())
        with managed.announced.lock:
            if not managed.announced.claim(event.id, event.revision, event.time_s):
                return
            self.recorder.put(change)
        if self.durability == "call" and not followed and self._delivery.sinks.can_wait:
            self.recorder.flush(_LONGEST_WAIT_S, self._delivery.sinks.when_written)

    def _end_background(self, timeout_s: float) -> None:
        self.background.close(timeout_s)
        self.judges.close()

    def takes_outcomes(self, key: str, metric: str, *, is_of_call: bool) -> bool:
        """Whether anything uses an outcome of this rollout: a journal, a judge of its metric, an observer, or a log record.

        A judge uses those of calls only.
        """
        if self.journal is not None or self.telemetry.evaluation_results:
            return True
        managed, rollout = self.reconciler.rollouts.get(key), self._delivery.rollouts.get(key)
        judged = is_of_call and managed is not None and managed.evidence is not None and managed.evidence.judges(metric)
        return judged or (rollout is not None and "rollout_recorded" in rollout.observers)

    def conclude_outcome(self, event: RecordedEvent) -> None:
        """Record an outcome, unless its call was dropped under overload; observers do not get an observer's own outcomes."""
        if event.drawn(event.rate) is None:
            self.recorder.draw_out()
        else:
            self.conclude(Unobserved(event) if in_shadow.get() is OBSERVING else event)

    def _lost(self) -> dict[str, int]:
        """Return the facts missing from the journal by reason; the first are missing from all counts, too."""
        lost = {"queue_full": self.recorder.dropped}
        if (sinks := self._delivery.sinks).journal is not None:
            lost["journal_unwritable"] = sinks.unwritten
        return lost

    @property
    def lost(self) -> int:
        """Facts missing from the journal because a queue was full, including those of calls that were not sampled."""
        return self.recorder.dropped + self._delivery.sinks.dropped

    def _look_at_threads(self) -> None:
        if (why := missing_threads()) is not None:
            self.failed(THREADS, ConfigurationError(why))

    def _tick(self) -> None:
        self.background.watch()
        if self.audience.look():
            self.recorder.close_at_exit()
        self._delivery.sinks.watch()
        # If no thread could be started before, for example while uWSGI forks its workers.
        self._steering.start()


def all_runtimes() -> list[Runtime]:
    """Return the runtimes of this process that are still in use."""
    return registry.known()


def default_runtime() -> Runtime:
    """Return the runtime of rollouts without `runtime=`: created at the first use, from the environment."""
    return registry.default(Runtime)
