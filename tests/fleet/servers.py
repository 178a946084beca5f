"""Real servers that can be stopped, frozen, emptied, restored from a backup and replaced by their replica."""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from redis import Redis
from redis.exceptions import RedisError


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def program(name):
    """The path of a program; Debian keeps those of Postgres off the path."""
    debian = sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), reverse=True)
    found = shutil.which(name) or next(iter(debian), None)
    if found is None:
        pytest.skip(f"{name} is not installed; .ci/run has it from the system's packages")
    return found


def until(is_so, what="it", timeout_s=60.0):
    """Wait until something is so; what it was is returned."""
    deadline = time.monotonic() + timeout_s
    while not (found := is_so()):
        assert time.monotonic() < deadline, f"{what} did not happen in {timeout_s:g} s"
        time.sleep(0.01)
    return found


class Server:
    """A server of the tests' own, in a folder of its own."""

    user = {}

    def __init__(self, folder, host="127.0.0.1", namespace=None):
        self.folder, self.host, self.port = Path(folder), host, free_port()
        self.prefix = ["ip", "netns", "exec", namespace] if namespace else []
        self.process = None
        self.make()
        self.start()

    def make(self):
        """Make what is there before the first start."""

    def start(self):
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("a") as log:
            command = [*self.prefix, *self.command()]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", start_new_session=True, **self.user)
        until(self.answers, f"the start of {type(self).__name__} ({self.folder}/log)")

    def answers(self):
        raise NotImplementedError

    def command(self):
        raise NotImplementedError

    def everybody(self, number):
        """Send a signal to all of its processes."""
        # Those of Postgres have groups of their own; and what runs in a namespace is a child, too.
        asked = [self.process.pid]
        for pid in asked:
            with suppress(OSError):
                asked += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        for pid in asked:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def freeze(self):
        self.everybody(signal.SIGSTOP)

    def thaw(self):
        self.everybody(signal.SIGCONT)

    def kill(self):
        """End it as a machine ends that loses its power."""
        self.everybody(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """End it in order."""
        self.process.send_signal(self.ends_by)
        self.process.wait(60)

    def close(self):
        """End it, whatever state it is in."""
        self.thaw()
        with suppress(subprocess.TimeoutExpired):
            self.stop()

    def backup(self):
        """Keep what it has now; it runs again afterwards."""
        self.stop()
        shutil.rmtree(self.folder / "backup", ignore_errors=True)
        subprocess.run(["cp", "-a", self.data, self.folder / "backup"], check=True)
        self.start()

    def put_back(self):
        """Have what the backup has, and nothing else."""
        self.stop()
        shutil.rmtree(self.data)
        subprocess.run(["cp", "-a", self.folder / "backup", self.data], check=True)
        self.start()


class RedisServer(Server):
    """Redis, which writes everything to its file."""

    kind, ends_by = "redis", signal.SIGTERM

    @property
    def data(self):
        return self.folder / "data"

    def make(self):
        program("redis-server")
        self.data.mkdir(exist_ok=True)

    def command(self):
        settings = ["--port", str(self.port), "--bind", self.host, "--dir", str(self.data), "--save", ""]
        return [program("redis-server"), *settings, "--appendonly", "yes", "--protected-mode", "no"]

    def answers(self):
        if self.prefix:
            asked = [*self.prefix, "redis-cli", "-h", self.host, "-p", str(self.port), "ping"]
            return subprocess.run(asked, capture_output=True, check=False).stdout == b"PONG\n"
        with suppress(RedisError), Redis(self.host, self.port, socket_timeout=5) as client:
            return client.ping()

    def address(self, *options):
        return f"redis://{self.host}:{self.port}?{'&'.join(options)}"

    def empty(self):
        """Lose everything, as a server without a disk does."""
        self.kill()
        shutil.rmtree(self.data)
        self.make()
        self.start()

    def bytes_moved(self):
        with Redis(self.host, self.port) as client:
            found = client.info("stats")
        return found["total_net_input_bytes"] + found["total_net_output_bytes"], found["total_commands_processed"]


class PostgresServer(Server):
    """Postgres, which refuses to run as root."""

    kind, ends_by = "postgres", signal.SIGINT
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}

    @property
    def data(self):
        return self.folder / "data"

    def make(self):
        initdb = program("initdb")
        if self.user:
            # The folder of a test is of one user.
            folder = subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip()
            subprocess.run(["chown", "postgres", folder], check=True)
            self.folder = Path(folder)
        (self.folder / "password").write_text("secret\n")
        options = ["-A", "scram-sha-256", f"--pwfile={self.folder}/password", "-U", "postgres", "-E", "UTF8", "--locale=C"]
        command = [initdb, "-D", str(self.data), *options, "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, cwd="/", **self.user)
        with (self.data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all scram-sha-256\nhost replication all all scram-sha-256\n")

    def command(self):
        settings = ["fsync=off", "max_connections=300", f"listen_addresses={self.host}", f"port={self.port}"]
        settings.append(f"unix_socket_directories={self.folder}")
        return [program("postgres"), "-D", str(self.data), *(word for each in settings for word in ("-c", each))]

    def answers(self):
        asked = [*self.prefix, program("pg_isready"), "-h", self.host, "-p", str(self.port)]
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0

    def address(self, *options):
        return f"postgresql://postgres:secret@{self.host}:{self.port}/postgres?{'&'.join(options)}"

    def empty(self):
        self.kill()
        shutil.rmtree(self.data)
        folder = self.folder
        self.make()
        if folder != self.folder:
            shutil.rmtree(folder)
        self.start()

    def close(self):
        super().close()
        if self.user:
            shutil.rmtree(self.folder, ignore_errors=True)


SERVERS = {"redis": RedisServer, "postgres": PostgresServer}
