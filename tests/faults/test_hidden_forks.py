"""Rows F95 and F96: processes forked by C code, which runs none of Python's hooks: by ctypes, and in what looks like uWSGI."""

import json
import sys
from collections import Counter
from typing import ClassVar

import pytest

from rollout_sdk import ABTest, rollout
from rollout_sdk.concurrency.threads import Flag, Thread
from rollout_sdk.journal import read_journal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork")

SET_UP = """
import ctypes, faulthandler, os, select, signal, sys, time, threading
faulthandler.enable()  # a child that crashes shows where
{platform}
from rollout_sdk import ABTest, Runtime, Shadow, ShadowLimits, rollout
from rollout_sdk.runtime import all_runtimes
# PyDLL keeps the interpreter's lock at the fork: a child that another thread's lock is copied to would hang.
c_fork = ctypes.PyDLL(None).fork
def in_child(action):
    "Have a child do it; its process id."
    # No other thread may wait for the interpreter's lock at the fork: in the child, it would forever. The recorder's has just
    # begun to wait for facts, and the reconciler's is at its end. On a busy machine, one may wait all the same: such a child
    # hangs, or crashes, when it first gives the lock away, whatever it runs, and another one is forked.
    for runtime in all_runtimes():
        runtime.reconciler._thread.end()
    while any(thread.name == "rollout-reconciler" for thread in threading.enumerate()):
        time.sleep(0.01)
    for runtime in all_runtimes():
        runtime.flush()
    for _ in range(3):
        time.sleep(0.05)
        reading, writing = os.pipe()
        pid = c_fork()
        if pid == 0:
            time.sleep(0.001)
            os.write(writing, b"x")
            break
        os.close(writing)
        lives = select.select([reading], [], [], 5.0)[0] and os.read(reading, 1)
        os.close(reading)
        if lives:
            break
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if pid == 0:
        faulthandler.register(signal.SIGALRM, chain=True)
        signal.alarm(20)
        try:
            good = action()
        except BaseException:
            import traceback
            traceback.print_exc()
            good = False
        os._exit(0 if good else 1)
    return pid
def ends(children):
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
def decorate(runtime, **options):
    options = {{"strategy": ABTest(1.0), "unit": "user", "key": "m", **options}}
    return rollout(candidate=lambda user: "new", runtime=runtime, **options)(lambda user: "old")
"""
ASKS = """
import mmap
class Refusing(mmap.mmap):
    def madvise(self, *_):
        raise OSError
mmap.mmap = Refusing
"""
"""Where the kernel does not wipe memory for us, the process id is asked for."""


def program(code, platform=""):
    return SET_UP.format(platform=platform) + code


def decisions(tmp_path):
    return [record for record in read_journal(tmp_path / "journal") if record["event"] == "decision"]


def per_process(tmp_path):
    found = Counter()
    for path in read_journal(tmp_path / "journal").files:
        found[int(path.name.split("-")[-3])] += path.read_text().count('"event":"decision"')
    return found


@pytest.mark.parametrize("platform", ["", ASKS], ids=["wiped", "asked"])
def test_f95_children_forked_by_c_code_lose_nothing_and_repeat_nothing(platform, run_python, tmp_path, figure):
    result = run_python(
        program(
            """
runtime = Runtime(journal="journal", time_ns=lambda: 1_700_000_000_000_000_000)
model = decorate(runtime)
unitless = decorate(runtime, unit=None, key="unitless", strategy=ABTest(0.5))
def draw():
    return [unitless.rollout.assign(None).bucket for _ in range(4)]
for number in range(10):
    model("the same")
runtime.flush()
def work():
    # Nothing but calls: the first has to notice.
    for number in range(50):
        model("the same")
    os.write(1, f"{draw()}\\n".encode())
    return runtime.flush(10.0) and model.rollout.status().calls["candidate"] == 50
children = [in_child(work) for _ in range(4)]
for number in range(10):
    model("the same")
print(draw(), flush=True)
codes = ends(children)
# And a child of a child.
codes += ends([in_child(lambda: model("the same") and ends([in_child(work)]) == [0] and runtime.flush(10.0))])
runtime.close()
os.write(1, f"{codes}\\n".encode())
""",
            platform,
        )
    )
    *drawn, codes = result.stdout.splitlines()
    assert ("[0, 0, 0, 0, 0]", "") == (codes, result.stderr)
    # Random units are others in every process.
    assert (6, 6) == (len(drawn), len(set(drawn)))
    assert [1, 20, 50, 50, 50, 50, 50] == sorted(per_process(tmp_path).values())
    # At one time, for one unit: what tells them apart is the nonce.
    ids = [record["id"] for record in decisions(tmp_path)]
    assert 271 == len(ids) == len(set(ids))
    figure("F95", "{kept} of {made} calls of {processes} processes (children, a grandchild) journalled, {different} ids differ",
           kept=len(ids), made=sum(per_process(tmp_path).values()), processes=len(per_process(tmp_path)),
           different=len(set(ids)))  # fmt: skip


