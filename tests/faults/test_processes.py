"""Rows F9 to F11, F13, F18, F27, F35, F38 and F40: exits, forks, loops, kills, and copies of a decorated function."""

import ast
import asyncio
import copy
import importlib
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from rollout_sdk import ABTest, Runtime, rollout
from rollout_sdk.journal import read_journal
from tests.faults.models import shadowed

HANGING = """
import sys, threading, time
from rollout_sdk import Runtime, Shadow, rollout
runtime = Runtime(exit_deadline_s={deadline_s})
def hang(x):
    {hang}
model = rollout(candidate=hang, strategy=Shadow(1.0), effects="read", key="m", runtime=runtime)(lambda x: x)
for number in range(20):
    model(number)
time.sleep(0.2)
print(time.time(), flush=True)
{end}
"""


@pytest.mark.parametrize("hang", ["threading.Event().wait()", "while True: pass"], ids=["sleeping", "burning"])
@pytest.mark.parametrize(
    ("end", "code"), [("", 0), ("sys.exit(3)", 3), ("raise ValueError", 1), ("signal", -signal.SIGTERM)], ids=repr
)
def test_f9_hung_shadows_do_not_hold_the_exit_and_do_not_change_its_code(end, code, hang, figure):
    deadline_s = 0.5
    program = HANGING.format(hang=hang, end="time.sleep(60)" if end == "signal" else end, deadline_s=deadline_s)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        began = float(process.stdout.readline())
        if end == "signal":
            process.terminate()
        returned = process.wait(30)
        took_s = time.time() - began
    assert code == returned
    # The deadline, and what any interpreter takes to end on this machine.
    assert took_s < deadline_s + 0.5 + 0.5
    figure(
        "F9",
        "{kept} of {runs} exit codes kept; exit after at most {took_s:.2f} s, with a deadline of {deadline_s:.1f} s",
        kept=int(code == returned),
        took_s=took_s,
        deadline_s=deadline_s,
    )


def test_f10_shadows_that_can_end_in_time_do(run_python, tmp_path, figure):
    result = run_python("""
        import time
        from rollout_sdk import Runtime, Shadow, ShadowLimits, rollout
        runtime = Runtime(journal="journal", shadows=ShadowLimits(cpu_share=1.0))
        decorate = rollout(candidate=lambda x: time.sleep(0.02), strategy=Shadow(1.0), effects="read", key="m", runtime=runtime)
        model = decorate(lambda x: x)
        for number in range(10):
            model(number)
    """)
    assert (0, "") == (result.returncode, result.stderr)
    ends = [record["end"] for record in read_journal(tmp_path / "journal") if record["event"] == "shadow"]
    assert ["ok"] * 10 == ends
    figure("F10", "{ok} of {shadows} waiting shadows completed at exit, {abandoned} abandoned", ok=ends.count("ok"),
           shadows=len(ends), abandoned=ends.count("abandoned"))  # fmt: skip


FORKS = """
import os, threading
from rollout_sdk import Runtime, Shadow, ShadowLimits, rollout
runtime = Runtime(shadows=ShadowLimits(cpu_share=1.0))
ran = []
model = rollout(candidate=lambda x: ran.append(x), strategy=Shadow(1.0), effects="read", key="m", runtime=runtime)(lambda x: x)
over = threading.Event()
def submit():
    while not over.is_set():
        model(0)
threads = [threading.Thread(target=submit) for _ in range({threads})]
for thread in threads:
    thread.start()
good = 0
for child in range({forks}):
    pid = os.fork()
    if pid == 0:
        ran.clear()
        answers = [model(number) for number in range(1, 6)]
        done = runtime.flush(10.0) and answers == list(range(1, 6))
        # What waited in the parent is the parent's: only the child's own shadows ran here.
        os._exit(0 if done and sorted(ran) == list(range(1, 6)) else 1)
    good += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
over.set()
for thread in threads:
    thread.join()
print(good)
"""


@pytest.mark.filterwarnings("ignore")
def test_f11_a_child_forked_while_threads_submit_runs_its_own_shadows(tmp_path, figure):
    program = tmp_path / "program.py"
    forks, threads = 60, 4
    program.write_text(FORKS.format(forks=forks, threads=threads))
    result = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=110, check=False)
    good = int(result.stdout or -1)
    assert (forks, 0) == (good, result.returncode), result.stderr
    figure(
        "F11",
        "{good} of {forks} children, forked while {threads} threads submit: all their own shadows ran, none of the parent's",
        good=good,
        forks=forks,
        threads=threads,
    )


