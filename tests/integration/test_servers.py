"""Row F12: real servers with their own ways of forking. Shadows run in the workers, and a hung one does not hold the stop."""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from rollout_sdk.journal import read_journal

from .servers import HERE, installed

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
    # A stop that waits for the shadow takes gunicorn's 30 s.
    assert took_s < 4.0
    figure(
        "F12",
        "gunicorn with {worker} kinds of workers, with and without --preload: {ran} of {asked} shadows ran in the "
        "workers; stopped with a hung one after at most {took_s:.2f} s",
        worker=worker,
        ran=ran,
        asked=asked,
        took_s=took_s,
    )


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
    figure("F82", "uvicorn.run('script:asgi') from script.py in {how} ways starts; {journalled} of {calls} calls journalled",
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
    figure(
        "F12",
        "uvicorn, {workers} workers: {ran} shadows of functions and coroutines for {asked} requests and those of "
        "the readiness check; stopped with a hung one after {took_s:.2f} s",
        workers=len(pids),
        ran=ran,
        asked=pids.total(),
        took_s=took_s,
    )


# In the loop, a request would wait for all of it. One that burns takes turns at the interpreter's lock with whoever serves.
@pytest.mark.parametrize(("what", "took_s"), [("burn", 1.0), ("block", 0.3)])
def test_f12_a_shadow_does_not_stall_gevents_loop(what, took_s, serve, figure):
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
    assert max(stalled) < took_s / 2
    figure(
        "F12",
        "gevent: a request while a shadow computes or blocks ({what} kinds) takes at most {worst:.0f} ms, {usual:.1f} without",
        what=what,
        worst=max(stalled) * 1e3,
        usual=quiet[10] * 1e3,
    )


def test_f12_shadows_run_beside_eventlets_server(serve, figure):
    installed("eventlet")
    server = serve(str(HERE / "eventlet_server.py"), "PORT")
    for number in range(40):
        server.get(f"n{number}")
    quiet = sorted(server.get(f"quiet{number}")[1] for number in range(20))
    server.get("block")
    stalled = [server.get(f"stalled{number}")[1] for number in range(20)]
    # Until the one that blocks has ended.
    time.sleep(0.6)
    server.get("hang")
    time.sleep(0.6)
    took_s = server.stop()
    ends = Counter(end for (_, end), count in server.shadows().items() for _ in range(count))
    # And the request that asked whether it is ready. Those that come while one blocks may find the queue full.
    assert (82, 1, 83) == (ends["ok"] + ends["dropped_full"], ends["abandoned"], ends.total())
    assert ends["ok"] >= 62
    assert max(stalled) < 0.25
    assert took_s < 4.0
    worst, usual = max(stalled) * 1e3, quiet[10] * 1e3
    figure("F12", "eventlet: {ran} shadows ran; a request while one blocks takes at most {worst:.0f} ms, {usual:.1f} without",
           ran=ends["ok"], worst=worst, usual=usual)  # fmt: skip


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
    figure("F12", "Celery prefork: {ran} of {sent} shadows ran in the workers; stopped after {took_s:.2f} s", ran=ends["ok"],
           sent=sent, took_s=took_s)  # fmt: skip
