"""Real processes of one store, and an operator at the command line: every signal of each tells of the abort once."""

import json
import os
import subprocess
import sys
import textwrap
import time

import pytest

from rollout_sdk import operate
from rollout_sdk.analysis import summarise
from rollout_sdk.doctor import examine
from rollout_sdk.journal import read_journal
from tests.waiting import until

PROGRAM = """
    import json, logging, os, sys, time
    from contextlib import suppress
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from rollout_sdk import Canary, Runtime, StateError, StoreError, Telemetry, rollout
    from rollout_sdk.testing import RecordingPlugin

    where, how = sys.argv[1], sys.argv[2]

    class Logged(logging.Handler):
        def emit(self, record):
            lines.append({"event": record.event, **{n: getattr(record, n, None) for n in ("action", "actor", "reason")}})

    lines = []
    logging.getLogger("rollout_sdk").addHandler(Logged())
    logging.getLogger("rollout_sdk").setLevel(logging.INFO)
    exporter, reader, seen = InMemorySpanExporter(), InMemoryMetricReader(), RecordingPlugin()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(tracer_provider=provider, meter_provider=MeterProvider([reader]))
    runtime = Runtime(journal=f"{where}/journal", store=f"sqlite:///{where}/rollouts.db", telemetry=telemetry, plugins=[seen])

    @rollout(candidate=lambda user: "new", strategy=Canary(["50%", "100%"]), unit="user", key="shop", runtime=runtime)
    def shop(user):
        return "old"

    if how == "preloaded":
        # As gunicorn does it with --preload: the parent has decorated, and is busy with its child alone.
        shop("u-0")
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            os._exit(0)
    for number in range({"served": 40, "one call": 1}.get(how, 5)):
        shop(f"u-{os.getpid()}-{number}")
    runtime.flush(10.0)
    print("ready", flush=True)
    if how == "operated":
        # Once all have joined.
        sys.stdin.readline()
    deadline = time.monotonic() + 30
    while not shop.rollout.phase.name.endswith("aborted") and time.monotonic() < deadline:
        if how in ("served", "operated"):
            shop(f"u-{os.getpid()}-{time.monotonic()}")
        if how == "operated":
            for change in (shop.rollout.pause, shop.rollout.resume):
                # Another was faster, or the file is locked.
                with suppress(StateError, StoreError):
                    change(actor=f"process {os.getpid()}", reason="by its own code")
            time.sleep(0.2)
        time.sleep(0.02)
    sys.stdin.readline()
    runtime.flush(10.0)
    spans = [s.attributes for s in exporter.get_finished_spans() if s.name == "transition shop"]
    actions = [each["rollout.transition.action"] for each in spans]
    points = [
        (p.attributes["rollout.transition.action"], p.value)
        for r in reader.get_metrics_data().resource_metrics for s in r.scope_metrics for m in s.metrics
        if m.name == "rollout.transitions" for p in m.data.data_points
    ]
    print(json.dumps({
        "observed": [(e.action, e.actor, e.reason, e.id) for e in seen.transitioned if e.action != "start"],
        "spans": [action for action in actions if action != "start"],
        "logged": [(l["action"], l["actor"], l["reason"]) for l in lines if l["event"] == "rollout.transition"],
        "counted": dict(points).get("abort"),
        "status": shop.rollout.status().status,
    }), flush=True)
    sys.stdin.readline()
    runtime.close(5.0)
    os._exit(0)
"""
ABORT = ["abort", "ann", "pager"]


