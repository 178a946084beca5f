"""A breaker opens when a candidate keeps failing, lets exactly one probe through, and keeps nothing of what failed."""

import threading
import tracemalloc

import pytest

from rollout_sdk import Breaker, ConfigurationError, breaker
from rollout_sdk.breaker import CircuitBreaker


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(breaker, "monotonic", clock)
    return clock


@pytest.fixture
def changes():
    return []


@pytest.fixture
def circuit(clock, changes):
    return CircuitBreaker(Breaker(), lambda *change: changes.append(change))


def fail(circuit, times):
    for _ in range(times):
        circuit.note(circuit.admit(), failed=True)


def test_it_stays_closed_below_the_least_number_of_runs_and_opens_with_it(circuit, changes):
    fail(circuit, 19)
    assert (False, []) == (circuit.is_open, changes)
    fail(circuit, 1)
    assert (True, [(True, 20, 20, 30.0)]) == (circuit.is_open, changes)
    assert circuit.admit() is None


@pytest.mark.parametrize(("failures", "opens"), [(49, False), (50, True)])
def test_it_opens_at_the_configured_share_of_the_last_runs(failures, opens, circuit):
    for number in range(1000):
        circuit.note(circuit.admit(), failed=False) if number < 900 else None
    for number in range(100):
        circuit.note(circuit.admit(), failed=number >= 100 - failures)
    assert opens == circuit.is_open


def test_successes_long_ago_do_not_outweigh_the_failures_of_now(circuit):
    for _ in range(100_000):
        circuit.note(circuit.admit(), failed=False)
    fail(circuit, 50)
    assert circuit.is_open


def test_after_the_cooldown_one_probe_of_twenty_callers_runs(circuit, clock, changes):
    fail(circuit, 20)
    clock.now += 29.9
    assert [None] * 20 == [circuit.admit() for _ in range(20)]
    clock.now += 0.1
    tickets = [circuit.admit() for _ in range(20)]
    assert 19 == tickets.count(None)
    circuit.note(max(ticket for ticket in tickets if ticket is not None), failed=False)
    assert (False, (False, 20, 20, 0.0)) == (circuit.is_open, changes[-1])
    assert circuit.admit() is not None


def test_a_failed_probe_doubles_the_cooldown_up_to_the_longest(circuit, clock, changes):
    fail(circuit, 20)
    for _ in range(6):
        clock.now += changes[-1][3]
        fail(circuit, 1)
    assert [30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0] == [cooldown for *_, cooldown in changes]
    clock.now += 600.0
    circuit.note(circuit.admit(), failed=False)
    fail(circuit, 20)
    assert 30.0 == changes[-1][3]


def test_what_started_before_it_opened_says_nothing_about_what_came_after(circuit, clock):
    early = circuit.admit()
    fail(circuit, 20)
    clock.now += 30.0
    probe = circuit.admit()
    circuit.note(early, failed=False)
    assert circuit.is_open
    circuit.note(probe, failed=False)
    for _ in range(50):
        circuit.note(early, failed=True)
    assert not circuit.is_open


def test_a_probe_that_never_comes_back_is_replaced_after_another_cooldown(circuit, clock):
    fail(circuit, 20)
    clock.now += 30.0
    lost = circuit.admit()
    clock.now += 29.0
    assert [None, None] == [circuit.admit(), circuit.admit()]
    clock.now += 1.0
    assert circuit.admit() is None
    probe = circuit.admit()
    assert probe is not None
    circuit.note(lost, failed=True)
    circuit.note(probe, failed=False)
    assert not circuit.is_open


def test_it_can_be_tripped_at_once(circuit, changes):
    circuit.trip()
    circuit.trip()
    assert [(True, 0, 0, 30.0)] == changes


def test_an_open_breaker_keeps_no_memory_of_the_calls_that_it_refuses(circuit):
    fail(circuit, 20)
    tracemalloc.start()
    try:
        for _ in range(100_000):
            circuit.admit()
        # Of its own lines alone: threads that other tests left behind allocate meanwhile.
        own = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, breaker.__file__)])
        assert sum(trace.size for trace in own.traces) < 2_000
    finally:
        tracemalloc.stop()


def test_threads_that_race_open_it_once_and_probe_it_once(changes):
    circuit = CircuitBreaker(Breaker(cooldown_s=1e-9, max_cooldown_s=1e-9), lambda *change: changes.append(change))
    start = threading.Barrier(8)
    probes = []

    def work():
        start.wait()
        for _ in range(5):
            circuit.note(0, failed=True)
        start.wait()
        probes.append(circuit.admit())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 == len(changes)
    # A lost probe is replaced after a cooldown, which is over at once here: there may be more, but never twice the same.
    tickets = [ticket for ticket in probes if ticket is not None]
    assert 1 <= len(tickets) == len(set(tickets))


@pytest.mark.parametrize(
    "options",
    [
        {"min_runs": 0},
        {"min_runs": 101},
        {"failure_share": 0.0},
        {"failure_share": 1.1},
        {"cooldown_s": 0},
        {"cooldown_s": 700.0},
        {"cooldown_s": float("nan")},
    ],
    ids=repr,
)
def test_a_breaker_that_could_never_open_or_close_is_refused(options):
    with pytest.raises(ConfigurationError, match="Breaker got"):
        Breaker(**options)
