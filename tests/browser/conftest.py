"""A real browser, a dashboard in a process of its own, and a process that serves a model."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
TOKEN = "a token of twenty characters"

SERVICE = """
import sys, time
from rollout_sdk import Canary, Runtime, rollout
runtime = Runtime(journal={journal!r}, store={store!r}, key=b"k" * 16)
model = rollout(candidate=lambda unit: "candidate", strategy=Canary(["50%", "100%"]), unit="unit", key="shop.rank",
                runtime=runtime)(lambda unit: "control")
number, last = 0, ""
print("serving", flush=True)
while number < 60_000:
    answers = {{model(f"u{{number + each}}") for each in range(20)}}
    number += 20
    seen = "both" if len(answers) == 2 else answers.pop()
    if seen != last:
        print(seen, time.time(), flush=True)
        last = seen
    time.sleep(0.01)
"""


@pytest.fixture(scope="session")
def chromium():
    """The browser: Debian's chromium, by playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("needs chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def window(chromium):
    """Opens windows; a dialog, an error of a script, or a message of the policy in one fails the test."""
    contexts, wrong = [], []

    def window(width=1280, height=800, **options):
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("console", lambda said: wrong.append(said.text) if _is_wrong(said) else None)
        return page

    yield window
    for context in contexts:
        context.close()
    assert wrong == []


def _is_wrong(said):
    """An answer other than 200, and a server that is gone, are what some tests are about."""
    return said.type == "error" and "Failed to load resource" not in said.text


@contextmanager
def process(*arguments, **options):
    """A Python process whose output is read line by line."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **options.pop("env", {})}
    with subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def line_of(started, pattern):
    """The next line of a process that matches."""
    seen = []
    for line in started.stdout:
        seen.append(line)
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"it ended without {pattern!r}: {''.join(seen)}")


@contextmanager
def dashboard(folder, *options):
    """The address of a dashboard, and its process."""
    arguments = ("-m", "rollout_sdk.cli", "dashboard", str(folder), "--port", "0", *options)
    with process(*arguments, env={"ROLLOUT_DASHBOARD_TOKEN": TOKEN}) as started:
        yield line_of(started, r"Page +(http://\S+)")[1], started


@pytest.fixture
def service(tmp_path):
    """A process that serves a canary at 50 %, with its journal and its store."""
    journal, store = tmp_path / "journal", f"sqlite:///{tmp_path}/rollouts.db"
    with process("-c", SERVICE.format(journal=str(journal), store=store)) as started:
        line_of(started, "serving")
        line_of(started, "both")
        yield started, journal, store


def axe():
    """The source of axe-core, from npm; None where it is not installed."""
    folder = os.environ.get("AXE", str(Path(__file__).parents[2] / ".axe" / "node_modules"))
    path = Path(folder) / "axe-core" / "axe.min.js"
    return path.read_text("utf-8") if path.exists() else None
