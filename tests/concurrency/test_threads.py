"""Threads of the operating system, under gevent and eventlet, under uWSGI, and where no thread can be started."""

import gc
import sys
import threading
import time
import weakref
from types import SimpleNamespace

import pytest

from rollout_sdk.concurrency import threads
from rollout_sdk.concurrency.threads import Flag, Thread, WatchThread, living
from tests.waiting import until


def fake_gevent(monkeypatch, *, patched=("threading",), sleep=time.sleep):
    """As if gevent were imported, and had patched these modules."""
    originals = {("time", "sleep"): "the original sleep"}
    monkey = SimpleNamespace(
        get_original=lambda module, name: originals[module, name], is_module_patched=lambda name: name in patched
    )
    monkeypatch.setitem(sys.modules, "gevent", SimpleNamespace(sleep=sleep))
    monkeypatch.setitem(sys.modules, "gevent.monkey", monkey)


def fake_eventlet(monkeypatch, *, patched=("thread",), sleep=time.sleep):
    """As if eventlet were imported, and had patched these modules."""
    patcher = SimpleNamespace(
        original=lambda module: SimpleNamespace(sleep=f"the sleep of {module}"), is_monkey_patched=lambda name: name in patched
    )
    monkeypatch.setitem(sys.modules, "eventlet", SimpleNamespace(sleep=sleep))
    monkeypatch.setitem(sys.modules, "eventlet.patcher", patcher)


def fake_uwsgi(monkeypatch, **attributes):
    """As if uWSGI ran this process: its master, by default."""
    usual = {"opt": {}, "has_threads": True, "worker_id": lambda: 0, "mule_id": lambda: 0, "numproc": 2}
    usual |= {"i_am_the_spooler": lambda: False, "masterpid": lambda: 17}
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(**{**usual, **attributes}))


def test_functions_are_the_original_ones_whoever_patched_them(monkeypatch):
    assert threads.original("time", "sleep") is time.sleep
    fake_eventlet(monkeypatch)
    assert threads.original("time", "sleep") == "the sleep of time"
    fake_gevent(monkeypatch)
    assert threads.original("time", "sleep") == "the original sleep"


@pytest.mark.parametrize(("has_threads", "missing"), [(True, False), (False, True)])
def test_a_uwsgi_without_threads_is_reported_with_its_cure(monkeypatch, has_threads, missing):
    assert threads.missing_threads() is None
    fake_uwsgi(monkeypatch, has_threads=has_threads)
    assert ("--enable-threads" in (threads.missing_threads() or "")) == missing


HOOKS = {"py-call-uwsgi-fork-hooks": b"true"}


@pytest.mark.parametrize(
    ("attributes", "starts"),
    [
        ({}, False),
        ({"masterpid": lambda: 0}, False),
        ({"masterpid": lambda: 0, "numproc": 1}, True),
        ({"numproc": 1}, False),
        ({"worker_id": lambda: 1}, True),
        ({"mule_id": lambda: 1}, True),
        ({"i_am_the_spooler": lambda: True}, True),
        ({"opt": HOOKS}, True),
        ({"opt": HOOKS, "has_threads": False}, False),
        ({"opt": None}, True),
    ],
)
def test_no_thread_starts_where_uwsgi_forks_without_telling_python(monkeypatch, attributes, starts):
    fake_uwsgi(monkeypatch, **attributes)
    ran = threading.Event()
    thread = Thread(ran.set, "test")
    if starts:
        thread.start()
        assert ran.wait(10)
    else:
        with pytest.raises(RuntimeError, match="without telling Python"):
            thread.start()


def test_a_caller_sleeps_with_its_own_loop(monkeypatch):
    slept = []
    monkeypatch.setattr(threads, "sleep", lambda seconds: slept.append(("thread", seconds)))
    threads.caller_sleep(1.0)
    fake_eventlet(monkeypatch, sleep=lambda seconds: slept.append(("eventlet", seconds)))
    threads.caller_sleep(2.0)
    fake_gevent(monkeypatch, sleep=lambda seconds: slept.append(("gevent", seconds)))
    threads.caller_sleep(3.0)
    fake_gevent(monkeypatch, patched=())
    fake_eventlet(monkeypatch, patched=())
    threads.caller_sleep(4.0)
    assert slept == [("thread", 1.0), ("eventlet", 2.0), ("gevent", 3.0), ("thread", 4.0)]