def test_f13_a_lock_held_at_the_fork_does_not_hang_the_child(run_python, figure):
    result = run_python("""
        import os, threading, time, warnings
        warnings.simplefilter("ignore")
        from rollout_sdk import Canary, Runtime, Shadow, rollout
        runtime = Runtime(journal="journal")
        strategy = Canary(["50%"], shadow=1.0)
        model = rollout(candidate=lambda x: 2, strategy=strategy, effects="read", key="m", runtime=runtime)(lambda x: 1)
        model(0)
        runtime.flush()
        locks = [runtime.recorder._starting, runtime.background._threads._starting]
        good = 0
        for number in range(60):
            for lock in locks:
                lock.acquire()
            pid = os.fork()
            if pid == 0:
                model(1)
                os._exit(0 if runtime.flush(5.0) else 1)
            for lock in locks:
                lock.release()
            good += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        print(number + 1, good)
    """, timeout=100)  # fmt: skip
    children, good = map(int, result.stdout.split())
    assert (60, 60, "") == (children, good, result.stderr)
    figure("F13", "{lost} of {children} children that were forked while the SDK's locks were held hung", lost=children - good,
           children=children)  # fmt: skip


# Python 3.12 warns of forks with threads, which is what this test is about.
FORKED = [
    sys.executable,
    "-W",
    "error",
    "-W",
    "ignore::DeprecationWarning",
    str(Path(__file__).with_name("forked_children.py")),
]


@pytest.mark.parametrize("how", ["by Python", "by C code"])
def test_f13_a_child_can_do_everything_whatever_lock_was_held_at_the_fork(how, tmp_path, figure):
    """Another thread has the lock, and is not in the child. Every lock of ours, found by looking."""
    program = subprocess.run([*FORKED, how, tmp_path], capture_output=True, text=True, timeout=110, check=False)
    assert 0 == program.returncode, program.stderr
    ends = json.loads(program.stdout)
    assert dict.fromkeys(ends, 0) == ends, program.stderr
    assert 8 <= len(ends)
    hung = [name for name, code in ends.items() if code != 0]
    figure(
        "F13",
        "{hung} of {children} children, forked in {how} ways while each of the SDK's locks was held, hung",
        hung=len(hung),
        children=len(ends),
        how=how,
    )


def test_f18_loops_that_end_with_shadows_pending_leave_nothing_behind(watch, figure, caplog):
    runtime = watch()

    async def control(x):
        return x

    async def candidate(x):
        await asyncio.sleep(30)

    model = shadowed(control, candidate, runtime)
    began, loops = time.perf_counter(), 1
    # After three loops that end so, shadows get a loop of their own (F86).
    for _ in range(2):

        async def serve():
            return [await model(x) for x in range(4)]

        assert [0, 1, 2, 3] == asyncio.run(serve())
        loops += 1
    loop = asyncio.new_event_loop()
    loop.run_until_complete(model(1))
    loop.close()
    runtime.background.watch()
    took_s = time.perf_counter() - began
    ends = [event.end for event in runtime.shadowed()]
    assert ["cancelled"] * 9 == ends
    assert "destroyed" not in caplog.text
    assert took_s < 2.0
    figure("F18", "{cancelled} of {pending} pending shadows cancelled and counted over {loops} loops, in {took_s:.2f} s; no "
           "warning", cancelled=ends.count("cancelled"), pending=len(ends), loops=loops, took_s=took_s)  # fmt: skip


KILLED = """
import os, sys, time
from rollout_sdk import ABTest, Runtime, rollout
folder, rows = sys.argv[1], int(sys.argv[2])
runtime = Runtime(journal=folder, durability={durability!r})
# A long phase and many shadowed variants make long lines.
candidates = {{f"candidate-{{number}}-" + "x" * 150: (lambda user: 1) for number in range(rows)}}
strategy = ABTest({{name: 0.5 / rows for name in candidates}}, shadow=0.0)
model = rollout(candidates=candidates, strategy=strategy, unit="user", key="k" * 200, runtime=runtime)(lambda user: 0)
number = 0
while True:
    model(number)
    number += 1
    if {durability!r} == "flush":
        runtime.flush()
    os.write(1, b"%d\\n" % number)
"""


@pytest.mark.parametrize(("durability", "rounds"), [("flush", 2), ("call", 2)])
def test_f27_a_kill_loses_nothing_that_was_acknowledged(durability, rounds, tmp_path, figure):
    kill_writers(tmp_path, durability, rounds, figure)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("durability", ["flush", "call"])
def test_f27_many_kills_lose_nothing_that_was_acknowledged(durability, tmp_path, figure):
    kill_writers(tmp_path, durability, 12, figure)


