"""Put one fault at a time into the code, run the tests that reach it, and say which faults no test notices.

    python -m tools.mutants --number 20 --seed 1 engine judging

A first run records which test reaches which line, in `.mutants/` (it takes a few times as long as the tests). A fault is
noticed when one of the tests that reach its line fails, or takes far longer than before. What is printed: the score of each
package, and each fault that went unnoticed, to be read: a test is missing, or the fault changes nothing.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tools.mutants.faults import Mutant, mutants_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "rollout_sdk"
COVERAGE = ROOT / ".mutants" / "coverage"
COPIED = (
    PACKAGE,
    "tests",
    "plugins",
    "examples",
    "docs",
    "benchmarks",
    "contrib",
    "README.md",
    "CHANGELOG.md",
    "pyproject.toml",
)
LEAST_TIMEOUT_S = 30.0
SLOWER = 5.0
"""A fault whose tests take so many times as long as without it is noticed."""
MOST_TESTS = 150
"""Tests run for one fault: those that reach the fewest other lines first, because they are the ones about this line."""


class Reached:
    """Which tests reach which line, from the contexts that coverage has recorded."""

    def __init__(self) -> None:
        """Open the record, made by a run of all tests if there is none."""
        if not COVERAGE.exists():
            COVERAGE.parent.mkdir(exist_ok=True)
            print("Recording which test reaches which line ...", flush=True)
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow and not backends"]
            # Lines, and not branches.
            settings = COVERAGE.with_name("coveragerc")
            settings.write_text("[run]\nbranch = false\n")
            command += [
                f"--cov={PACKAGE}",
                f"--cov-config={settings}",
                "--cov-context=test",
                "--cov-report=",
                "tests",
                "plugins",
            ]
            subprocess.run(command, cwd=ROOT, env={**os.environ, "COVERAGE_FILE": str(COVERAGE)}, check=False)
        self._lines: dict[str, dict[str, set[int]]] = {}
        with closing(sqlite3.connect(COVERAGE)) as record:
            rows = record.execute(
                "select file.path, context.context, line_bits.numbits from line_bits "
                "join file on file.id = line_bits.file_id join context on context.id = line_bits.context_id"
            )
            for path, context, numbits in rows:
                name = context.split("|")[0]
                # In the thread of the SDK, coverage does not always know the test.
                if name:
                    relative = str(Path(PACKAGE, path.rpartition(f"/{PACKAGE}/")[2]))
                    self._lines.setdefault(relative, {}).setdefault(name, set()).update(_numbers(numbits))
        self._reach: dict[str, int] = {}
        for tests in self._lines.values():
            for name, lines in tests.items():
                self._reach[name] = self._reach.get(name, 0) + len(lines)

    def tests(self, mutant: Mutant) -> list[str]:
        """The tests that reach a fault, the most particular first."""
        found = [name for name, lines in self._lines.get(str(mutant.path), {}).items() if mutant.line in lines]
        return sorted(found, key=lambda name: self._reach[name])[:MOST_TESTS]


def _numbers(bits: bytes) -> Iterator[int]:
    for index, byte in enumerate(bits):
        for bit in range(8):
            if byte & (1 << bit):
                yield index * 8 + bit


class Copy:
    """A copy of the project, in which faults are put."""

    def __init__(self, folder: Path) -> None:
        """Copy what tests need."""
        self.folder = folder
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, folder / name)

    def is_noticed(self, mutant: Mutant, tests: list[str]) -> bool | None:
        """Whether a test fails with a fault, or takes far longer than without it; None where tests fail without it."""
        began = time.monotonic()
        if self._run(tests, None):
            return None
        took_s = time.monotonic() - began
        path = self.folder / mutant.path
        source = path.read_bytes()
        path.write_bytes(mutant.applied(source))
        try:
            return self._run(tests, max(LEAST_TIMEOUT_S, SLOWER * took_s))
        finally:
            path.write_bytes(source)

    def _run(self, tests: list[str], timeout_s: float | None) -> bool:
        command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return process.wait(timeout_s) != 0
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True


def package_of(path: Path) -> str:
    """The room that a file is in; the files at the top are a room of their own."""
    return path.parts[1] if len(path.parts) > 2 else PACKAGE


def main() -> None:
    """Try faults, and print what came of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("packages", nargs="*", help="rooms of rollout_sdk, or files; without any, all of them")
    parser.add_argument("--number", type=int, default=20, help="faults for each room")
    parser.add_argument("--seed", type=int, default=1, help="draws the faults")
    asked = parser.parse_args()
    reached = Reached()
    files = [path.relative_to(ROOT) for path in sorted((ROOT / PACKAGE).rglob("*.py"))]
    rooms: dict[str, list[Path]] = {}
    for path in files:
        name = str(path) if str(path) in asked.packages else package_of(path)
        if not asked.packages or name in asked.packages:
            rooms.setdefault(name, []).append(path)
    scores: dict[str, tuple[int, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        for room, paths in rooms.items():
            every = [mutant for path in paths for mutant in mutants_of(path, (ROOT / path).read_bytes())]
            drawn = random.Random(f"{asked.seed} {room}").sample(every, min(asked.number, len(every)))
            noticed = 0
            for mutant in drawn:
                tests = reached.tests(mutant)
                found = bool(tests) and copy.is_noticed(mutant, tests)
                noticed += found is True
                if not found:
                    why = (
                        ""
                        if found is False and tests
                        else "   (its tests fail without it)"
                        if tests
                        else "   (no test reaches it)"
                    )
                    print(f"unnoticed: {mutant.shown((ROOT / mutant.path).read_bytes())}{why}", flush=True)
            scores[room] = noticed, len(drawn)
            print(f"{room}: {noticed} of {len(drawn)} noticed", flush=True)
    print("\n| room | faults | noticed | score |\n|---|---|---|---|")
    for room, (noticed, drawn_count) in scores.items():
        print(f"| {room} | {drawn_count} | {noticed} | {noticed / max(1, drawn_count):.0%} |")


if __name__ == "__main__":
    main()