@pytest.mark.parametrize("make_green", [None, fake_gevent, fake_eventlet])
def test_a_flag_is_waited_for_until_it_is_set_or_the_time_is_up(monkeypatch, make_green):
    if make_green is not None:
        make_green(monkeypatch)
    flag = Flag()
    assert (flag.is_set(), flag.wait(0.001)) == (False, False)
    timer = threading.Timer(0.01, flag.set)
    timer.start()
    assert flag.wait(10.0)
    assert (flag.is_set(), flag.wait(0.0)) == (True, True)
    timer.join()


def test_under_gevent_a_caller_yields_in_short_naps_and_the_sdks_threads_do_not_yield(monkeypatch):
    naps = []
    fake_gevent(monkeypatch, sleep=naps.append)
    flag = Flag()
    assert not flag.wait(0.002)
    assert 0 < max(naps) <= 0.01
    naps.clear()
    began = time.monotonic()
    assert not flag.wait(0.002, inside=True)
    monkeypatch.setattr(threads, "_ours", {threads.native_ident()})
    assert not flag.wait(0.002)
    assert (naps, time.monotonic() - began >= 0.004) == ([], True)


def test_a_flag_does_not_use_locks_that_were_patched_after_the_import(monkeypatch):
    """Making one of gevent's in the background sets up an event loop there, and may deadlock with the patching thread."""
    for name in ("_allocate_lock", "Lock", "RLock", "Condition", "Event"):
        monkeypatch.setattr(threading, name, None)
    flag = Flag()
    assert not flag.wait(0.001)
    threads._start(lambda: (time.sleep(0.01), flag.set()), ())
    assert flag.wait(10.0)


def test_a_flag_wakes_all_that_wait_and_forgets_those_that_gave_up():
    flag, woken = Flag(), []
    waiting = [threading.Thread(target=lambda: woken.append(flag.wait(10.0))) for _ in range(8)]
    for thread in waiting:
        thread.start()
    assert until(lambda: len(flag._waiting) == 8)
    assert not flag.wait(0.001)
    assert len(flag._waiting) == 8
    flag.set()
    for thread in waiting:
        thread.join(10.0)
    assert (woken, len(flag._waiting)) == ([True] * 8, 0)
    assert Flag().wait(-1.0) is False


@pytest.mark.parametrize("patcher", ["gevent.monkey", "eventlet.patcher"])
def test_threads_start_without_python_s_own_where_these_may_be_patched_right_now(monkeypatch, patcher):
    nothing_yet = SimpleNamespace(is_module_patched=lambda name: False, is_monkey_patched=lambda name: False)
    monkeypatch.setitem(sys.modules, patcher, nothing_yet)
    monkeypatch.setattr(threads, "start_thread", None)
    monkeypatch.setattr(threads, "PythonThread", None)
    ran = Flag()
    thread = Thread(ran.set, "test")
    thread.start()
    assert ran.wait(10.0)
    thread.join(10.0)
    assert not thread.is_alive()


@pytest.mark.parametrize("make_green", [None, fake_gevent])
def test_a_thread_runs_and_knows_that_it_does(monkeypatch, make_green):
    if make_green is not None:
        make_green(monkeypatch)
    seen, go = [], threading.Event()

    def run():
        go.wait(10)
        seen.append((thread.is_current, threads.native_ident() in threads._ours, threading.current_thread().daemon))

    thread = Thread(run, "test")
    thread.start()
    assert thread.is_alive()
    assert not thread.is_current
    thread.join(0.001)
    assert thread.is_alive()
    go.set()
    thread.join(10.0)
    assert not thread.is_alive()
    assert seen == [(True, True, True)]
    assert until(lambda: thread._ident not in threads._ours)


