"""Real backends: started by the commands of docs/observability.md, sent to by its Python, asked through their own APIs.

Each is skipped, with the reason, where it is not installed. `make test-backends` installs Phoenix and MLflow; Prometheus and
Chromium come from the system.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from .servers import ROOT, Recipe, Server, found

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """All of this is run by `make test-backends`."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.backends)
            item.add_marker(pytest.mark.timeout(400))


@pytest.fixture(scope="session")
def find():
    return found


@pytest.fixture(scope="session")
def exporter():
    """Skips where the application's side cannot be set up."""
    for package in ("opentelemetry.exporter.otlp.proto.http", "opentelemetry.exporter.prometheus"):
        pytest.importorskip(package, reason=f"{package} is not installed; the extra dev has it", exc_type=ImportError)


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """Starts a server by the command of a recipe; ends them all."""
    started = []

    def starter(recipe, program, port, ready, cure, *, files=None, more=None):
        path = found(program, cure)
        ((environment, words),) = recipe.commands(program)
        folder = tmp_path_factory.mktemp(program)
        for name, text in (files or {}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        # Servers start programs of their own by name.
        environment |= {"PATH": os.pathsep.join([str(Path(path).parent), os.environ["PATH"]]), **(more or {})}
        server = Server(path, words[1:], environment, folder, f"http://127.0.0.1:{recipe.ports[port]}/")
        started.append(server)
        server.wait_for(ready)
        return server

    yield starter
    for server in started:
        server.close()


@pytest.fixture(scope="session")
def run(tmp_path_factory, exporter):
    """Runs the program, set up by a recipe's Python; gives what it printed, or with `stays`, its process as well."""
    staying = []

    def runner(setup, environment, *, stays=False):
        recipe = tmp_path_factory.mktemp("recipe") / "recipe.py"
        recipe.write_text(setup)
        process = subprocess.Popen(
            [sys.executable, "-W", "error", str(HERE / "program.py"), str(recipe)],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE if stays else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if stays:
            staying.append(process)
            return json.loads(process.stdout.readline())
        printed, errors = process.communicate(timeout=120)
        assert (0, "") == (process.returncode, errors)
        return json.loads(printed)

    yield runner
    for process in staying:
        printed, errors = process.communicate(timeout=60)
        assert (0, "", "") == (process.returncode, printed, errors)


@pytest.fixture(scope="session")
def within():
    """Asks until the answer is as expected, because backends take what they are sent in their own time; the last answer."""

    def ask_until(seconds, ask, expected):
        deadline = time.monotonic() + seconds
        while True:
            try:
                answer = ask()
            except ConnectionError as error:
                answer = str(error)
            if answer == expected or time.monotonic() > deadline:
                return answer
            time.sleep(0.5)

    return ask_until


@pytest.fixture(scope="session")
def expect():
    """How many spans of each name must be there, by what the program's models and callers saw."""

    def expected(did):
        calls = Counter(call["rollout"] for call in did["calls"])
        return Counter(
            {
                **{f"GET /{key}": number for key, number in calls.items()},
                **{f"route {key}": number for key, number in calls.items()},
                **{f"invoke {name}": runs for name, runs in did["ran"].items()},
                "shadow shop.spam/v2": sum(call["shadowed"] for call in did["calls"]),
                "chat small-model": did["ran"]["shop.price/v2"],
                **{f"transition {key}": 1 for key in calls},
                "transition shop.rank": 3,
                "POST /promote": 1,
            }
        )

    return expected


@pytest.fixture(scope="session")
def rules():
    """The rules that we ship for Prometheus."""
    return (ROOT / "contrib" / "prometheus" / "rollout_rules.yml").read_text()


@pytest.fixture(scope="session")
def setup():
    """The document's Python for whatever takes OTLP."""
    return Recipe("Set up", []).only("py")


@pytest.fixture(scope="session")
def phoenix(start, setup, run):
    """Phoenix, and what the program did that was sent to it."""
    recipe = Recipe("Phoenix", ["6006", "4317"])
    # Its page would ask for fonts and the like elsewhere.
    alone = {"PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false"}
    cure = "pip install arize-phoenix, or make test-backends"
    server = start(recipe, "phoenix", "6006", "healthz", cure, more=alone)
    return SimpleNamespace(server=server, recipe=recipe, did=run(setup, recipe.exported()))


@pytest.fixture(scope="session")
def mlflow(start, setup, run):
    """MLflow, and what the program did that was sent to it."""
    recipe = Recipe("MLflow", ["5000"])
    server = start(recipe, "mlflow", "5000", "health", "pip install mlflow, or make test-backends")
    return SimpleNamespace(server=server, recipe=recipe, did=run(setup, recipe.exported()))


@pytest.fixture(scope="session")
def prometheus(start, run, rules):
    """Prometheus, and what the program did, which is still there to be scraped."""
    recipe = Recipe("Prometheus", ["9090", "9464"])
    found("prometheus", "apt-get install prometheus")
    did = run(recipe.only("py"), recipe.exported(), stays=True)
    files = {
        "prometheus.yml": recipe.only("yaml").replace("15s", "1s"),
        "rollout_rules.yml": re.sub(r"interval: \w+", "interval: 1s", rules),
    }
    server = start(recipe, "prometheus", "9090", "-/ready", "apt-get install prometheus", files=files)
    return SimpleNamespace(server=server, recipe=recipe, did=did)
