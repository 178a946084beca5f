"""The lock of a file's transactions, across forks that Python's hooks announce, and those of C code that they do not."""

import itertools
import threading
import weakref

import pytest

from rollout_sdk.concurrency import forking
from rollout_sdk.control.stores import transaction_lock
from rollout_sdk.control.stores.transaction_lock import TransactionLock


class File:
    """What a lock belongs to."""

    def __init__(self, longest_s=0.02):
        self.renewed = 0
        self.lock = TransactionLock(longest_s, self.renew)

    def renew(self):
        self.renewed += 1

    def is_free(self):
        with self.lock.acquired(0.02) as is_ours:
            return is_ours


@pytest.fixture
def fork(monkeypatch):
    """Goes on as a child that C code has forked."""
    same_process = [1]
    for module in (forking, transaction_lock):
        monkeypatch.setattr(module, "same_process", same_process)
    monkeypatch.setattr(forking, "_survivors", weakref.WeakValueDictionary())
    monkeypatch.setattr(forking, "_order", itertools.count())
    monkeypatch.setattr(transaction_lock, "_forks", transaction_lock._Forks())
    return lambda: same_process.__setitem__(0, 0)


def hold(file):
    """Take the lock, as a thread that a child does not have."""
    holding = file.lock.acquired(0.0)
    assert holding.__enter__()
    return holding


def test_one_thread_holds_it_at_a_time():
    file = File()
    holding = hold(file)
    found = []
    other = threading.Thread(target=lambda: found.append(file.is_free()))
    other.start()
    other.join(10)
    holding.__exit__(None, None, None)
    assert ([False], True) == (found, file.is_free())


@pytest.mark.parametrize("is_held", [True, False])
def test_in_a_child_that_was_not_announced_the_first_use_notices_it(fork, is_held):
    file = File()
    holding = hold(file) if is_held else None
    fork()
    # A thread that does not exist here may have been amid a transaction.
    assert (True, 1, is_held) == (file.is_free(), file.renewed, file.lock.was_torn)
    assert forking.same_process[0]
    del holding


def test_in_a_child_that_was_not_announced_a_new_lock_finds_the_others_renewed(fork):
    old = File()
    fork()
    new = File()
    assert (1, 0) == (old.renewed, new.renewed)
    assert (True, True) == (old.is_free(), new.is_free())


def test_a_fork_waits_for_the_locks_and_both_processes_have_them_afterwards(fork):
    file, forks = File(), transaction_lock._forks
    forks.before()
    assert not file.is_free()
    forks.in_parent()
    assert (True, 0) == (file.is_free(), file.renewed)
    forks.before()
    forks.renew()
    assert (True, 1, False) == (file.is_free(), file.renewed, file.lock.was_torn)


def test_a_fork_does_not_wait_forever_for_a_transaction_and_the_child_knows_that_it_was_torn(fork):
    file, forks = File(), transaction_lock._forks
    holding = hold(file)
    forks.before()
    forks.in_parent()
    # Still held by its transaction, which the fork's end must not cut short.
    assert not file.is_free()
    forks.before()
    forks.renew()
    assert (True, 1, True) == (file.is_free(), file.renewed, file.lock.was_torn)
    # The end of the parent's transaction, on a copy of the thread that forked, frees nothing of the child's.
    with file.lock.acquired(0.0) as is_ours:
        holding.__exit__(None, None, None)
        assert is_ours
        assert not file.is_free()


def test_a_lock_keeps_nothing_alive(fork):
    file = File()
    lock, renew = file.lock, weakref.ref(file)
    del file
    assert renew() is None
    transaction_lock._forks.renew()
    with lock.acquired(0.0) as is_ours:
        assert is_ours
