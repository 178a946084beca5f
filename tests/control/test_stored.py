"""Operating a rollout from a process that does not serve it, and roles."""

import socket
import subprocess
import sys

import pytest

from rollout_sdk import (
    Canary,
    ConfigurationError,
    ConflictError,
    NotAllowedError,
    Runtime,
    StateError,
    StoreError,
    UnreachableError,
    WaitTimeoutError,
    operate,
    rollout,
)
from rollout_sdk.control.roles import ACTIONS
from rollout_sdk.control.state import RolloutState
from rollout_sdk.control.stores import MemoryStore, SQLiteStore
from rollout_sdk.testing import FakeClock
from tests.waiting import until

ROBOT = {"robot": {"abort", "pause"}}
DO = {
    "promote": lambda rank: rank.promote(reason="x", force=True),
    "promote_full": lambda rank: rank.promote_full(reason="x", force=True),
    "skip_step": lambda rank: rank.skip_step(reason="x", force=True),
    "set_share": lambda rank: rank.set_share("3%", reason="x", force=True),
    "pause": lambda rank: rank.pause(),
    "resume": lambda rank: rank.resume(reason="x"),
    "abort": lambda rank: rank.abort(),
}


@pytest.fixture
def store(tmp_path):
    made = SQLiteStore(tmp_path / "rollouts.db")
    yield made
    made.close()


@pytest.fixture
def serve(store):
    made = []

    def make(*, control=None, allow=None, **options):
        runtime = Runtime(store=store, control=control, allow=allow)
        # Tests look and announce by hand.
        runtime.reconciler.start = lambda: None
        made.append(runtime)
        strategy = options.pop("strategy", Canary(["1%", "5%", "25%"]))
        options = {"candidate": lambda user: 1, "strategy": strategy, "unit": "user", "key": "shop.rank", **options}
        return rollout(**options, runtime=runtime)(lambda user: 0)

    yield make
    for runtime in made:
        runtime.close(1.0)


def announced(model):
    reconciler = model.rollout.runtime.reconciler
    reconciler.look(reconciler.rollouts[model.rollout.key])
    reconciler.announce_presence()
    return model


def test_what_is_done_from_outside_every_process_follows_and_the_history_knows_who(serve, store):
    model = serve()
    with operate(store, "shop.rank", actor="ann") as rank:
        change = rank.promote(reason="green", force=True)
        assert ("0:1%", "1:5%", True) == (change.before.phase, change.after.phase, change.is_change)
        assert "shop.rank: running 0:1% -> running 1:5%, revision 1" == str(change)
        rank.pause(reason="a sale")
        rank.resume(reason="it is over")
        rank.set_share("3%", reason="fewer")
        assert not rank.set_share("3%", reason="again").is_change
        rank.abort(reason="complaints")
        assert [("start", ""), *((action, "ann") for action in ("promote", "pause", "resume", "set_share", "abort"))] == [
            (each["action"], each["actor"]) for each in rank.history()
        ]
        assert "aborted" == rank.status().status
    model.rollout.runtime.reconciler.look(model.rollout.runtime.reconciler.rollouts["shop.rank"])
    assert "aborted" == model.rollout.status().status


def test_a_store_that_is_passed_stays_open_and_an_address_is_closed(serve, store, tmp_path):
    serve()
    with operate(store, "shop.rank") as rank:
        rank.status()
    assert ["shop.rank"] == store.keys()
    with operate(f"sqlite:///{tmp_path}/rollouts.db", "shop.rank") as rank:
        assert "running" == rank.status().status
    with pytest.raises(StoreError, match="after it was closed"):
        rank.status()


def test_an_address_with_a_typo_makes_no_file(tmp_path):
    with operate(f"sqlite:///{tmp_path}/typo.db", "shop.rank") as rank:
        for asked in (rank.status, rank.history, rank.abort, lambda: rank.wait("over")):
            with pytest.raises(StoreError, match="There is no store"):
                asked()
    assert [] == list(tmp_path.iterdir())


