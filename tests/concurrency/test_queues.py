"""The queue of the background's threads: the standard library's, and the one that takes its place."""

import gc
import runpy
import sys
import threading
import time
from _queue import Empty, SimpleQueue
from collections import deque

import pytest

from rollout_sdk.concurrency import queues
from rollout_sdk.concurrency.queues import ForkedQueue


@pytest.fixture(params=[SimpleQueue, ForkedQueue])
def queue(request):
    return request.param()


def test_items_come_in_their_order_and_then_none(queue):
    for item in (1, None, "three"):
        queue.put(item)
    assert [1, None, "three"] == [queue.get(), queue.get(timeout=1.0), queue.get_nowait()]
    with pytest.raises(Empty):
        queue.get_nowait()


@pytest.mark.parametrize("timeout_s", [0.0, 0.05])
def test_waits_as_long_as_it_may(queue, timeout_s):
    began = time.monotonic()
    with pytest.raises(Empty):
        queue.get(timeout=timeout_s)
    assert timeout_s <= time.monotonic() - began
    queue.put(1)
    assert 1 == queue.get(timeout=timeout_s)


def test_a_thread_that_waits_is_woken(queue):
    found = []
    threads = [threading.Thread(target=lambda: found.append(queue.get())) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    for item in range(3):
        queue.put(item)
    for thread in threads:
        thread.join(10.0)
    assert [0, 1, 2] == sorted(found)


def test_an_item_that_another_thread_took_first_ends_no_wait():
    class Fleeting(deque):
        """Has an item just when a thread begins to wait, which another thread takes before the waiting one can."""

        looks = 0

        def __bool__(self):
            self.looks += 1
            return self.looks == 1

    queue = ForkedQueue()
    queue._items = Fleeting()
    timer = threading.Timer(0.05, queue.put, [1])
    timer.start()
    assert 1 == queue.get()
    timer.join()


def test_a_wait_that_gave_up_takes_no_wake_up_from_another(queue):
    with pytest.raises(Empty):
        queue.get(timeout=0.01)
    found = []
    thread = threading.Thread(target=lambda: found.append(queue.get(timeout=60.0)))
    thread.start()
    time.sleep(0.05)
    queue.put(1)
    thread.join(20.0)
    assert [1] == found


def test_what_many_threads_put_many_take_once(queue):
    """Some wait, some give up after moments: no item is lost, and no wake-up."""
    taken, each = [], 2_000

    def put(number):
        for item in range(each):
            queue.put((number, item))
            if item % 100 == 0:
                time.sleep(0.001)

    def take(timeout_s):
        while True:
            try:
                item = queue.get(timeout=timeout_s)
            except Empty:
                continue
            if item is None:
                return
            taken.append(item)

    takers = [threading.Thread(target=take, args=(timeout_s,)) for timeout_s in (None, None, 1e-4, 1e-3)]
    putters = [threading.Thread(target=put, args=(number,)) for number in range(4)]
    for thread in (*takers, *putters):
        thread.start()
    for thread in putters:
        thread.join(60.0)
    for _ in takers:
        queue.put(None)
    for thread in takers:
        thread.join(60.0)
    assert not any(thread.is_alive() for thread in takers)
    assert sorted(taken) == [(number, item) for number in range(4) for item in range(each)]


def test_a_finalizer_may_put_amid_anything(queue):
    class Puts:
        def __init__(self):
            self.me = self

        def __del__(self):
            queue.put("finalizer")

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(500):
            Puts()
            queue.put("thread")
            queue.get()
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    left = 0
    while True:
        try:
            queue.get_nowait()
        except Empty:
            break
        left += 1
    assert 500 == left


@pytest.mark.parametrize(("version", "name"), [((3, 12), "SimpleQueue"), ((3, 13), "ForkedQueue"), ((3, 14), "ForkedQueue")])
def test_the_standard_librarys_queue_is_used_where_it_survives_forks_of_c_code(monkeypatch, version, name):
    monkeypatch.setattr(sys, "version_info", version)
    assert name == runpy.run_path(queues.__file__)["SimpleQueue"].__name__
