"""Rows F98 to F102: one thing that hangs takes nothing else along."""

import asyncio
import logging
import sqlite3
import threading
import time
from contextlib import closing

import pytest
import structlog

from rollout_sdk import ABTest, Canary, Shadow, StoreError, rollout
from rollout_sdk.control.next_step import Approvals
from rollout_sdk.control.state import RolloutState
from rollout_sdk.control.stored_state import change_stored
from rollout_sdk.control.stores import MemoryStore, SQLiteStore
from rollout_sdk.journal import JournalWriter, read_journal
from rollout_sdk.judging import Verdict
from rollout_sdk.records import RoutedEvent
from tests.faults.kinds import KINDS, of_kind, read
from tests.faults.models import served

ALL_KINDS = [*KINDS, "batch"]
CALLS = 200


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def release():
    """What hangs waits for this."""
    event = threading.Event()
    yield event
    event.set()


def until(condition, most_s=30.0):
    """Seconds until something holds; machines may be slow, so the bound is far away."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < most_s
        time.sleep(0.01)
    return time.monotonic() - began


def canary(kind, runtime, key="m", **options):
    """A function of a kind in a canary that is judged; its candidate answers half of the users, with 1 in place of 0."""
    if kind == "batch":
        control, candidate = (lambda rows: [0] * len(rows)), (lambda rows: [1] * len(rows))
        options = {"batch": "rows", "unit": "rows", **options}
    else:
        control, candidate = of_kind(kind, lambda user: [0]), of_kind(kind, lambda user: [1])
        options = {"unit": lambda *given: given[0], **options}
    strategy = Canary(["50%", "100%"])
    return rollout(candidate=candidate, strategy=strategy, key=key, runtime=runtime, **options)(control)


def call(kind, model, user, loop):
    """Whether the candidate answered."""
    if kind == "batch":
        return model([user])[0] == 1
    answer, error = read(kind, lambda: model(user), loop)
    assert error is None
    return answer == [1]


def ran(kind, model, loop, number=40):
    """How many of some calls the candidate answered."""
    return sum(call(kind, model, f"probe-{user}", loop) for user in range(number))


def steer(path, version, text):
    aside = path.with_suffix(".new")
    aside.write_text(f"version = {version}\n{text}")
    aside.chmod(0o600)
    aside.replace(path)


def abort(store, key="m"):
    """As another process does."""
    change_stored(store, key, "abort", RolloutState.abort, now_s=time.time(), actor="ann", reason="test")


class Served:
    """A runtime with everything that can be steered: a journal, a store, a control file."""

    def __init__(self, folder, watch, kind, loop, **options):
        self.kind, self.loop, self.folder = kind, loop, folder
        self.control, self.db = folder / "control.toml", folder / "rollouts.db"
        steer(self.control, 1, "")
        options = {"journal": folder / "journal", "control": self.control, "store": f"sqlite:///{self.db}", **options}
        self.runtime = watch(**options)
        self.models = {}

    def model(self, key="m", **options):
        self.models[key] = canary(self.kind, self.runtime, key, **options)
        return self.models[key]

    def serve(self, key="m", number=CALLS):
        for user in range(number):
            call(self.kind, self.models[key], f"u{user}", self.loop)

    def counted(self, key="m"):
        return sum(self.runtime.tally(key).decisions.values())

    def evidence(self, key="m"):
        evidence = self.runtime.reconciler.rollouts[key].evidence
        return sum(sum(calls) for phase in evidence.phases.values() for calls in phase.calls.values())

    def journalled(self):
        if not (self.folder / "journal").exists():
            return 0
        return sum(record["event"] == "decision" for record in read_journal(self.folder / "journal"))

    def steered_s(self):
        """Seconds until the control file disables everything, enables it again, and another process aborts one."""
        kind, model, loop = self.kind, self.models["m"], self.loop
        assert ran(kind, model, loop)
        steer(self.control, 2, "disabled = true\n")
        disabled_s = until(lambda: not ran(kind, model, loop))
        steer(self.control, 3, "disabled = false\n")
        until(lambda: ran(kind, model, loop))
        with closing(SQLiteStore(self.db)) as store:
            abort(store)
        return disabled_s, until(lambda: not ran(kind, model, loop))


class Hanging:
    """An observer that never comes back."""

    name = "hanging"

    def __init__(self, release):
        self.release, self.local_state = release, threading.Event()

    def rollout_routed(self, event):
        self.local_state.set()
        self.release.wait(60)


class Heard:
    """An observer that keeps what it hears."""

    name = "heard"

    def __init__(self):
        self.events = []

    def rollout_routed(self, event):
        self.events.append(event)

    def rollout_transitioned(self, event):
        self.events.append(event)


@pytest.fixture
def hanging_log(release, monkeypatch):
    """Has the application's log hang, in one of two ways."""
    standing = threading.Event()

    def stand(*_):
        standing.set()
        release.wait(60)

    def make(how):
        if how == "structlog":

            def processor(_logger, _method, _event):
                stand()
                raise structlog.DropEvent

            structlog.configure(processors=[processor])
        else:
            handler = logging.Handler()
            handler.emit = stand
            logger = logging.getLogger("rollout_sdk")
            monkeypatch.setattr(logger, "handlers", [handler])
            monkeypatch.setattr(logger, "level", logging.DEBUG)
        return standing

    yield make
    release.set()


