"""Row F12: real servers with their own ways of forking. Shadows run in the workers, and a hung one does not hold the stop."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from rollout_sdk.journal import read_journal

HERE = Path(__file__).parent


def installed(*names):
    import importlib.util

    for name in names:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed; the extra dev has it")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Server:
    """A server process, and requests to it."""

    def __init__(self, command, folder, environment):
        self.port = free_port()
        self.journal = folder / "journal"
        path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "ROLLOUT_JOURNAL": str(self.journal), "PYTHONPATH": path, **environment}
        self.log = (folder / "log").open("w+")
        command = [part.replace("PORT", str(self.port)) for part in command]
        self.process = subprocess.Popen(
            [sys.executable, *command], env=environment, stdout=self.log, stderr=self.log, cwd=folder
        )
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError):
                self.get("ready")
                return
            assert (self.process.poll(), time.monotonic() < deadline) == (None, True), self.said()
            time.sleep(0.05)

    def said(self):
        self.log.flush()
        return Path(self.log.name).read_text()

    def get(self, what):
        """The answer to a request, and how long it took."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        began = time.perf_counter()
        connection.request("GET", f"/{what}")
        body = json.loads(connection.getresponse().read())
        connection.close()
        assert what == body["answer"]
        return body["pid"], time.perf_counter() - began

    def stop(self):
        """Stop it as a supervisor does; how long that took."""
        began = time.perf_counter()
        self.process.terminate()
        self.process.wait(30)
        return time.perf_counter() - began

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def shadows(self):
        """Ends of shadows by process, those of the master's warm-up and of `ready` aside."""
        ends = Counter()
        for path in read_journal(self.journal).files:
            pid = int(path.name.split("-")[-3])
            for line in path.read_text().splitlines():
                record = json.loads(line)
                if record["event"] == "shadow":
                    ends[pid, record["end"]] += 1
        return ends


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(*command, **environment):
        servers.append(Server(list(command), tmp_path, environment))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


GUNICORN = ["-m", "gunicorn", "app:wsgi", "--bind", "127.0.0.1:PORT", "--graceful-timeout", "8", "--workers", "2"]
WORKERS = {
    "sync": ["--worker-class", "sync"],
    "gthread": ["--worker-class", "gthread", "--threads", "4"],
    "gevent": ["--worker-class", "gevent"],
}


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
@pytest.mark.parametrize("worker", WORKERS)
def test_f12_shadows_run_in_gunicorns_workers_and_a_hung_one_does_not_hold_the_stop(worker, preload, serve, figure):
    installed("gunicorn", *(["gevent"] if worker == "gevent" else []))
    server = serve(*GUNICORN, *WORKERS[worker], *(["--preload"] if preload else []), USED_IN_MASTER="1" if preload else "")
    workers = Counter(server.get(f"n{number}")[0] for number in range(40))
    server.get("hang")
    time.sleep(0.6)
    took_s = server.stop()
    ends = server.shadows()
    master = server.process.pid
    ran = sum(count for (pid, end), count in ends.items() if end == "ok" and pid != master)
    assert set(workers) <= {pid for pid, _ in ends}
    # Those that were counted, and the one that asked whether the server is ready.
    asked = workers.total() + 1
    assert ran >= asked
    assert {"ok", "abandoned"} >= {end for _, end in ends}
    hung = sum(count for (_, end), count in ends.items() if end == "abandoned")
    assert 1 == hung
    assert took_s < 2.0
    figure("F12", "gunicorn with {worker} kinds of workers, with and without --preload: {ran} of {asked} shadows in the "
           "workers; stop with a hung one after {took_s:.2f} s at most", worker=worker, ran=ran, asked=asked,
           took_s=took_s)  # fmt: skip


@pytest.mark.parametrize("how", ["script", "reload", "workers"])
def test_f82_a_script_that_starts_its_server_with_itself_has_one_rollout(how, serve, figure):
    installed("uvicorn")
    server = serve(str(HERE / "script.py"), "PORT", how)
    for number in range(20):
        server.get(f"n{number}")
    server.stop()
    records = list(read_journal(server.journal))
    assert {"script"} == {record["rollout"] for record in records if record["event"] == "decision"}
    # And the request that asked whether it is ready.
    journalled = sum(record["event"] == "decision" for record in records)
    assert number + 2 == journalled
    figure("F82", "uvicorn.run('script:asgi') from script.py in {how} ways: starts, {journalled} of {calls} calls journalled",
           how=how, journalled=journalled, calls=number + 2)  # fmt: skip


