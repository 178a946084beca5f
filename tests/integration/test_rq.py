"""Row F97: RQ, which forks a process for each job and ends it by os._exit, with a real Redis."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from rollout_sdk.journal import read_journal

from .servers import HERE, free_port, installed

TASKS = """
import os
import app

def work(what):
    # It ends on its own, by os._exit, as soon as this has returned.
    return [app.split(what), os.getpid()]
"""
SEND = """
import json, sys, time
from redis import Redis
from rq import Queue
queue = Queue(connection=Redis(port=int(sys.argv[1])))
jobs = [queue.enqueue("tasks.work", f"user{number}") for number in range(int(sys.argv[2]))]
deadline = time.monotonic() + 60
while any(job.get_status(refresh=True) not in ("finished", "failed") for job in jobs) and time.monotonic() < deadline:
    time.sleep(0.05)
print(json.dumps([job.return_value() for job in jobs]))
"""
# The module is imported before the first fork: its decorated functions are the parent's.
WORK = "import sys, tasks; from rq.cli import main; main(sys.argv[1:])"
OPERATE = "import sys; from rollout_sdk.cli import main; main(sys.argv[1:])"


@pytest.fixture
def redis(tmp_path):
    """The port of a Redis server of our own."""
    installed("rq")
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed; .ci/run has it from the system's packages")
    port = free_port()
    with (tmp_path / "redis.log").open("w") as log:
        server = subprocess.Popen(
            [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)], stdout=log, stderr=log
        )
        try:
            yield port
        finally:
            server.kill()
            server.wait()


def test_f97_calls_of_rqs_jobs_are_kept_by_durability_call_and_hear_of_stops(redis, tmp_path, figure):
    (tmp_path / "tasks.py").write_text(TASKS)
    environment = {
        **os.environ, "ROLLOUT_JOURNAL": str(tmp_path / "journal"), "ROLLOUT_STORE": f"sqlite:///{tmp_path}/rollouts.db",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), str(tmp_path), os.environ.get("PYTHONPATH")))),
        "DURABILITY": "call",
    }  # fmt: skip

    def run(code, *arguments):
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert 0 == done.returncode, done.stderr
        return done.stdout

    log = (tmp_path / "log").open("w+")
    worker = subprocess.Popen(
        [sys.executable, "-c", WORK, "worker", "--url", f"redis://127.0.0.1:{redis}", "--quiet"],
        env=environment, cwd=tmp_path, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        first = json.loads(run(SEND, redis, 20))
        assert (20, {"candidate"}) == (len(first), {by for by, _ in first}), Path(log.name).read_text()
        # A process for each.
        assert 20 == len({pid for _, pid in first} - {worker.pid})
        run(OPERATE, "abort", "split", "--actor", "me", "--reason", "why", "--store", environment["ROLLOUT_STORE"])
        time.sleep(1.0)
        later = json.loads(run(SEND, redis, 10))
        assert {"control"} == {by for by, _ in later}
        worker.terminate()
        worker.wait(30)
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()
        log.close()
    kept = Counter(record["id"] for record in read_journal(tmp_path / "journal") if record["event"] == "decision")
    assert (30, 30) == (len(kept), kept.total())
    late = sum(by == "candidate" for by, _ in later)
    figure(
        "F97",
        "{kept} of {made} calls journalled with durability='call', each in its own process; after an abort, "
        "{late} jobs ran the candidate",
        kept=len(kept),
        made=len(first) + len(later),
        late=late,
    )
