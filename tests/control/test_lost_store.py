"""A store that is emptied or restored from a backup while processes serve: what was done stays done, above all an abort."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rollout_sdk import Canary, Guardrail, Runtime, StateError, Step, rollout
from rollout_sdk.control.stores import MemoryStore
from rollout_sdk.testing import FakeClock
from tests.control.lost_store import LostStore

STEPS = ["20%", "40%", "60%"]


class Process:
    """One process of the store; its threads look when they are asked."""

    def __init__(self, store, **options):
        self.runtime = Runtime(store=store, **options)
        self.runtime.reconciler.start = lambda: None
        split = rollout(candidate=lambda user: "new", strategy=Canary(STEPS), unit="user", key="model", runtime=self.runtime)
        self.model = split(lambda user: "old")
        self.controller = self.model.rollout

    @property
    def state(self):
        return self.controller._rollout.state

    def look(self):
        self.runtime.reconciler.look(self.runtime.reconciler.rollouts["model"])

    def served(self):
        return {self.model(f"user-{number}") for number in range(100)}

    def close(self):
        self.runtime.close(1.0)


@pytest.fixture
def process():
    made = []

    def make(store, **options):
        made.append(Process(store, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def emptied(store, _):
    store.store = MemoryStore()


def restored(store, backup):
    store.store = backup


@pytest.mark.parametrize("lose", [emptied, restored])
def test_an_abort_stays_when_the_store_has_lost_it(lose, process):
    store = LostStore()
    first = process(store)
    backup = store.backup()
    first.controller.abort(actor="ann", reason="pager")
    lose(store, backup)
    first.look()
    assert ({"old"}, "aborted") == (first.served(), store.load("model").document["status"])
    assert "restore" == store.history("model")[-1]["action"]
    assert {"old"} == process(store).served()


def test_an_abort_stays_though_others_have_gone_on_with_a_store_that_did_not_know_of_it(process):
    store = LostStore()
    first = process(store)
    first.controller.abort(actor="ann", reason="pager")
    emptied(store, None)
    second = process(store)
    for _ in range(2):
        second.controller.promote()
    assert first.state.revision < second.state.revision
    first.look()
    second.look()
    assert ({"old"}, {"old"}) == (first.served(), second.served())
    assert second.state == first.state


@pytest.mark.parametrize("lose", [emptied, restored])
def test_a_step_that_was_taken_is_not_taken_back_by_a_backup(lose, process):
    store = LostStore()
    first, second = process(store), process(store)
    backup = store.backup()
    first.controller.promote(actor="ann", reason="good")
    second.look()
    lose(store, backup)
    before = second.state
    second.look()
    first.look()
    assert (before.phase, before.revision + 1) == (second.state.phase, second.state.revision)
    assert first.state == second.state


@pytest.mark.parametrize("puts_back", [0, 1])
def test_what_processes_have_seen_is_in_the_store_again(puts_back):
    store, clock = LostStore(), FakeClock()
    plan = Canary([Step("50%", min_units=10_000, min_time=0)], guardrails=[Guardrail("error_rate")])
    processes = []
    for number in range(2):
        runtime = Runtime(store=store, time_ns=clock)
        runtime.reconciler.start = lambda: None
        model = rollout(candidate=lambda user: "new", strategy=plan, unit="user", key="model", runtime=runtime)(
            lambda user: "old"
        )
        for user in range(100):
            model(f"user-{number}-{user}")
        runtime.flush()
        processes.append((runtime, runtime.reconciler.rollouts["model"], model))
    clock.advance(120)

    def seen():
        for runtime, managed, _ in processes:
            assert managed.publish(runtime.reconciler.store, runtime.reconciler.writer, clock() / 1e9)
        return {name: text for name, text in store.gather("model", 0).parts.items() if name[1].startswith("phase:")}

    before = seen()
    assert len(before) == 2
    emptied(store, None)
    for runtime, managed, _ in (processes[puts_back], processes[1 - puts_back]):
        runtime.reconciler.look(managed)
    assert seen() == before
    for runtime, *_ in processes:
        runtime.close(1.0)


class Fleet(RuleBasedStateMachine):
    """Three processes, operators, and a store that forgets at any moment."""

    @initialize()
    def begin(self):
        self.store = LostStore()
        self.processes = [Process(self.store) for _ in range(3)]
        self.backup = self.store.backup()
        self.revisions = [0, 0, 0]
        self.knew = set()

    def teardown(self):
        for each in getattr(self, "processes", ()):
            each.close()

    @rule(index=st.integers(0, 2), action=st.sampled_from(["promote", "pause", "resume", "skip_step"]))
    def operate(self, index, action):
        try:
            getattr(self.processes[index].controller, action)(actor="ann", reason="by hand")
        except StateError:
            pass

    @rule(index=st.integers(0, 2))
    def abort(self, index):
        self.processes[index].controller.abort(actor="ann", reason="pager")
        self.knew.add(index)

    @rule(index=st.integers(0, 2))
    def look(self, index):
        self.processes[index].look()

    @rule()
    def back_up(self):
        self.backup = self.store.backup()

    @rule()
    def empty(self):
        emptied(self.store, None)

    @rule()
    def restore(self):
        restored(self.store, self.backup)
        self.backup = self.store.backup()

    @rule(index=st.integers(0, 2))
    def restart(self, index):
        self.processes[index].close()
        self.processes[index] = Process(self.store)
        self.revisions[index] = 0
        self.knew.discard(index)

    @rule()
    def all_look(self):
        knew = bool(self.knew)
        for each in self.processes * 2:
            each.look()
        first, *others = [each.state for each in self.processes]
        assert [first] * 2 == others
        assert not knew or first.status == "aborted"

    @invariant()
    def a_process_that_knows_of_an_abort_runs_no_candidate(self):
        for index, each in enumerate(getattr(self, "processes", ())):
            if each.state.status == "aborted":
                self.knew.add(index)
            assert index not in self.knew or each.controller.is_disabled

    @invariant()
    def no_process_goes_back_to_an_earlier_revision(self):
        for index, each in enumerate(getattr(self, "processes", ())):
            assert self.revisions[index] <= each.state.revision
            self.revisions[index] = each.state.revision


Fleet.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestAFleetWhoseStoreForgets = Fleet.TestCase


def test_an_abort_with_a_reason_of_any_length_is_stored(tmp_path, process):
    """And one that UTF-8 cannot write."""
    store = f"sqlite:///{tmp_path}/x.db"
    first = process(store)
    first.controller.abort(actor="\ud800" + "a" * 10_000, reason="r" * 5_000_000)
    (_, record) = first.runtime.reconciler.store.history("model")
    assert ("aborted", 2_000, 200) == (record["status"], len(record["reason"]), len(record["actor"]))
    assert {"old"} == process(store).served()


# The control file -------------------------------------------------------------------------------------------------------


def put(path, version, section):
    path.write_text(f"version = {version}\n{section}")
    path.chmod(0o600)


def share(of):
    return of.state.phase.shares["candidate"]


def test_a_worker_that_starts_does_not_undo_what_operators_did_since_the_control_file_changed(process, tmp_path):
    store, path = LostStore(), tmp_path / "control.toml"
    put(path, 7, '[rollouts.model]\nshare = "5%"')
    first = process(store, control=path)
    assert share(first) == 0.05
    first.controller.set_share("10%", actor="ann", reason="good so far")
    second = process(store, control=path)
    assert (0.1, 0.1) == (share(first), share(second))
    # A new version that wants the same of this rollout is about another one.
    put(path, 8, '[rollouts.model]\nshare = "5%"\n[rollouts.other]\nstatus = "paused"')
    assert share(process(store, control=path)) == 0.1
    put(path, 9, '[rollouts.model]\nshare = "7%"')
    assert share(process(store, control=path)) == 0.07
    # A worker that still sees the older file, as a mounted volume may show it, is late.
    put(path, 8, '[rollouts.model]\nshare = "5%"')
    assert share(process(store, control=path)) == 0.07


def test_a_wish_that_was_already_so_is_followed_too(process, tmp_path):
    store, path = LostStore(), tmp_path / "control.toml"
    put(path, 1, '[rollouts.model]\nshare = "20%"')
    first = process(store, control=path)
    first.controller.set_share("30%", actor="ann", reason="good so far")
    assert share(process(store, control=path)) == 0.3


def test_a_pause_that_an_operator_has_ended_is_not_made_again(process, tmp_path):
    store, path = LostStore(), tmp_path / "control.toml"
    put(path, 1, '[rollouts.model]\nstatus = "paused"')
    first = process(store, control=path)
    first.controller.resume(actor="ann", reason="fixed")
    assert process(store, control=path).state.status == "running"


def test_disabled_holds_in_every_process_that_starts(process, tmp_path):
    store, path = LostStore(), tmp_path / "control.toml"
    put(path, 1, "disabled = true")
    assert [{"old"}, {"old"}] == [process(store, control=path).served() for _ in range(2)]
