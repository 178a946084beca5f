"""Four processes on one SQLite store: one transition each, and a kill -9 at any moment loses none."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from rollout_sdk import Canary, Gate, Guardrail, Runtime, Step, rollout
from rollout_sdk.control.stores import SQLiteStore

STEPS = [Step(f"{share}%", min_units=30, min_time=0) for share in (10, 20, 30, 40, 50, 60, 70)]
PROGRAM = """
    import random, sys, time
    from rollout_sdk import Canary, Guardrail, Runtime, Step, rollout

    broken = sys.argv[2] == "broken"
    runtime = Runtime(store=sys.argv[1])
    runtime.reconciler._judging.every_s = 0.05
    steps = [Step(f"{share}%", min_units=30, min_time=0) for share in (10, 20, 30, 40, 50, 60, 70)]

    def candidate(user):
        if broken and runtime.rollouts["m"].phase.name.startswith("2:"):
            raise ValueError
        return "new"

    @rollout(
        candidate=candidate, strategy=Canary(steps, guardrails=[Guardrail("error_rate", floor=0.3)]), unit="user", key="m",
        runtime=runtime, breaker=None,
    )
    def model(user):
        return "old"

    seen = None
    print("ready", flush=True)
    while model.rollout.status().status in ("running", "paused"):
        for _ in range(50):
            model(f"user-{random.randrange(3000)}")
        if model.rollout.phase.name != seen:
            seen = model.rollout.phase.name
            print(seen, flush=True)
        time.sleep(0.01)
    print(model.rollout.status().status, flush=True)
    print({model(f"user-{number}") for number in range(300)}, flush=True)
"""


@pytest.fixture
def serve(tmp_path):
    """Starts a process that serves the canary until it is over."""
    program, started = tmp_path / "program.py", []
    program.write_text(textwrap.dedent(PROGRAM))
    address = f"sqlite:///{tmp_path}/rollouts.db"

    def start(kind="good"):
        process = subprocess.Popen(
            [sys.executable, str(program), address, kind],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        started.append(process)
        return process

    start.store = SQLiteStore(tmp_path / "rollouts.db")
    yield start
    for process in started:
        process.kill()
        process.communicate()


def finished(process):
    out, err = process.communicate(timeout=60)
    assert (0, "") == (process.returncode, err)
    return out.splitlines()[1:]


def actions(store):
    return [(record["revision"], record["action"]) for record in store.history("m")]


def test_four_processes_make_each_transition_once_and_end_alike(serve):
    lines = [finished(process) for process in [serve() for _ in range(4)]]
    assert [(0, "start"), *((number, "promote") for number in range(1, 8))] == actions(serve.store)
    assert {("promoted", "{'new'}")} == {tuple(each[-2:]) for each in lines}
    phases = {"0:10%", "1:20%", "2:30%", "3:40%", "4:50%", "5:60%", "6:70%", "7:100%"}
    assert set() < {line for each in lines for line in each[:-2]} <= phases


def test_four_processes_roll_back_together(serve):
    lines = [finished(process) for process in [serve("broken") for _ in range(4)]]
    assert [(0, "start"), (1, "promote"), (2, "promote"), (3, "roll_back")] == actions(serve.store)
    assert {("rolled_back", "{'old'}")} == {tuple(each[-2:]) for each in lines}
    (record,) = [record for record in serve.store.history("m") if record["action"] == "roll_back"]
    assert ("judge", "FAIL") == (record["actor"], record["verdict"]["outcome"])


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_processes_that_are_killed_at_any_moment_lose_no_transition_and_repeat_none(serve, seed):
    rng, running = random.Random(seed), [serve() for _ in range(3)]
    acknowledged, deadline = 0, time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(rng.uniform(0.2, 0.7))
        stored = serve.store.load("m")
        if stored is None:
            continue
        assert stored.revision >= acknowledged
        acknowledged = stored.revision
        if stored.document["status"] == "promoted":
            break
        victim = running.pop(rng.randrange(3))
        os.kill(victim.pid, signal.SIGKILL)
        running.append(serve())
    for process in running:
        assert "promoted" == finished(process)[-2]
    assert [(0, "start"), *((number, "promote") for number in range(1, 8))] == actions(serve.store)


def test_a_restarted_service_goes_on_where_it_was_with_all_it_had_seen(tmp_path):
    """Run through, or stopped and started anew after every batch of calls: the same verdicts and the same state."""

    def run(store, restarts):
        rng = random.Random(4)

        def begin():
            runtime = Runtime(store=SQLiteStore(store), time_ns=lambda: 1_800_000_000 * 10**9)
            runtime.reconciler.start = lambda: None
            strategy = Canary(STEPS, guardrails=[Guardrail("error_rate", floor=0.1)])
            decorate = rollout(candidate=lambda user: 1, strategy=strategy, unit="user", key="m", runtime=runtime)
            return runtime, decorate(lambda user: 0)

        seen, (runtime, model) = [], begin()
        for _ in range(8):
            for _ in range(150):
                model(f"user-{rng.randrange(2000)}")
            verdict = model.rollout.judge()
            seen.append((verdict.outcome, verdict.phase, sorted(verdict.units.items())))
            if restarts:
                runtime.close(1.0)
                runtime, model = begin()
        runtime.close(1.0)
        document = {**SQLiteStore(store).load("m").document, "change_id": "another in each run"}
        return seen, json.dumps(document, sort_keys=True)

    assert run(tmp_path / "through.db", restarts=False) == run(tmp_path / "again.db", restarts=True)


JOB = """
    import sys
    import rollout_sdk

    for line in sys.stdin:
        rollout_sdk.record("label", 1.0, decision_id=line.strip())
"""


def test_a_job_that_only_records_labels_and_ends_has_been_heard(tmp_path):
    """It closes nothing: what an ordinary end of a process does must be enough."""
    address = f"sqlite:///{tmp_path}/rollouts.db"
    runtime = Runtime(store=address)
    plan = Canary(["50%"], gates=[Gate("label", per="outcome", window="1h")])
    model = rollout(candidate=lambda user: "new", strategy=plan, unit="user", key="m", runtime=runtime)(lambda user: "old")
    ids = [model.rollout.route(f"user-{user}").decision.id for user in range(40)]
    model.rollout.judge()
    environment = {**os.environ, "ROLLOUT_STORE": address, "ROLLOUT_JOURNAL": str(tmp_path / "journal")}
    environment.pop("ROLLOUT_KEY", None)
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(JOB)],
        input="\n".join(ids),
        text=True,
        env=environment,
        capture_output=True,
        timeout=60,
    )
    assert (0, "") == (ended.returncode, ended.stderr)
    assert {"counted": 40} == model.rollout.judge().outcomes
    runtime.close(5.0)