def soon(runtime, hangs_after_s=0.2):
    """Have what hangs be said sooner."""
    for thread in runtime._delivery.sinks._threads():
        thread._hangs_after_s = hangs_after_s


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("what", ["observer", "logging", "structlog"])
def test_f98_an_observer_or_log_that_hangs_takes_nothing_along(what, kind, tmp_path, watch, loop, release, hanging_log, figure):
    hanging, heard = Hanging(release), Heard()
    standing = hanging.local_state if what == "observer" else hanging_log(what)
    name = "hanging.rollout_routed" if what == "observer" else "telemetry.logs"
    service = Served(tmp_path, watch, kind, loop)
    service.model(plugins=[hanging, heard] if what == "observer" else [heard])
    service.serve(number=1)
    assert standing.wait(30)
    soon(service.runtime)
    service.serve(number=CALLS - 1)
    until(lambda: service.counted() == CALLS)
    until(lambda: service.evidence() == CALLS)
    until(lambda: service.journalled() == CALLS)
    until(lambda: len([event for event in heard.events if hasattr(event, "decision")]) == CALLS)
    told = len([event for event in heard.events if hasattr(event, "decision")])
    service.models["m"].rollout.judge()
    disabled_s, aborted_s = service.steered_s()
    until(lambda: (name, "HangError") in service.runtime.faults)
    assert not release.is_set()
    calls = CALLS
    figure(
        "F98",
        "{ways} ways to hang, {kinds} kinds of functions: {heard:,} of {calls:,} calls counted, in the evidence, "
        "journalled and received by another observer; the control file disables after {disabled_s:.1f} s, another "
        "process's abort takes effect after {aborted_s:.1f} s",
        ways=what,
        kinds=kind,
        heard=told,
        calls=calls,
        disabled_s=disabled_s,
        aborted_s=aborted_s,
    )


