"""`on_abort="drain"`: a conversation ends where it began, while a rollout is paused or replaced; an abort stops it at once."""

from contextlib import closing

import pytest

from rollout_sdk import ABTest, Canary, ConfigurationError, Interleave, rollout
from rollout_sdk.control import draining
from rollout_sdk.control.draining import Draining
from rollout_sdk.journal import read_journal
from rollout_sdk.records import Decision
from tests.processes import Processes


@pytest.fixture
def process(tmp_path):
    """Makes models, each in a process of its own; they share a store."""
    processes = Processes(key=b"key")

    def make(version, **options):
        runtime = processes(journal=tmp_path / version)
        options = {"unit": "chat", "key": "m", "strategy": Canary(["50%"], guardrails=[]), "on_abort": "drain", **options}
        model = rollout(candidate=lambda chat: version, version=version, runtime=runtime, **options)(lambda chat: "control")
        model.look = lambda: runtime.reconciler.look(runtime.reconciler.rollouts["m"])
        model.runtime = runtime
        return model

    with closing(processes):
        yield make


def served(model, chats):
    return {chat: model(f"chat {chat}") for chat in chats}


BEGUN, NEW = range(40), range(40, 80)


def test_while_paused_conversations_go_on_where_they_began_and_new_ones_get_the_control(process):
    model = process("1")
    before = served(model, BEGUN)
    assert set(before.values()) == {"1", "control"}
    model.rollout.pause()
    assert served(model, BEGUN) == before
    assert set(served(model, NEW).values()) == {"control"}
    model.rollout.resume()
    assert set(served(model, NEW).values()) == {"1", "control"}


def test_what_a_judge_has_paused_is_judged_on_and_so_does_not_drain(process):
    model = process("1")
    state = model.rollout._rollout.local_state
    state.enter(state.state.pause(by=("cost",)))
    assert set(served(model, NEW).values()) == {"1", "control"}


def test_old_processes_end_the_conversations_that_they_have_begun_when_another_version_replaces_theirs(process):
    old = process("1")
    before = served(old, BEGUN)
    new = process("2")
    old.look()
    assert served(old, BEGUN) == before
    assert set(served(old, NEW).values()) == {"control"}
    assert set(served(new, BEGUN).values()) == {"2", "control"}
    # A process of the old version that starts now has begun none.
    assert set(served(process("1"), BEGUN).values()) == {"control"}


def test_an_abort_of_what_has_replaced_it_stops_old_conversations_too(process):
    old = process("1")
    served(old, BEGUN)
    new = process("2")
    old.look()
    new.rollout.abort()
    with pytest.raises(Exception, match="replaced"):
        old.look()
    assert set(served(old, BEGUN).values()) == {"control"}


@pytest.mark.parametrize("paused", [True, False])
def test_an_abort_stops_conversations_at_once(process, paused):
    model = process("1")
    served(model, BEGUN)
    if paused:
        model.rollout.pause()
    model.rollout.abort()
    assert set(served(model, BEGUN).values()) == {"control"}


def test_without_it_old_processes_serve_the_control_at_once_and_a_pause_changes_no_share(process):
    old = process("1", on_abort="stop")
    before = served(old, (*BEGUN, *NEW))
    old.rollout.pause()
    assert served(old, (*BEGUN, *NEW)) == before
    process("2", on_abort="stop")
    old.look()
    assert set(served(old, BEGUN).values()) == {"control"}


def test_calls_of_a_drain_are_recorded_and_not_analysed(process, tmp_path):
    model = process("1")
    served(model, BEGUN)
    model.rollout.pause()
    served(model, (*BEGUN, *NEW))
    assert model.runtime.flush(20.0)
    lines = [line for line in read_journal(tmp_path / "1") if line["event"] == "decision"]
    assert len([line for line in lines if line["reason"] == "draining" and line["excluded"]]) == 80
    assert len([line for line in lines if line["reason"] == "split" and not line.get("excluded")]) == 40


def test_a_conversation_is_over_an_hour_after_its_last_call_and_only_so_many_are_remembered(process, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(draining, "monotonic", lambda: now[0])
    monkeypatch.setattr(draining, "_MOST", 3)
    model, kept = process("1"), Draining("control")
    state, paused = model.rollout._rollout.state, model.rollout._rollout.state.pause()
    for digest in range(5):
        assert kept.decide(digest, Decision("v2", "split"), state, is_replaced=False) is None
    answers = [kept.decide(digest, Decision("v2", "split"), paused, is_replaced=False) for digest in range(5)]
    assert answers == ["control", "control", "v2", "v2", "v2"]
    now[0] = 3_000.0
    assert kept.decide(4, Decision("control", "split"), paused, is_replaced=False) == "v2"
    now[0] = 6_000.0
    assert [kept.decide(digest, Decision("v2", "split"), paused, is_replaced=False) for digest in (3, 4)] == ["control", "v2"]


def test_what_a_person_has_fixed_stands_in_a_pause_and_ends_with_the_version(process):
    old = process("1", override={"chat 1": "candidate", "chat 2": "control"})
    old.rollout.pause()
    assert served(old, (1, 2)) == {1: "1", 2: "control"}
    old.rollout.resume()
    process("2")
    old.look()
    assert served(old, (1, 2)) == {1: "control", 2: "control"}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"unit": None}, "no unit"),
        ({"on_abort": "finish"}, "unknown"),
        ({"strategy": Interleave()}, "interleaving"),
        ({"batch": "chat"}, "batch="),
    ],
)
def test_what_cannot_drain_is_refused(options, why):
    options = {"unit": "chat", "on_abort": "drain", "strategy": ABTest(), **options}
    with pytest.raises(ConfigurationError, match=why):
        rollout(candidate=lambda chat: 1, key="m", **options)(lambda chat: 0)
