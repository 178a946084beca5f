"""Which tests reach which line, and how long each of them takes."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
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
PARTS = FOLDER / "parts.json"
ROUNDS = ((150, 60.0), (1_000, 300.0))
"""Limits for one fault: number of tests, and seconds that they take."""


class Reached:
    """Which tests reach which line, according to the contexts that coverage has recorded."""

    def __init__(self, parts: Sequence[str]) -> None:
        """Open the record, and run those parts of the tests that it does not have yet."""
        FOLDER.mkdir(exist_ok=True)
        recorded: dict[str, dict[str, str]] = json.loads(PARTS.read_text()) if PARTS.exists() else {}
        for part in parts:
            if part not in recorded:
                _record(part)
                recorded[part] = _digests()
                PARTS.write_text(json.dumps(recorded))
        now = _digests()
        self.changed: set[str] = {
            path for then in recorded.values() for path, digest in then.items() if now.get(path) != digest
        }
        """Files that were recorded in another version; their lines may have moved."""
        self.times: dict[str, float] = json.loads(TIMES.read_text())
        """Seconds of each test that passes without a fault."""
        self._lines = _lines()
        self._reach: dict[str, int] = {}
        for tests in self._lines.values():
            for name, lines in tests.items():
                self._reach[name] = self._reach.get(name, 0) + len(lines)

    def rounds(self, mutant: Mutant) -> Iterator[list[str]]:
        """The tests that reach a fault, in two rounds: those that are likely to notice it, for a minute, and then the others.

        They are ordered by turns: one that reaches little else, and one that reaches much of its file. Long ones are last.
        """
        lines = self._lines.get(str(mutant.path), {})
        passing = [name for name in lines if name in self.times]
        found = [name for name in passing if mutant.runs_in in lines[name]]
        # No single test reaches what runs at the import (or, as far as coverage knows, in a thread of the SDK).
        if mutant.runs_in is None or mutant.runs_in in lines.get("", ()):
            found = passing
        # Every test that creates an object reaches its `__init__`; one that uses it reaches more of the file.
        orders = (
            sorted(found, key=lambda name: (self.times[name] > 2.0, self._reach[name])),
            sorted(found, key=lambda name: (self.times[name] > 2.0, -len(lines[name]), self._reach[name])),
        )
        waiting = list(dict.fromkeys(chain.from_iterable(zip(*orders, strict=True))))
        for most_tests, most_s in ROUNDS:
            chosen: list[str] = []
            total_s = 0.0
            while waiting and len(chosen) < most_tests and (not chosen or total_s + self.times[waiting[0]] <= most_s):
                total_s += self.times[waiting[0]]
                chosen.append(waiting.pop(0))
            if chosen:
                yield chosen


class Timing:
    """A pytest plugin that adds the duration of each passing test to `times.json`."""

    def __init__(self) -> None:
        """Start without durations."""
        self.times: dict[str, float] = {}
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Add up setup, call and teardown."""
        self.times[report.nodeid] = self.times.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self.failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """Write the durations."""
        times: dict[str, float] = json.loads(TIMES.read_text()) if TIMES.exists() else {}
        times |= self.times
        TIMES.write_text(json.dumps({name: seconds for name, seconds in times.items() if name not in self.failed}))


def _record(part: str) -> None:
    print(f"Recording which test of {part} reaches which line ...", flush=True)
    # Record lines, not branches.
    settings = FOLDER / "coveragerc"
    settings.write_text("[run]\nbranch = false\n")
    command = [sys.executable, "-m", "tools.mutants.reached", "-q", "-p", "no:cacheprovider", "-m", "not slow and not backends"]
    command += [f"--cov={PACKAGE}", f"--cov-config={settings}", "--cov-context=test", "--cov-report=", "--cov-append", part]
    ended = subprocess.run(command, cwd=ROOT, env={**os.environ, "COVERAGE_FILE": str(COVERAGE)}, check=False)
    if ended.returncode not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
        sys.exit(f"{part} could not be recorded: pytest ended with {ended.returncode}")


def _digests() -> dict[str, str]:
    files = sorted((ROOT / PACKAGE).rglob("*.py"))
    return {str(path.relative_to(ROOT)): hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in files}


def _lines() -> dict[str, dict[str, set[int]]]:
    lines: dict[str, dict[str, set[int]]] = {}
    with closing(sqlite3.connect(COVERAGE)) as record:
        rows = record.execute(
            "select file.path, context.context, line_bits.numbits from line_bits "
            "join file on file.id = line_bits.file_id join context on context.id = line_bits.context_id"
        )
        for path, context, numbits in rows:
            relative = str(Path(PACKAGE, path.rpartition(f"/{PACKAGE}/")[2]))
            lines.setdefault(relative, {}).setdefault(context.split("|")[0], set()).update(_numbers(numbits))
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


if __name__ == "__main__":
    _own_sqlite()
    raise SystemExit(pytest.main(sys.argv[1:], plugins=[Timing()]))
