"""The threads of the background: one at a time for a queue, which costs nothing while it waits."""

import threading
import time

import pytest

from rollout_sdk.resilience.queue_thread import QueueThread


@pytest.fixture
def release():
    event = threading.Event()
    yield event
    event.set()


def test_who_waits_for_room_leaves_the_processor_to_others(release):
    thread = QueueThread("rollout-test", lambda _: release.wait(10), failed=lambda *_: None, called=str)
    assert thread.can_start()
    thread.put("blocks")
    assert thread.can_start()
    threading.Timer(0.3, release.set).start()
    began, used = time.perf_counter(), time.thread_time()
    assert thread.wait_for_room(1)
    waited = time.perf_counter() - began
    assert waited > 0.25
    assert time.thread_time() - used < 0.1 * waited
    thread.close()


def test_a_thread_that_breaks_after_its_end_leaves_its_successor_alone(release):
    """Otherwise two threads would take the items of one queue, in any order."""
    is_broken, is_first, taken = threading.Event(), threading.Event(), []

    def take(item):
        taken.append(item)
        if item == "breaks":
            is_first.set()
            is_broken.wait(10)
            raise ValueError
        if item == "waits":
            release.wait(10)

    def failed(*_):
        raise SystemExit

    thread = QueueThread("rollout-test", take, failed=failed, called=str)
    thread.put("breaks")
    assert is_first.wait(10)
    (broken,) = [each for each in threading.enumerate() if each.name == "rollout-test"]
    thread.end()
    thread.put("waits")
    is_broken.set()
    broken.join(10)
    thread.put("comes after it")
    time.sleep(0.1)
    assert "comes after it" not in taken
    release.set()
    assert thread.wait(thread.mark(), 10.0)
    assert ["breaks", "waits", "comes after it"] == taken
    thread.close()


def test_what_waits_at_a_fork_is_processed_by_the_parent_alone(run_python):
    result = run_python(
        """
        import os, threading
        from rollout_sdk.resilience.queue_thread import QueueThread

        taken, has_begun, release = [], threading.Event(), threading.Event()

        def take(item):
            taken.append(item)
            if item == "blocks":
                has_begun.set()
                release.wait(10)

        thread = QueueThread("rollout-test", take, failed=lambda *_: None, called=str)
        thread.put("blocks")
        thread.put("waits")
        has_begun.wait(10)
        pid = os.fork()
        if pid == 0:
            taken.clear()
            thread.put("of the child")
            is_done = thread.wait(thread.mark(), 5.0)
            os._exit(0 if is_done and taken == ["of the child"] and not thread.waiting else 1)
        release.set()
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), thread.wait(thread.mark(), 10.0), taken)
        """
    )
    assert ("0 True ['blocks', 'waits']\n", "") == (result.stdout, result.stderr)
