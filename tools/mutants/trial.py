"""A copy of the project, into which faults are put and in which tests run."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from tools.mutants.faults import PACKAGE, ROOT, Mutant

__all__ = ["Copy"]

PRELOADED = ("numpy", "opentelemetry.sdk.trace", "pandas", "pluggy", "scipy.stats", "structlog", "trio")
"""Modules that are imported once, before tests run in forks. pytest imports its plugins itself."""
LEAST_TIMEOUT_S = 30.0
SLOWER = 5.0
"""A fault is noticed if its tests take this many times as long as they took without it in the recording ..."""
FASTER = 2.0
"""... and at least this many times as long as they take without it right afterwards."""


@frozen
class Ended:
    """The end of a run of tests: pytest's exit code (None if it took too long), and the first test that failed."""

    code: int | None
    failed: str


class FirstFailure:
    """A pytest plugin that writes the name of the first failing test into a pipe."""

    def __init__(self, pipe: int) -> None:
        """Create the plugin."""
        self._pipe = pipe

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Write the name of a failed test, at which the run stops."""
        if report.failed:
            os.write(self._pipe, report.nodeid.encode()[:4000] + b"\n")


class Copy:
    """A copy of the project; tests run in forks of this process, which have pytest and the large libraries loaded."""

    def __init__(self, folder: Path) -> None:
        """Copy everything that tests need."""
        self.folder = folder
        self._passing: set[str] = set()
        self._written = time.time()
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
            # A file that was deleted stays listed until the deletion is staged.
            if (source := ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, folder / name)
        for name in PRELOADED:
            with suppress(ImportError):
                importlib.import_module(name)

    def is_noticed(self, mutant: Mutant, tests: list[str], times: dict[str, float]) -> bool:
        """Whether a test fails with a fault, or all take far longer than without it (seconds of each)."""
        while tests:
            timeout_s = max(LEAST_TIMEOUT_S, SLOWER * sum(map(times.__getitem__, tests)))
            ended = self._run_with(mutant, tests, timeout_s)
            if ended.code == pytest.ExitCode.OK:
                return False
            if ended.code is None:
                # The machine may be busier than it was during the recording: the same tests must be far faster now.
                ended = self._run(tests, timeout_s / FASTER)
                if ended.code == pytest.ExitCode.OK:
                    return True
                if not ended.failed:
                    return False
                # One test fails without the fault: try the others.
                tests = [name for name in tests if name != ended.failed]
                continue
            noticing = ended.failed or tests[0]
            if noticing not in self._passing and self._run([noticing], timeout_s).code == pytest.ExitCode.OK:
                self._passing.add(noticing)
            # A test that also fails without the fault, or fails only sometimes, has not noticed it.
            if noticing in self._passing:
                if self._run_with(mutant, [noticing], timeout_s).code != pytest.ExitCode.OK:
                    return True
            else:
                print(f"{noticing} fails, or takes too long, without a fault", file=sys.stderr, flush=True)
            tests = tests[tests.index(noticing) + 1 :]
        return False

    def _run_with(self, mutant: Mutant, tests: list[str], timeout_s: float) -> Ended:
        path = self.folder / mutant.path
        source = path.read_bytes()
        self._write(path, mutant.applied(source))
        try:
            return self._run(tests, timeout_s)
        finally:
            self._write(path, source)

    def _write(self, path: Path, source: bytes) -> None:
        path.write_bytes(source)
        # Cached bytecode is valid for a size and a modification time in seconds: every version of a file gets its own second.
        self._written += 2.0
        os.utime(path, (self._written, self._written))

    def _run(self, tests: list[str], timeout_s: float) -> Ended:
        reader, writer = os.pipe()
        process = os.fork()
        if process == 0:
            self._test(tests, writer)
        os.close(writer)
        deadline = time.monotonic() + timeout_s
        code: int | None = None
        while time.monotonic() < deadline:
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                break
            time.sleep(0.02)
        # End the processes that tests have left running.
        with suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        if code is None:
            os.waitpid(process, 0)
        with os.fdopen(reader, "rb") as pipe:
            os.set_blocking(reader, False)
            failed = (pipe.read() or b"").partition(b"\n")[0].decode()
        return Ended(code, failed)

    def _test(self, tests: list[str], pipe: int) -> None:
        code = 3
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            os.chdir(self.folder)
            roots = [str(self.folder), *(str(path) for path in (self.folder / "plugins").iterdir() if path.is_dir())]
            own = {"", str(ROOT), *(str(path) for path in (ROOT / "plugins").iterdir())}
            sys.path[:] = [*roots, *(path for path in sys.path if path not in own)]
            os.environ["PYTHONPATH"] = os.pathsep.join(roots)
            sys.dont_write_bytecode = False
            os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
            for name in [name for name in sys.modules if name.partition(".")[0] in {PACKAGE, "tests", "tools"}]:
                del sys.modules[name]
            code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests], plugins=[FirstFailure(pipe)])
        finally:
            os._exit(code)
