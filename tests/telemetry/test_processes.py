"""Telemetry where processes begin, fork and end: no span is lost at a normal exit, and a child has shadows of its own."""

import json

import pytest

from .receiver import Receiver, plain

SET_UP = """
    import json, os, sys, time
    from opentelemetry import trace, metrics
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from rollout_sdk import ABTest, Runtime, Shadow, default_runtime, rollout
    def set_up():
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(os.environ["ENDPOINT"] + "/v1/traces")))
        trace.set_tracer_provider(provider)
    def wait():
        # Who listens is looked up twice a second.
        deadline = time.monotonic() + 20
        while not default_runtime().audience.tracing and time.monotonic() < deadline:
            time.sleep(0.02)
    def slow(x):
        time.sleep(0.2)
        return x
    @rollout(candidate=slow, strategy=Shadow(1.0), effects="read", unit="x", key="m")
    def model(x):
        return x
"""


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


def names_of(receiver):
    return sorted(span.name for span in receiver.spans)


@pytest.mark.parametrize("order", ["before", "after"])
def test_no_span_of_a_call_or_shadow_is_lost_at_a_normal_exit_whenever_the_sdk_was_set_up(order, run_python, receiver):
    first = "set_up()" if order == "before" else "model('u')\n    set_up()\n    wait()"
    result = run_python(f"{SET_UP}\n    {first}\n    model('v')\n", ENDPOINT=receiver.endpoint)
    assert ("", "", 0) == (result.stdout, result.stderr, result.returncode)
    expected = ["invoke m/control", "route m", "shadow m/candidate"]
    assert expected == [name for name in names_of(receiver) if not name.startswith("transition")]


def test_a_forked_child_traces_its_own_calls_and_shadows(run_python, receiver):
    result = run_python(
        SET_UP
        + """
    set_up()
    model("parent")
    default_runtime().flush()
    child = os.fork()
    if child == 0:
        model("child")
        default_runtime().close(5.0)
        trace.get_tracer_provider().shutdown()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """,
        ENDPOINT=receiver.endpoint,
    )
    assert ("0\n", "", 0) == (result.stdout, result.stderr, result.returncode)
    spans = receiver.spans
    assert 2 == len({plain(span.attributes)["rollout.decision.id"] for span in spans if span.name.startswith("shadow")})
    routes = {span.span_id for span in spans if span.name == "route m"}
    assert routes == {link.span_id for span in spans if span.name.startswith("shadow") for link in span.links}
    assert 2 == len(routes)


def test_a_forked_child_counts_from_nothing(run_python):
    result = run_python("""
        import json, os
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from rollout_sdk import ABTest, Runtime, Telemetry, rollout
        reader = InMemoryMetricReader()
        runtime = Runtime(telemetry=Telemetry(meter_provider=MeterProvider([reader])))
        model = rollout(candidate=lambda x: x, strategy=ABTest(1.0), unit="x", key="m", runtime=runtime)(lambda x: x)
        def counted():
            runtime.flush()
            data = reader.get_metrics_data()
            return {
                metric.name: sum(point.value for point in metric.data.data_points)
                for resource in data.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics
                if metric.name == "rollout.decisions"
            }
        for number in range(5):
            model(number)
        print(json.dumps(counted()), flush=True)
        if os.fork() == 0:
            model("child")
            print(json.dumps(counted()), flush=True)
            os._exit(0)
        os.wait()
        print(json.dumps(counted()), flush=True)
    """)
    assert ("", 0) == (result.stderr, result.returncode)
    assert [5, 1, 5] == [json.loads(line)["rollout.decisions"] for line in result.stdout.splitlines()]


def test_with_the_api_alone_all_works_and_nothing_is_printed(run_python):
    result = run_python("""
        import importlib.abc, sys
        class NoSdk(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.startswith("opentelemetry.sdk"):
                    raise ModuleNotFoundError(name)
        sys.meta_path.insert(0, NoSdk())
        from rollout_sdk import ABTest, Canary, Interleave, Runtime, Shadow, Telemetry, rollout
        def fail(x): raise ValueError
        settings = Telemetry(bind_logs=True, propagate=True, unit_id="hash", capture=lambda request: {}, flag_events="log",
                             decision_duration=True)
        runtime = Runtime(telemetry=settings, key="secret")
        for strategy in (ABTest(1.0), Shadow(1.0), Interleave(), Canary(["50%"])):
            model = rollout(candidate=fail, strategy=strategy, effects="read", unit="x", key=strategy.name, runtime=runtime)(
                lambda x: [x]
            )
            assert model(1) == [1]
        runtime.flush()
        runtime.close()
        assert not any(name.startswith("opentelemetry.sdk") for name in sys.modules)
    """)
    assert ("", "", 0) == (result.stdout, result.stderr, result.returncode)
