"""Every fault of a server: callers keep their arms, nobody goes on, an abort stays, and all of it is told."""

import socket
import threading
import time

import pytest
import structlog

from rollout_sdk import Canary, ConflictError, Runtime, operate, rollout
from rollout_sdk.extending import store_at

from .servers import SERVERS, until

pytestmark = pytest.mark.servers
KEY = "shop.rank"
USERS = [f"u-{number}" for number in range(400)]
FAULTS = ["refused", "frozen"]


class Process:
    """What one process has: a runtime on the store, a canary, and the arms of some users."""

    def __init__(self, address, **options):
        self.runtime = Runtime(store=address, **options)

        @rollout(candidate=lambda u: "new", strategy=Canary(["5%", "50%", "80%"]), unit="u", key=KEY, runtime=self.runtime)
        def model(u):
            return "old"

        self.model, self.controller = model, model.rollout

    @property
    def phase(self):
        return self.controller.phase.name

    @property
    def status(self):
        return self.controller.status().status

    def arms(self):
        return [self.model(user) for user in USERS]

    def faults(self):
        return self.runtime.faults.get(("store", "StoreError"), 0)

    def close(self):
        self.runtime.close(1.0)


@pytest.fixture
def process():
    made = []

    def make(address, **options):
        made.append(Process(address, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def short(server):
    """An address whose store waits no longer than half a second."""
    return server.address("timeout_s=0.5")


def stored(server, ask):
    """What somebody who comes later finds in the store."""
    with operate(server.address("timeout_s=5"), KEY, actor="test") as found:
        return ask(found)


def actions(server):
    return stored(server, lambda found: [record["action"] for record in found.history()])


def revisions(server):
    return stored(server, lambda found: [record["revision"] for record in found.history()])


def break_(server, fault):
    server.freeze() if fault == "frozen" else server.kill()


def mend(server, fault):
    server.thaw() if fault == "frozen" else server.start()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_dead_store_changes_nobodys_arm_and_an_abort_holds_until_it_is_stored(server, process, fault):
    first, second = process(short(server)), process(short(server))
    first.controller.promote(actor="ann", reason="a quiet day")
    until(lambda: second.phase == "1:50%", "the promotion in the second process")
    arms = first.arms()
    break_(server, fault)
    until(lambda: min(first.faults(), second.faults()) >= 2, "the fault in both processes")
    # Thousands of calls, none of which waits: each would wait half a second.
    for _ in range(10):
        assert (first.arms(), second.arms()) == (arms, arms)
    assert {first.phase, second.phase} == {"1:50%"}
    first.controller.abort(actor="bob", reason="complaints")
    assert set(first.arms()) == {"old"}
    assert second.arms() == arms
    mend(server, fault)
    until(lambda: second.status == "aborted", "the abort in the second process")
    assert set(second.arms()) == {"old"}
    assert actions(server) == ["start", "promote", "abort"]
    assert stored(server, lambda found: found.history()[-1]["actor"]) == "bob"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_process_that_starts_while_the_store_is_dead_serves_the_control_and_joins_later(server, process, fault):
    first = process(short(server))
    first.controller.promote(actor="ann", reason="a quiet day")
    break_(server, fault)
    late = process(short(server))
    assert set(late.arms()) == {"old"}
    until(lambda: late.faults() >= 2, "the fault in the process that starts")
    assert set(late.arms()) == {"old"}
    mend(server, fault)
    until(lambda: late.phase == "1:50%" and late.arms() == first.arms(), "the phase in the process that came late")
    assert actions(server) == ["start", "promote"]


def test_a_black_hole_delays_no_call(process):
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen()
        port = hole.getsockname()[1]
        for address in (f"redis://127.0.0.1:{port}?timeout_s=0.5", f"postgresql://u:p@127.0.0.1:{port}/x?timeout_s=0.5"):
            held = process(address)
            until(lambda held=held: held.faults() >= 2, "the fault")
            assert set(held.arms()) == {"old"}


def test_a_restart_with_its_data_goes_on(server, process):
    held = process(short(server))
    held.controller.promote(actor="ann", reason="a quiet day")
    server.kill()
    server.start()
    faults = held.faults()
    held.controller.promote(actor="ann", reason="another")
    assert held.phase == "2:80%"
    assert actions(server) == ["start", "promote", "promote"]
    assert faults <= held.faults()


def test_an_abort_stays_when_the_store_has_lost_everything(server, process):
    first, second = process(short(server)), process(short(server))
    first.controller.promote(actor="ann", reason="a quiet day")
    first.controller.abort(actor="bob", reason="complaints")
    until(lambda: second.status == "aborted", "the abort in the second process")
    server.empty()
    until(lambda: "restore" in lenient(lambda: actions(server)), "that the state is put back")
    for each in (first, second, process(short(server))):
        assert (each.status, set(each.arms())) == ("aborted", {"old"})
    assert stored(server, lambda found: found.status().status) == "aborted"


def test_an_abort_stays_when_an_older_backup_is_put_back(server, process):
    first, second = process(short(server)), process(short(server))
    first.controller.promote(actor="ann", reason="a quiet day")
    server.backup()
    until(lambda: second.phase == "1:50%", "the promotion in the second process")
    first.controller.abort(actor="bob", reason="complaints")
    until(lambda: second.status == "aborted", "the abort in the second process")
    server.put_back()
    until(lambda: "restore" in lenient(lambda: actions(server)), "that the state is put back")
    for each in (first, second, process(short(server))):
        assert (each.status, set(each.arms())) == ("aborted", {"old"})
    assert revisions(server) == sorted(set(revisions(server))), "a revision was used twice"


def lenient(ask):
    """What a store says, or nothing while it starts."""
    try:
        return ask()
    except Exception:
        return ()


def test_a_failover_changes_nobodys_arm_and_the_replica_is_followed(server, process, tmp_path):
    replica = server.replica(tmp_path / "replica")
    try:
        first, second = process(replica.follows()), process(replica.follows())
        first.controller.promote(actor="ann", reason="a quiet day")
        until(lambda: second.phase == "1:50%", "the promotion in the second process")
        until(lambda: len(lenient(lambda: actions(replica))) == 2, "the promotion in the replica")
        arms = first.arms()
        server.kill()
        until(lambda: min(first.faults(), second.faults()) >= 1, "the fault in both processes")
        first.controller.abort(actor="bob", reason="complaints")
        assert (set(first.arms()), second.arms()) == ({"old"}, arms)
        replica.take_over()
        until(lambda: second.status == "aborted", "the abort in the second process")
        assert actions(replica) == ["start", "promote", "abort"]
    finally:
        replica.close()


def test_of_two_operators_with_one_revision_one_is_told_that_the_other_was_faster(server, process):
    processes = [process(short(server)) for _ in range(4)]
    revision = stored(server, lambda found: found.status().revision)
    barrier, came = threading.Barrier(4), []

    def promote(each, actor):
        barrier.wait(30)
        try:
            each.controller.promote(actor=actor, reason="mine", revision=revision)
            came.append(actor)
        except ConflictError:
            came.append(None)

    threads = [threading.Thread(target=promote, args=(each, f"op-{n}")) for n, each in enumerate(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    (winner,) = [actor for actor in came if actor]
    assert len(came) == 4
    assert stored(server, lambda found: [record["actor"] for record in found.history()]) == ["", winner]
    for each in processes:
        until(lambda each=each: each.phase == "1:50%", "the promotion everywhere")


def test_clocks_that_differ_by_five_minutes_change_nothing(server, process):
    skews_s = (-300, 0, 300)
    processes = [process(short(server), time_ns=lambda skew=skew: time.time_ns() + skew * 10**9) for skew in skews_s]
    for number, each in enumerate(processes[:2]):
        each.controller.promote(actor=f"op-{number}", reason="mine")
        for other in processes:
            until(lambda other=other, number=number: other.phase.startswith(f"{number + 1}:"), "the promotion everywhere")
    processes[2].controller.abort(actor="op-2", reason="mine")
    for each in processes:
        until(lambda each=each: each.status == "aborted", "the abort everywhere")
    assert actions(server) == ["start", "promote", "promote", "abort"]


def test_a_document_of_a_later_version_is_not_acted_on_and_not_overwritten(server, process):
    store = store_at(server.address("timeout_s=5"))
    document = {"schema": 99, "revision": 7, "epoch": 0, "status": "running"}
    assert store.swap(KEY, None, document, {"action": "start"})
    held = process(short(server))
    assert set(held.arms()) == {"old"}
    until(lambda: sum(held.runtime.faults.values()) >= 2, "the fault")
    assert set(held.arms()) == {"old"}
    assert dict(store.load(KEY).document) == document
    store.close()


@pytest.mark.parametrize("kind", SERVERS)
def test_the_cause_is_told_once_a_minute_and_without_the_password(kind, process):
    said = []
    address = {"redis": "redis://ann:hunter2@127.0.0.1:1", "postgres": "postgresql://ann:hunter2@127.0.0.1:1/x"}[kind]
    with structlog.testing.capture_logs() as logs:
        held = process(f"{address}?timeout_s=0.5")
        until(lambda: held.faults() >= 5, "the fault")
        held.runtime.flush()
        said += [entry for entry in logs if "127.0.0.1:1" in str(entry)]
    assert len(said) == 1, said
    assert "refused" in str(said[0])
    assert "hunter2" not in str(logs)
