"""The end of a process, and its children: the last fact is kept, the exit is never held, and no child repeats its parent."""

import gc
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from rollout_sdk import Runtime
from rollout_sdk.concurrency.forking import _survivors
from rollout_sdk.journal import read_journal

START = """
import os, signal, sys, threading, time
from rollout_sdk import ABTest, Runtime, Shadow, rollout
runtime = Runtime(journal="journal")
model = rollout(candidate=lambda x: x, strategy=ABTest(0.5), unit="x", key="m", runtime=runtime)(lambda x: x)
"""


def decisions(tmp_path):
    return [record for record in read_journal(tmp_path / "journal") if record["event"] == "decision"]


def per_process(tmp_path):
    """Decisions of every process, by its id."""
    found = {}
    for path in read_journal(tmp_path / "journal").files:
        found[int(path.name.split("-")[-3])] = path.read_text().count('"event":"decision"')
    return found


@pytest.mark.parametrize(
    ("ending", "code"),
    [("", 0), ("sys.exit(3)", 3), ("raise SystemExit('why')", 1), ("raise ValueError", 1), ("raise KeyboardInterrupt", -2)],
)
def test_however_it_ends_the_last_call_is_kept_and_so_is_the_exit_code(ending, code, run_python, tmp_path):
    result = run_python(START + "for n in range(100): model(n)\n" + ending)
    assert (code, 100) == (result.returncode, len(decisions(tmp_path)))


def test_a_process_that_is_terminated_has_lost_at_most_its_last_second(tmp_path):
    program = START + "model(1)\nprint('called', flush=True)\ntime.sleep(30)\n"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=tmp_path) as process:
        process.stdout.readline()
        time.sleep(1.0)
        process.terminate()
        assert -signal.SIGTERM == process.wait(10)
    assert 1 == len(decisions(tmp_path))


def test_a_sink_that_blocks_for_ever_delays_the_exit_by_its_deadline_only(run_python):
    began = time.monotonic()
    result = run_python("""
        import sys, time
        from rollout_sdk import ABTest, Runtime, rollout

        class Stuck:
            def rollout_routed(self, event):
                time.sleep(60)

        runtime = Runtime(plugins=[Stuck()], exit_deadline_s=0.3)
        model = rollout(candidate=lambda x: x, strategy=ABTest(0.5), key="m", runtime=runtime)(lambda x: x)
        model(1)
        time.sleep(0.1)
        sys.exit(5)
    """)
    assert (5, "", "") == (result.returncode, result.stdout, result.stderr)
    assert time.monotonic() - began < 6


def test_calls_in_exit_hooks_are_served_and_those_before_ours_are_kept(run_python, tmp_path):
    result = run_python(
        "import atexit\natexit.register(lambda: print('after', model('after')))\n"
        + START
        + "model(1)\natexit.register(lambda: print('before', model('before')))\n"
    )
    assert ("before before\nafter after\n", "", 0) == (result.stdout, result.stderr, result.returncode)
    assert 2 == len(decisions(tmp_path))


def test_spans_of_shadows_that_end_with_the_process_reach_an_exporter_set_up_before_the_first_call(run_python):
    result = run_python("""
        import sys, time
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
        from rollout_sdk import Shadow, rollout

        class Printing(SpanExporter):
            def export(self, spans):
                for span in spans:
                    print(span.name)
                return SpanExportResult.SUCCESS

        trace.set_tracer_provider(TracerProvider())
        trace.get_tracer_provider().add_span_processor(BatchSpanProcessor(Printing()))
        model = rollout(candidate=lambda: time.sleep(0.1), strategy=Shadow(1.0), effects="read", key="m")(lambda: 1)
        model()
    """)
    assert ("", 0) == (result.stderr, result.returncode)
    assert {"route m", "invoke m/control", "shadow m/candidate", "transition m"} == set(result.stdout.split("\n")) - {""}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_last_call_of_a_multiprocessing_child_is_kept(method, run_python, tmp_path):
    program = f"""
        import multiprocessing
        from rollout_sdk import ABTest, default_runtime, rollout
        model = rollout(candidate=lambda x: x, strategy=ABTest(0.5), unit="x", key="m")(lambda x: x)

        def work(number):
            for n in range(20):
                model(n)

        if __name__ == "__main__":
            context = multiprocessing.get_context("{method}")
            children = [context.Process(target=work, args=(n,)) for n in range(2)]
            for child in children:
                child.start()
            for child in children:
                child.join()
            print([child.exitcode for child in children])
    """
    result = run_python(program, ROLLOUT_JOURNAL="journal")
    assert ("[0, 0]\n", "") == (result.stdout, result.stderr)
    assert [20, 20] == list(per_process(tmp_path).values())


