"""Servers that the integration tests start for real, in a folder of their own."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from rollout_sdk.journal import read_journal

HERE = Path(__file__).parent


def installed(*names):
    import importlib.util

    for name in names:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed; the extra dev has it")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Server:
    """A server process, and requests to it."""

    def __init__(self, command, folder, environment):
        self.port = free_port()
        self.journal = folder / "journal"
        path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "ROLLOUT_JOURNAL": str(self.journal), "PYTHONPATH": path, **environment}
        self.log = (folder / "log").open("w+")
        command = [part.replace("PORT", str(self.port)) for part in command]
        self.process = subprocess.Popen(
            [sys.executable, *command], env=environment, stdout=self.log, stderr=self.log, cwd=folder, start_new_session=True
        )
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                self.get("ready")
                return
            assert (self.process.poll(), time.monotonic() < deadline) == (None, True), self.said()
            time.sleep(0.05)

    def said(self):
        self.log.flush()
        return Path(self.log.name).read_text()

    def ask(self, what):
        """The whole answer to a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", f"/{what}")
        body = json.loads(connection.getresponse().read())
        connection.close()
        assert what == body["answer"]
        return body

    def get(self, what):
        """The process that answered a request, and how long it took."""
        began = time.perf_counter()
        body = self.ask(what)
        return body["pid"], time.perf_counter() - began

    def stop(self):
        """Stop it as a supervisor does; how long that took."""
        began = time.perf_counter()
        self.process.terminate()
        self.process.wait(30)
        return time.perf_counter() - began

    def close(self):
        # With its workers, which without a master outlive it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()

    def shadows(self):
        """Ends of shadows by process, those of the master's warm-up and of `ready` aside."""
        ends = Counter()
        for path in read_journal(self.journal).files:
            pid = int(path.name.split("-")[-3])
            for line in path.read_text().splitlines():
                record = json.loads(line)
                if record["event"] == "shadow":
                    ends[pid, record["end"]] += 1
        return ends