def test_f98_a_slow_webhook_loses_no_fact_and_what_it_misses_is_counted(tmp_path, watch, figure, release):
    calls, heard, slow_s = 14_000, [], 2.0

    class Webhook:
        name = "webhook"

        def rollout_routed(self, event):
            heard.append(event)
            release.wait(slow_s)

    runtime = watch(journal=tmp_path, exit_deadline_s=2.0)
    model = served(lambda user: 0, lambda user: 1, runtime, strategy=ABTest(0.5), unit="user", plugins=[Webhook()])
    for number in range(calls):
        model(f"u{number}")
        if number % 1_000 == 999:
            assert runtime.recorder.flush(30.0)
            until(lambda: not runtime._delivery.sinks._journal.waiting)
    status = model.rollout.status()
    assert (calls, 0) == (sum(status.calls.values()), status.lost)
    kept = sum(record["event"] == "decision" for record in read_journal(tmp_path))
    assert calls == kept
    dropped = status.faults["webhook.rollout_routed", "DroppedError"]
    assert calls - 10_000 - len(heard) <= dropped < calls - 9_900
    runtime.close(0.2)
    missed = runtime.faults["webhook.rollout_routed", "DroppedError"]
    assert calls == len(heard) + missed
    figure(
        "F98",
        "a webhook that takes {slow_s:.0f} s for each of {calls:,} calls: {kept:,} counted and journalled; it "
        "received {heard:,}, and {missed:,} are counted as dropped for it",
        slow_s=slow_s,
        calls=calls,
        kept=kept,
        heard=len(heard),
        missed=missed,
    )


def test_f98_what_hangs_is_named_and_logged_with_the_cure(watch, release):
    logged = []

    def processor(_logger, _method, event):
        logged.append(event)
        raise structlog.DropEvent

    structlog.configure(processors=[processor])
    hanging = Hanging(release)
    runtime = watch()
    model = served(lambda x: x, lambda x: x, runtime, plugins=[hanging])
    model(1)
    assert hanging.local_state.wait(30)
    soon(runtime)
    until(lambda: [event for event in logged if event["event"] == "rollout.plugin.failed"])
    (told,) = [event for event in logged if event["event"] == "rollout.plugin.failed"]
    assert ("hanging", "rollout_routed", "HangError") == (told["plugin"], told["hook"], told["error_type"])
    assert "Give it a timeout" in told["why"]
    assert 1 == model.rollout.status().faults["hanging.rollout_routed", "HangError"]
    time.sleep(1.2)
    assert 1 == runtime.faults["hanging.rollout_routed", "HangError"]


def test_f98_a_flush_waits_for_observers_and_not_for_one_that_hangs(watch, release, tmp_path):
    hanging = Hanging(release)
    runtime = watch(journal=tmp_path)
    model = served(lambda x: x, lambda x: x, runtime, plugins=[hanging])
    model(1)
    assert hanging.local_state.wait(30)
    soon(runtime)
    time.sleep(0.3)
    began = time.monotonic()
    assert not runtime.flush(60.0)
    assert time.monotonic() - began < 30.0
    assert 1 == sum(record["event"] == "decision" for record in read_journal(tmp_path))
    release.set()
    until(lambda: runtime.flush(10.0))


def test_f98_observers_that_flush_do_not_wait_for_each_other(watch):
    took = []

    class Flushing:
        def rollout_routed(self, event):
            began = time.monotonic()
            runtime.flush(20.0)
            took.append(time.monotonic() - began)

    runtime = watch()
    model = served(lambda x: x, lambda x: x, runtime, plugins=[Flushing(), Flushing()])
    model(1)
    until(lambda: len(took) == 2)
    assert max(took) < 10.0