def test_a_store_whose_history_is_there_is_made_anew_from_it(serve, store, tmp_path):
    model = serve()
    model.rollout.abort(actor="ann", reason="x")
    store.close()
    (tmp_path / "rollouts.db").unlink()
    with operate(f"sqlite:///{tmp_path}/rollouts.db", "shop.rank") as rank:
        assert "aborted" == rank.status().status


@pytest.mark.parametrize("address", ["memory:", "carrier-pigeon", 7])
def test_what_is_no_address_of_a_store_for_others_is_refused(address):
    with pytest.raises((ConfigurationError, StoreError, TypeError)):
        operate(address, "shop.rank").status()


def test_a_store_in_memory_is_operated_by_the_controller_alone():
    """Its process does not look at it again: what was changed there would not be heard of."""
    with pytest.raises(ConfigurationError, match=r"is in memory.*function\.rollout"):
        operate(MemoryStore(), "m")


@pytest.mark.parametrize("action", ["promote", "promote_full", "skip_step", "resume"])
def test_what_is_not_urgent_needs_a_reason(serve, store, action):
    serve()
    with operate(store, "shop.rank") as rank, pytest.raises(ConfigurationError, match="has no reason"):
        getattr(rank, action)(reason=" ")


def test_an_alarm_is_cleared_with_an_explanation_only_where_there_is_one(serve, store):
    serve()
    with operate(store, "shop.rank", actor="ann") as rank, pytest.raises(StateError, match="it is not invalid"):
        rank.resume(reason="it was a redirect", clear_invalid=True)


def test_a_revision_that_is_not_the_current_one_is_refused(serve, store):
    serve()
    with operate(store, "shop.rank") as rank:
        rank.pause()
        with pytest.raises(ConflictError):
            rank.abort(revision=0)
        rank.abort(revision=rank.status().revision)


def test_more_users_against_the_verdict_need_force(serve, store):
    announced(serve())
    with operate(store, "shop.rank") as rank:
        for action in ("promote", "promote_full", "skip_step"):
            with pytest.raises(StateError, match=r"no verdict yet.*force=True"):
                getattr(rank, action)(reason="x")
        with pytest.raises(StateError, match="no verdict yet"):
            rank.set_share("50%", reason="x")
        rank.set_share("0.5%", reason="fewer")
        rank.promote(reason="x", force=True)


def test_waiting_ends_with_the_status_with_a_timeout_or_when_it_cannot_come(serve, store):
    serve()
    with operate(store, "shop.rank") as rank:
        assert "running" == rank.wait("running").status
        with pytest.raises(WaitTimeoutError, match=r"is not promoted after 0\.05 s: it is running, phase 0:1%"):
            rank.wait("promoted", timeout_s=0.05)
        with pytest.raises(ConfigurationError, match="is unknown"):
            rank.wait("done")
        rank.abort()
        assert "aborted" == rank.wait("over").status
        with pytest.raises(UnreachableError, match="is aborted, and can no longer be promoted"):
            rank.wait("promoted")


def test_a_store_that_falls_silent_while_it_is_waited_for_is_asked_again(serve, store, monkeypatch):
    serve()
    with operate(store, "shop.rank") as rank:
        real, asked = rank.status, []

        def status():
            asked.append(1)
            if len(asked) in (2, 3):
                raise StoreError("no answer")
            if len(asked) == 5:
                rank.abort()
            return real()

        monkeypatch.setattr(rank, "status", status)
        assert "aborted" == rank.wait("over", timeout_s=30.0).status
        assert len(asked) >= 5


