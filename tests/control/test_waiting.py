"""A store that can report changes: the process looks at once, and as often as before when it cannot."""

import threading
import time
from itertools import pairwise

import pytest

from rollout_sdk import Canary, Runtime, StoreError, rollout
from rollout_sdk.control.stores import GuardedStore, SQLiteStore
from rollout_sdk.testing import StoreContract

KEY = "shop.rank"


class Reporting(SQLiteStore):
    """Reports the changes that its own process makes, and counts the looks."""

    changed = None

    def listens(self):
        self.changed = self.changed or threading.Semaphore(0)
        return self.changed

    def swap(self, *args, **kwargs):
        is_done = super().swap(*args, **kwargs)
        if is_done:
            self.listens().release()
        return is_done

    def wait_for_change(self, timeout_s):
        self.load(KEY)  # it refuses when it is closed
        return self.listens().acquire(timeout=timeout_s)


class TestReporting(StoreContract):
    """As far as the store's own test goes: what it reports ends a wait."""

    def make(self):
        return Reporting(self.path, timeout_s=30.0)

    def reopen(self, store):
        other = Reporting(self.path, timeout_s=30.0)
        other.changed = store.listens()
        return other

    @pytest.fixture(autouse=True)
    def file(self, tmp_path):
        self.path = tmp_path / "rollouts.db"


def canary(runtime):
    return rollout(candidate=lambda u: "new", strategy=Canary(["5%", "50%"]), unit="u", key=KEY, runtime=runtime)(
        lambda u: "old"
    )


def looks_of(monkeypatch, runtime):
    """The times at which a runtime looks at its rollouts from now on."""
    looks, look = [], runtime.reconciler.look
    monkeypatch.setattr(runtime.reconciler, "look", lambda managed: (looks.append(time.monotonic()), look(managed)))
    return looks


def until(is_so):
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_change_that_is_reported_is_looked_at_at_once(tmp_path):
    store = Reporting(tmp_path / "rollouts.db")
    runtime = Runtime(store=store)
    # Without a report, it would look in ten minutes.
    runtime.reconciler._thread._every_s = 600.0
    model = canary(runtime)
    other = Runtime(store=SQLiteStore(tmp_path / "rollouts.db"))
    canary(other).rollout.promote(actor="ann", reason="a quiet day")
    store.listens().release()
    until(lambda: model.rollout.phase.name == "1:50%")
    for each in (runtime, other):
        each.close()


@pytest.mark.parametrize("kind", ["raises", "hangs", "answers nonsense", "returns at once"])
def test_a_store_that_cannot_report_is_looked_at_twice_a_second(tmp_path, monkeypatch, kind):
    hangs = threading.Event()

    class Broken(SQLiteStore):
        def wait_for_change(self, timeout_s):
            if kind == "hangs":
                hangs.wait(60)
            if kind == "raises":
                raise OSError("no route to host")
            return None if kind == "answers nonsense" else False

    runtime = Runtime(store=Broken(tmp_path / "rollouts.db"))
    monkeypatch.setattr(runtime.reconciler.store, "_patience_s", 0.5)
    looks = looks_of(monkeypatch, runtime)
    canary(runtime)
    until(lambda: len(looks) >= 4)
    hangs.set()
    pauses = [later - earlier for earlier, later in pairwise(looks)]
    assert min(pauses) > 0.4
    assert (runtime.faults.get(("store", "StoreError"), 0) > 0) == (kind != "returns at once")
    runtime.close()


def test_waiting_delays_nothing_that_is_asked_meanwhile(tmp_path):
    store = GuardedStore(Reporting(tmp_path / "rollouts.db"))
    waiting = threading.Thread(target=store.wait_for_change, args=(5.0,))
    waiting.start()
    assert store.swap(KEY, None, {"revision": 1, "epoch": 0}, {}) is True
    waiting.join(5.0)
    assert not waiting.is_alive()
    store.close()


def test_the_reason_of_a_failed_wait_is_kept_until_the_next(tmp_path):
    class Broken(SQLiteStore):
        error = StoreError("No channel.")

        def wait_for_change(self, timeout_s):
            if self.error:
                raise self.error
            return False

    broken = Broken(tmp_path / "rollouts.db")
    store = GuardedStore(broken)
    store.wait_for_change(0.0)
    assert str(store.cannot_wait) == "No channel."
    broken.error = None
    store.wait_for_change(0.0)
    assert store.cannot_wait is None
    store.close()