def test_f98_an_observer_sees_everything_in_order(watch, figure):
    seen = []

    class Ordered:
        name = "ordered"

        def rollout_routed(self, event):
            seen.append(event.decision.id)

        def rollout_recorded(self, event):
            seen.append(event.decision_id)

    runtime = watch()
    model = served(lambda x: x, lambda x: x, runtime, plugins=[Ordered()])
    expected = []
    for number in range(1_000):
        routed = model.rollout.route(number)
        model.rollout.record("click", 1.0, decision_id=routed.decision.id)
        expected += [routed.decision.id] * 2
    assert runtime.flush(30.0)
    assert expected == seen
    figure("F98", "{seen:,} of {events:,} events of several kinds reached an observer in order", seen=len(seen),
           events=len(expected))  # fmt: skip


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("durability", ["flush", "call"])
def test_f99_a_journal_that_hangs_takes_nothing_along(durability, kind, tmp_path, watch, loop, release, monkeypatch, figure):
    service = Served(tmp_path, watch, kind, loop, durability=durability)
    model = service.model()
    service.serve(number=10)
    assert service.runtime.flush(30.0)
    standing, write = threading.Event(), JournalWriter.write

    def stand(writer, lines):
        standing.set()
        release.wait(60)
        write(writer, lines)

    monkeypatch.setattr(JournalWriter, "write", stand)
    began = time.monotonic()
    service.serve(number=40)
    took_s = time.monotonic() - began
    assert standing.wait(30)
    # With durability="call", the first of them waits for a second.
    assert took_s < 20
    until(lambda: service.counted() == 50)
    counted = service.evidence()
    assert 50 == counted
    model.rollout.judge()
    disabled_s, aborted_s = service.steered_s()
    until(lambda: ("journal", "HangError") in service.runtime.faults)
    assert not release.is_set()
    release.set()
    assert service.runtime.flush(30.0)
    assert service.counted() == service.journalled() + service.runtime.lost
    calls = 50
    figure(
        "F99",
        "{kinds} kinds of functions, durability flush and call: {counted:,} of {calls:,} calls in counts and "
        "evidence while the disk hangs, which took {took_s:.1f} s; the control file disables after "
        "{disabled_s:.1f} s, an abort takes effect after {aborted_s:.1f} s; later all are in the journal",
        kinds=kind,
        counted=counted,
        calls=calls,
        took_s=took_s,
        disabled_s=disabled_s,
        aborted_s=aborted_s,
    )


def test_f99_a_disk_that_hangs_at_the_start_keeps_no_service_from_starting(tmp_path, watch, release, monkeypatch, figure):
    monkeypatch.setattr(JournalWriter, "prepare", lambda *_: release.wait(60))
    began = time.monotonic()
    runtime = watch(journal=tmp_path)
    model = served(lambda x: 0, lambda x: 1, runtime)
    assert 1 == model(1)
    took_s = time.monotonic() - began
    assert not release.is_set()
    assert 1 == runtime.faults["journal", "HangError"]
    figure("F99", "a disk that hangs at the start: the first call is answered after {took_s:.1f} s", took_s=took_s)


class HangingStore:
    """A store that answers while it is not told to hang; then it is a server that accepts and never answers."""

    def __init__(self, release):
        self.within = MemoryStore()
        self.hangs, self.release, self.local_state = False, release, threading.Event()

    def __getattr__(self, method):
        ask = getattr(self.within, method)

        def asked(*arguments):
            if self.hangs and not self.release.is_set():
                self.local_state.set()
                self.release.wait(60)
            return ask(*arguments)

        return asked


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_f100_a_store_that_hangs_keeps_no_function_from_being_decorated(kind, watch, loop, release, figure):
    store = HangingStore(release)
    store.hangs = True
    runtime = watch(store=store)
    began = time.monotonic()
    models = [canary(kind, runtime, f"m{number}") for number in range(20)]
    took_s = time.monotonic() - began
    assert store.local_state.is_set()
    assert took_s < 15
    # Where they stand is not known: the control is right.
    assert [0] * 20 == [ran(kind, model, loop, 5) for model in models]
    assert all(model.rollout.is_disabled for model in models)
    assert runtime.faults["store", "StoreError"] >= 20
    release.set()
    known_s = until(lambda: all(ran(kind, model, loop) for model in models))
    figure(
        "F100",
        "{kinds} kinds: {decorated} functions decorated in at most {took_s:.1f} s while a store never answers, "
        "each answered by its control; {known_s:.1f} s after it answers, all candidates run",
        kinds=kind,
        decorated=len(models),
        took_s=took_s,
        known_s=known_s,
    )


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_f100_a_store_that_hangs_later_takes_nothing_along(kind, tmp_path, watch, loop, release, monkeypatch, figure):
    if kind != "function":
        # Functions wait for a store as long as services do; the other kinds show that they wait for it at all.
        monkeypatch.setattr("rollout_sdk.control.stores.guarded._PATIENCE_S", 1.0)
    store = HangingStore(release)
    service = Served(tmp_path, watch, kind, loop, store=store)
    first, second = service.model("m"), service.model("other")
    assert ran(kind, first, loop)
    store.hangs = True
    assert store.local_state.wait(30)
    service.serve()
    until(lambda: service.counted() == CALLS + 40)
    until(lambda: service.journalled() == CALLS + 40)
    steer(service.control, 2, "disabled = true\n")
    disabled_s = until(lambda: not ran(kind, first, loop))
    steer(service.control, 3, "disabled = false\n")
    until(lambda: ran(kind, first, loop))
    began = time.monotonic()
    assert "aborted" == first.rollout.abort(actor="ann", reason="test").status
    aborted_s = time.monotonic() - began
    assert aborted_s < 15
    assert (0, True) == (ran(kind, first, loop), ran(kind, second, loop) > 0)
    with pytest.raises(StoreError, match="has not answered"):
        second.rollout.promote()
    began = time.monotonic()
    service.runtime.close(0.5)
    closed_s = time.monotonic() - began
    assert closed_s < 10
    assert not release.is_set()
    # What could not be stored was not forgotten.
    release.set()
    pending_abort = service.runtime.reconciler.rollouts["m"].pending_abort
    assert (pending_abort is not None and pending_abort[:2] == ("ann", "test")) or "aborted" == store.load("m").document[
        "status"
    ]
    figure(
        "F100",
        "{kinds} kinds: a store that hangs while it is used: the control file disables after {disabled_s:.1f} s, "
        "abort() returns after {aborted_s:.1f} s and takes effect at its start; closed after {closed_s:.1f} s",
        kinds=kind,
        disabled_s=disabled_s,
        aborted_s=aborted_s,
        closed_s=closed_s,
    )