def test_a_store_that_is_silent_for_a_minute_ends_the_wait(serve, store, monkeypatch):
    serve()
    clock = FakeClock()
    with operate(store, "shop.rank") as rank:
        real, asked = rank.status, []

        def status():
            asked.append(1)
            if len(asked) > 1:
                raise StoreError("no answer")
            return real()

        monkeypatch.setattr(rank, "status", status)
        monkeypatch.setattr("rollout_sdk.control.waiting.monotonic", lambda: clock() / 1e9)
        monkeypatch.setattr("rollout_sdk.control.waiting.caller_sleep", clock.advance)
        with pytest.raises(StoreError, match="no answer"):
            rank.wait("over")
        assert 100 < len(asked) < 140


# Roles


def test_a_robot_may_do_what_it_is_listed_with_wherever_it_does_it(serve, store):
    model = announced(serve(allow=ROBOT))
    do_here = {
        "promote": lambda: model.rollout.promote(actor="robot"),
        "promote_full": lambda: model.rollout.promote_full(actor="robot"),
        "skip_step": lambda: model.rollout.skip_step(actor="robot"),
        "set_share": lambda: model.rollout.set_share("3%", actor="robot"),
        "pause": lambda: model.rollout.pause(actor="robot"),
        "resume": lambda: model.rollout.resume(actor="robot"),
        "abort": lambda: model.rollout.abort(actor="robot"),
    }
    assert set(DO) == set(do_here) == set(ACTIONS) - {"set_plan"}
    with operate(store, "shop.rank", actor="robot") as rank:
        for action in set(DO) - ROBOT["robot"]:
            for done in (do_here[action], lambda action=action: DO[action](rank)):
                with pytest.raises(
                    NotAllowedError, match=f"'robot' may not {action} 'shop.rank'. By allow=, it may: abort, pause"
                ):
                    done()
        assert ["start"] == [each["action"] for each in rank.history()]
        rank.pause()
        rank.abort()
    assert ["start", "pause", "abort"] == [each["action"] for each in store.history("shop.rank")]


def test_who_is_not_listed_may_do_everything(serve, store):
    announced(serve(allow=ROBOT))
    with operate(store, "shop.rank", actor="ann") as rank:
        rank.promote(reason="x", force=True)


def test_a_robot_that_may_not_abort_stops_nothing(serve):
    model = serve(allow={"robot": {"pause"}}, strategy=Canary(["100%"]))
    with pytest.raises(NotAllowedError):
        model.rollout.abort(actor="robot")
    assert ("running", 1) == (model.rollout.status().status, model("u-1"))


def test_a_program_can_limit_itself(serve, store):
    serve()
    with operate(store, "shop.rank", actor="robot", allow=ROBOT) as rank:
        with pytest.raises(NotAllowedError):
            rank.promote(reason="x", force=True)
        rank.abort()


def test_the_control_file_is_an_actor_too(serve, tmp_path):
    file = tmp_path / "control.toml"
    file.write_text('version = 1\n[rollouts."shop.rank"]\nshare = "5%"\n')
    file.chmod(0o600)
    model = serve(control=file, allow={"control file": {"abort", "pause"}})
    status = model.rollout.status()
    assert ("0:1%", 1) == (status.phase, status.faults.get(("control file", "NotAllowedError")))
    file.write_text('version = 2\n[rollouts."shop.rank"]\nstatus = "aborted"\n')
    other = serve(control=file, allow={"control file": {"abort", "pause"}})
    assert "aborted" == other.rollout.status().status


def test_the_roles_of_the_process_that_started_last_hold_and_a_service_without_any_has_none(serve, store):
    announced(serve(allow=ROBOT))
    announced(serve(allow={"robot": {"promote"}}))
    with operate(store, "shop.rank", actor="robot") as rank:
        rank.promote(reason="x", force=True)
        announced(serve())
        rank.pause()


