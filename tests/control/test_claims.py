"""An outcome that reaches two processes counts once in the judge: each claims it in the store before it counts."""

import subprocess
import sys
import textwrap
import threading
from contextlib import closing

import pytest

from rollout_sdk import Canary, Gate, Runtime, StoreError, rollout
from rollout_sdk.control import managed as managed_module
from rollout_sdk.control.stores import MemoryStore, SQLiteStore
from rollout_sdk.control.stores import memory as memory_module
from rollout_sdk.control.stores import sqlite as sqlite_module
from tests.processes import Processes

KEY = b"k" * 16


class Shared:
    """A store of several processes, which can be dead, or die after it has done what it was asked."""

    def __init__(self, store):
        self.store, self.dead, self.silent = store, False, False

    def __getattr__(self, name):
        method = getattr(self.store, name)

        def call(*args, **kwargs):
            if self.dead:
                raise StoreError("The store is dead.")
            answer = method(*args, **kwargs)
            if self.silent and name == "claim":
                raise StoreError("The answer was lost.")
            return answer

        return call


@pytest.fixture
def store():
    return Shared(MemoryStore())


@pytest.fixture
def processes(store):
    with closing(Processes(store=store, key=KEY)) as made:
        yield made


def serve(runtime, metric="buy", **gate):
    plan = Canary(["50%"], guardrails=[], gates=[Gate(metric, mde=0.1, **gate)])
    return rollout(candidate=lambda u: 2, strategy=plan, unit="u", key="m", runtime=runtime)(lambda u: 1)


def ids_of(model, number=20):
    return [model.rollout.route(f"u{each}").decision.id for each in range(number)]


def judged(model):
    """What became of outcomes, and their sum, over all processes."""
    runtime = model.rollout._runtime
    runtime.recorder.flush(5.0)
    kept = runtime.reconciler.rollouts["m"]
    kept.publish(runtime.reconciler.store, runtime.reconciler.writer, runtime.reconciler.now_s)
    whole = kept.gather(runtime.reconciler.store, runtime.failed)
    (metric,) = whole.metrics
    sums = whole.sums(metric.criterion)
    total = sum(sums.totals("0:50%", arm)[0] for arm in ("control", "candidate"))
    return dict(whole.outcomes), total


@pytest.mark.parametrize("same", [{"event_id": "order-7"}, {"time_s": 1_900_000_000.0}])
def test_an_event_that_two_processes_record_counts_once(same, processes):
    one, other = serve(processes()), serve(processes())
    (decision_id, *_) = ids_of(one)
    for model in (one, other):
        model.rollout.record("buy", 1.0, decision_id=decision_id, **same)
        judged(model)
    assert ({"counted": 1, "duplicate": 1}, 1.0) == judged(one)


def test_a_label_job_that_is_run_again_elsewhere_doubles_nothing(processes):
    one, other = serve(processes(), per="outcome", window="7d"), serve(processes(), per="outcome", window="7d")
    ids = ids_of(one)
    for model, value in ((one, 1.0), (other, 0.0)):
        for decision_id in ids:
            # A decision has one label, whatever the second one says.
            model.rollout.record("buy", value, decision_id=decision_id)
        judged(model)
    assert (20, 20.0) == (judged(one)[0]["counted"], judged(one)[1])


def test_what_is_not_the_same_counts_in_each_process(processes):
    one, other = serve(processes()), serve(processes())
    ids = ids_of(one)
    for number, model in enumerate((one, other)):
        for decision_id in ids:
            model.rollout.record("buy", 1.0, decision_id=decision_id, event_id=f"{decision_id}-{number}")
        judged(model)
    assert ({"counted": 40}, 40.0) == judged(one)


def test_the_process_itself_remembers_what_it_claimed(processes):
    model = serve(processes())
    (decision_id, *_) = ids_of(model)
    for _ in range(2):
        model.rollout.record("buy", 1.0, decision_id=decision_id, event_id="e")
        model.rollout.record("buy", 1.0, decision_id=decision_id, event_id="e")
        _, total = judged(model)
        assert 1.0 == total
    assert {"counted": 1, "duplicate": 3} == dict(model.rollout._runtime.reconciler.rollouts["m"].evidence.outcomes)


def test_outcomes_wait_while_the_store_is_dead_and_none_is_lost_or_doubled(processes, store):
    one, other = serve(processes()), serve(processes())
    ids = ids_of(one)
    judged(one)
    store.dead = True
    for model in (one, other):
        for decision_id in ids:
            model.rollout.record("buy", 1.0, decision_id=decision_id, event_id=decision_id)
        with pytest.raises(StoreError):
            judged(model)
    store.dead = False
    for model in (one, other):
        judged(model)
    assert (20, 20.0) == (judged(one)[0]["counted"], judged(one)[1])