def test_a_thread_that_began_before_a_patch_ends_in_peace(monkeypatch):
    """At its end, Python looks a thread up by its ident, which gevent's patch changes."""
    go, broken = threading.Event(), []
    monkeypatch.setattr(sys, "unraisablehook", broken.append)
    monkeypatch.setattr(threading, "excepthook", broken.append)
    thread = Thread(lambda: go.wait(10), "test")
    thread.start()
    # Python knows its ident a moment after it is alive.
    assert until(lambda: thread._thread in list(threading._active.values()))
    (ident,) = [number for number, each in threading._active.items() if each is thread._thread]
    fake_gevent(monkeypatch)
    monkeypatch.setattr(threading, "get_ident", lambda: threads.native_ident() + (threads.native_ident() == ident))
    go.set()
    assert until(lambda: ident + 1 not in threading._active and not thread.is_alive())
    time.sleep(0.05)
    monkeypatch.undo()
    del threading._active[ident]
    assert broken == []


class Watched:
    """Counts its calls."""

    def __init__(self):
        self.calls = 0

    def watch(self):
        self.calls += 1


def test_a_watch_is_called_again_and_again_until_its_end():
    watched, waits = Watched(), []

    def wait(seconds):
        waits.append(seconds)
        time.sleep(0.001)

    watch = WatchThread(watched.watch, "test", every_s=0.25, wait=wait)
    assert not watch.is_running
    assert watch.start()
    assert watch.start()
    assert until(lambda: watched.calls >= 3)
    assert (watch.is_running, watch.has_ended) == (True, False)
    watch.end()
    assert watch.has_ended
    watch._thread.join(10.0)
    assert not watch._thread.is_alive()
    # It waited before the first call.
    assert len(waits) >= watched.calls
    assert set(waits) == {0.25}


def test_a_watch_is_called_twice_a_second_unless_told_otherwise():
    watched, waits = Watched(), []
    watch = WatchThread(watched.watch, "test", wait=lambda seconds: waits.append(seconds) or time.sleep(0.001))
    watch.start()
    assert until(lambda: watched.calls)
    watch.end()
    watch._thread.join(10.0)
    assert {0.5} == set(waits)


def test_a_watch_can_call_at_once():
    watched, asked = Watched(), threading.Event()
    watch = WatchThread(watched.watch, "test", at_once=True, wait=lambda _: asked.wait(10))
    watch.start()
    assert until(lambda: watched.calls == 1)
    watch.end()
    asked.set()
    watch._thread.join(10.0)
    assert watched.calls == 1


def test_a_watch_ends_with_its_object():
    called = threading.Event()

    class Short:
        def watch(self):
            called.set()

    short = Short()
    watch = WatchThread(short.watch, "test", every_s=0.001)
    watch.start()
    assert called.wait(10)
    del short
    gc.collect()
    watch._thread.join(10.0)
    assert not watch._thread.is_alive()


def test_a_watch_that_cannot_start_starts_later_and_then_at_once(monkeypatch):
    watched, asked = Watched(), threading.Event()
    watch = WatchThread(watched.watch, "test", wait=lambda _: asked.wait())

    def refuse(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threads, "start_thread", refuse)
        assert not watch.start()
        assert not watch.is_running
    assert watch.start()
    # The time that it would have waited first is over.
    assert until(lambda: watched.calls == 1, 5.0)
    watch.end()
    asked.set()
    watch._thread.join(10.0)


def test_a_watch_that_another_thread_is_starting_is_left_to_it():
    watched = Watched()
    watch = WatchThread(watched.watch, "test", every_s=0.001)
    watch._starting.acquire()
    assert watch.start()
    assert not watch.is_running
    watch._starting.release()
    assert watch.start()
    assert watch.is_running
    watch.end()


def test_the_living_values_of_a_weak_dictionary_are_read_while_another_thread_adds():
    class Value:
        pass

    values, kept, done = weakref.WeakValueDictionary(), [], threading.Event()

    def add():
        for number in range(30_000):
            values[number] = each = Value()
            kept.append(each)
        done.set()

    adding = threading.Thread(target=add)
    adding.start()
    looks = 0
    while not done.is_set():
        living(values)
        looks += 1
    adding.join()
    del kept[::2]
    assert looks > 10
    assert len(kept) == len(living(values))
