"""A breaker opens when a candidate keeps failing, lets exactly one probe through, and keeps nothing of what failed."""

import random
import threading
import tracemalloc

import pytest

from rollout_sdk import Breaker, ConfigurationError
from rollout_sdk.resilience import breaker
from rollout_sdk.resilience.breaker import CircuitBreaker, ControlHealth


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


# Against the control ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def health(clock):
    return ControlHealth()


@pytest.fixture
def beside(health, changes):
    return CircuitBreaker(Breaker(), lambda *change: changes.append(change), health)


def test_the_controls_share_is_that_of_its_recent_calls(clock):
    health = ControlHealth()
    for number in range(40):
        health.note(failed=number % 2 == 0)
        if number > 20:
            assert 0.4 < health.share < 0.6
    healthy_after = 0
    while health.share:
        health.note(failed=False)
        healthy_after += 1
    assert 8 <= healthy_after <= 15


def test_what_the_control_fails_at_in_the_same_calls_is_not_the_candidates_excess(beside):
    for _ in range(1000):
        beside.note(beside.admit(), failed=True, control_failed=True)
    assert not beside.is_open


@pytest.mark.parametrize(("shared", "opens"), [(7, True), (8, False)])
def test_it_opens_when_the_share_exceeds_the_controls_by_four_standard_errors(shared, opens, beside):
    """All of 20 runs failed, the control in 7 of the same calls: an excess of .65, a margin of .603; in 8: .6 and .620."""
    for number in range(20):
        beside.note(beside.admit(), failed=True, control_failed=number < shared)
    assert opens == beside.is_open


def test_an_outage_of_both_is_forgiven_for_as_long_as_its_runs_count(beside, health):
    for _ in range(100):
        beside.note(beside.admit(), failed=True, control_failed=True)
    # It is over: one failure more does not hold the candidate to account for all of those before.
    for _ in range(20):
        health.note(failed=False)
    beside.note(beside.admit(), failed=True, control_failed=False)
    assert not beside.is_open


def test_calls_of_the_control_tell_of_an_outage_where_no_control_runs_after_a_failure(beside, health):
    for _ in range(100):
        health.note(failed=True)
        beside.note(beside.admit(), failed=True)
    assert not beside.is_open


def test_the_few_calls_of_a_control_that_gets_a_tenth_are_enough_at_the_beginning_of_an_outage(beside, health):
    for number in range(100):
        if number % 10 == 9:
            health.note(failed=True)
        else:
            beside.note(beside.admit(), failed=True)
    assert not beside.is_open


def test_a_control_that_failed_long_ago_and_has_not_run_since_excuses_nothing(beside, health, clock):
    for _ in range(20):
        health.note(failed=True)
    clock.now += 61.0
    fail(beside, 20)
    assert beside.is_open


def test_a_control_that_does_well_again_is_healthy_to_the_last_digit(health):
    for _ in range(100):
        health.note(failed=True)
    for _ in range(20):
        health.note(failed=False)
    assert 0.0 == health.share


@pytest.mark.parametrize("share", [0.3, 0.5, 0.6, 0.9])
@pytest.mark.parametrize("candidates", [0.1, 0.5, 1.0])
def test_a_candidate_that_fails_as_often_as_the_control_is_left_running(share, candidates, clock):
    """Independent failures, 1,000 calls: of 400 rollouts at most 20 open (all of them at .5 without the comparison).

    Of 40, at most .05 + 3 standard errors: 6.
    """
    opened = 0
    for seed in range(40):
        chance, health = random.Random(seed), ControlHealth()
        circuit = CircuitBreaker(Breaker(), lambda *_: None, health)
        for _ in range(1000):
            control_failed, failed = chance.random() < share, chance.random() < share
            if chance.random() >= candidates:
                health.note(failed=control_failed)
            elif failed:
                health.note(failed=control_failed)
                circuit.note(circuit.admit(), failed=True, control_failed=control_failed)
            else:
                circuit.note(circuit.admit(), failed=False)
            if circuit.is_open:
                opened += 1
                break
    assert opened <= 6


@pytest.mark.parametrize("control", [0.0, 0.05, 0.2])
def test_a_candidate_that_fails_always_is_left_alone_after_twenty_runs_whatever_the_control_does_now_and_then(control, clock):
    chance, health = random.Random(1), ControlHealth()
    circuit = CircuitBreaker(Breaker(), lambda *_: None, health)
    runs = 0
    while not circuit.is_open:
        control_failed = chance.random() < control
        if control_failed or health.share:
            health.note(failed=control_failed)
        circuit.note(circuit.admit(), failed=True, control_failed=control_failed)
        runs += 1
    assert 20 == runs
