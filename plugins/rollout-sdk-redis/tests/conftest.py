"""A Redis server of the tests' own; they are skipped where the program is not installed."""

import shutil
import socket
import subprocess
import time

import pytest
from redis import Redis
from redis.exceptions import RedisError


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture(scope="session")
def redis_at(tmp_path_factory):
    """Starts a server with these options; gives its port once it answers."""
    program, started = shutil.which("redis-server"), []
    if program is None:
        pytest.skip("needs redis-server, of the system's packages; make test-plugins runs this")

    def start(*options, port=None, **connection):
        folder, port = tmp_path_factory.mktemp("redis"), port or free_port()
        # A file of settings comes first.
        own = ["--port", "0", "--tls-port", str(port)] if "--tls-cert-file" in options else ["--port", str(port)]
        options = [*options, *own, "--bind", "127.0.0.1", "--dir", str(folder)]
        command = [program, *options, *(() if "--sentinel" in options else ("--save", ""))]
        with (folder / "log").open("w") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log))
        deadline = time.monotonic() + 30
        while True:
            try:
                with Redis("127.0.0.1", port, **connection) as client:
                    client.ping()
                return port
            except RedisError as error:
                assert time.monotonic() < deadline, f"{error}\n{(folder / 'log').read_text()}"
                time.sleep(0.05)

    yield start
    for server in started:
        server.kill()
        server.wait()


@pytest.fixture(scope="session")
def port(redis_at):
    return redis_at()


@pytest.fixture(scope="session")
def cluster(redis_at):
    """The port of a cluster of one."""
    # By default, nodes talk to each other at a port that is 10,000 higher, which may not exist.
    port = redis_at("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with Redis(port=port) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        deadline = time.monotonic() + 30
        while client.cluster("INFO")["cluster_state"] != "ok":
            assert time.monotonic() < deadline
            time.sleep(0.05)
    return port


@pytest.fixture(scope="session")
def sentinel(redis_at, port, tmp_path_factory):
    """The port of a Sentinel that watches the server."""
    settings = tmp_path_factory.mktemp("sentinel") / "sentinel.conf"
    settings.write_text(f"sentinel monitor shop 127.0.0.1 {port} 1\n")
    return redis_at(str(settings), "--sentinel")
