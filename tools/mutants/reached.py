"""Which tests reach which line, and how long each of them takes."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from bisect import bisect
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import coverage.sqldata
import coverage.sqlitedb
import pytest

from tools.mutants.faults import PACKAGE, ROOT, Mutant

__all__ = ["Reached"]

FOLDER = ROOT / ".mutants"
COVERAGE = FOLDER / "coverage"
TIMES = FOLDER / "times.json"
FAILED = FOLDER / "failed.json"
NOTICED = FOLDER / "noticed"
PARTS = FOLDER / "parts.json"
SETTINGS = FOLDER / "settings"
PROGRAMS = FOLDER / "settings-of-programs"
TESTS = "not slow and not backends and not servers and not browser"
SIGNATURES = "tests/test_public.py::test_every_public_signature"
TESTED_IN = {
    "assembly.py": "rollout",
    "controller": "rollout",
    "decorator.py": "rollout",
    "plugins": "plugins_",
    "recording": "runtime",
    "resilience": "runtime",
    "settings": "rollout",
    "testing": "kit",
}
"""Rooms whose tests have the name of another one."""
FIRST_ROUND_S = 6.0
LONGER = 4.0
"""How many times as long as a round of tests the next one is."""
LONG_S = (0.2, 2.0)
"""A test that takes longer than one of these is tried after those that do not."""
LEAST_S = 0.01
"""What pytest needs for a test besides what it measures."""


class Reached:
    """Which tests reach which line, according to the contexts that coverage has recorded."""

    def __init__(self, parts: Sequence[str]) -> None:
        """Open the record, and run those parts of the tests that it does not have yet."""
        FOLDER.mkdir(exist_ok=True)
        recorded: dict[str, dict[str, str]] = json.loads(PARTS.read_text()) if PARTS.exists() else {}
        if new := [part for part in parts if part not in recorded]:
            _record(new)
            recorded |= dict.fromkeys(new, _digests())
            PARTS.write_text(json.dumps(recorded))
        now = _digests()
        self.changed: set[str] = {
            path for then in recorded.values() for path, digest in then.items() if now.get(path) != digest
        }
        """Files that were recorded in another version: their lines may have moved."""
        self.times: dict[str, float] = json.loads(TIMES.read_text())
        """Seconds of each test that passes without a fault."""
        self._digests = now
        self._noticed = frozenset(NOTICED.read_text().splitlines()) if NOTICED.exists() else frozenset()
        self._lines = _lines()
        self._reach: dict[str, int] = {}
        for tests in self._lines.values():
            for name, lines in tests.items():
                self._reach[name] = self._reach.get(name, 0) + len(lines)

    def rounds(self, mutant: Mutant, most_s: float) -> Iterator[list[str]]:
        """The tests that reach a fault, in rounds that get longer: those that are likely to notice it, and then the others.

        They are ordered by turns: one that is of the same room, one that reaches little else, and one that reaches much of its
        file. Long ones are last, and all together take at most `most_s`.
        """
        lines = self._lines.get(str(mutant.path), {})
        passing = [name for name in lines if name in self.times]
        found = [name for name in passing if mutant.runs_in in lines[name]]
        room = mutant.path.parts[1]
        folder, file = f"tests/{TESTED_IN.get(room, room)}/", f"/test_{mutant.path.stem}.py::"
        own = {name for name in self.times if name.startswith((folder, SIGNATURES)) or file in name}
        # No single test reaches what runs at the import (or, as far as coverage knows, in a thread of the SDK), and other lines
        # have these numbers in a file that has changed.
        if mutant.runs_in is None or mutant.runs_in in lines.get("", ()) or str(mutant.path) in self.changed:
            found = [name for name in self.times if name in lines or name in own]
        # Every test that creates an object reaches its `__init__`; one that uses it reaches more of the file.
        orders = (
            sorted(found, key=lambda name: (name not in own, self.times[name])),
            sorted(found, key=lambda name: (bisect(LONG_S, self.times[name]), self._reach.get(name, 0))),
            sorted(found, key=lambda name: (bisect(LONG_S, self.times[name]), -len(lines.get(name, ())))),
        )
        waiting = list(dict.fromkeys(chain.from_iterable(zip(*orders, strict=True))))
        round_s, total_s = FIRST_ROUND_S, 0.0
        while waiting:
            chosen: list[str] = []
            chosen_s = 0.0
            while waiting and (not chosen or chosen_s < round_s) and total_s < most_s:
                chosen_s += self.times[waiting[0]] + LEAST_S
                total_s += self.times[waiting[0]] + LEAST_S
                chosen.append(waiting.pop(0))
            if not chosen:
                return
            yield chosen
            round_s *= LONGER

    def has_noticed(self, mutant: Mutant) -> bool:
        """Whether a test noticed a fault in this version of its file, in an earlier run."""
        return self._mark(mutant) in self._noticed

    def notice(self, mutant: Mutant) -> None:
        """Remember that a test notices a fault."""
        with NOTICED.open("a") as file:
            file.write(self._mark(mutant) + "\n")

    def _mark(self, mutant: Mutant) -> str:
        return hashlib.sha256(f"{self._digests[str(mutant.path)]} {mutant}".encode()).hexdigest()


class Recording:
    """The pytest plugin of a recording: the duration of each passing test, and the lines that its programs reach."""

    def __init__(self) -> None:
        """Start without durations."""
        self.times: dict[str, float] = {}
        self.failed: set[str] = set()

    def pytest_configure(self, config: pytest.Config) -> None:
        """Have coverage started in the programs of tests, with the test as its context; pytest-cov sees pytest's processes."""
        if config.getoption("cov_source") and (hasattr(config, "workerinput") or not config.getoption("numprocesses")):
            os.environ["COVERAGE_PROCESS_START"] = str(PROGRAMS)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Add up setup, call and teardown."""
        self.times[report.nodeid] = self.times.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self.failed.add(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the durations."""
        if hasattr(session.config, "workerinput"):
            return
        times: dict[str, float] = json.loads(TIMES.read_text()) if TIMES.exists() else {}
        times |= self.times
        TIMES.write_text(json.dumps({name: seconds for name, seconds in times.items() if name not in self.failed}))
        FAILED.write_text(json.dumps(sorted(self.failed)))


