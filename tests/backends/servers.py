"""Recipes of docs/observability.md, and the servers that they start."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = ROOT / "docs" / "observability.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
READY_S = 180


class Recipe:
    """A section of the document: its blocks, with free ports in place of the documented ones."""

    def __init__(self, title, ports):
        (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
        self.ports = {port: str(free_port()) for port in ports}
        for port, free in self.ports.items():
            assert f"{port}" in section
            section = re.sub(rf"\b{port}\b", free, section)
        self.blocks = [SimpleNamespace(language=language, text=text) for language, text in BLOCK.findall(section)]

    def only(self, language):
        (text,) = [block.text for block in self.blocks if block.language == language]
        return text

    def commands(self, program):
        """The commands with a program, as their environment and words."""
        lines = [
            shlex.split(line, comments=True)
            for block in self.blocks
            if block.language == "sh"
            for line in block.text.replace("\\\n", " ").splitlines()
        ]
        found = []
        for words in filter(None, lines):
            environment = {}
            while re.match(r"\w+=", words[0]) and len(words) > 1:
                name, _, value = words.pop(0).partition("=")
                environment[name] = value
            if words[0] == program:
                found.append((environment, words))
        return found

    def exported(self):
        """What the document exports for the application."""
        return dict(word.split("=", 1) for _, words in self.commands("export") for word in words[1:])

    def addresses(self, **values):
        """The addresses that the document asks with curl, with values in place of what is in capitals."""
        addresses = [words[-1] for _, words in self.commands("curl")]
        for name, value in values.items():
            addresses = [address.replace(name, value) for address in addresses]
        return addresses


class Server:
    """A server's process, started in a folder of its own, and requests to it."""

    def __init__(self, program, command, environment, folder, address):
        self.address = address
        self.log = (folder / "log").open("w+")
        # A session of its own, so that what it starts is ended with it.
        self.process = subprocess.Popen(
            [program, *command],
            env={**os.environ, **environment},
            stdout=self.log,
            stderr=self.log,
            cwd=folder,
            start_new_session=True,
        )

    def wait_for(self, path):
        """Wait until a path answers; fails with what the server said when it ends, or takes too long."""
        deadline = time.monotonic() + READY_S
        while True:
            with contextlib.suppress(OSError):
                self.text(path)
                return
            assert (self.process.poll(), time.monotonic() < deadline) == (None, True), self.said()
            time.sleep(0.2)

    def said(self):
        self.log.flush()
        return Path(self.log.name).read_text()[-4000:]

    def text(self, path, body=None):
        """What a path answers, as it is."""
        request = urllib.request.Request(
            urllib.parse.urljoin(self.address, path),
            None if body is None else json.dumps(body).encode(),
            {} if body is None else {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode()
            raise ConnectionError(f"{path}: {error.code} {said[:1000]}") from None

    def close(self):
        """End the server, and what it started: some of that would stay."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def found(program, cure):
    """Where a program is: named by ROLLOUT_<PROGRAM>, on the PATH, or in the environment that `make test-backends` makes."""
    named = os.environ.get(f"ROLLOUT_{program.upper()}")
    path = named or shutil.which(program) or shutil.which(program, path=ROOT / ".venv-backends" / "bin")
    if path is None or not Path(path).exists():
        pytest.skip(f"{program} is not installed here; {cure}")
    return str(path)
