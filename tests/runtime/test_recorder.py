"""The recorder: what goes in comes out or is counted, nobody waits, and nothing ends its thread."""

import asyncio
import multiprocessing.process
import multiprocessing.util
import sys
import threading
import time

import pytest

from rollout_sdk.recording.recorder import Recorder
from rollout_sdk.resilience.faults import Count


class Sink:
    """A recorder, and all that it delivered."""

    def __init__(self, deliver=None, tick=lambda: None):
        self.facts, self.faults, self.threads = [], [], set()
        self.recorder = Recorder(deliver or self.take, failed=lambda *fault: self.faults.append(fault), tick=tick)

    def take(self, facts):
        self.threads.add(threading.current_thread().name)
        self.facts += facts


@pytest.fixture
def make():
    made = []

    def sink(*args, **kwargs):
        made.append(Sink(*args, **kwargs))
        return made[-1]

    yield sink
    for each in made:
        each.recorder.close(1.0)


@pytest.fixture
def sink(make):
    return make()


def wait_for(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def put_from_threads(recorder, number, threads=8):
    workers = [threading.Thread(target=lambda: [recorder.put(n) for n in range(number)]) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


@pytest.mark.parametrize(("parent", "finalizers"), [(None, 0), (object(), 1)])
def test_a_child_of_multiprocessing_which_ends_without_atexit_has_a_finalizer(parent, finalizers, sink, monkeypatch):
    made = []
    sink.recorder.put("the first one")
    monkeypatch.setattr(multiprocessing.process, "parent_process", lambda: parent)
    monkeypatch.setattr(multiprocessing.util, "Finalize", lambda _, close, exitpriority: made.append(close))
    sink.recorder.close_at_exit()
    sink.recorder.put("the last one")
    assert finalizers == len(made)
    for close in made:
        close()
        assert ["the first one", "the last one"] == sink.facts


def test_facts_come_out_in_order_and_in_one_thread(sink):
    for number in range(3000):
        sink.recorder.put(number)
    assert sink.recorder.flush(5.0)
    assert (list(range(3000)), {"rollout-recorder"}) == (sink.facts, sink.threads)


def test_no_thread_starts_before_the_first_fact(sink):
    assert None is sink.recorder._thread
    assert sink.recorder.flush(0.0)
    assert None is sink.recorder._thread


def test_the_first_fact_of_a_process_waits_for_no_others():
    """Those that follow do, for half a minute here; but a worker that has one job has no more than one fact."""
    facts = []
    recorder = Recorder(facts.extend, failed=lambda *_: None, tick=lambda: None, gather_s=30.0)
    for number in range(2):
        recorder.put(number)
        wait_for(lambda number=number: facts == list(range(number + 1)))
        # As in a forked child.
        recorder.renew()


def test_what_eight_threads_put_in_comes_out_or_is_counted(make):
    facts = []

    def slow(batch):
        time.sleep(0.005)
        facts.extend(batch)

    sink = make(slow)
    put_from_threads(sink.recorder, 5000)
    assert sink.recorder.flush(10.0)
    assert 40_000 == len(facts) + sink.recorder.dropped
    assert 0 < sink.recorder.dropped


def test_no_more_waits_than_the_queue_holds(make):
    release = threading.Event()
    sink = make(lambda _: release.wait(10))
    put_from_threads(sink.recorder, 3000)
    # Eight threads may each be one fact late to see that it is full; a batch is on its way.
    assert 10_000 <= sink.recorder.waiting + 1000 <= 11_008
    assert 24_000 - sink.recorder.dropped <= 11_008
    release.set()


def test_putting_takes_no_time_while_the_sink_stands_still(make):
    release = threading.Event()
    sink = make(lambda _: release.wait(10))
    began = time.monotonic()
    for number in range(20_000):
        sink.recorder.put(number)
    assert time.monotonic() - began < 2.0
    release.set()


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
def test_nothing_that_a_sink_raises_ends_the_thread(error, make):
    facts = []

    def deliver(batch):
        facts.extend(batch)
        if batch[0] == "bad":
            raise error

    sink = make(deliver)
    for fact in ("bad", "good"):
        sink.recorder.put(fact)
        assert sink.recorder.flush(5.0)
    assert (["bad", "good"], [("recorder", error)]) == (facts, [(what, type(raised)) for what, raised in sink.faults])


def test_nothing_that_the_tick_raises_ends_the_thread(make):
    def tick():
        raise SystemExit

    sink = make(tick=tick)
    sink.recorder.put(1)
    assert sink.recorder.flush(5.0)
    wait_for(lambda: sink.faults)
    sink.recorder.put(2)
    assert sink.recorder.flush(5.0)
    assert ([1, 2], "tick") == (sink.facts, sink.faults[0][0])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ended_all_the_same_is_followed_by_another(sink, monkeypatch):
    def fail(_):
        raise MemoryError

    sink.recorder.put(1)
    assert sink.recorder.flush(5.0)
    first = sink.recorder._thread
    with monkeypatch.context() as patch:
        patch.setattr(sink.recorder, "_deliver", fail)
        sink.recorder.put(2)
        first.join(5.0)
    sink.recorder.put(3)
    assert sink.recorder.flush(5.0)
    assert ([1, 3], False) == (sink.facts, first.is_alive())


def test_where_no_thread_is_to_be_had_facts_wait_for_the_next_one(sink, monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("rollout_sdk.concurrency.threads.start_thread", refuse)
        sink.recorder.put(1)
        assert not sink.recorder.flush(0.1)
    sink.recorder.put(2)
    assert sink.recorder.flush(5.0)
    assert ([1, 2], 0) == (sink.facts, sink.recorder.dropped)


def test_flushing_starts_the_thread_that_could_not_be_started_before(sink, monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("rollout_sdk.concurrency.threads.start_thread", refuse)
        sink.recorder.put(1)
    assert sink.recorder.flush(5.0)
    assert [1] == sink.facts


def test_callers_wake_the_thread_after_a_rest_and_not_for_every_fact():
    """Waking it costs a caller more than all else; while facts come, it looks by itself."""
    woken, facts = [], []

    class Counting(Recorder):
        def _wake(self):
            woken.append(len(facts))
            super()._wake()

    recorder = Counting(facts.extend, failed=lambda *_: None, tick=lambda: None)
    for number in range(30):
        recorder.put(number)
        wait_for(lambda number=number: len(facts) == number + 1)
    # Where the machine is busy, it may rest once or twice.
    assert 1 <= len(woken) < 10
    wait_for(lambda: recorder._rests)
    before = len(woken)
    recorder.put(30)
    assert before + 1 == len(woken)
    assert recorder.flush(5.0)
    recorder.close(1.0)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a fork that Python does not hear of")
def test_flushing_first_in_a_child_that_was_forked_unnoticed_has_nothing_to_wait_for(run_python):
    result = run_python("""
        import ctypes, os, time
        from rollout_sdk.recording.recorder import Recorder
        facts = []
        recorder = Recorder(facts.extend, failed=lambda *_: None, tick=lambda: None, gather_s=30.0)
        for number in range(3):
            recorder.put(number)
            while not facts:
                time.sleep(0.001)
        child = ctypes.PyDLL(None).fork()
        if child == 0:
            os._exit(0 if recorder.flush(5.0) and facts == [0] else 1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(code, recorder.flush(5.0), facts)
    """)
    assert ("0 True [0, 1, 2]\n", "") == (result.stdout, result.stderr)


def test_flushing_in_the_recorders_own_thread_does_not_wait_for_itself(make):
    took = []

    def deliver(_):
        began = time.monotonic()
        sink.recorder.flush(5.0)
        took.append(time.monotonic() - began)

    sink = make(deliver)
    sink.recorder.put(1)
    assert sink.recorder.flush(5.0)
    assert took[0] < 1.0


def test_a_flush_that_runs_out_of_time_says_so(make):
    release = threading.Event()
    sink = make(lambda _: release.wait(10))
    sink.recorder.put(1)
    assert not sink.recorder.flush(0.05)
    release.set()
    assert sink.recorder.flush(5.0)


def test_closing_delivers_what_waits_and_then_counts_what_comes(sink):
    for number in range(100):
        sink.recorder.put(number)
    assert sink.recorder.close(5.0)
    sink.recorder.put(100)
    assert (list(range(100)), 1, 0) == (sink.facts, sink.recorder.dropped, sink.recorder.waiting)
    assert sink.recorder.close(5.0)
    assert sink.recorder.flush(1.0)


def test_closing_a_recorder_that_was_never_used_does_nothing(sink):
    assert sink.recorder.close(0.0)
    assert None is sink.recorder._thread


def test_closing_gives_up_at_its_deadline_and_says_so(make):
    release = threading.Event()
    sink = make(lambda _: release.wait(10))
    sink.recorder.put(1)
    began = time.monotonic()
    assert not sink.recorder.close(0.1)
    assert time.monotonic() - began < 2.0
    release.set()


def test_closing_while_threads_put_loses_nothing_uncounted(make):
    sink = make()
    putting = [threading.Thread(target=lambda: [sink.recorder.put(n) for n in range(2000)]) for _ in range(4)]
    for thread in putting:
        thread.start()
    sink.recorder.close(5.0)
    for thread in putting:
        thread.join()
    assert 8000 == len(sink.facts) + sink.recorder.dropped + sink.recorder.waiting


def test_what_ends_the_producers_comes_first_and_may_fail(sink):
    def fail(seconds):
        sink.recorder.put("last")
        raise SystemExit

    sink.recorder.on_close = fail
    sink.recorder.put("first")
    assert sink.recorder.close(5.0)
    assert (["first", "last"], "close") == (sink.facts, sink.faults[0][0])


def test_it_ticks_about_twice_a_second_and_once_at_the_end(make):
    ticks = []
    sink = make(tick=lambda: ticks.append(time.monotonic()))
    sink.recorder.put(1)
    time.sleep(1.2)
    sink.recorder.close(5.0)
    assert 3 <= len(ticks) <= 5


def test_a_count_is_exact_under_threads_and_looking_does_not_count():
    count = Count()
    threads = [threading.Thread(target=lambda: [count.add() for _ in range(20_000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    looks = [int(count) for _ in range(100)]
    for thread in threads:
        thread.join()
    assert (160_000, looks) == (int(count), sorted(looks))


def test_a_signal_handler_that_calls_while_its_thread_is_in_a_call_loses_nothing_and_never_waits(run_python):
    result = run_python("""
        import signal, time
        from rollout_sdk import ABTest, Runtime, rollout
        runtime = Runtime()
        model = rollout(candidate=lambda x: x, strategy=ABTest(0.5), unit="x", key="m", runtime=runtime)(lambda x: x)
        handled = 0

        def handle(*_):
            global handled
            handled += 1
            model(handled)

        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        called, until = 0, time.monotonic() + 1.0
        while time.monotonic() < until:
            model(called)
            called += 1
            if called % 1000 == 0:
                time.sleep(0.01)
        signal.setitimer(signal.ITIMER_REAL, 0)
        runtime.flush()
        counted = sum(runtime.tally("m").decisions.values())
        print(handled > 10, handled + called == counted + runtime.recorder.dropped)
    """)
    assert ("True True\n", "", 0) == (result.stdout, result.stderr, result.returncode)


def test_an_idle_recorder_costs_next_to_nothing(run_python):
    result = run_python("""
        import time
        from rollout_sdk import ABTest, Runtime, rollout
        runtime = Runtime(journal="journal")
        model = rollout(candidate=lambda x: x, strategy=ABTest(0.5), key="m", runtime=runtime)(lambda x: x)
        model(1)
        runtime.flush()
        began = time.process_time()
        time.sleep(2.0)
        print(time.process_time() - began < 0.02)
    """)
    assert ("True\n", "") == (result.stdout, result.stderr)


def test_closing_in_the_recorders_own_thread_does_not_claim_that_all_was_delivered(make):
    closed = []
    sink = make(lambda _: closed.append(sink.recorder.close(1.0)))
    sink.recorder.put("fact")
    wait_for(lambda: closed)
    # It cannot wait for itself; a later close by another thread can.
    assert closed == [False]
    assert sink.recorder.close(5.0)
    assert sink.faults == []