def pytest_configure(config: pytest.Config) -> None:
    """Begin a recording in a process of pytest that was given this module as a plugin."""
    _own_sqlite()
    config.pluginmanager.register(Recording())


def _record(parts: Sequence[str]) -> None:
    print(f"Recording which test of {', '.join(parts)} reaches which line ...", flush=True)
    # Record lines, not branches.
    SETTINGS.write_text(f"[run]\nbranch = false\ndata_file = {COVERAGE}\n")
    PROGRAMS.write_text(
        "[run]\nbranch = false\nparallel = true\n"
        f"data_file = {FOLDER / 'program'}\nsource = {ROOT / PACKAGE}\ncontext = ${{PYTEST_CURRENT_TEST}}\n"
    )
    recorded = ["--cov", PACKAGE, f"--cov-config={SETTINGS}", "--cov-context=test", "--cov-report=", "--cov-append"]
    _pytest("-n", str(os.cpu_count()), "--dist", "worksteal", *recorded, *parts)
    # Tests that look at what coverage changes, such as the modules of a program.
    failed = json.loads(FAILED.read_text())
    if failed:
        _pytest(*failed)


def _pytest(*arguments: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tools.mutants.reached", "-m", TESTS]
    ended = subprocess.run([*command, *arguments], cwd=ROOT, check=False)
    if ended.returncode not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
        sys.exit(f"the tests could not be recorded: pytest ended with {ended.returncode}")


def _digests() -> dict[str, str]:
    files = sorted((ROOT / PACKAGE).rglob("*.py"))
    return {str(path.relative_to(ROOT)): hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in files}


def _lines() -> dict[str, dict[str, set[int]]]:
    lines: dict[str, dict[str, set[int]]] = {}
    for file in (COVERAGE, *FOLDER.glob("program.*")):
        # A program that was killed leaves a file without tables.
        with closing(sqlite3.connect(file)) as record, suppress(sqlite3.DatabaseError):
            rows = record.execute(
                "select file.path, context.context, line_bits.numbits from line_bits "
                "join file on file.id = line_bits.file_id join context on context.id = line_bits.context_id"
            )
            for path, context, numbits in rows:
                relative = str(Path(PACKAGE, path.rpartition(f"/{PACKAGE}/")[2]))
                # coverage's context of a test is "name|call", pytest's is "name (call)".
                name = context.partition("|")[0].removesuffix(" (setup)").removesuffix(" (call)").removesuffix(" (teardown)")
                lines.setdefault(relative, {}).setdefault(name, set()).update(_numbers(numbits))
    return lines


def _numbers(bits: bytes) -> Iterator[int]:
    for index, byte in enumerate(bits):
        for bit in range(8):
            if byte & (1 << bit):
                yield index * 8 + bit


def _own_sqlite() -> None:
    """Give coverage, which records into SQLite, its own copy of the module: tests of the store replace functions of it."""
    own = ModuleType("sqlite3")
    vars(own).update(vars(sqlite3))
    for module in (coverage.sqldata, coverage.sqlitedb):
        vars(module)["sqlite3"] = own
