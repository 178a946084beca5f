"""A cluster loses its head: everything on it serves on until Ray ends it, and a service that has only its store there stays."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("ray.serve", reason="needs ray[serve]")

from rollout_sdk.journal import read_journal

HERE = Path(__file__).parent
STORE, KEY = "headless", "shop.rank"
# Ray's default is 60.
PATIENCE_S = 15
pytestmark = [pytest.mark.servers, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(400)]


class Scene:
    """The processes of a test, and what those that serve have written."""

    def __init__(self, folder, **environment):
        self.folder, self.started = folder, []
        found = {each: os.environ[each] for each in os.environ if not each.startswith("RAY_ADDRESS")}
        path = os.pathsep.join([str(HERE), *(each for each in sys.path if each)])
        # Ray's sockets are in the folder, whose path must be short.
        self.environment = {**found, "PYTHONPATH": path, "RAY_TMPDIR": str(folder)}
        self.environment["RAY_gcs_rpc_server_reconnect_timeout_s"] = str(PATIENCE_S)
        self.environment |= environment

    def start(self, *arguments):
        command = [sys.executable, *map(str, arguments)]
        with Path(self.folder, f"{len(self.started)}.err").open("w") as errors:
            started = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=self.environment, cwd=HERE
            )
        self.started.append(started)
        return started

    def nodes(self, port=0):
        started = self.start("ray_nodes.py", port)
        return started, self.answer(started)

    def answer(self, process):
        """What it says next."""
        for line in process.stdout:
            with suppress(ValueError):
                return json.loads(line)
        errors = Path(self.folder, f"{self.started.index(process)}.err").read_text()
        raise AssertionError(f"{process.args[1:]} has ended: {errors[-2000:]}")

    def lose_head(self, nodes):
        """Kill all processes of the head, each by its id; return when."""
        nodes.stdin.write("head\n")
        nodes.stdin.flush()
        pids, now = self.answer(nodes), time.monotonic()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return now

    def rollout(self, address, *arguments):
        """The command of an operator."""
        environment = {**self.environment, "ROLLOUT_STORE": f"ray://{address}/{STORE}?timeout_s=10"}
        command = [sys.executable, "-m", "rollout_sdk.cli", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def lines(self, pid):
        with suppress(FileNotFoundError):
            return [json.loads(line) for line in Path(self.folder, f"{pid}.jsonl").read_text().split("\n")[:-1]]
        return []

    def last(self, pid):
        return (self.lines(pid) or [{"where": {}, "answers": "", "faults": 0, "t": 0.0}])[-1]

    def told(self, pid):
        """What a process has logged of its store."""
        return [json.loads(line) for line in Path(self.folder, f"{pid}.log").read_text().split("\n")[:-1]]

    def close(self):
        for each in reversed(self.started):
            if each.stdin:
                each.stdin.close()
            try:
                each.wait(30)
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait()
            each.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def scene():
    made = Scene(Path(tempfile.mkdtemp(prefix="r-", dir="/tmp")))
    yield made
    Path(made.folder, "end").touch()
    made.close()


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_cluster_that_loses_its_head_changes_nothing_until_ray_ends_it_and_the_store_comes_back(scene, eventually):
    nodes, address = scene.nodes()
    replicas = scene.answer(scene.start("ray_headless.py", "deploy", address, STORE, scene.folder))
    assert len(replicas) == 2
    service = scene.answer(scene.start("ray_headless.py", "serve", address, STORE, scene.folder))
    everybody = [*replicas, service]
    eventually(lambda: all("n" in scene.last(pid)["answers"] for pid in everybody))
    scene.rollout(address, "abort", "shop.stopped", "--actor", "bob", "--reason", "complaints")
    eventually(lambda: {scene.last(pid)["where"]["stopped"] for pid in everybody} == {"aborted 1:aborted"})
    (arms,) = {scene.last(pid)["answers"] for pid in everybody}
    assert Counter(arms).keys() == {"o", "n"}

    killed_at = scene.lose_head(nodes)
    # All replicas serve the same as before, until Ray ends them: no earlier, and it does.
    eventually(lambda: not any(is_alive(pid) for pid in replicas))
    for pid in replicas:
        served = [line for line in scene.lines(pid) if line["t"] > killed_at]
        assert served[-1]["t"] - killed_at > PATIENCE_S * 0.8
        assert max(line["faults"] for line in served) >= 5
        assert {line["answers"] for line in served} == {arms}
        assert {line["stopped"] for line in served} == {"o"}
        assert {tuple(line["where"].values()) for line in served} == {("running 0:50%", "aborted 1:aborted")}
        assert len(scene.told(pid)) == 1, scene.told(pid)

    # The service has lost the process that had joined, and stays.
    ended_at = time.monotonic()
    faults = scene.last(service)["faults"]
    eventually(lambda: scene.last(service)["faults"] >= faults + 5 and scene.last(service)["t"] > ended_at + 5)
    served = [line for line in scene.lines(service) if line["t"] > killed_at]
    assert {(line["answers"], line["where"]["rank"]) for line in served} == {(arms, "running 0:50%")}
    (told, *again) = scene.told(service)
    assert f"RayStore('ray://{address}/{STORE}') failed: " in told["why"]
    assert "Check the cluster" in told["why"]
    # Once a minute.
    assert len(again) <= (time.monotonic() - killed_at) // 60
    Path(scene.folder, "abort").touch()
    eventually(lambda: set(scene.last(service)["answers"]) == {"o"})

    # A new head at the old address knows nothing; what the service knows is put back, and every call counts once.
    scene.nodes(address.rpartition(":")[2])
    history = eventually(lambda: scene.rollout(address, "history", "shop.stopped", "--json"))
    assert '"restore"' in history
    for key in ("shop.stopped", KEY):
        assert "aborted" in scene.rollout(address, "status", key)
    later = scene.last(service)["t"]
    eventually(lambda: scene.last(service)["t"] > later + 1)
    assert set(scene.last(service)["answers"]) == {"o"}
    Path(scene.folder, "end").touch()
    eventually(lambda: not is_alive(service))
    decisions = Counter(
        line["id"]
        for line in read_journal(f"{scene.folder}/journal-{service}")
        if line["event"] == "decision" and line["rollout"] == KEY
    )
    assert max(decisions.values()) == 1
    assert len(decisions) == scene.last(service)["served"]


@pytest.fixture
def redis(tmp_path):
    """The address of a Redis of the test's own."""
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("needs redis-server, of the system's packages")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path), "--save", ""]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    yield f"127.0.0.1:{port}"
    started.kill()
    started.wait()


