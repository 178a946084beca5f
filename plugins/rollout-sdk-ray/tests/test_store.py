"""What only the store on Ray does: addresses, clusters that a process has not joined, and an actor that hangs or dies."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

pytest.importorskip("ray.serve", reason="needs ray[serve]")

import ray

from rollout_sdk import Canary, ConfigurationError, Runtime, StoreError, rollout
from rollout_sdk_ray import RayStore, rollout_open_store

# Seconds, but many on a busy machine.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]
KEY = "shop.rank"
FIRST = {"revision": 1, "epoch": 0}


@pytest.mark.parametrize(
    ("url", "shown", "timeout_s"),
    [
        ("ray:///rollouts", "ray:///rollouts", 21.0),
        ("ray://auto/rollouts?timeout_s=2", "ray://auto/rollouts", 22.0),
        ("ray://10.0.0.1:6379/shop?keep=redis%3A%2F%2Fu%3Asecret%40h%2F2", "ray://10.0.0.1:6379/shop", 21.0),
    ],
)
def test_an_address_names_an_actor_and_perhaps_its_cluster(url, shown, timeout_s):
    store = rollout_open_store(url)
    assert (repr(store), store.timeout_s) == (f"RayStore({shown!r})", timeout_s)
    again = pickle.loads(pickle.dumps(store))
    assert (repr(again), again.timeout_s, again._keep) == (repr(store), timeout_s, store._keep)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://h/rollouts", "is not that of a store on Ray"),
        ("ray://auto", "is not that of a store on Ray"),
        ("ray:///a/b", "is not that of a store on Ray"),
        ("ray:///a?keeps=redis://u:secret@h", "no options but keep and timeout_s"),
        ("ray:///a?timeout_s=soon&keep=redis://u:secret@h", "a number of seconds above 0"),
        ("ray:///a?timeout_s=0", "above 0"),
    ],
)
def test_what_is_no_address_is_refused_without_its_options(url, says):
    with pytest.raises(ConfigurationError, match=says) as refused:
        rollout_open_store(url)
    assert "secret" not in str(refused.value)


def test_without_a_cluster_controls_serve_and_the_cause_is_told(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(StoreError, match=r"this process has joined none. Call ray.init first, or .* ray://auto/rollouts"):
        RayStore().load(KEY)
    runtime = Runtime(store=RayStore())
    model = rollout(candidate=lambda u: "new", strategy=Canary(["100%"]), unit="u", key=KEY, runtime=runtime)(lambda u: "old")
    assert model("u-1") == "old"
    assert ("store", "StoreError") in model.rollout.status().faults
    runtime.close()


def test_a_cluster_that_is_not_there_is_an_error_of_the_store(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    store = RayStore(cluster="127.0.0.1:1")
    with pytest.raises(StoreError, match=r"failed: ConnectionRefusedError: .*Check the cluster and its head"):
        store.load(KEY)
    # Not joined again for each request, which would take seconds of processor time.
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(StoreError, match="ConnectionRefusedError"):
            store.load(KEY)
    assert time.monotonic() - began < 5.0
    pid = store._elsewhere._process.pid
    store.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_process_that_joins_ends_with_the_one_that_it_joins_for(eventually):
    program = """
import os
from rollout_sdk import StoreError
from rollout_sdk_ray import RayStore

store = RayStore(cluster="127.0.0.1:1")
try:
    store.load("k")
except StoreError:
    print(store._elsewhere._process.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=100, env=environment
    )
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    eventually(lambda: not Path(f"/proc/{int(ran.stdout)}").exists())