def test_f100_an_abort_is_stored_as_soon_as_the_store_answers(watch, loop, release):
    store = HangingStore(release)
    runtime = watch(store=store)
    model = canary("function", runtime)
    store.hangs = True
    assert store.local_state.wait(30)
    model.rollout.abort(actor="ann", reason="test")
    assert store.within.load("m").revision == 0
    release.set()
    until(lambda: "aborted" == store.load("m").document["status"])
    assert ["start", "abort"] == [record["action"] for record in store.history("m")]


def test_f100_a_thread_that_is_never_answered_is_left_and_another_asks(watch, loop, monkeypatch):
    """As with a connection whose other end is gone: a new one may be answered."""
    monkeypatch.setattr("rollout_sdk.control.stores.guarded._GIVE_UP_AFTER_S", 1.0)
    never = threading.Event()
    store = HangingStore(never)
    runtime = watch(store=store)
    model = canary("function", runtime)
    assert ran("function", model, loop)
    store.hangs = True
    assert store.local_state.wait(30)
    store.hangs = False
    abort(store)
    until(lambda: not ran("function", model, loop))
    assert not never.is_set()
    never.set()


EXIT = """
    import sys, threading, time
    from rollout_sdk import Canary, Runtime, rollout
    from rollout_sdk.control.stores import MemoryStore

    class Store:
        hangs = {hangs}
        within = MemoryStore()
        def __getattr__(self, method):
            def asked(*arguments):
                if self.hangs:
                    threading.Event().wait()
                return getattr(self.within, method)(*arguments)
            return asked

    class Observer:
        def rollout_routed(self, event):
            if {observer}:
                threading.Event().wait()

    runtime = Runtime(store=Store(), journal="journal", plugins=[Observer()], exit_deadline_s=1.0)
    model = rollout(candidate=lambda user: 1, strategy=Canary(["50%", "100%"]), unit="user", key="m", runtime=runtime)(
        lambda user: 0)
    for number in range(500):
        model(number)
    Store.hangs = True
    time.sleep({sleep})
    import atexit
    began = time.monotonic()
    atexit._run_exitfuncs()
    print(time.monotonic() - began)
"""