def kill_writers(tmp_path, durability, rounds, figure):
    """Eight writers share a folder and are killed at random moments; each has said how many calls were acknowledged."""
    program = KILLED.format(durability=durability)
    lost = acknowledged = kills = damaged = 0
    for number in range(rounds):
        folder = tmp_path / f"journal-{number}"
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", program, str(folder), str(rows)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            for rows in (1, 1, 5, 5, 5, 20, 20, 20)
        ]
        said = {}
        for process in processes:
            process.stdout.readline()
        for process in processes:
            time.sleep(random.uniform(0, 0.1))
            process.kill()
            lines = process.stdout.read().split()
            process.stdout.close()
            process.wait()
            said[process.pid] = int(lines[-1]) if lines else 1
        journal = read_journal(folder)
        files = {int(path.name.split("-")[-3]): path for path in journal.files}
        list(journal)
        damaged += journal.skipped.total()
        for pid, count in said.items():
            text = files[pid].read_bytes()
            written = sum(line.startswith(b'{"event":"decision"') and line.endswith(b"}") for line in text.split(b"\n"))
            lost += max(0, count - written)
            acknowledged += count
            kills += 1
    assert 0 == lost
    assert damaged <= kills
    figure(
        "F27",
        "{lost} of {acknowledged:,} acknowledged calls lost in {kills} kills of writers with {durability} kinds "
        "of durability; {damaged} partial lines",
        lost=lost,
        acknowledged=acknowledged,
        kills=kills,
        durability=durability,
        damaged=damaged,
    )


def test_f35_the_same_unit_has_the_same_arm_in_every_process(figure):
    program = textwrap.dedent("""
        import json
        from rollout_sdk import ABTest, Runtime, rollout
        model = rollout(candidate=lambda u: 1, strategy=ABTest(0.3), unit="u", key="m", runtime=Runtime())(lambda u: 0)
        print(json.dumps([model(u) for u in [*range(200), *map(str, range(200)), ("a", 1), 1.5, b"x"]]))
    """)
    arms = []
    for seed in ("random", "0", "1", "2", "3", "4"):
        ran = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        arms.append(json.loads(ran.stdout))
    same = sum(each == arms[0] for each in arms)
    assert len(arms) == same
    assert 90 < sum(arms[0]) < 160
    figure("F35", "{units} units have the same arm in {same} of {processes} processes", units=len(arms[0]), same=same,
           processes=len(arms))  # fmt: skip


@rollout(candidate=lambda user: "new", strategy=ABTest(1.0), unit="user", key="module level", runtime=Runtime())
def at_module_level(user):
    return "old"


class Model:
    """A model with a decorated method, as scikit-learn's clone and deep copies meet it."""

    def __init__(self, weight=1):
        self.weight = weight

    def get_params(self, deep=True):
        return {"weight": self.weight}

    def set_params(self, **parameters):
        self.weight = parameters["weight"]
        return self

    def newer(self, user):
        return self.weight * 2

    @rollout(candidate=newer, strategy=ABTest(1.0), unit="user", key="method", runtime=Runtime())
    def score(self, user):
        return self.weight


MODULE = """
import os
from rollout_sdk import ABTest, default_runtime, rollout

@rollout(candidate=lambda user: "new", strategy=ABTest(1.0), unit="user")
def score(user):
    return "old"

def work(user):
    return score(user), score.rollout.key, len(default_runtime().rollouts), os.getpid()

class Model:
    @rollout(candidate=lambda self, user: "new", strategy=ABTest(1.0), unit="user")
    def score(self, user):
        return "old"
"""

WORKERS = {
    "spawn": """
import multiprocessing
if __name__ == "__main__":
    import served
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print([each[:3] for each in pool.map(served.work, ["a", "b", "c"])], pool.map(served.score, ["a"]))
""",
    "forkserver": """
import multiprocessing
if __name__ == "__main__":
    import served
    with multiprocessing.get_context("forkserver").Pool(2) as pool:
        print([each[:3] for each in pool.map(served.work, ["a", "b", "c"])], pool.map(served.score, ["a"]))
""",
    "ProcessPoolExecutor": """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
if __name__ == "__main__":
    import served
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        print([each[:3] for each in pool.map(served.work, ["a", "b", "c"])], list(pool.map(served.score, ["a"])))
""",
    "joblib": """
import joblib
if __name__ == "__main__":
    import served
    run = joblib.Parallel(2, backend="loky")
    worked = run(joblib.delayed(served.work)(user) for user in "abc")
    print([each[:3] for each in worked], run([joblib.delayed(served.score)("a")]))
""",
    "cloudpickle": """
import subprocess, sys
import cloudpickle
from rollout_sdk import ABTest, rollout
@rollout(candidate=lambda user: "new", strategy=ABTest(1.0), unit="user", key="served.score")
def score(user):
    return "old"
def work(user):
    from rollout_sdk import default_runtime
    return score(user), score.rollout.key, len(default_runtime().rollouts), 0
data = cloudpickle.dumps((work, score))
code = "import cloudpickle, sys; work, score = cloudpickle.load(sys.stdin.buffer)"
code += "; print([work(u)[:3] for u in 'abc'], [score('a')])"
sys.stdout.write(subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True).stdout.decode())
""",
}


