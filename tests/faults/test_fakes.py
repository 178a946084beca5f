"""Row F94: what a test of the application puts in the place of clocks, sleep, threads, files and telemetry is its own."""

import ast
import gc
import itertools
import pickle
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

import rollout_sdk
from rollout_sdk import ABTest, Runtime, Shadow, rollout
from rollout_sdk.concurrency import clocks
from rollout_sdk.journal import read_journal

PACKAGE = Path(rollout_sdk.__file__).parent
FAKED = [
    *("time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.thread_time"),
    *("time.sleep", "time.localtime", "time.gmtime", "datetime.datetime", "random.random", "uuid.uuid4", "os.urandom"),
    *("threading.Thread", "threading.Thread.start", "threading.Lock", "queue.Queue", "queue.SimpleQueue"),
    *("os.open", "os.write", "os.close", "os.fstat", "os.stat", "os.access", "os.getpid", "builtins.open"),
    *("json.dumps", "socket.gethostname", "pathlib.Path.exists", "pathlib.Path.mkdir", "os.makedirs"),
]
# Nothing works where no process id and no lock is to be had.
RAISING = [name for name in FAKED if name not in ("os.getpid", "threading.Lock")]
CLOCKS = frozenset({"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "thread_time", "sleep"})


def decisions(folder):
    return sum(record["event"] == "decision" for record in read_journal(folder))


@pytest.mark.parametrize(("name", "effect"), [*((name, None) for name in FAKED), *((name, StopIteration) for name in RAISING)])
@pytest.mark.parametrize("strategy", [ABTest(0.5), Shadow(1.0)], ids=["split", "shadow"])
def test_f94_mocks_lose_no_decision_and_are_not_called(tmp_path, name, effect, strategy, figure):
    runtime = Runtime(journal=tmp_path)
    model = rollout(candidate=lambda x: x, strategy=strategy, key="m", runtime=runtime, effects="read")(lambda x: x)
    with mock.patch(name, side_effect=effect) as fake:
        answers = [model(x) for x in range(20)]
        runtime.flush(5.0)
        calls = fake.call_count
    assert runtime.flush(10.0)
    runtime.close(1.0)
    assert list(range(20)) == answers
    kept = decisions(tmp_path)
    assert (20, {}) == (kept, runtime.faults)
    # Looked up when they are needed: the process id, and the locks of new objects.
    ours = 0 if name in ("os.getpid", "threading.Lock") else calls
    assert 0 == ours
    figure(
        "F94",
        "{kept:,} of {calls:,} decisions kept under {name} mocks; {ours} calls of the mocks by the SDK, except "
        "for the process id and new locks",
        kept=kept,
        calls=len(answers),
        name=name,
        ours=ours,
    )


def test_f94_the_log_writes_its_values_without_a_mock_of_json(figure):
    runtime = Runtime()
    model = rollout(candidate=list, strategy=ABTest(1.0), key="m", runtime=runtime)(list)
    with mock.patch("json.dumps") as fake, mock.patch("json.loads") as other:
        # An input that can be read once: a line in the log says so.
        answer = model(iter([1, 2]))
        assert runtime.flush(10.0)
        calls = fake.call_count + other.call_count
    notes = model.rollout.status().notes
    runtime.close(1.0)
    assert [1, 2] == answer
    assert (1, 0) == (len(notes), calls)
    figure("F94", "{calls} calls of a mock of json by {notes} line of the log", calls=calls, notes=len(notes))


def test_f94_an_iterator_in_the_place_of_a_clock_is_not_consumed(tmp_path, figure):
    runtime = Runtime(journal=tmp_path)
    model = rollout(candidate=lambda x: x, strategy=ABTest(0.5), key="m", runtime=runtime)(lambda x: x)
    values = [0.0, 1.0]
    times = iter(values)
    with mock.patch("time.time", side_effect=times), mock.patch("time.monotonic", side_effect=times):
        for x in range(20):
            model(x)
        began = time.perf_counter()
        while (waited_s := time.perf_counter() - began) < 0.7:
            clocks.sleep(0.01)
        left = list(times)
    runtime.close(1.0)
    assert values == left
    assert 20 == decisions(tmp_path)
    figure("F94", "{taken} of {values} values taken from a test's clock in {waited_s:.1f} s", taken=len(values) - len(left),
           values=len(values), waited_s=waited_s)  # fmt: skip


def exchanged(name):
    """What libraries do that freeze time: every reference in any module to a function of `time` becomes another's."""
    real, fake = getattr(time, name), mock.Mock(name=name, side_effect=itertools.repeat(0.0))
    found = [
        (module, attribute)
        for module in list(sys.modules.values())
        for attribute in list(getattr(module, "__dict__", {}))
        if module is not sys.modules[__name__] and module.__dict__.get(attribute) is real
    ]
    for module, attribute in found:
        setattr(module, attribute, fake)
    return fake, [(module, attribute, real) for module, attribute in found]


def test_f94_libraries_that_exchange_every_reference_to_a_clock_do_not_find_ours(tmp_path, figure):
    runtime = Runtime(journal=tmp_path)
    model = rollout(candidate=lambda x: x, strategy=Shadow(1.0), key="m", runtime=runtime, effects="read")(lambda x: x)
    own = {name: getattr(clocks, name) for name in ("time", "time_ns", "monotonic", "perf_counter", "sleep", "thread_time")}
    gc.disable()
    undo = []
    try:
        for name in own:
            undo += exchanged(name)[1]
        for x in range(20):
            model(x)
        flushed = runtime.flush(5.0)
        still = {name: getattr(clocks, name) for name in own}
    finally:
        for module, attribute, real in undo:
            setattr(module, attribute, real)
        gc.enable()
    runtime.close(1.0)
    assert (True, own) == (flushed, still)
    timed = sum(record["t"] > 1e9 for record in read_journal(tmp_path) if record["event"] == "decision")
    assert 20 == timed == x + 1
    assert all(record["t"] > 1e9 for record in read_journal(tmp_path))
    figure("F94", "{timed} of {calls} decisions kept, with their times, if every reference to {clocks} clocks is replaced",
           timed=timed, calls=x + 1, clocks=len(own))  # fmt: skip


def test_f94_an_import_in_the_midst_of_a_frozen_time_takes_real_clocks(run_python):
    done = run_python("""
        import time
        real = time.time()
        time.time = time.monotonic = time.time_ns = lambda: 0
        time.sleep = lambda seconds: print("slept")
        from rollout_sdk import ABTest, rollout
        from rollout_sdk.concurrency import clocks
        model = rollout(candidate=lambda x: x, strategy=ABTest(1.0), key="m")(lambda x: x)
        routed = model.rollout.route(1)
        assert abs(clocks.time() - real) < 60 and abs(routed.decision.time_s - real) < 60, routed
        assert clocks.monotonic() > 0
    """)
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_f94_a_runtime_is_pickled_with_the_clock_that_it_has(watch):
    runtime = watch()
    assert pickle.loads(pickle.dumps(runtime)) is runtime
    assert clocks.is_wall_clock(Runtime().time_ns)
    assert clocks.is_wall_clock(time.time_ns)
    assert not clocks.is_wall_clock(lambda: 0)


def test_f94_a_provider_that_a_test_puts_in_place_for_a_while_is_not_kept(run_python, figure):
    done = run_python("""
        from unittest import mock
        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from rollout_sdk import ABTest, Runtime, rollout

        def providers():
            exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
            tracers = TracerProvider(shutdown_on_exit=False)
            tracers.add_span_processor(SimpleSpanProcessor(exporter))
            return exporter, reader, tracers, MeterProvider([reader], shutdown_on_exit=False)

        def noted():
            trace.get_current_span().set_attribute("theirs", 1)

        def ran(times):
            # As the recorder does twice a second.
            runtime.audience.look()
            for _ in range(times):
                model()
            assert runtime.flush(10.0)

        def measured(reader):
            data = reader.get_metrics_data()
            scopes = data.resource_metrics[0].scope_metrics if data else []
            found = {metric.name: metric.data for scope in scopes for metric in scope.metrics}
            return sum(p.count for p in found["rollout.call.duration"].data_points) if found else 0

        runtime = Runtime()
        model = rollout(candidate=noted, strategy=ABTest(1.0), key="m", runtime=runtime)(noted)
        ran(1)
        exporter, reader, tracers, meters = providers()
        with (
            mock.patch.object(trace, "get_tracer_provider", lambda: tracers),
            mock.patch.object(metrics, "get_meter_provider", lambda: meters),
            tracers.get_tracer("theirs").start_as_current_span("theirs"),
        ):
            ran(2)
        print([(span.name, dict(span.attributes)) for span in exporter.get_finished_spans()], measured(reader))
        real = providers()
        trace.set_tracer_provider(real[2])
        metrics.set_meter_provider(real[3])
        ran(3)
        spans = [span.name for span in real[0].get_finished_spans()]
        print(spans.count("route m"), len(exporter.get_finished_spans()), measured(real[1]), measured(reader), runtime.faults)
    """)
    assert (0, "") == (done.returncode, done.stderr)
    first, then = done.stdout.splitlines()
    assert "[('theirs', {'theirs': 1})] 2" == first
    assert "3 1 3 2 {}" == then
    kept, theirs = map(int, then.split()[:2])
    figure("F94", "{theirs} span in a test's own exporter, the test's own; {kept} at the provider that is set after it",
           theirs=theirs, kept=kept)  # fmt: skip


def test_f94_every_module_takes_its_clocks_by_name_from_one_place():
    """A lint: no module looks a clock, `sleep` or a thread up when it calls it, or takes them from anywhere else."""
    found, number = [], 0
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name == "clocks.py":
            continue
        number += 1
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found += [(path.name, alias.name) for alias in node.names if alias.name == "time"]
            elif isinstance(node, ast.ImportFrom) and node.module == "time":
                found += [(path.name, f"time.{alias.name}") for alias in node.names]
            elif isinstance(node, ast.Call) and path.parent.name != "testing":
                called = ast.unparse(node.func)
                module, _, name = called.rpartition(".")
                taken = module in ("time", "clocks") and name in CLOCKS
                if taken or called in ("threading.Thread", "threading.Event", "threading.Timer"):
                    found.append((path.name, called))
    assert [] == [each for each in found if each != ("freeze.py", "time.fromisoformat")]
    assert number > 200
