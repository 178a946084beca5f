"""What tests share: a runtime whose events can be looked at, programs of their own, and figures for the documentation."""

import contextvars
import gc
import json
import os
import platform
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from rollout_sdk import RoutedEvent, Runtime, ShadowedEvent, ShadowLimits
from tests import machine
from tests.faults.table import figure_of, refusal

# How long an example takes says more about the machine than about the code: speed is measured in benchmarks/.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_configure():
    """A shell that starts this in the background has Ctrl-C ignored, which tests of Ctrl-C and their programs would inherit."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """The examples take longest: at the end, one process would be busy with them, and the others have nothing left to take."""
    items.sort(key=lambda item: item.path.name != "test_examples.py")


def pytest_collection_finish():
    """What is there before the first test stays: the garbage collector need not look at all of it again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item):
    """A test that broke the context of its thread fails itself, and not one that looks at the context much later."""
    yield
    context = contextvars.copy_context()
    assert len(context) == sum(1 for _ in context), f"{item.nodeid} changed the context in the middle of a change"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """A failure that comes once in many runs can only be understood by what is printed with it."""
    report = yield
    if report.failed:
        report.sections.append(("the machine when it failed", "\n".join(machine.state())))
    return report


class Watched(Runtime):
    """A runtime with an observer of its own; `events()` waits for what is under way."""

    def routed(self):
        return [event for event in self.events() if isinstance(event, RoutedEvent)]

    def shadowed(self):
        return [event for event in self.events() if isinstance(event, ShadowedEvent)]

    def events(self):
        assert self.flush(10.0)
        return list(self.plugins[0].events)


class Observer:
    """Keeps every event."""

    name = "test-observer"

    def __init__(self):
        self.events = []

    def rollout_routed(self, event):
        self.events.append(event)

    def rollout_shadowed(self, event):
        self.events.append(event)

    def rollout_recorded(self, event):
        self.events.append(event)

    def rollout_transitioned(self, event):
        self.events.append(event)

    def rollout_tripped(self, event):
        self.events.append(event)


@pytest.fixture(autouse=True)
def unconfigured():
    """Leave structlog as it was found: `capture_logs` alone leaves it configured, and events then go to standard output."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()


@pytest.fixture
def watch():
    """Makes watched runtimes, and closes them. Shadows may use a whole core: tests wait for them."""
    made = []

    def make(**options):
        limits = {"cpu_share": 1.0, "max_jobs": 10_000, "max_age_s": 60.0, **options.pop("shadows", {})}
        runtime = Watched(plugins=[Observer()], shadows=ShadowLimits(**limits), **options)
        made.append(runtime)
        return runtime

    def close():
        for runtime in made:
            runtime.close(0.5)

    make.close = close
    yield make
    close()


@pytest.fixture
def runtime(watch):
    return watch()


@pytest.fixture
def run_python(tmp_path):
    """Runs a program in a fresh interpreter; returns the finished process."""

    def run(code, *, timeout=30, **environment):
        program = tmp_path / "program.py"
        program.write_text(textwrap.dedent(code))
        return subprocess.run(
            [sys.executable, "-W", "error", str(program)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd=tmp_path,
        )

    return run


@pytest.fixture
def figure(request):
    """Notes what a row of docs/reliability.md measured: `figure("F3", "{told:,} of {made:,} told", told=told, made=made)`.

    Whole numbers are counts, and those of all parameters of a test are added up; floats are times and sizes, of which the
    largest counts; texts are cases, of which the table says how many there were. The note comes last, when all was asserted.

    With ROLLOUT_FIGURES=FILE, figures are appended to FILE, from which tests/faults/table.py makes the table.
    """

    def note(row, text, /, **measured):
        why = refusal(text, measured)
        assert why is None, why
        request.node.user_properties.append((row, figure_of(text, [measured])))
        path = os.environ.get("ROLLOUT_FIGURES")
        if path:
            about = {"python": platform.python_version(), "test": request.node.nodeid}
            line = {"row": row, "text": text, "measured": measured, **about}
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    return note