@pytest.mark.parametrize("how", WORKERS)
def test_f38_a_decorated_function_works_in_other_processes(how, tmp_path, figure):
    if how in ("joblib", "cloudpickle"):
        pytest.importorskip(how, reason=f"{how} is not installed; the extra dev has it")
    (tmp_path / "served.py").write_text(MODULE)
    (tmp_path / "program.py").write_text(WORKERS[how])
    ran = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=90)
    rollouts = 1 if how == "cloudpickle" else 2
    assert 0 == ran.returncode, ran.stderr
    worked, answers = ast.literal_eval(ran.stdout.replace("] [", "], ["))
    assert ([("new", "served.score", rollouts)] * 3, ["new"]) == (worked, answers)
    same = [answer for answer, *_ in worked] + answers
    figure("F38", "{same} of {calls} calls in processes of {how} kinds (spawn, forkserver, executors, joblib, cloudpickle) "
           "have the same arm, and each function one registry entry", same=same.count("new"), calls=len(same),
           how=how)  # fmt: skip


def test_f38_pickle_copies_clones_and_reloads(tmp_path, monkeypatch, figure):
    assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level
    model = Model(3)
    for twin in (copy.deepcopy(model), copy.copy(model), pickle.loads(pickle.dumps(model))):
        assert (6, 6) == (twin.score("u"), model.score("u"))
        assert twin.score.rollout is model.score.rollout
    assert copy.deepcopy(at_module_level) is at_module_level
    sklearn = pytest.importorskip("sklearn.base", reason="scikit-learn is not installed; the extra demo has it")
    assert 6 == sklearn.clone(model).score("u")
    (tmp_path / "reloaded_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("reloaded_module")
    before = module.score
    again = importlib.reload(module)
    assert ("new", "new") == (before("u"), again.score("u"))
    assert before.rollout.key == again.score.rollout.key


def test_f38_a_notebook_cell_can_be_run_again_and_edited(tmp_path):
    shells = pytest.importorskip("IPython.core.interactiveshell", reason="IPython is not installed; the extra dev has it")
    program = tmp_path / "notebook.py"
    cell = """
from rollout_sdk import ABTest, rollout
@rollout(candidate=lambda user: {answer!r}, strategy=ABTest({share}), unit="user")
def score(user):
    return "old"
print(score("u"))
"""
    cells = [cell.format(answer="new", share=1.0)] * 2 + [
        cell.format(answer="newer", share=1.0),
        cell.format(answer="x", share=0.0),
    ]
    program.write_text(
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        f"for cell in {cells!r}:\n    result = shell.run_cell(cell, store_history=True)\n    result.raise_error()\n"
    )
    ran = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "IPYTHONDIR": str(tmp_path)},
    )  # fmt: skip
    assert shells is not None
    assert ["new", "new", "newer", "old"] == ran.stdout.split(), ran.stderr


def test_f40_no_thread_to_be_had_costs_shadows_and_records_only(watch, monkeypatch, figure):
    runtime = watch()
    model = shadowed(lambda x: x, lambda x: x, runtime)

    def no_thread(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("rollout_sdk.concurrency.threads.start_thread", no_thread)
        answers = [model(x) for x in range(100)]
    assert list(range(100)) == answers == [model(x) for x in range(100)]
    runtime.flush(10.0)
    shadows = model.rollout.status().shadows
    assert {("candidate", "dropped_start"): 100, ("candidate", "ok"): 100} == shadows
    figure(
        "F40",
        "{answered} of {calls} calls answered although no thread can be started, {dropped} shadows dropped_start; "
        "{ok} run afterwards",
        answered=len(answers),
        calls=shadows["candidate", "dropped_start"],
        dropped=shadows["candidate", "dropped_start"],
        ok=shadows["candidate", "ok"],
    )


def test_f40_calls_while_the_interpreter_ends_are_answered(run_python):
    result = run_python("""
        import atexit
        from rollout_sdk import Shadow, rollout
        # Before our own hook runs, after it, and in a finaliser at the very end.
        model = rollout(candidate=lambda x: x, strategy=Shadow(1.0), effects="read", key="m")(lambda x: x)
        atexit.register(lambda: print("first registered", model(1)))
        model(0)
        atexit.register(lambda: print("last registered", model(2)))
        class Last:
            def __del__(self, print=print, model=model):
                print("finaliser", model(3))
        last = Last()
        last.me = last
    """)
    assert (0, "") == (result.returncode, result.stderr)
    assert ["last registered 2", "first registered 1"] == result.stdout.splitlines()[:2]
