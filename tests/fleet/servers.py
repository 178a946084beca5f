"""Real servers that can be stopped, frozen, emptied, restored from a backup and replaced by their replica."""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

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
        pytest.skip(f"needs {name}, of the system's packages; make test-fleet runs this")
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

    user: ClassVar = {}

    def __init__(self, folder, host="127.0.0.1", namespace=None):
        self.folder, self.host, self.port = Path(folder), host, free_port()
        self.prefix = ["ip", "netns", "exec", namespace] if namespace else []
        self.process = None
        self.make()
        try:
            self.start()
        except BaseException:
            self.kill()
            raise

    def make(self):
        """Make what is there before the first start."""

    def start(self):
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("a") as log:
            command, user = self.command(), self.user
            if self.prefix:
                # Who enters a namespace must be root.
                change = ["setpriv", "--reuid", user["user"], "--regid", user["group"], "--clear-groups"] if user else []
                command, user = [*self.prefix, *change, *command], {}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", start_new_session=True, **user)
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

    def replica(self, folder):
        """Another server that follows this one; a Sentinel makes it the master when this one has died."""
        folder.mkdir()
        return RedisReplica(folder, self)

    def bytes_moved(self):
        with Redis(self.host, self.port) as client:
            found = client.info("stats")
        return found["total_net_input_bytes"] + found["total_net_output_bytes"], found["total_commands_processed"]


class RedisReplica(RedisServer):
    """A replica, and a Sentinel that watches its master."""

    def __init__(self, folder, master):
        self.master, self.sentinel_port, self.sentinel = master, free_port(), None
        super().__init__(folder)
        until(lambda: Redis(port=self.port).info("replication")["master_link_status"] == "up", "the replica in step")
        (folder / "sentinel.conf").write_text(
            f"port {self.sentinel_port}\nbind 127.0.0.1\nsentinel monitor shop 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds shop 500\nsentinel failover-timeout shop 5000\n"
        )
        with (folder / "sentinel.log").open("w") as log:
            command = [program("redis-server"), str(folder / "sentinel.conf"), "--sentinel"]
            self.sentinel = subprocess.Popen(command, stdout=log, stderr=log)
        until(lambda: self.asked("num-slaves") == "1", "the Sentinel knows the replica")

    def command(self):
        return [*super().command(), "--replicaof", "127.0.0.1", str(self.master.port)]

    def asked(self, field):
        with suppress(RedisError), Redis(port=self.sentinel_port, decode_responses=True) as client:
            answer = client.execute_command("SENTINEL", "MASTER", "shop")
            table = answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
            return str(table.get(field))
        return None

    def follows(self):
        """The address that leads to the one or the other."""
        return f"redis+sentinel://127.0.0.1:{self.sentinel_port}/shop?timeout_s=0.5"

    def take_over(self):
        """Wait until it is the master."""
        until(lambda: Redis(port=self.port).info("replication")["role"] == "master", "that the Sentinel makes it the master")

    def close(self):
        if self.sentinel is not None:
            self.sentinel.kill()
            self.sentinel.wait()
        super().close()


class PostgresServer(Server):
    """Postgres, which refuses to run as root."""

    kind, ends_by = "postgres", signal.SIGINT
    user: ClassVar = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}

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

    def replica(self, folder):
        """Another server that follows this one until an operator promotes it."""
        return PostgresReplica(folder, self)

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


class PostgresReplica(PostgresServer):
    """A standby that streams from its primary."""

    def __init__(self, folder, primary):
        self.primary = primary
        folder.mkdir()
        super().__init__(folder)

    def make(self):
        folder = subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip()
        self.folder = Path(folder)
        if self.user:
            subprocess.run(["chown", "postgres", folder], check=True)
        source = f"postgresql://postgres:secret@127.0.0.1:{self.primary.port}/postgres"
        command = [program("pg_basebackup"), "-d", source, "-D", str(self.data), "-R", "--no-sync", "-c", "fast"]
        subprocess.run(command, check=True, capture_output=True, cwd="/", **self.user)

    def follows(self):
        hosts = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.port}"
        return f"postgresql://postgres:secret@{hosts}/postgres?target_session_attrs=read-write&timeout_s=0.5"

    def take_over(self):
        with psycopg.connect(self.address(), autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")


SERVERS = {"redis": RedisServer, "postgres": PostgresServer}
