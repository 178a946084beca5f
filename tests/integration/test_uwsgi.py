"""Row F96: real uWSGI, whose workers are forked without Python's hooks, or with them."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from rollout_sdk.assignment.ids import decode_id
from rollout_sdk.journal import read_journal

from .servers import installed

RUN = "import sys; {path}; import pyuwsgi; pyuwsgi.run(sys.argv[1:])"
BASE = ["--http-socket", "127.0.0.1:PORT", "--need-app", "--die-on-term", "--disable-logging", "--enable-threads"]
MASTER = ["--master", "--processes", "2"]
MODES = {
    "": MASTER,
    "fork hooks": [*MASTER, "--py-call-uwsgi-fork-hooks"],
    "after fork": [*MASTER, "--py-call-osafterfork"],
    "lazy apps": [*MASTER, "--lazy-apps"],
    "4 threads": [*MASTER, "--threads", "4"],
    "no master": ["--processes", "2"],
    "one process": [],
}
# The last one whose threads can be off, in a folder of its own: `make` puts it there.
WITHOUT_THREADS = Path(sys.prefix) / "uwsgi-without-threads"
OPERATE = "import sys; from rollout_sdk.cli import main; main(sys.argv[1:])"


@pytest.fixture
def uwsgi(serve, tmp_path):
    """Starts a server with a store and a control file."""
    installed("pyuwsgi", "click")

    def start(*options, app="app:wsgi_split", base=BASE, path="", **environment):
        (tmp_path / "log.ini").touch()
        steer(tmp_path, "false")
        store = {"ROLLOUT_STORE": store_in(tmp_path), "ROLLOUT_CONTROL": str(tmp_path / "control.toml")}
        command = ["-c", RUN.format(path=path or "0"), *base, "--module", app, *options]
        return serve(*command, **(store | environment))

    return start


def store_in(folder):
    return f"sqlite:///{folder}/rollouts.db"


def steer(folder, disabled):
    new = folder / "control.new"
    new.write_text(f"version = 1\ndisabled = {disabled}\n")
    new.chmod(0o600)
    new.replace(folder / "control.toml")


def operate(folder, *command):
    """As an operator does, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", OPERATE, *command, "--store", store_in(folder)], capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stdout + done.stderr


def wait_for(server, by, seconds=20.0):
    """Ask until both have answered so for a while; how long another still did, and the answers on the way."""
    began = time.monotonic()
    last, alike, answers = began, 0, []
    while alike < 40:
        assert time.monotonic() - began < seconds, (by, Counter(answer["by"] for answer in answers), server.said())
        answers.append(server.ask(f"user{len(answers)}"))
        alike += 1
        if answers[-1]["by"] != by:
            last, alike = time.monotonic(), 0
        time.sleep(0.005)
    return last - began, answers


def nonce(decision_id):
    return decode_id(decision_id, None).nonce


def journalled(server):
    """Ids of decisions, of workers alone."""
    if not Path(server.journal).exists():
        return []
    return [
        record["id"]
        for record in read_journal(server.journal)
        if record["event"] == "decision" and record["rollout"] == "split"
    ]


# It calls what comes after a fork and not what comes before, which ends every worker of Python 3.13, with any application.
BROKEN = pytest.mark.skipif(sys.version_info >= (3, 13), reason="--py-call-osafterfork of uWSGI 2.0 crashes Python 3.13")


@pytest.mark.parametrize("mode", [pytest.param(mode, marks=BROKEN if mode == "after fork" else ()) for mode in MODES])
def test_f96_workers_of_uwsgi_lose_nothing_repeat_nothing_and_hear_of_stops(mode, uwsgi, tmp_path, figure):
    server = uwsgi(*MODES[mode], USED_IN_MASTER="1")
    # Idle workers know no less.
    time.sleep(1.0)
    _, answers = wait_for(server, "candidate")
    assert (1 if mode == "one process" else 2) == len({answer["pid"] for answer in answers})

    steer(tmp_path, "true")
    by_file_s, more = wait_for(server, "control")
    answers += more
    steer(tmp_path, "false")
    answers += wait_for(server, "candidate")[1]

    operate(tmp_path, "abort", "split", "--actor", "me", "--reason", "why")
    by_store_s, more = wait_for(server, "control")
    answers += more
    assert by_file_s < 1.0
    assert by_store_s < 1.0

    asked = 1 + len(answers)
    took_s = server.stop()
    # Without a master, the other one goes on; it has written everything within a second.
    deadline = time.monotonic() + (5.0 if mode == "no master" else 0.0)
    while len(ids := journalled(server)) < asked and time.monotonic() < deadline:
        time.sleep(0.1)
    assert asked == len(ids) == len(set(map(nonce, ids)))
    assert {answer["id"] for answer in answers} < set(ids)
    assert took_s < 4.0
    figure("F96", "in {mode} kinds of servers, {kept} of {asked} calls journalled, {different} nonces differ; an abort reached "
           "workers after {by_store_s:.2f} s, the control file after {by_file_s:.2f} s", mode=mode, kept=len(ids), asked=asked,
           different=len(set(map(nonce, ids))), by_store_s=by_store_s, by_file_s=by_file_s)  # fmt: skip