def test_f95_durability_call_waits_for_no_thread_of_the_parent(run_python, tmp_path, figure):
    result = run_python(
        program("""
runtime = Runtime(journal="journal", durability="call")
model = decorate(runtime)
model("parent")
def work():
    took = []
    for number in range(5):
        began = time.perf_counter()
        model("child")
        took.append(time.perf_counter() - began)
    os.write(1, f"{sorted(took)[2]}".encode())
    # Killed just after the call.
    os.kill(os.getpid(), signal.SIGKILL)
print(ends([in_child(work)]), file=sys.stderr)
""")
    )
    assert "[-9]\n" == result.stderr
    # It waits for a second where nobody writes.
    assert float(result.stdout) < 0.5
    assert [1, 5] == sorted(per_process(tmp_path).values())
    kept = min(per_process(tmp_path).values(), key=lambda calls: calls != 5)
    figure("F95", "durability='call' in a child: a call takes {took_ms:.1f} ms, {kept} calls survive a SIGKILL",
           took_ms=float(result.stdout) * 1e3, kept=kept)  # fmt: skip


STEERED = """
import subprocess
if {by!r} == "store":
    runtime = Runtime(store="sqlite:///" + os.getcwd() + "/rollouts.db", journal="journal")
else:
    def steer(disabled):
        with open("control.new", "w") as file:
            file.write(f"version = 1\\ndisabled = {{disabled}}\\n")
        os.chmod("control.new", 0o600)
        os.replace("control.new", "control.toml")
    steer("false")
    runtime = Runtime(control="control.toml", journal="journal")
model = decorate(runtime)
model("parent")
runtime.flush()
told, heard = os.pipe(), os.pipe()
def stop():
    if {by!r} == "store":
        model.rollout.abort(actor="me", reason="why")
    else:
        steer("true")
def wait():
    os.read(told[0], 1)
    return time.time()
"""


@pytest.mark.parametrize("by", ["store", "file"])
def test_f95_a_child_that_was_idle_since_hears_of_a_stop_before_its_first_call(by, run_python, figure):
    result = run_python(
        program(
            STEERED.format(by=by)
            + """
def work():
    wait()
    answers = set()
    for number in range(150):
        answers.add(model(f"user {number}"))
        # For longer than it takes to hear of it.
        time.sleep(0.01)
    return answers == {"old"}
children = [in_child(work) for _ in range(3)]
stop()
time.sleep(0.2)
os.write(told[1], b"xxx")
print(ends(children))
"""
        )
    )
    assert ("[0, 0, 0]\n", "") == (result.stdout, result.stderr)
    figure(
        "F95",
        "stopped in {by} ways while {children} children had no calls: none of their calls answered by the candidate",
        by=by,
        children=result.stdout.count("0"),
    )


