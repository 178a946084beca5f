"""Where facts go once they are counted: the journal, the application's log, and observers, each in a thread of its own.

Each has a bounded queue. One that hangs, or is slow, delays neither calls nor counts, evidence, the control file or the
others: what its queue cannot hold is lost to it alone, and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from attrs import Factory, define, field, frozen

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.concurrency.threads import Flag, Thread, living
from rollout_sdk.engine.answered_calls import AnsweredCalls
from rollout_sdk.engine.context import OBSERVING, aside
from rollout_sdk.journal.sink import JournalSink, key_of
from rollout_sdk.journal.writer import JournalWriter
from rollout_sdk.plugins.manager import Observer
from rollout_sdk.records import TransitionedEvent
from rollout_sdk.records.sampling import level_of, rate_of
from rollout_sdk.resilience.faults import JOURNAL, Count, DroppedError, HangError
from rollout_sdk.resilience.queue_thread import QueueThread
from rollout_sdk.telemetry.log_events import LogEvents

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

__all__ = ["Change", "Sinks"]

LOGS = "telemetry.logs"
_JOURNAL_HANGS_AFTER_S = 1.0
_LONGEST_LOOK_S = 1.0
_MOST_FOR_JOURNAL = 10_000
"""From here on, fewer and fewer calls are kept for it: see `sampling`."""
_ROWS_FOR_A_FACT = 200
"""Rows of a batch share what they have in common: two million of them take the room of ten thousand calls."""
_DROPPED = "too much waits already. It hangs, or is slower than what comes. Make it faster, or have it batch what it sends."


@frozen(eq=False)
class Change:
    """A transition on its way to everybody who listens.

    Attributes:
        event: What happened.
        shares_before: Share of every variant before it; empty at the start.
        trigger: The span in which this process made it; None where another did, or there was none.
    """

    event: TransitionedEvent
    shares_before: Mapping[str, float] = Factory(dict)
    trigger: SpanContext | None = None

    def drawn(self, rate: float) -> Change:  # noqa: ARG002 - as the others
        """It is rare, and always kept while there is room."""
        return self


@define(kw_only=True, eq=False)
class Sinks:
    """Hands facts on. Used by the recorder's thread.

    Attributes:
        failed: Notified of every fault, and how often it happened.
        events_of: The events of a fact that are for logs and observers.
        never_came: How many facts never came here, because the recorder had no room for them; and how many of these were of
            calls that were not drawn.
        trace: Makes the span of a transition: event, shares before, trigger.
        journal: Keeps events; None without a journal.
        log_events: Emits log events; None when they are off.
    """

    failed: Callable[..., None]
    events_of: Callable[[Any], Iterable[Any]]
    never_came: Callable[[], tuple[int, int]]
    trace: Callable[[TransitionedEvent, Mapping[str, float], SpanContext | None], None]
    journal: JournalSink | None = None
    log_events: LogEvents | None = None
    _dropped: Count = field(init=False, factory=Count)
    _drawn_out: Count = field(init=False, factory=Count)
    _journal: QueueThread = field(init=False)
    _logs: QueueThread = field(init=False)
    _observing: WeakValueDictionary[int, QueueThread] = field(init=False, factory=WeakValueDictionary)

    def __attrs_post_init__(self) -> None:
        """Start nothing yet."""
        self._journal = QueueThread(
            "rollout-journal",
            self._write,
            failed=self.failed,
            called=lambda _: JOURNAL,
            most_waiting=_MOST_FOR_JOURNAL + _MOST_FOR_JOURNAL // 2,
            hangs_after_s=_JOURNAL_HANGS_AFTER_S,
        )
        self._logs = QueueThread("rollout-logs", self._log, failed=self.failed, called=lambda _: LOGS)

    def prepare(self, writer: JournalWriter) -> None:
        """Look whether the journal can be written, in a thread: a disk that hangs must keep no service from starting."""
        done = Flag()

        def prepare() -> None:
            try:
                writer.prepare()
            except Exception as error:
                self.failed(JOURNAL, error)
            finally:
                done.set()

        try:
            Thread(prepare, "rollout-journal").start()
        except RuntimeError:
            # No thread to be had now. The first line tells.
            return
        if not done.wait(_LONGEST_LOOK_S, inside=True):
            why = f"The journal folder {str(writer.folder)!r} has not answered for {_LONGEST_LOOK_S:g} s. Until it does, "
            self.failed(JOURNAL, HangError(f"{why}facts wait, and are counted as lost when too many do. See to its mount."))

    @property
    def dropped(self) -> int:
        """Facts that the journal does not have because too much waited for it."""
        return int(self._dropped)

    @property
    def unwritten(self) -> int:
        """Facts that came here and are missing from the journal."""
        return self.dropped + (0 if self.journal is None else self.journal.unwritten)

    @property
    def is_current(self) -> bool:
        """Whether this code runs in one of the threads."""
        return any(thread.is_current for thread in self._threads())

    def thread_of(self, plugin: object) -> QueueThread:
        """The thread in which a plugin observes: one for all that it observes, so that it sees everything in order."""
        known = self._observing.get(id(plugin))
        if known is None:
            # It keeps the plugin, so that no other can have its number meanwhile.
            take = partial(self._observe, plugin)
            known = QueueThread("rollout-observer", take, failed=self.failed, called=lambda item: item[0].name)
            known = self._observing.setdefault(id(plugin), known)
        return known

    # In the recorder's thread ----------------------------------------------------------------------------------------

    def write(self, events: Sequence[Any]) -> None:
        """Have events written to the journal, with one write."""
        # Facts that only people would see are not missing from the journal.
        events = [] if self.journal is None else [event for event in events if key_of(event) is not None]
        if not events:
            return
        came = sum(map(_weight, events))
        # What comes faster than the disk takes it waits in the recorder's queue, where calls are drawn. From a disk that hangs,
        # nothing is to be expected: then they are drawn here.
        if not self._journal.wait_for_room(_MOST_FOR_JOURNAL):
            rate = rate_of(level_of(self._journal.waiting, _MOST_FOR_JOURNAL))
            apart = [each for event in events for each in (event.events() if event.__class__ is AnsweredCalls else (event,))]
            events = [kept for event in apart if (kept := event.drawn(rate)) is not None]
        kept = sum(map(_weight, events))
        is_full = bool(events) and not self._journal.put(events, sum(map(_size, events)))
        if missing := came if is_full else came - kept:
            self._dropped.add(missing)
            self._drawn_out.add(came - kept)
            why = "The journal cannot take what comes: its disk hangs, or is too slow. Give it a folder on a local disk."
            self.failed(JOURNAL, DroppedError(why), missing)

    def log(self, fact: Any) -> None:
        """Have a fact logged, and a transition traced."""
        if (self.log_events is not None or fact.__class__ is Change) and not self._logs.put(fact, _size(fact)):
            self.failed(LOGS, DroppedError(f"Of the log, {_DROPPED}"), _weight(fact))

    def observe(self, observers: Iterable[Observer], fact: Any) -> None:
        """Have observers hear of a fact."""
        for observer in observers:
            if not observer.thread.put((observer, fact), _size(fact)):
                self._lose(observer, fact)

    def _lose(self, observer: Observer, fact: Any) -> None:
        self.failed(observer.name, DroppedError(f"{observer.name} does not hear of everything: {_DROPPED}"), _weight(fact))

    def watch(self) -> None:
        """Notify of those that hang, have the journal say what is missing as soon as it can be written again, and go on in
        another file when its own was moved.
        """
        for thread in self._threads():
            thread.watch()
        if self.journal is None or self._journal.waiting:
            return
        if self.journal.has_file or self.journal.is_owed(self._missing()):
            # Whether the file is in its place is asked in the journal's thread: a disk may hang.
            self._journal.put(())

    # In their own threads --------------------------------------------------------------------------------------------

    def _missing(self) -> int:
        return self.never_came()[0] + self.dropped

    def _write(self, events: Sequence[Any] | None) -> None:
        if self.journal is None:
            return
        if events is None:
            self.journal.close()
        else:
            # In this order: what is counted in between is then only in the second number, and written with the next line.
            drawn_out = self.never_came()[1] + int(self._drawn_out)
            self.journal(events, self._missing(), drawn_out)

    def _log(self, fact: Any) -> None:
        with aside(OBSERVING):
            if fact.__class__ is Change:
                # Its exporter may hang as a log handler may.
                self.trace(fact.event, fact.shares_before, fact.trigger)
                fact = fact.event
            for event in self._goes_on(self._logs, fact):
                if self.log_events is not None:
                    self.log_events(event)

    def _observe(self, _plugin: object, item: tuple[Observer, Any]) -> None:
        observer, fact = item
        with aside(OBSERVING):
            for event in self._goes_on(observer.thread, fact):
                observer.observe(event)

    def _goes_on(self, thread: QueueThread, fact: Any) -> Iterator[Any]:
        for event in self.events_of(fact):
            yield event
            thread.beat()

    # From outside ----------------------------------------------------------------------------------------------------

    @property
    def can_wait(self) -> bool:
        """Whether the journal does not hang."""
        return not self._journal.hangs

    def when_written(self, flag: Flag) -> None:
        """Set a flag when everything so far is in the journal."""
        self._journal.mark(flag)

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything so far is written, logged and observed; False when the time was not enough.

        In one of the threads, it waits for the journal only: or two observers would wait for each other.
        """
        deadline = monotonic() + timeout_s
        threads = [self._journal] if self.is_current else self._threads()
        return self._wait([(thread, thread.mark()) for thread in threads], deadline)

    def close(self, timeout_s: float, meanwhile: Callable[[float], None]) -> None:
        """Deal with what waits, within so many seconds, and do something else meanwhile; what is left is lost, and counted."""
        deadline = monotonic() + timeout_s
        self._journal.put(None)
        marks = [(thread, thread.mark()) for thread in self._threads()]
        meanwhile(deadline)
        self._wait(marks, deadline)
        for events, _ in self._journal.close():
            self._dropped.add(sum(map(_weight, events or ())))
        for fact, _ in self._logs.close():
            self.failed(LOGS, DroppedError("The runtime was closed."), _weight(fact))
        for thread in living(self._observing):
            for (observer, fact), _ in thread.close():
                self._lose(observer, fact)

    def renew(self) -> None:
        """In a forked child: another journal file, and nothing missing. The threads see to themselves."""
        self._dropped = Count()
        self._drawn_out = Count()
        if self.journal is not None:
            self.journal.renew()

    def _threads(self) -> list[QueueThread]:
        return [self._journal, self._logs, *living(self._observing)]

    def _wait(self, marks: list[tuple[QueueThread, Flag]], deadline: float) -> bool:
        # All of them: each has had the time that the others took.
        return all([thread.wait(flag, self._patience_s(thread, deadline)) for thread, flag in marks])  # noqa: C419

    def _patience_s(self, thread: QueueThread, deadline: float) -> float:
        # An observer or a log that hangs is not worth it; the journal is, to the end.
        return 0.0 if thread.hangs and thread is not self._journal else deadline - monotonic()


def _weight(fact: Any) -> int:
    """How many facts a fact stands for."""
    return int(getattr(fact, "weight", 1))


def _size(fact: Any) -> int:
    """How much room it takes in a queue: only rows of a batch share what they have in common."""
    weight = _weight(fact)
    return weight if fact.__class__ is AnsweredCalls else 1 + (weight - 1) // _ROWS_FOR_A_FACT