@pytest.mark.parametrize("damaged", ["nonsense", "[]", '{"robot": 1}'])
def test_roles_that_cannot_be_read_stop_nobody_from_stopping_a_candidate(serve, store, damaged):
    announced(serve(allow=ROBOT))
    store.note("shop.rank", "allow", damaged)
    with operate(store, "shop.rank", actor="ann") as rank:
        with pytest.raises(NotAllowedError, match="cannot be read"):
            rank.promote(reason="x", force=True)
        rank.pause()
        rank.abort()


@pytest.mark.parametrize(
    ("allow", "problem"),
    [
        ({"robot": {"abrot"}}, r"'abrot', which is unknown.*Did you mean 'abort'"),
        ({"robot": "abort"}, "It is a set of actions"),
        ({"robot": 7}, "It is a set of actions"),
        ({"judge": {"promote"}}, "names the actor 'judge'"),
        ({"": {"abort"}}, "an actor has a name"),
        (["robot"], "is not a mapping"),
    ],
)
def test_roles_that_cannot_be_meant_are_refused(allow, problem):
    for asked in (lambda: Runtime(allow=allow), lambda: operate("rollouts.db", "m", allow=allow)):
        with pytest.raises(ConfigurationError, match=problem):
            asked()


# A process of its own

SERVING = """
import sys
from rollout_sdk import Canary, Runtime, rollout

runtime = Runtime(store=sys.argv[1], exit_deadline_s=20.0)
model = rollout(candidate=lambda u: 1, strategy=Canary(["100%"]), unit="u", key="m", version="7", runtime=runtime)(lambda u: 0)
for line in sys.stdin:
    print(model("u-1"), flush=True)
"""


def test_a_process_that_serves_is_seen_follows_and_is_gone_when_it_ends(tmp_path):
    address = f"sqlite:///{tmp_path}/rollouts.db"
    with subprocess.Popen(
        [sys.executable, "-c", SERVING, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as serving:

        def answer():
            serving.stdin.write("\n")
            serving.stdin.flush()
            return serving.stdout.readline().strip()

        assert "1" == answer()
        with operate(address, "m", actor="ann") as model:
            # The plan is stored beside the process, a moment later.
            until(lambda: model.status().processes and "guardrails" in model.status().plan)
            (process,) = model.status().processes
            assert (serving.pid, socket.gethostname(), 0) == (process.pid, process.host, process.revision)
            assert [{"metric": "error_rate"}] == model.status().plan["guardrails"]
            model.abort(reason="a test")
            until(lambda: not model.status().behind)
            assert "0" == answer()
            serving.stdin.close()
            assert 0 == serving.wait(30)
            status = model.status()
            assert ((), True) == (status.processes, status.last_seen_s is None)


def test_with_many_rollouts_and_a_slow_store_what_has_changed_is_said_first_and_all_have_their_turn(serve, store, monkeypatch):
    models = {f"m{number}": serve(key=f"m{number}") for number in range(6)}
    reconcilers = {key: model.rollout.runtime.reconciler for key, model in models.items()}
    (first, *_) = reconcilers.values()
    # One process that serves them all.
    first.rollouts = {key: reconcilers[key].rollouts[key] for key in models}
    said, clock = [], FakeClock()
    monkeypatch.setattr("rollout_sdk.control.reconciler.monotonic", lambda: clock() / 1e9)
    monkeypatch.setattr("rollout_sdk.control.presence.monotonic", lambda: clock() / 1e9)
    publish = first._presence.announce

    def slow(kept, now_s):
        clock.advance(0.15)
        said.append(kept.key)
        publish(kept, now_s)

    monkeypatch.setattr(first._presence, "announce", slow)
    for _ in range(3):
        first.announce_presence()
    assert [f"m{number}" for number in range(6)] == said
    clock.advance(11.0)
    models["m5"].rollout.runtime.reconciler.transitions.change("m5", "pause", RolloutState.pause, actor="ann", reason="x")
    first.announce_presence()
    assert ["m5", "m0"] == said[6:]
    with operate(store, "m5") as rank:
        assert (1, ()) == (len(rank.status().processes), rank.status().behind)