@pytest.mark.parametrize("by", ["store", "file"])
def test_f95_a_stop_reaches_a_child_within_a_second(by, run_python, figure):
    result = run_python(
        program(
            STEERED.format(by=by)
            + """
def work():
    # Nothing was stopped: once that is known, candidates run.
    deadline = time.monotonic() + 10
    while model("before") == "old" and time.monotonic() < deadline:
        time.sleep(0.01)
    good = model("before") == "new"
    os.write(heard[1], b"x")
    began = wait()
    while model("after") == "new":
        time.sleep(0.01)
    os.write(1, f"{time.time() - began}\\n".encode())
    return good
children = [in_child(work) for _ in range(3)]
for _ in children:
    os.read(heard[0], 1)
stop()
os.write(told[1], b"xxx")
print(ends(children), file=sys.stderr)
"""
        )
    )
    assert "[0, 0, 0]\n" == result.stderr
    took = [float(line) for line in result.stdout.splitlines()]
    assert 3 == len(took)
    assert max(took) < 1.0
    figure("F95", "a stop in {by} ways reached children after at most {took_s:.2f} s", by=by, took_s=max(took))


def test_f95_shadows_outcomes_and_transitions_of_a_child_are_its_own(run_python, tmp_path):
    result = run_python(
        program("""
runtime = Runtime(journal="journal", shadows=ShadowLimits(cpu_share=1.0))
model = decorate(runtime, strategy=Shadow(1.0), effects="read")
model("parent")
runtime.flush()
def pause():
    model.rollout.pause(reason="child")
def record():
    model.rollout.record("click", 1.0, unit="child")
def work(first, then):
    # Before any call, each of them.
    first()
    then()
    for number in range(10):
        model("child")
    return runtime.flush(10.0) and model.rollout.status().shadows == {("candidate", "ok"): 10}
print(ends([in_child(lambda: work(pause, record)), in_child(lambda: work(record, pause))]))
""")
    )
    assert ("[0, 0]\n", "") == (result.stdout, result.stderr)
    files = sorted(read_journal(tmp_path / "journal").files, key=lambda path: path.stat().st_size)
    for child in files[1:]:
        events = Counter(json.loads(line)["event"] for line in child.read_text().splitlines())
        assert (10, 10, 1, 1) == (events["decision"], events["shadow"], events["outcome"], events["transition"])
    assert 3 == len(files)


def test_f95_a_store_that_another_thread_was_using_can_be_used_in_the_child(run_python):
    result = run_python(
        program("""
from rollout_sdk.control.stores import MemoryStore
store = MemoryStore()
runtime = Runtime(store=store)
model = decorate(runtime)
def work():
    return model.rollout.pause(reason="child").status == "paused" and model.rollout.abort().status == "aborted"
# As a thread that is not in the child: it never gives it back there.
with store._lock.acquired(1.0):
    child = in_child(work)
print(ends([child]))
""")
    )
    assert ("[0]\n", "") == (result.stdout, result.stderr)


def test_f95_the_end_of_a_child_that_has_done_nothing_waits_for_nobody(run_python, figure):
    result = run_python(
        program("""
runtime = Runtime(journal="journal", exit_deadline_s=8.0)
model = decorate(runtime)
model("parent")
def work():
    began = time.perf_counter()
    runtime.close()
    os.write(1, f"{time.perf_counter() - began}".encode())
    return True
print(ends([in_child(work)]), file=sys.stderr)
""")
    )
    assert "[0]\n" == result.stderr
    assert float(result.stdout) < 4.0
    figure("F95", "closing in a child without calls takes {took_ms:.0f} ms, far less than its deadline",
           took_ms=float(result.stdout) * 1e3)  # fmt: skip


def test_f95_threads_that_notice_at_once_renew_once_and_lose_nothing(run_python, tmp_path):
    result = run_python(
        program("""
from rollout_sdk.concurrency.forking import renew_after_fork
class Slow:
    renewed = 0
    def renew(self):
        # Other threads have their turn in the midst of it.
        time.sleep(0.2)
        Slow.renewed += 1
slow = Slow()
runtime = Runtime(journal="journal")
renew_after_fork(slow)
model = decorate(runtime)
model("parent")
runtime.flush()
def work():
    barrier = threading.Barrier(8)
    def serve():
        barrier.wait()
        for number in range(20):
            model("child")
    threads = [threading.Thread(target=serve) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return runtime.flush(10.0) and Slow.renewed == 1
print(ends([in_child(work)]))
""")
    )
    assert ("[0]\n", "") == (result.stdout, result.stderr)
    assert [1, 160] == sorted(per_process(tmp_path).values())