def test_f96_a_worker_that_starts_after_an_abort_never_runs_the_candidate(uwsgi, tmp_path, figure):
    server = uwsgi(*MODES[""])
    _, answers = wait_for(server, "candidate")
    old = {answer["pid"] for answer in answers}
    operate(tmp_path, "abort", "split", "--actor", "me", "--reason", "why")
    wait_for(server, "control")
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    answers, deadline = [], time.monotonic() + 20
    while len({answer["pid"] for answer in answers} - old) < 2:
        assert time.monotonic() < deadline, server.said()
        try:
            answers.append(server.ask(f"user{len(answers)}"))
        except OSError:
            # The one that was killed had it.
            time.sleep(0.05)
    assert {"control"} == {answer["by"] for answer in answers}
    figure("F96", "{late} of {asked} calls answered by an aborted candidate in workers that started later",
           late=sum(answer["by"] == "candidate" for answer in answers), asked=len(answers))  # fmt: skip


def test_f96_durability_call_takes_no_second(uwsgi, figure):
    server = uwsgi(*MODES[""], DURABILITY="call", USED_IN_MASTER="1")
    answers = [server.ask(f"user{number}") for number in range(20)]
    took = sorted(answer["took_s"] for answer in answers)
    ids = {answer["id"] for answer in answers}
    # Before it stops.
    assert ids < set(journalled(server))
    assert took[10] < 0.5
    figure("F96", "durability='call': a call takes {took_ms:.1f} ms", took_ms=took[10] * 1e3)


@pytest.mark.parametrize("hooks", [False, True], ids=["", "fork hooks"])
def test_f96_shadows_run_in_uwsgis_workers_and_a_hung_one_does_not_hold_the_stop(hooks, uwsgi, figure):
    nobody = {"ROLLOUT_STORE": "", "ROLLOUT_CONTROL": ""}
    server = uwsgi(*MODES["fork hooks" if hooks else ""], app="app:wsgi", USED_IN_MASTER="1", **nobody)
    workers = Counter(server.get(f"n{number}")[0] for number in range(40))
    server.get("hang")
    time.sleep(0.6)
    took_s = server.stop()
    ends = server.shadows()
    assert set(workers) <= {pid for pid, _ in ends}
    assert sum(count for (pid, end), count in ends.items() if end == "ok" and pid != server.process.pid) >= 41
    assert 1 == sum(count for (_, end), count in ends.items() if end == "abandoned")
    assert took_s < 4.0
    ran = sum(count for (pid, end), count in ends.items() if end == "ok" and pid in workers)
    figure(
        "F96",
        "{ran} shadows in the workers for {asked} requests and those of the readiness check; stopped with a hung "
        "one after {took_s:.2f} s",
        ran=ran,
        asked=workers.total(),
        took_s=took_s,
    )


def test_f96_no_thread_runs_where_uwsgi_forks_from(uwsgi):
    """One that has the interpreter's lock at a fork hangs the worker, for good."""
    if not Path("/proc/self/task").exists():
        pytest.skip("no /proc here to count another process's threads")
    server = uwsgi(*MODES[""], USED_IN_MASTER="1")
    # Its own wait for sockets is one; and it would have the recorder's and the reconciler's.
    assert 1 == len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))


def test_f96_without_threads_there_is_a_fault_with_its_cure_and_nothing_is_lost(uwsgi, tmp_path, figure):
    if not WITHOUT_THREADS.exists():
        pytest.skip(f"no uWSGI whose threads can be off in {WITHOUT_THREADS}; the Makefile puts it there for the first Python")
    base = [each for each in BASE if each != "--enable-threads"]
    server = uwsgi(*MASTER, base=base, path=f"sys.path.insert(0, {str(WITHOUT_THREADS)!r})")
    answers = wait_for(server, "candidate")[1]
    status = server.ask("status")
    assert ["threads"] == status["faults"]
    assert "--enable-threads" in status["notes"][0]
    # A thread that stands still in the midst of a change keeps the store locked until there is a request.
    abort = threading.Thread(target=operate, args=(tmp_path, "abort", "split", "--actor", "me", "--reason", "why"))
    abort.start()
    meanwhile = 0
    while abort.is_alive():
        server.ask("meanwhile")
        meanwhile += 1
        time.sleep(0.02)
    # The thread that hears of it has its turns while requests are served.
    late = wait_for(server, "control")[1]
    ran = sum(answer["by"] == "candidate" for answer in late)
    asked = 1 + len(answers) + 1 + meanwhile + len(late)
    server.stop()
    ids = journalled(server)
    assert asked == len(ids) == len(set(map(nonce, ids)))
    figure(
        "F96",
        "without threads: a fault with its cure; {kept} of {asked} calls journalled; an abort took effect {ran} calls late",
        kept=len(ids),
        asked=asked,
        ran=ran,
    )


def test_f96_threads_of_one_worker_notice_the_fork_once(uwsgi):
    server = uwsgi("--master", "--processes", "1", "--threads", "8", USED_IN_MASTER="1")
    answers = []
    threads = [
        threading.Thread(target=lambda n=n: answers.extend(server.ask(f"user{n}.{each}") for each in range(10)))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # uWSGI runs no exit handlers in a worker that is still in a request: what is asked here is who noticed the fork.
    deadline = time.monotonic() + 10.0
    while len(journalled(server)) < 81 and time.monotonic() < deadline:
        time.sleep(0.05)
    server.stop()
    ids = journalled(server)
    assert 81 == len(ids) == len(set(map(nonce, ids)))