@pytest.mark.slow
def test_with_fault_tolerance_a_head_that_comes_back_finds_its_replicas_and_what_they_know(redis, eventually):
    scene = Scene(
        Path(tempfile.mkdtemp(prefix="r-", dir="/tmp")),
        RAY_REDIS_ADDRESS=redis,
        RAY_external_storage_namespace="shop",
        RAY_gcs_rpc_server_reconnect_timeout_s="120",
    )
    try:
        nodes, address = scene.nodes()
        replicas = scene.answer(scene.start("ray_headless.py", "deploy", address, STORE, scene.folder))
        eventually(lambda: all("n" in scene.last(pid)["answers"] for pid in replicas))
        scene.rollout(address, "abort", "shop.stopped", "--actor", "bob", "--reason", "complaints")
        eventually(lambda: {scene.last(pid)["where"]["stopped"] for pid in replicas} == {"aborted 1:aborted"})
        (arms,) = {scene.last(pid)["answers"] for pid in replicas}
        killed_at = scene.lose_head(nodes)
        eventually(lambda: all(scene.last(pid)["faults"] >= 3 for pid in replicas))
        scene.nodes(address.rpartition(":")[2])
        eventually(lambda: "restore" in scene.rollout(address, "history", "shop.stopped", "--json"))
        eventually(lambda: time.monotonic() > killed_at + 60)
        scene.rollout(address, "promote", KEY, "--force", "--actor", "ann", "--reason", "a quiet day")
        for pid in replicas:
            eventually(lambda pid=pid: scene.last(pid)["where"]["rank"] == "promoted 1:100%")
            served = [line for line in scene.lines(pid) if line["t"] > killed_at and line["where"]["rank"] == "running 0:50%"]
            assert {line["answers"] for line in served} == {arms}
            assert {line["stopped"] for line in served} == {"o"}
            assert set(scene.last(pid)["answers"]) == {"n"}
    finally:
        Path(scene.folder, "end").touch()
        scene.close()