def test_a_preloading_server_forks_workers_that_keep_journals_of_their_own(run_python, tmp_path):
    """gunicorn --preload: the application is imported, and has served a warm-up call, before the workers are forked."""
    result = run_python(
        START
        + """
for n in range(10):
    model(n)
# No flush: the parent's facts still wait, and its thread runs.
children = []
for worker in range(4):
    pid = os.fork()
    if pid == 0:
        assert threading.active_count() == 1
        for n in range(50):
            model(n)
        os.write(1, f"{os.getpid()} {dict(runtime.tally('m').decisions) == {}}\\n".encode())
        sys.exit(0)
    children.append(pid)
print(*[os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
"""
    )
    *workers, codes = result.stdout.splitlines()
    assert ("0 0 0 0", "") == (codes, result.stderr)
    found = per_process(tmp_path)
    assert Counter({50: 4, 10: 1}) == Counter(found.values())
    assert {int(line.split()[0]) for line in workers} == {pid for pid, number in found.items() if number == 50}
    ids = [record["id"] for record in decisions(tmp_path)]
    assert 210 == len(ids) == len(set(ids))
    starts = [record for record in read_journal(tmp_path / "journal") if record["event"] == "rollout"]
    assert 5 == len(starts)


def test_forking_while_threads_are_busy_never_hangs_a_child_and_repeats_nothing(run_python, tmp_path):
    result = run_python(
        START
        + """
sys.setswitchinterval(1e-5)
busy = True

def work():
    while busy:
        model("parent")

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
codes = []
for n in range(30):
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        model("child")
        os._exit(0 if runtime.flush(5.0) else 1)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
busy = False
for thread in threads:
    thread.join()
print(set(codes))
"""
    )
    assert ("{0}\n", "") == (result.stdout, result.stderr)
    assert 30 == sum(number == 1 for number in per_process(tmp_path).values())
    ids = [record["id"] for record in decisions(tmp_path)]
    assert len(ids) == len(set(ids))


def test_a_child_counts_its_own_faults_and_losses(run_python, tmp_path):
    result = run_python("""
        import os, sys
        from rollout_sdk import ABTest, Runtime, rollout

        class Broken:
            def rollout_routed(self, event):
                raise ValueError

        runtime = Runtime(journal="journal", plugins=[Broken()])
        model = rollout(candidate=lambda x: x, strategy=ABTest(0.5), key="m", runtime=runtime)(lambda x: x)

        def overflow(number):
            sys.setswitchinterval(5)
            for n in range(number):
                model(n)
            sys.setswitchinterval(0.005)
            runtime.flush()

        overflow(14_000)
        parent = runtime.recorder.dropped
        pid = os.fork()
        if pid == 0:
            before = runtime.faults, runtime.recorder.dropped
            overflow(12_000)
            print(parent > runtime.recorder.dropped > 0, before)
            sys.exit(0)
        os.waitpid(pid, 0)
        print(parent > 0, runtime.faults["Broken.rollout_routed", "ValueError"] > 0)
    """)
    assert ("True ({}, 0)\nTrue True\n", "") == (result.stdout, result.stderr)
    journal = list(read_journal(tmp_path / "journal"))
    missing = sum(record["count"] for record in journal if record["event"] == "lost")
    assert 26_000 == missing + sum(record["event"] == "decision" for record in journal)


def test_a_hundred_runtimes_that_are_gone_leave_nothing_to_do_after_a_fork():
    before = len(_survivors)
    for _ in range(100):
        Runtime()
    gc.collect()
    assert len(_survivors) - before < 10
