"""A Postgres server of the tests' own; they are skipped where the programs are not installed."""

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import psycopg
import pytest

_numbers = itertools.count()


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def program(name):
    """The path of a program: Debian keeps those of the server off the path."""
    found = shutil.which(name) or next(
        iter(sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), reverse=True)), None
    )
    if found is None:
        pytest.skip(f"needs {name}, of the system's packages; make test-plugins runs this")
    return found


def as_user():
    """Postgres refuses to run as root."""
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


@pytest.fixture(scope="session")
def postgres_at(tmp_path_factory):
    """Starts a server with these settings; gives its port once it answers."""
    initdb, postgres, started, folders = program("initdb"), program("postgres"), [], []
    if os.geteuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("Postgres does not run as root, and there is no user postgres")

    def start(*settings, encoding="UTF8", files=(), database="rollouts"):
        # Not in pytest's folder, which is of one user.
        folder = subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip()
        folders.append(folder)
        for file in files:
            shutil.copy(file, folder)
        Path(folder, "password").write_text("secret\n")
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "postgres", folder], check=True)
        port, data = free_port(), f"{folder}/data"
        make = [initdb, "-D", data, "-A", "scram-sha-256", f"--pwfile={folder}/password", "-U", "postgres", "-E", encoding]
        make += ["--locale=C", "--no-sync"]
        subprocess.run(make, check=True, capture_output=True, cwd="/", **as_user())
        options = ["fsync=off", "listen_addresses=127.0.0.1", f"port={port}", f"unix_socket_directories={folder}", *settings]
        command = [postgres, "-D", data, *(word for option in options for word in ("-c", option.format(folder=folder)))]
        with (tmp_path_factory.mktemp("postgres") / "log").open("w") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **as_user()))
        deadline = time.monotonic() + 60
        while True:
            try:
                with psycopg.connect(address_of(port, "postgres"), autocommit=True) as connection:
                    connection.execute(f"CREATE DATABASE {database}")
                return port
            except psycopg.OperationalError:
                assert time.monotonic() < deadline
                time.sleep(0.05)

    yield start
    for server in started:
        # At once, without waiting for its clients.
        server.send_signal(signal.SIGINT)
        server.wait(30)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def address_of(port, database="rollouts", login="postgres:secret"):
    return f"postgresql://{login}@127.0.0.1:{port}/{database}"


@pytest.fixture(scope="session")
def port(postgres_at):
    return postgres_at()


@pytest.fixture
def address(port):
    """The address of a schema in which there is nothing."""
    return f"{address_of(port)}?schema=test_{next(_numbers)}"


@pytest.fixture(scope="session")
def pooler(port, tmp_path_factory):
    """The port of a pgbouncer in transaction mode, before the server; two connections for all."""
    pgbouncer = program("pgbouncer")
    own, folder = free_port(), subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip()
    Path(folder, "users.txt").write_text('"postgres" "secret"\n')
    Path(folder, "settings.ini").write_text(
        f"[databases]\nrollouts = host=127.0.0.1 port={port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {own}\n"
        f"unix_socket_dir =\nauth_type = plain\nauth_file = {folder}/users.txt\npool_mode = transaction\n"
        "default_pool_size = 2\nmax_client_conn = 100\n"
    )
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "postgres", folder], check=True)
    server = subprocess.Popen([pgbouncer, "-q", f"{folder}/settings.ini"], cwd="/", **as_user())
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(address_of(own)).close()
            break
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    yield own
    server.terminate()
    server.wait(30)
    shutil.rmtree(folder, ignore_errors=True)