@pytest.mark.servers
class TestOnACluster:
    def test_reading_starts_no_actor(self, name):
        store = RayStore(name)
        assert (store.load(KEY), store.keys(), store.history(KEY), store.noted(KEY, "n")) == (None, [], [], None)
        assert (store.publish(KEY, 0, "w", {"a": "1"}), store.claim(KEY, 0, "w", ["a"])) == (False, frozenset())
        assert (store.gather(KEY, 0).parts, store.wait_for_change(0.01)) == ({}, False)
        with pytest.raises(ValueError):
            ray.get_actor(name, namespace="rollout_sdk")
        store.start(timeout_s=150.0)
        assert ray.get_actor(name, namespace="rollout_sdk")

    def test_a_forked_child_is_refused_and_does_not_hang(self, cluster):
        store, (reads, writes) = RayStore(), os.pipe()
        child = os.fork()
        if child == 0:
            try:
                store.load(KEY)
            except StoreError as error:
                os.write(writes, str(error).encode())
            os._exit(0)
        os.close(writes)
        assert os.waitpid(child, 0)[1] == 0
        assert b"forked child" in os.read(reads, 1_000)

    def test_an_actor_that_was_killed_is_begun_anew_and_an_abort_stays(self, name, eventually):
        RayStore(name).start(timeout_s=150.0)
        runtime = Runtime(store=RayStore(name, timeout_s=5.0))
        model = rollout(candidate=lambda u: "new", strategy=Canary(["50%", "100%"]), unit="u", key=KEY, runtime=runtime)(
            lambda u: "old"
        )
        eventually(lambda: RayStore(name, timeout_s=5.0).keys() == [KEY])
        eventually(lambda: model.rollout.status().held_by == ())
        model.rollout.abort(actor="ann", reason="complaints")
        ray.kill(ray.get_actor(name, namespace="rollout_sdk"))
        # A new one, and what the running process knows is put back into it.
        actions = eventually(lambda: [record["action"] for record in RayStore(name, timeout_s=5.0).history(KEY)])
        assert actions[-1] == "restore"
        assert RayStore(name, timeout_s=5.0).load(KEY).document["status"] == "aborted"
        assert {model(f"u-{number}") for number in range(100)} == {"old"}
        runtime.close()

    def test_a_frozen_actor_changes_nothing_and_no_call_waits(self, name, eventually):
        store = RayStore(name)
        store.start(timeout_s=150.0)
        runtime = Runtime(store=store)
        model = rollout(candidate=lambda u: "new", strategy=Canary(["50%", "100%"]), unit="u", key=KEY, runtime=runtime)(
            lambda u: "old"
        )
        units = [f"u-{number}" for number in range(200)]
        eventually(lambda: {model(unit) for unit in units} == {"old", "new"})
        before = [model(unit) for unit in units]
        actor = ray.get_actor(name, namespace="rollout_sdk")
        pid = ray.get(actor.__ray_call__.remote(lambda _: os.getpid()))
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert [model(unit) for unit in units] == before
            # 200 calls, none of which has waited for the time-out of a second.
            assert time.monotonic() - began < 1.0
            with pytest.raises(StoreError, match="GetTimeoutError"):
                store.load(KEY)
            eventually(lambda: ("store", "StoreError") in model.rollout.status().faults)
            assert [model(unit) for unit in units] == before
        finally:
            os.kill(pid, signal.SIGCONT)
        eventually(lambda: store.keys() == [KEY])
        runtime.close()

    def test_it_keeps_everything_in_another_store_and_so_outlives_its_actor(self, name, tmp_path):
        url = f"ray:///{name}?timeout_s=10&keep=sqlite%3A%2F%2F%2F{tmp_path}/rollouts.db"
        store = rollout_open_store(url)
        store.start(timeout_s=150.0)
        assert store.swap(KEY, None, FIRST, {"by": "ann"}) is True
        waits = []
        waiting = threading.Thread(target=lambda: waits.append(store.wait_for_change(30.0)))
        store.wait_for_change(0.0)
        waiting.start()
        assert store.swap(KEY, 1, {"revision": 2, "epoch": 0}, {"by": "bob"}) is True
        waiting.join()
        assert waits == [True]
        ray.kill(ray.get_actor(name, namespace="rollout_sdk"))
        # The actor that is gone answers once more with an error, and the next use finds none.
        again = rollout_open_store(url)
        again.start(timeout_s=150.0)
        assert again.history(KEY) == [{"by": "ann"}, {"by": "bob"}]

    def test_a_process_that_has_not_joined_asks_through_another_which_may_die_or_freeze(self, name, cluster, monkeypatch):
        monkeypatch.setattr("rollout_sdk_ray.helper._START_EVERY_S", 0.0)
        RayStore(name).start(timeout_s=150.0)
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        store = RayStore(name, cluster=cluster, timeout_s=2.0)
        assert store.swap(KEY, None, FIRST, {"by": "ann"}) is True
        first = store._elsewhere._process
        os.kill(first.pid, signal.SIGKILL)
        with pytest.raises(StoreError, match="the process that had joined the cluster has ended"):
            store.load(KEY)
        assert store.history(KEY) == [{"by": "ann"}]
        second = store._elsewhere._process
        assert (first.poll(), second.pid != first.pid) == (-signal.SIGKILL, True)
        os.kill(second.pid, signal.SIGSTOP)
        for _ in range(2):
            with pytest.raises(StoreError, match="no answer from the cluster in"):
                store.load(KEY)
        # A write may have to start the actor; this one is given up, and must not be made later.
        monkeypatch.setattr(store._elsewhere, "_join_s", 0.0)
        with pytest.raises(StoreError, match="no answer from the cluster in"):
            store.swap(KEY, 1, {"revision": 2, "epoch": 0}, {"by": "bob"})
        os.kill(second.pid, signal.SIGCONT)
        # Nor is an answer to one request taken for that to the next.
        assert store.keys() == [KEY]
        assert store.load(KEY).revision == 1
        store.close()
        assert second.poll() is not None

    def test_a_forked_child_has_a_process_of_its_own_and_leaves_its_parents(self, name, cluster, monkeypatch):
        RayStore(name).start(timeout_s=150.0)
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        store, (reads, writes) = RayStore(name, cluster=cluster, timeout_s=5.0), os.pipe()
        assert store.swap(KEY, None, FIRST, {"by": "ann"}) is True
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                os.write(writes, f"{store.load(KEY).revision} {store._elsewhere._process.pid}".encode())
                store.close()
            os._exit(0)
        os.close(writes)
        assert os.waitpid(child, 0)[1] == 0
        revision, pid = os.read(reads, 100).decode().split()
        assert revision == "1"
        assert int(pid) != store._elsewhere._process.pid
        assert store.history(KEY) == [{"by": "ann"}]
        store.close()

    def test_the_command_joins_the_cluster_by_its_address(self, name, cluster):
        try:
            distribution("rollout-sdk-ray")
        except PackageNotFoundError:
            pytest.skip("needs rollout-sdk-ray installed, whose entry point the address names: make test-engines")
        store = RayStore(name, timeout_s=10.0)
        runtime = Runtime(store=store)
        store.start(timeout_s=150.0)
        model = rollout(candidate=lambda u: "new", strategy=Canary(["100%"]), unit="u", key=KEY, runtime=runtime)(
            lambda u: "old"
        )
        assert model("u-1") == "new"
        command = [sys.executable, "-m", "rollout_sdk.cli", "abort", KEY, "--actor", "ann", "--reason", "complaints"]
        environment = {**os.environ, "ROLLOUT_STORE": f"ray://{cluster}/{name}?timeout_s=10", "PYTHONPATH": ":".join(sys.path)}
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100, env=environment)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        deadline = time.monotonic() + 10
        while model("u-1") != "old":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        runtime.close()