@pytest.fixture
def start(tmp_path):
    """Starts a process that serves the rollout until it is aborted, and then says what its signals told."""
    program, started = tmp_path / "program.py", []
    program.write_text(textwrap.dedent(PROGRAM))

    def start(how):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen([sys.executable, str(program), str(tmp_path), how], **pipes)
        started.append(process)
        assert "ready" == process.stdout.readline().strip()
        # The command line asks the store who is there, and processes say so in their background.
        until(lambda: operate(f"sqlite:///{tmp_path}/rollouts.db", "shop").status().processes)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def command(tmp_path, *arguments):
    run = subprocess.run(
        [sys.executable, "-m", "rollout_sdk.cli", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert "" == run.stderr
    return run.stdout


def go_on(process):
    process.stdin.write("\n")
    process.stdin.flush()


def told(process):
    go_on(process)
    return json.loads(process.stdout.readline())


def lines(tmp_path):
    return [record for record in read_journal(tmp_path / "journal") if record["event"] == "transition"]


def written(tmp_path, number):
    """Waits until so many lines about transitions are in the journal."""
    deadline = time.monotonic() + 30
    while len(lines(tmp_path)) < number and time.monotonic() < deadline:
        time.sleep(0.05)
    return lines(tmp_path)


@pytest.mark.parametrize("kinds", [["served"], ["served", "one call"], ["preloaded"]], ids=" and ".join)
def test_an_abort_by_the_command_line_reaches_every_signal_of_every_process_once(start, tmp_path, kinds):
    if "preloaded" in kinds and not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    store = f"sqlite:///{tmp_path}/rollouts.db"
    processes = [start(kind) for kind in kinds]
    command(tmp_path, "abort", "shop", "--store", store, "--actor", "ann", "--reason", "pager")
    # The parent of a preloaded one follows, too.
    number = len(kinds) + kinds.count("preloaded")
    found = written(tmp_path, number)
    # Looks that find nothing new tell nothing again.
    time.sleep(1.2)
    assert number == len(lines(tmp_path))
    (change,) = {record["id"] for record in found}
    for process in processes:
        assert {
            "observed": [[*ABORT, change]],
            "spans": ["abort"],
            "logged": [ABORT],
            "counted": 1,
            "status": "aborted",
        } == told(process)
    (report,) = summarise(tmp_path / "journal").rollouts
    assert ("aborted", [ABORT]) == (report.status, [[r["action"], r["actor"], r["reason"]] for r in report.transitions])
    assert 1 == command(tmp_path, "report", str(tmp_path / "journal")).count("abort to 1:aborted by ann: pager")
    # One of them has had no traffic since the first call, and that is no cause for alarm.
    seen = examine(str(tmp_path / "journal"), environment={}, now=time.time()).as_dict()
    assert [("aborted", number)] == [(p["status"], p["count"]) for p in seen["journal"]["rollouts"]["shop"]["processes"]]
    assert [] == [finding["code"] for finding in seen["findings"] if finding["severity"] not in ("ok", "note")]


OPERATOR = """
    import sys, time
    from rollout_sdk import StateError
    from rollout_sdk.control.stored_state import change_stored
    from rollout_sdk.control.state import RolloutState
    from rollout_sdk.control.stores import SQLiteStore

    store = SQLiteStore(sys.argv[1], timeout_s=10.0)

    def change(action, change):
        try:
            change_stored(store, "shop", action, change, now_s=time.time(), actor="operator", reason=action)
        except StateError:
            pass

    for number in range(12):
        time.sleep(0.1)
        change("set_share", lambda state: state.set_share((10 + number) / 100))
        change(*[("pause", RolloutState.pause), ("resume", RolloutState.resume)][number % 2])
    change("abort", RolloutState.abort)
"""


def test_whatever_three_processes_and_an_operator_do_at_once_every_process_tells_all_of_it_once(start, tmp_path):
    operator = tmp_path / "operating.py"
    operator.write_text(textwrap.dedent(OPERATOR))
    processes = [start(kind) for kind in ("operated", "operated", "served")]
    for process in processes[:2]:
        go_on(process)
    run = [sys.executable, str(operator), str(tmp_path / "rollouts.db")]
    assert 0 == subprocess.run(run, timeout=100, check=False).returncode
    history = json.loads(command(tmp_path, "history", "shop", "--store", f"sqlite:///{tmp_path}/rollouts.db", "--json"))
    made = [[record[name] for name in ("action", "actor", "reason", "id")] for record in history if record["action"] != "start"]
    # The operator's own, and those of the two that have operated it meanwhile.
    actors = {actor for _, actor, _, _ in made}
    assert (True, 3) == (len(made) > 13, len(actors))
    written(tmp_path, 3 * len(made))
    for process in processes:
        seen = told(process)
        assert sorted(made) == sorted(seen["observed"])
        assert (len(made), len(made), "aborted") == (len(seen["spans"]), len(seen["logged"]), seen["status"])
    (report,) = summarise(tmp_path / "journal").rollouts
    assert sorted(change_id for *_, change_id in made) == sorted(record["id"] for record in report.transitions)
    assert 3 * len(made) == len(lines(tmp_path))