@pytest.mark.parametrize(
    ("hangs", "observer", "sleep"),
    [(True, False, 0.0), (False, False, 1.0), (False, False, 0.0), (False, True, 0.2), (True, True, 1.0)],
    ids=["store from the start", "store later", "store at the exit", "observer", "both"],
)
def test_f100_what_hangs_keeps_no_process_from_ending(hangs, observer, sleep, run_python, tmp_path, figure):
    result = run_python(EXIT.format(hangs=hangs, observer=observer, sleep=sleep), timeout=60)
    assert (0, "") == (result.returncode, result.stderr)
    took_s = float(result.stdout)
    assert took_s < 10
    kept = sum(record["event"] == "decision" for record in read_journal(tmp_path / "journal"))
    assert 500 == kept
    calls = 500
    figure(
        "F100",
        "{ways} ways to hang: a process ends {took_s:.1f} s after its shutdown began; {kept:,} of {calls:,} calls journalled",
        ways=str((hangs, observer, sleep)),
        took_s=took_s,
        kept=kept,
        calls=calls,
    )


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_f101_a_store_that_is_locked_keeps_a_service_waiting_once(kind, tmp_path, watch, loop, figure):
    db = tmp_path / "rollouts.db"
    with closing(SQLiteStore(db)) as store:
        assert [] == store.keys()
    with closing(sqlite3.connect(db, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        runtime = watch(store=f"sqlite:///{db}")
        began = time.monotonic()
        models = [canary(kind, runtime, f"m{number}") for number in range(20)]
        took_s = time.monotonic() - began
        assert [0] * 20 == [ran(kind, model, loop, 5) for model in models]
        # Each would wait for a second.
        assert took_s < 15
        other.execute("ROLLBACK")
    known_s = until(lambda: all(ran(kind, model, loop) for model in models))
    figure(
        "F101",
        "{kinds} kinds: {decorated} functions decorated in at most {took_s:.1f} s while another process holds the "
        "store's lock; {known_s:.1f} s after its release, all candidates run",
        kinds=kind,
        decorated=len(models),
        took_s=took_s,
        known_s=known_s,
    )


def test_f101_a_store_that_fails_at_once_for_one_key_delays_no_other(watch, loop):
    class Refusing(HangingStore):
        def noted(self, key, name):
            if key == "bad":
                raise StoreError("not this one")
            return self.within.noted(key, name)

    runtime = watch(store=Refusing(threading.Event()))
    bad, good = canary("function", runtime, "bad"), canary("function", runtime, "good")
    assert (0, True) == (ran("function", bad, loop), ran("function", good, loop) > 0)


FORK = """
    import os, sys, threading, time
    from rollout_sdk import ABTest, Runtime, rollout
    from rollout_sdk.journal import read_journal

    hung, heard = threading.Event(), []

    class Hanging:
        def rollout_routed(self, event):
            if os.getpid() == parent:
                hung.set()
                threading.Event().wait()

    class Heard:
        def rollout_routed(self, event):
            heard.append(os.getpid())

    parent = os.getpid()
    runtime = Runtime(journal="journal", plugins=[Hanging(), Heard()], exit_deadline_s=0.5)
    model = rollout(candidate=lambda user: 1, strategy=ABTest(0.5), unit="user", key="m", runtime=runtime)(lambda user: 0)
    model("u")
    assert hung.wait(30)
    children = []
    for _ in range(5):
        child = os.fork()
        if not child:
            heard.clear()
            assert not any(thread.busy_s for thread in runtime._delivery.sinks._threads())
            for number in range(100):
                model(number)
            flushed = runtime.flush(20)
            ok = flushed and heard == [os.getpid()] * 100 and runtime.faults == {}
            runtime.close(5)
            os._exit(0 if ok else 1)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    runtime.close(0.5)
    print(*codes, sum(record["event"] == "decision" for record in read_journal("journal")))
"""


def test_f102_a_child_of_a_process_in_which_things_hang_begins_anew(run_python, figure):
    result = run_python(FORK, timeout=120)
    assert (0, "") == (result.returncode, result.stderr)
    *codes, kept = result.stdout.split()
    assert (["0"] * 5, "501") == (codes, kept)
    figure("F102", "{kept:,} calls of {children} forks and of their parent, whose observer hangs, journalled; each "
           "child's own counted and "
           "observed", kept=int(kept), children=len(codes))  # fmt: skip


def test_f102_a_fork_without_pythons_hooks_is_noticed(run_python):
    """As uWSGI forks: the thread is not there, and what waited for it is the parent's."""
    result = run_python("""
        import ctypes, os, threading, time
        from rollout_sdk.resilience.queue_thread import QueueThread

        standing, release, done = threading.Event(), threading.Event(), []

        def take(item):
            if item == "hangs":
                standing.set()
                release.wait(60)
            done.append(item)

        thread = QueueThread("rollout-test", take, failed=lambda *_: None, called=str)
        thread.put("hangs")
        assert standing.wait(30)
        thread.put("of the parent")
        child = ctypes.CDLL(None).fork()
        if child == 0:
            thread.put("of the child")
            until = time.monotonic() + 30
            while not done and time.monotonic() < until:
                time.sleep(0.01)
            os._exit(0 if done == ["of the child"] else 1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        release.set()
        assert thread.wait(thread.mark(), 30.0)
        print(code, done)
        thread.close()
    """)
    assert ("0 ['hangs', 'of the parent']\n", "") == (result.stdout, result.stderr)


def test_f102_a_forked_child_looks_at_the_control_file_before_its_first_call(run_python, tmp_path):
    result = run_python("""
        import os, time
        from rollout_sdk import ABTest, Runtime, rollout
        def steer(version, text):
            with open("aside", "w") as file:
                file.write(f"version = {version}\\n{text}")
            os.chmod("aside", 0o600)
            os.replace("aside", "control.toml")
        steer(1, "")
        runtime = Runtime(control="control.toml")
        model = rollout(candidate=lambda user: 1, strategy=ABTest(1.0), unit="user", key="m", runtime=runtime)(lambda user: 0)
        child = os.fork()
        if not child:
            deadline = time.monotonic() + 20
            while not model.rollout.is_disabled and time.monotonic() < deadline:
                time.sleep(0.05)
            os._exit(0 if model.rollout.is_disabled else 1)
        time.sleep(0.5)
        steer(2, "disabled = true")
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """)
    assert (0, "", "0\n") == (result.returncode, result.stderr, result.stdout)


@pytest.mark.parametrize("refused", ["rollout-journal", "rollout-observer", "rollout-logs"])
def test_f102_where_no_thread_is_to_be_had_nothing_is_lost(refused, tmp_path, watch, monkeypatch, figure):
    """As at the end of the interpreter, where Python 3.12 starts none: the recorder deals with it then."""
    from rollout_sdk.concurrency import threads

    start = threads.start_thread

    def refuse(thread):
        if thread.name == refused:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threads, "start_thread", refuse)
    heard = Heard()
    runtime = watch(journal=tmp_path)
    model = served(lambda x: 0, lambda x: 1, runtime, plugins=[heard])
    for number in range(100):
        model(number)
    assert runtime.recorder.flush(30.0)
    until(lambda: runtime.flush(10.0))
    kept = sum(record["event"] == "decision" for record in read_journal(tmp_path))
    assert (100, 100) == (kept, len(heard.events))
    calls = 100
    figure("F102", "{refused} kinds of threads that cannot be started: {kept:,} of {calls:,} calls journalled and observed",
           refused=refused, kept=kept, calls=calls)  # fmt: skip


def test_f102_a_process_that_ends_at_once_journals_everything(run_python, tmp_path, figure):
    result = run_python("""
        from rollout_sdk import ABTest, Runtime, rollout
        heard = []
        class Observer:
            def rollout_routed(self, event):
                heard.append(1)
        runtime = Runtime(journal="journal", plugins=[Observer()])
        model = rollout(candidate=lambda x: 1, strategy=ABTest(0.5), unit="x", key="m", runtime=runtime)(lambda x: 0)
        import atexit
        atexit.register(lambda: print(len(heard)))
        for number in range(50):
            model(number)
    """)
    # The recorder's own end comes first: it was set up last.
    assert (0, "", "50\n") == (result.returncode, result.stderr, result.stdout)
    kept = sum(record["event"] == "decision" for record in read_journal(tmp_path / "journal"))
    assert 50 == kept
    calls = 50
    figure("F102", "a process that ends at once: {kept:,} of {calls:,} calls journalled and observed", kept=kept, calls=calls)


@pytest.mark.parametrize("begins", [False, True], ids=["before it begins", "when it has begun"])
@pytest.mark.parametrize("name", ["rollout-recorder", "rollout-journal", "rollout-observer", "rollout-shadow"])
def test_f103_an_interrupted_start_of_a_thread_loses_nothing(name, begins, tmp_path, watch, monkeypatch, figure):
    from rollout_sdk.concurrency import threads

    start, interrupted = threads.start_thread, []

    def interrupt(thread):
        if thread.name != name or interrupted:
            start(thread)
            return
        interrupted.append(thread)
        if begins:
            start(thread)
        raise KeyboardInterrupt

    heard, others = Heard(), set(threading.enumerate())
    runtime = watch(journal=tmp_path)
    monkeypatch.setattr(threads, "start_thread", interrupt)
    decorate = rollout(
        candidate=lambda x: 1, strategy=Shadow(1.0), unit="x", key="m", effects="read", runtime=runtime, plugins=[heard]
    )
    model, calls, stopped, flushed = None, 0, 0, False
    while not flushed:
        # Whether it is this thread that is interrupted depends on which of them starts the other.
        try:
            model = decorate(lambda x: 0) if model is None else model
            while calls < 100:
                calls += 1
                model(calls)
            flushed = runtime.flush(10.0)
        except KeyboardInterrupt:
            stopped += 1
    kept = sum(record["event"] == "decision" for record in read_journal(tmp_path))
    routed = sum(isinstance(event, RoutedEvent) for event in heard.events)
    # A call that Ctrl-C ends is no decision; its shadow is cancelled.
    ended = stopped if name == "rollout-shadow" else 0
    assert (1, calls - ended, calls - ended) == (len(interrupted), kept, routed)
    assert ended <= stopped <= 1
    ends = model.rollout.status().shadows
    assert (calls, name == "rollout-shadow") == (sum(ends.values()), ("candidate", "cancelled") in ends)
    if name in ("rollout-recorder", "rollout-journal"):
        assert 1 == sum(thread.name == name and thread.is_alive() for thread in {*threading.enumerate()} - others)
    figure("F103", "{name} kinds of threads whose start is interrupted: {kept:,} of {calls:,} calls journalled and observed, "
           "{ended} ended by Ctrl-C", name=name, kept=kept, calls=calls, ended=ended)  # fmt: skip


def test_f98_the_control_file_is_looked_at_before_the_first_call(tmp_path, watch):
    control = tmp_path / "control.toml"
    steer(control, 1, "")
    runtime = watch(control=control)
    model = canary("function", runtime)
    steer(control, 2, "disabled = true\n")
    until(lambda: model.rollout.is_disabled)
    assert runtime.recorder._thread is None


def test_f98_an_approval_that_hangs_is_waited_for_once(release, monkeypatch):
    """Whoever asks looks after the store, too."""
    monkeypatch.setattr("rollout_sdk.control.next_step._PATIENCE_S", 1.0)
    approvals = Approvals(lambda what, error: None)
    about = {"rollout": "m", "outcome": "PASS", "reason": "", "phase": "0:50%", "revision": 1, "time_s": 0.0}
    verdict = Verdict(**about, units={}, outcomes={})
    began = time.monotonic()
    assert [False] * 20 == [approvals.ask(lambda _: release.wait(60), verdict) for _ in range(20)]
    assert time.monotonic() - began < 10