def test_f95_something_that_cannot_be_renewed_leaves_nothing_else_behind(run_python, tmp_path):
    result = run_python(
        program("""
from rollout_sdk.concurrency.forking import renew_after_fork
class Broken:
    def renew(self):
        raise OSError
broken = Broken()
renew_after_fork(broken)
runtime = Runtime(journal="journal")
model = decorate(runtime)
model("parent")
def work():
    for number in range(20):
        model("child")
    return runtime.flush(10.0)
print(ends([in_child(work)]))
""")
    )
    assert ("[0]\n", "") == (result.stdout, result.stderr)
    assert [1, 20] == sorted(per_process(tmp_path).values())


class UWSGI:
    """What uWSGI's own module says in its master."""

    has_threads = 1
    numproc = 2
    opt: ClassVar = {"master": True}

    def masterpid(self):
        return 1

    def worker_id(self):
        return 0

    mule_id = i_am_the_spooler = worker_id


def a_thread_starts():
    ran = Flag()
    try:
        Thread(ran.set, "test").start()
    except RuntimeError:
        return False
    return ran.wait(5.0)


@pytest.mark.parametrize(
    ("told", "starts"),
    [
        ({}, False),
        ({"worker_id": lambda: 1}, True),
        ({"mule_id": lambda: 1}, True),
        ({"i_am_the_spooler": lambda: True}, True),
        ({"opt": {"py-call-uwsgi-fork-hooks": True}}, True),
        # Without threads, uWSGI calls no hooks.
        ({"opt": {"py-call-uwsgi-fork-hooks": True}, "has_threads": 0}, False),
        # No master: the first worker is the process that forks the others.
        ({"masterpid": lambda: 0}, False),
        ({"masterpid": lambda: 0, "numproc": 1}, True),
    ],
)
def test_f96_threads_start_in_workers_and_not_where_uwsgi_forks_from(told, starts, monkeypatch):
    uwsgi = UWSGI()
    for name, value in told.items():
        setattr(uwsgi, name, value)
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    assert starts == a_thread_starts()


def test_f96_another_module_of_that_name_changes_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "uwsgi", object())
    assert a_thread_starts()


def test_f96_threads_that_do_not_run_are_a_fault_with_its_cure(watch, monkeypatch, caplog):
    uwsgi = UWSGI()
    uwsgi.has_threads, uwsgi.worker_id = 0, lambda: 1
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    runtime = watch()
    model = rollout(candidate=lambda: 2, strategy=ABTest(0.5), key="m", runtime=runtime)(lambda: 1)
    model()
    assert runtime.flush(10.0)
    status = model.rollout.status()
    assert {("threads", "ConfigurationError"): 1} == status.faults
    assert ["Start uWSGI with --enable-threads." in note for note in status.notes] == [True]
    logged = [record for record in caplog.records if record.event == "rollout.threads.missing"]
    assert ["Start uWSGI with --enable-threads." in record.why for record in logged] == [True]
    monkeypatch.delitem(sys.modules, "uwsgi")
    assert () == model.rollout.status().notes


def test_f95_threads_that_are_not_in_the_child_are_not_freed_there(run_python, figure):
    result = run_python(
        program("""
import gc
model = decorate(Runtime(journal="journal"))
model("u")
threads = [threading.Thread(target=lambda: None) for _ in range(20)]
for thread in threads:
    # Ended, and never joined.
    thread.start()
def child():
    global threads
    model("u")
    del threads
    gc.collect()
    return True
print(ends([in_child(child) for _ in range(3)]))
""")
    )
    assert (0, "[0, 0, 0]\n") == (result.returncode, result.stdout), result.stderr
    crashed = json.loads(result.stdout)
    figure("F95", "{crashed} of {children} children in which the parent's threads are freed crash",
           crashed=sum(map(bool, crashed)), children=len(crashed))  # fmt: skip
