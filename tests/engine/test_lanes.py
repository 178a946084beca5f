"""`Shadow(where="process")`: whatever a candidate does to its process, the service answers, and says what happened."""

import importlib
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from rollout_sdk import ConfigurationError, Shadow, ShadowProcessError, rollout
from rollout_sdk.engine.shadows.processes import NotPickled, NotReady, ProcessLane, TookTooLong

FOLDER = Path(__file__).parent / "candidates"
# Workers import candidates by name, as they would those of an application.
sys.path.insert(0, str(FOLDER))
lanes = importlib.import_module("process_candidates")


@pytest.fixture
def lane():
    made = []

    def make(function, *, timeout_s=20.0, most_bytes=1 << 30):
        made.append(ProcessLane(function, timeout_s=timeout_s, most_bytes=most_bytes))
        return made[-1]

    yield make
    for each in made:
        each.close()


def started(lane):
    """The same lane once a worker of it is ready, which takes long on a busy machine."""
    for _ in range(20):
        with suppress(NotReady, ShadowProcessError, TookTooLong):
            worker = lane._taken()
            worker.wait_until_ready(20.0)
            lane._put_back(worker, is_whole=True)
            return lane
    raise AssertionError("no worker has started")


def shadowed(watch, candidate, *, calls=1, wait_s=20.0, control=lanes.price, **limits):
    """The ends of shadows in a worker process, one after the other."""
    runtime = watch(shadows={"cpu_share": 1.0, "timeout_s": 20.0, "max_age_s": 60.0, **limits})
    options = {"strategy": Shadow(1.0, where="process"), "effects": "read", "key": "cab", "breaker": None, "runtime": runtime}
    model = rollout(candidate=candidate, **options)(control)
    for number in range(calls):
        assert model(float(number)) == control(float(number))
        assert runtime.flush(wait_s)
        assert runtime.background.wait(wait_s)
    return runtime.shadowed()


def test_an_answer_comes_back_from_another_process(watch):
    ends = shadowed(watch, lanes.worse, calls=3)
    assert [(event.end, event.comparison.match) for event in ends] == [("ok", False) for n in range(3)]
    assert all(0 <= event.duration_s < 1 for event in ends)


def test_it_is_another_process_and_knows_that_it_is_a_shadow(lane):
    here = lane(lanes.where)
    (pid, knows), _ = here.call((1.0,), {})
    assert (pid == os.getpid(), knows) == (False, True)
    # The next run is in the same one.
    assert here.call((), {"miles": 1.0})[0] == (pid, True)


@pytest.mark.parametrize(("candidate", "error"), [
    (lanes.leaves, "ShadowProcessError"), (lanes.crashes, "ShadowProcessError"), (lanes.exits, "SystemExit"),
    (lanes.hoards, "MemoryError"), (lanes.raises, "Odd"), (lanes.fails, "KeyError"),
])  # fmt: skip
def test_what_would_end_or_burden_the_service_ends_as_an_error_of_the_shadow(candidate, error, watch):
    ends = shadowed(watch, candidate, calls=2)
    assert [(event.end, event.error) for event in ends] == [("error", error)] * 2


def test_an_exception_is_that_of_the_candidate_or_has_its_name_if_it_cannot_be_sent(lane):
    with pytest.raises(KeyError):
        lane(lanes.fails).call((1.0,), {})
    with pytest.raises(ShadowProcessError) as caught:
        lane(lanes.raises).call((1.0,), {})
    assert "Odd" == type(caught.value).__name__


def test_how_a_process_ended_is_said(lane):
    with pytest.raises(ShadowProcessError, match=r"ended with exit code 3\. A candidate that ends its process"):
        lane(lanes.leaves).call((1.0,), {})
    with pytest.raises(ShadowProcessError, match="by signal SIGSEGV"):
        lane(lanes.crashes).call((1.0,), {})


def test_one_that_hangs_is_killed_and_its_thread_is_free(lane):
    here = started(lane(lanes.hangs, timeout_s=1.0))
    began = time.monotonic()
    with pytest.raises(TookTooLong):
        here.call((1.0,), {})
    assert 0.9 < time.monotonic() - began < 10


def test_a_timeout_is_a_timeout_of_the_shadow(watch):
    ends = [event.end for event in shadowed(watch, lanes.hangs, calls=8, timeout_s=3.0)]
    # Until its process has started, nothing runs.
    assert {*ends} <= {"dropped_start", "timeout"}
    assert "timeout" in ends


def test_a_held_lock_holds_nobody_but_the_worker(lane):
    here = lane(lanes.holds_the_lock)
    here.call((1.0,), {})
    longest, last = 0.0, time.monotonic()
    thread = threading.Thread(target=here.call, args=((1.0,), {}))
    thread.start()
    while thread.is_alive():
        time.sleep(0.001)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    assert longest < 0.6


def test_what_a_candidate_prints_is_no_answer(watch):
    (event,) = shadowed(watch, lanes.speaks)
    assert (event.end, event.comparison.match) == ("ok", True)


def test_an_answer_that_cannot_be_sent_is_not_compared(watch):
    (event,) = shadowed(watch, lanes.not_sent)
    assert (event.end, event.error) == ("dropped_snapshot", "function")


def test_arguments_that_cannot_be_sent_are_named(lane):
    with pytest.raises(NotPickled):
        lane(lanes.price).call((lambda: 1,), {})


def test_a_worker_that_cannot_start_is_not_started_again_at_once(lane, monkeypatch):
    here = lane(lanes.price)
    here._function = b"cno_such_module\nf\n."
    with pytest.raises(NotReady, match="ModuleNotFoundError"):
        here.call((1.0,), {})
    began = time.monotonic()
    with pytest.raises(NotReady):
        here.call((1.0,), {})
    assert time.monotonic() - began < 0.5


def test_workers_end_with_their_service(tmp_path):
    program = tmp_path / "service.py"
    program.write_text(
        "import os, sys\n"
        "from rollout_sdk.engine.shadows.processes import ProcessLane\n"
        "import process_candidates as lanes\n"
        "lane = ProcessLane(lanes.where, timeout_s=30.0, most_bytes=1 << 30)\n"
        "print(lane.call((1.0,), {})[0][0], flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    path = {"PYTHONPATH": os.pathsep.join(map(str, (FOLDER, *sys.path)))}
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, env={**os.environ, **path}, check=False)
    pid = int(done.stdout)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_closed_lane_has_no_processes(lane):
    here = lane(lanes.where)
    (pid, _), _ = here.call((1.0,), {})
    here.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(NotReady):
        here.call((1.0,), {})


async def later(miles):
    return miles


def test_what_no_process_can_run_is_refused_when_decorating(runtime):
    options = {"strategy": Shadow(1.0, where="process"), "effects": "read", "runtime": runtime}
    for candidate, control, why in ((lambda n: n, lanes.price, "cannot import it"), (later, later, "coroutine function")):
        with pytest.raises(ConfigurationError, match=why):
            rollout(candidate=candidate, key=f"refused {why}", **options)(control)
    with pytest.raises(ConfigurationError, match="must be 'thread' or 'process'"):
        Shadow(where="gpu")
