"""What is renewed in a forked child, in which order, and once; each test has a process of its own, as far as the SDK sees."""

import itertools
import os
import sys
import threading
import weakref
from types import SimpleNamespace

import pytest

from rollout_sdk.concurrency import forking
from rollout_sdk.concurrency.forking import ForkSafeLock, ForkSafeRandom, notice_fork, renew_after_fork, was_announced


@pytest.fixture
def process(monkeypatch):
    """A process that was not forked yet, with no objects to renew."""
    monkeypatch.setattr(forking, "same_process", [1])
    monkeypatch.setattr(forking, "_survivors", weakref.WeakValueDictionary())
    monkeypatch.setattr(forking, "_order", itertools.count())
    monkeypatch.setattr(forking, "_locks", {})
    monkeypatch.setattr(forking, "_handles_of_parents", [])
    monkeypatch.setattr(forking, "_renewing_in", 0)
    monkeypatch.setattr(forking, "_is_announced", True)
    return SimpleNamespace(fork=lambda: forking.same_process.__setitem__(0, 0))


class Renewed:
    """Notes its renewals."""

    def __init__(self, name, log, error=None):
        self.name, self.log, self.error = name, log, error
        renew_after_fork(self)

    def renew(self):
        self.log.append((self.name, forking.same_process[0]))
        if self.error is not None:
            raise self.error


def test_all_that_is_alive_is_renewed_in_order_and_once(process):
    log = []
    first, second, third = Renewed("a", log), Renewed("b", log, OSError("no memory")), Renewed("c", log)
    gone = Renewed("d", log)
    del gone
    process.fork()
    notice_fork()
    # Before all are renewed, nothing takes the process for a renewed one; one that fails keeps no other from it.
    assert log == [("a", 0), ("b", 0), ("c", 0)]
    assert forking.same_process[0]
    assert not was_announced()
    notice_fork()
    assert len(log) == 3
    del first, second, third


def test_a_fork_that_python_announced_is_known_as_such(process):
    log = []
    renewed = Renewed("a", log)
    process.fork()
    notice_fork()
    process.fork()
    forking._renew(announced=True)
    assert was_announced()
    assert [name for name, _ in log] == [renewed.name, renewed.name]


def test_a_child_whose_process_id_is_1_is_renewed_as_all_others(process, monkeypatch):
    """As in a container, after other forks."""
    log = []
    renewed = Renewed("a", log)
    process.fork()
    notice_fork()
    monkeypatch.setattr(forking, "getpid", lambda: 1)
    process.fork()
    notice_fork()
    assert [name for name, _ in log] == [renewed.name] * 2


def test_what_a_renewal_does_renews_nothing_again(process):
    log = []

    class Curious(Renewed):
        def renew(self):
            super().renew()
            notice_fork()

    curious = Curious("a", log)
    process.fork()
    notice_fork()
    assert log == [("a", 0)]
    process.fork()
    notice_fork()
    assert len(log) == 2
    del curious


def test_other_threads_wait_for_the_renewal(process):
    entered, go, log = threading.Event(), threading.Event(), []

    class Slow(Renewed):
        def renew(self):
            entered.set()
            go.wait(10)
            super().renew()

    slow = Slow("a", log)
    process.fork()
    one = threading.Thread(target=notice_fork)
    one.start()
    assert entered.wait(10)
    other = threading.Thread(target=lambda: (notice_fork(), log.append("after")))
    other.start()
    other.join(0.02)
    assert log == []
    go.set()
    one.join(10)
    other.join(10)
    assert log == [("a", 0), "after"]
    del slow


def test_a_lock_that_a_thread_of_the_parent_held_is_free_in_the_child(process):
    lock = ForkSafeLock()
    lock.__enter__()
    assert lock._lock.locked()
    process.fork()
    # The holder's thread does not exist here; entering notices the fork.
    with lock:
        assert forking.same_process[0]
        assert lock._lock.locked()
    assert not lock._lock.locked()


def test_the_lock_that_was_taken_is_released_even_if_it_was_replaced_meanwhile(process):
    lock = ForkSafeLock()
    with lock:
        taken = lock._lock
        lock.renew()
    assert not taken.locked()
    assert not lock._lock.locked()


@pytest.mark.parametrize("name", ["_handle", "_os_thread_handle"])
def test_handles_of_the_parents_threads_are_never_freed_where_that_crashes(process, monkeypatch, name):
    handle = object()
    thread = threading.Thread(target=print)
    setattr(thread, name, handle)
    for version, announced, kept in [((3, 12), False, False), ((3, 13), True, False), ((3, 13), False, True)]:
        monkeypatch.setattr(sys, "version_info", version)
        process.fork()
        forking._renew(announced=announced)
        assert kept == (handle in forking._handles_of_parents)


def test_random_numbers_differ_in_a_child_and_leave_the_applications_generator_alone(process, monkeypatch):
    monkeypatch.setattr(os, "urandom", lambda size, seeds=itertools.count(): next(seeds).to_bytes(size, "big"))
    numbers = ForkSafeRandom()
    state = numbers.getstate()
    before = numbers.random()
    numbers.setstate(state)
    process.fork()
    notice_fork()
    assert numbers.random() != before
    again = ForkSafeRandom()
    assert again.random() != before


def test_where_memory_cannot_be_marked_the_process_id_tells(monkeypatch):
    pid = iter([7, 7, 8, 8, 8])
    monkeypatch.setattr(forking, "getpid", lambda: next(pid))
    mark = forking._ProcessId()
    mark[0] = 1
    assert mark[0]
    assert not mark[0]
    mark[0] = 1
    assert mark[0]


def test_without_forks_a_byte_is_enough(monkeypatch):
    monkeypatch.delattr(os, "fork")
    assert len(forking._mark()) == 1


@pytest.mark.parametrize("platform", ["darwin", "linux"])
def test_a_mark_is_true_once_it_is_set(monkeypatch, platform):
    monkeypatch.setattr(forking.sys, "platform", platform)
    mark = forking._mark()
    assert not mark[0]
    mark[0] = 1
    assert mark[0]
    assert (forking.mmap.mmap is type(mark)) == (platform == "linux")
