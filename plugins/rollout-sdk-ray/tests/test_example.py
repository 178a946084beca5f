"""The example runs on a cluster of its own, tells its story, and leaves no process behind."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

pytest.importorskip("ray.serve", reason="needs ray[serve]")
pytest.importorskip("sklearn", reason="needs scikit-learn, of the SDK's extra [demo]")

EXAMPLE = Path(__file__).parents[3] / "examples/ray_serve/main.py"


def processes_of(folder):
    """The processes in whose command the folder is."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = each.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if folder in command and str(os.getpid()) != each.parent.name:
            found.append(command[:200])
    return found


@pytest.mark.servers
@pytest.mark.timeout(600)
def test_the_example_promotes_and_aborts_in_both_replicas():
    # Ray's sockets are in it, whose paths must be short.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    environment = {**os.environ, "RAY_TMPDIR": folder, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    try:
        # On a busy machine, processes of the cluster do not find each other in the time that Ray allows: then once more.
        for _ in range(2):
            ran = subprocess.run(
                [sys.executable, str(EXAMPLE)], capture_output=True, text=True, check=False, timeout=280, env=environment
            )
            if "timed out during startup" not in ran.stderr:
                break
        assert ran.returncode == 0, ran.stdout + ran.stderr
        said = re.findall(r"^replica \d: (\S+), (\d+) of 200 visitors", ran.stdout, re.MULTILINE)
        first, second, last = said[:2], said[2:4], said[4:]
        assert [where for where, _ in said] == ["0:10%"] * 2 + ["1:50%"] * 2 + ["aborted"] * 2
        assert len(set(first)) == len(set(second)) == 1
        assert 0 < int(first[0][1]) < int(second[0][1])
        assert {count for _, count in last} == {"0"}
        assert ran.stdout.count("200 pictures read") == 2
        assert re.search(r"abort .*ann.*visitors complain", ran.stdout)
        deadline = time.monotonic() + 30
        while left := processes_of(folder):
            assert time.monotonic() < deadline, left
            time.sleep(0.1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