def test_f12_shadows_run_in_uvicorns_workers(serve, figure):
    installed("uvicorn")
    server = serve(
        "-m", "uvicorn", "app:asgi", "--host", "127.0.0.1", "--port", "PORT", "--workers", "2", "--log-level", "warning"
    )
    pids = Counter(server.get(f"n{number}")[0] for number in range(40))
    server.get("hang")
    time.sleep(0.6)
    took_s = server.stop()
    ends = server.shadows()
    assert set(pids) <= {pid for pid, _ in ends}
    ran = sum(count for (_, end), count in ends.items() if end == "ok")
    assert 2 * pids.total() <= ran
    assert took_s < 4.0
    figure("F12", "uvicorn, {workers} workers: {ran} shadows of functions and coroutines for {asked} requests and those that "
           "asked whether it is ready; stop with a hung one after {took_s:.2f} s", workers=len(pids), ran=ran,
           asked=pids.total(), took_s=took_s)  # fmt: skip


@pytest.mark.parametrize("what", ["burn", "block"])
def test_f12_a_shadow_does_not_stall_gevents_loop(what, serve, figure):
    installed("gunicorn", "gevent")
    command = [*GUNICORN, *WORKERS["gevent"], "--workers", "1"]
    server = serve(*command)
    for number in range(20):
        server.get(f"warm{number}")
    quiet = sorted(server.get(f"n{number}")[1] for number in range(20))
    trouble = threading.Thread(target=lambda: [server.get(f"{what}" if what == "block" else f"burn{n}") for n in range(2)])
    trouble.start()
    stalled = [server.get(f"n{number}")[1] for number in range(100)]
    trouble.join()
    assert max(stalled) < 0.25
    figure("F12", "gevent: a request while a shadow burns or blocks ({what} kinds) takes {worst:.0f} ms at most, {usual:.1f} "
           "without", what=what, worst=max(stalled) * 1e3, usual=quiet[10] * 1e3)  # fmt: skip


def test_f12_shadows_run_in_celerys_prefork_workers(tmp_path, figure):
    installed("celery")
    (tmp_path / "tasks.py").write_text("""
import os
from celery import Celery
import app

queue = Celery("tasks", broker="filesystem://", backend="cache+memory://")
queue.conf.update(
    broker_transport_options={"data_folder_in": "box", "data_folder_out": "box", "control_folder": "control"},
    worker_hijack_root_logger=False, task_ignore_result=True, broker_connection_retry_on_startup=True,
)

@queue.task
def work(what):
    return app.model(what)
""")
    for folder in ("box", "control"):
        (tmp_path / folder).mkdir()
    environment = {
        **os.environ, "ROLLOUT_JOURNAL": str(tmp_path / "journal"), "PYTHONPATH": f"{HERE}:{tmp_path}", "USED_IN_MASTER": "1",
        "C_FORCE_ROOT": "1",
    }  # fmt: skip
    log, sent = (tmp_path / "log").open("w+"), 40
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--pool", "prefork", "--concurrency", "2", "-l", "WARNING"],
        env=environment, cwd=tmp_path, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        send = f"import tasks\nfor number in range({sent}): tasks.work.delay(f'n{{number}}')"
        subprocess.run(
            [sys.executable, "-c", send],
            env={**environment, "USED_IN_MASTER": "", "ROLLOUT_JOURNAL": ""},
            cwd=tmp_path,
            check=True,
        )
        deadline = time.monotonic() + 40
        ends = Counter()
        while ends["ok"] < sent:
            assert (worker.poll(), time.monotonic() < deadline) == (None, True), (ends, Path(log.name).read_text())
            time.sleep(0.2)
            if (tmp_path / "journal").exists():
                records = [r for r in read_journal(tmp_path / "journal") if r["event"] == "shadow"]
                ends = Counter(record["end"] for record in records)
                master = [path for path in read_journal(tmp_path / "journal").files if f"-{worker.pid}-" in path.name]
                ends["ok"] -= sum(path.read_text().count('"event":"shadow"') for path in master)
        began = time.perf_counter()
        worker.terminate()
        worker.wait(30)
        took_s = time.perf_counter() - began
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()
        log.close()
    figure("F12", "Celery prefork: {ran} of {sent} shadows in the workers; stopped after {took_s:.2f} s", ran=ends["ok"],
           sent=sent, took_s=took_s)  # fmt: skip