def test_a_claim_whose_answer_was_lost_is_claimed_again_and_counts(processes, store):
    model = serve(processes())
    (decision_id, *_) = ids_of(model)
    model.rollout.record("buy", 1.0, decision_id=decision_id, event_id="e")
    store.silent = True
    with pytest.raises(StoreError, match="lost"):
        judged(model)
    store.silent = False
    assert ({"counted": 1}, 1.0) == judged(model)


def test_when_too_many_wait_they_count_at_once(processes, store, monkeypatch):
    monkeypatch.setattr(managed_module, "_MOST_UNCLAIMED", 5)
    model = serve(processes())
    ids = ids_of(model)
    store.dead = True
    for decision_id in ids:
        model.rollout.record("buy", 1.0, decision_id=decision_id)
    with pytest.raises(StoreError):
        judged(model)
    store.dead = False
    assert ({"counted": 20}, 20.0) == judged(model)


def test_more_than_are_claimed_at_once_are_claimed_in_turns(processes, monkeypatch):
    monkeypatch.setattr(managed_module, "_MOST_AT_ONCE", 3)
    model = serve(processes())
    for decision_id in ids_of(model):
        model.rollout.record("buy", 1.0, decision_id=decision_id)
    assert ({"counted": 20}, 20.0) == judged(model)


def test_threads_that_claim_at_the_same_time_count_each_outcome_once(processes):
    model = serve(processes())
    for decision_id in ids_of(model, 200):
        model.rollout.record("buy", 1.0, decision_id=decision_id)
    model.rollout._runtime.recorder.flush(5.0)
    runtime, gate = model.rollout._runtime, threading.Barrier(4)

    def publish():
        gate.wait(30)
        runtime.reconciler.rollouts["m"].publish(runtime.reconciler.store, runtime.reconciler.writer, runtime.reconciler.now_s)

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ({"counted": 200}, 200.0) == judged(model)


def test_a_process_alone_claims_nothing(monkeypatch):
    monkeypatch.setattr(MemoryStore, "claim", None)
    model = serve(Runtime(key=KEY))
    (decision_id, *_) = ids_of(model)
    model.rollout.record("buy", 1.0, decision_id=decision_id)
    runtime = model.rollout._runtime
    runtime.recorder.flush(5.0)
    assert {"counted": 1} == dict(runtime.reconciler.rollouts["m"].evidence.outcomes)


def test_metrics_that_are_not_judged_are_not_claimed(store, tmp_path):
    with closing(Processes(store=store, key=KEY, journal=tmp_path)) as processes:
        model = serve(processes())
        (decision_id, *_) = ids_of(model)
        model.rollout.record("other", 1.0, decision_id=decision_id)
        judged(model)
        assert {} == store.store._kept["m"].claims


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_of_many_claims_the_last_ones_are_remembered(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(memory_module, "_MOST_CLAIMS", 10)
    monkeypatch.setattr(sqlite_module, "_MOST_CLAIMS", 10)
    store = MemoryStore() if kind == "memory" else SQLiteStore(tmp_path / "x.db")
    store.swap("m", None, {"revision": 1, "epoch": 0}, {})
    for number in range(25):
        assert {str(number)} == store.claim("m", 0, "w", [str(number)])
    again = store.claim("m", 0, "other", [str(number) for number in range(20, 25)])
    assert (frozenset(), {"3"}) == (again, store.claim("m", 0, "other", ["3"]))
    store.close()


def test_two_real_processes_count_a_redelivered_outcome_once(tmp_path):
    """One serves; a webhook reaches two workers, each with an interpreter of its own."""
    address = f"sqlite:///{tmp_path}/x.db"
    runtime = Runtime(store=address, key=KEY)
    model = serve(runtime)
    ids = ids_of(model)
    runtime.reconciler.judge("m")
    worker = textwrap.dedent("""
        import sys
        import rollout_sdk
        for decision_id in sys.argv[1:]:
            rollout_sdk.record("buy", 1.0, decision_id=decision_id, event_id="of " + decision_id)
        rollout_sdk.default_runtime().close(20.0)
    """)
    environment = {"ROLLOUT_STORE": address, "ROLLOUT_KEY": KEY.decode(), "ROLLOUT_JOURNAL": str(tmp_path / "journal"),
                   "PYTHONPATH": ":".join(sys.path)}  # fmt: skip
    workers = [subprocess.Popen([sys.executable, "-c", worker, *ids], env=environment) for _ in range(2)]
    assert [0, 0] == [each.wait(60) for each in workers]
    outcomes, total = judged(model)
    assert (20, 20.0) == (outcomes["counted"], total)
    runtime.close()
