"""What fails beside a call: it is counted exactly, told now and then, and harms nobody."""

import asyncio
import os
import threading

import pytest

import rollout_sdk.resilience.faults
from rollout_sdk import (
    ABTest,
    ConfigurationError,
    Decision,
    PluginError,
    Runtime,
    UnknownStrategyError,
    default_runtime,
    rollout,
)
from rollout_sdk.journal import JournalWriter
from rollout_sdk.resilience.faults import Fault


def decorate(runtime, strategy=ABTest(0.5), **options):
    return rollout(candidate=lambda x: x, strategy=strategy, effects="read", key="m", runtime=runtime, **options)(lambda x: x)


class Failing:
    name = "failing"

    def __init__(self, error):
        self.error = error

    def rollout_routed(self, event):
        raise self.error


def test_faults_are_counted_one_by_one_and_told_once_a_minute(runtime, monkeypatch):
    told = []
    monkeypatch.setattr(runtime._faults, "_tell", told.append)
    for _ in range(1000):
        runtime.failed("x", ValueError())
    runtime.failed("x", KeyError())
    assert {("x", "ValueError"): 1000, ("x", "KeyError"): 1} == runtime.faults
    assert [Fault("x", "ValueError", 1), Fault("x", "KeyError", 1)] == told
    began = rollout_sdk.resilience.faults.monotonic()
    for later, count in ((59.0, None), (61.0, 1002), (120.0, None), (122.0, 1004)):
        monkeypatch.setattr(rollout_sdk.resilience.faults, "monotonic", lambda later=later: began + later)
        told.clear()
        runtime.failed("x", ValueError())
        assert told == ([] if count is None else [Fault("x", "ValueError", count)])


def test_faults_are_counted_exactly_under_threads(runtime):
    threads = [threading.Thread(target=lambda: [runtime.failed("x", ValueError()) for _ in range(5000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {("x", "ValueError"): 40_000} == runtime.faults


def test_exception_classes_that_are_made_at_run_time_are_remembered_up_to_a_bound(runtime):
    for number in range(3000):
        runtime.failed("x", type(f"Error{number}", (Exception,), {})())
    assert 1001 >= len(runtime.faults)
    assert (3000, 2000) == (sum(runtime.faults.values()), runtime.faults["x", "_OTHER"])


def test_what_fails_on_every_call_does_not_crowd_out_the_calls(watch):
    """10,000 facts fit into the queue: with a fault beside each call, half of the calls would be lost."""

    class Bad:
        def rollout_route(self, request):
            return Decision("nobody")

    runtime = watch()
    model = decorate(runtime, Bad())
    for number in range(3000):
        model(number)
    assert (3000, 3000) == (len(runtime.routed()), runtime.faults["strategy", "TypeError"])


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
def test_whatever_an_observer_raises_the_next_event_is_observed(error, watch):
    runtime = watch()
    model = decorate(runtime, plugins=[Failing(error)])
    for number in range(3):
        model(number)
    runtime.flush()
    assert 3 == sum(runtime.faults.values())
    assert 3 == sum(runtime.tally("m").decisions.values())


def test_an_observer_may_ask_for_the_status_and_nobody_waits_for_anybody(watch):
    seen = []

    class Asking:
        def rollout_routed(self, event):
            seen.append(model.rollout.status().calls)
            runtime.flush(60.0)

    runtime = watch()
    model = decorate(runtime, ABTest(0.0), plugins=[Asking()])
    for number in range(3):
        model(number)
    assert runtime.flush(2.0)
    assert [{"control": 3}] * 3 == seen


def test_one_fact_that_cannot_be_counted_takes_no_other_with_it(runtime):
    class Odd:
        def rollout_route(self, request):
            return Decision("control", reason=["unhashable"]) if request.arguments["x"] == 1 else Decision("control")

    model = decorate(runtime, Odd())
    for number in range(3):
        assert number == model(number)
    runtime.flush()
    assert 2 == sum(number for (_, _, reason, _), number in runtime.tally("m").decisions.items() if reason == "split")


def test_a_telemetry_that_cannot_be_looked_up_is_as_good_as_none(run_python):
    result = run_python(
        """
        from rollout_sdk import ABTest, Telemetry, Runtime, rollout
        import rollout_sdk.telemetry.audience as audience
        from opentelemetry import trace

        def broken():
            raise RuntimeError("no such provider")

        trace.get_tracer_provider, kept = broken, trace.get_tracer_provider
        runtime = Runtime(telemetry=Telemetry(tracer_provider=trace.NoOpTracerProvider(), metrics=False))
        object.__setattr__(runtime.telemetry, "tracer_provider", None)
        model = rollout(candidate=lambda x: x, strategy=ABTest(1.0), key="m", runtime=runtime)(lambda x: -x)
        print([model(n) for n in range(3)], runtime.faults)
        runtime.flush()
        print(sum(runtime.tally("m").decisions.values()))
        """
    )
    assert ("[0, 1, 2] {('telemetry.audience', 'RuntimeError'): 1}\n3\n", "") == (result.stdout, result.stderr)


def test_closing_while_the_journal_stands_still_leaves_its_file_open(tmp_path, monkeypatch):
    """Its number would be given to the next file that anybody opens, and our lines would follow."""
    release, standing = threading.Event(), threading.Event()

    def stand_still(*_):
        standing.set()
        release.wait(10)

    runtime = Runtime(journal=tmp_path)
    model = decorate(runtime)
    model(1)
    assert runtime.flush()
    monkeypatch.setattr(JournalWriter, "write", stand_still)
    model(2)
    assert standing.wait(10)
    runtime.close(0.1)
    assert os.fstat(runtime._delivery.sinks.journal._writer._file)
    release.set()


def test_a_journal_folder_that_is_lost_is_no_callers_concern(tmp_path):
    runtime = Runtime(journal=tmp_path / "journal")
    model = decorate(runtime)
    model(1)
    runtime.flush()
    for path in (tmp_path / "journal").iterdir():
        path.unlink()
    (tmp_path / "journal").rmdir()
    (tmp_path / "journal").write_text("in the way")
    assert [1, 2] == [model(1), model(2)]
    runtime.close()
    assert {("journal", "JournalError")} == set(runtime.faults)


@pytest.mark.parametrize(
    ("plugins", "error"),
    [("ab", ConfigurationError), (["nobody"], UnknownStrategyError), ([object()], PluginError), ([Failing], PluginError)],
)
def test_plugins_that_cannot_work_are_refused_when_the_runtime_is_made(plugins, error):
    with pytest.raises(error):
        Runtime(plugins=plugins)


def test_the_default_runtime_is_one_for_all_threads_and_built_at_its_first_use(monkeypatch):
    monkeypatch.setattr("rollout_sdk.runtime.registry._default", None)
    gate = threading.Barrier(8)
    found = []

    def ask():
        gate.wait()
        found.append(default_runtime())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 == len({id(runtime) for runtime in found})
    assert found[0] is default_runtime()


@pytest.mark.parametrize(
    ("setting", "value", "served", "says"),
    [
        ("ROLLOUT_JOURNAL", "/proc/nowhere", "candidate", "The journal folder '/proc/nowhere' cannot be used"),
        ("ROLLOUT_STORE", "sqlite:////no/such/x.db", "control", "The store '/no/such/x.db' has no directory"),
        ("ROLLOUT_STORE", "unknown://user:password@host", "control", "Plugin 'unknown' is not installed"),
        ("ROLLOUT_CONTROL", "/dev", "control", "The control file '/dev' is not a regular file"),
        ("ROLLOUT_KEY", "k" * 65, "control", "The runtime's key has 65 bytes"),
        ("OTEL_PYTHON_TRACER_PROVIDER", "misspelt", "candidate", None),
        ("OTEL_PYTHON_METER_PROVIDER", "misspelt", "candidate", None),
    ],
)
def test_a_setting_that_cannot_be_used_stops_no_service(run_python, setting, value, served, says):
    result = run_python(
        """
        import structlog
        from rollout_sdk import ABTest, rollout
        from rollout_sdk.runtime import default_runtime

        with structlog.testing.capture_logs() as logs:
            model = rollout(candidate=lambda: "candidate", strategy=ABTest(1.0), key="m")(lambda: "control")
            print(model())
            default_runtime().flush()
        print([event["why"] for event in logs if "why" in event])
        """,
        **{setting: value},
    )
    answer, why = result.stdout.splitlines()
    assert (served, says is None or says in why) == (answer, True)
    assert "password" not in why
    assert (why == "[]") == (says is None)


def test_two_runtimes_keep_apart(watch):
    one, other = watch(), watch()
    decorate(one)(1)
    assert (1, 0) == (len(one.routed()), len(other.routed()))
    assert (1, 0) == tuple(sum(runtime.tally("m").decisions.values()) for runtime in (one, other))


def test_the_faults_of_one_rollout_are_in_its_own_status_and_those_of_the_runtime_in_all(runtime):
    def decorated(key, **options):
        return rollout(candidate=lambda x: x, strategy=ABTest(0.5), key=key, runtime=runtime, **options)(lambda x: x)

    one = decorated("one", plugins=[Failing(ValueError())])
    two, three = decorated("two", plugins=[Failing(ValueError())]), decorated("three")
    for function, calls in ((one, 2), (two, 3), (three, 1)):
        for number in range(calls):
            function(number)
    runtime.flush(10.0)
    runtime.failed("store", KeyError(), 4)
    mine, shared = ("failing.rollout_routed", "ValueError"), {("store", "KeyError"): 4}
    assert [{mine: 2, **shared}, {mine: 3, **shared}, shared] == [each.rollout.status().faults for each in (one, two, three)]
    assert {mine: 5, **shared} == runtime.faults


def test_rollouts_that_are_made_at_run_time_are_remembered_up_to_a_bound_and_their_faults_counted_all_the_same(runtime):
    for number in range(1500):
        runtime.failed("x", ValueError(), rollout=f"r-{number}")
    assert ({("x", "ValueError"): 1500}, 1001) == (runtime.faults, len(runtime._faults._kinds))
    assert {("x", "ValueError"): 501} == runtime.faults_of("r-3")


# Of which rollout


class Misspelling:
    name = "misspelling"

    def __init__(self, decision):
        self.decision = decision

    def rollout_route(self, request):
        return self.decision


def two(runtime, **options):
    """A rollout with faults, and a healthy one beside it."""
    bad = rollout(candidate=lambda x: 1, **{"strategy": ABTest(0.5), **options}, key="bad", effects="read", runtime=runtime)
    good = rollout(candidate=lambda x: 1, strategy=ABTest(0.5), unit="x", key="good", effects="read", runtime=runtime)
    return bad(lambda x: 0), good(lambda x: 0)


FAULTY = {
    "strategy": ({"strategy": Misspelling(Decision("v2", reason="x"))}, ("strategy", "TypeError")),
    "unit": ({"unit": lambda x: 1 / 0}, ("unit", "ZeroDivisionError")),
    "override": ({"unit": "x", "override": lambda x: "v2"}, ("override", "LookupError")),
    "failed_if": ({"unit": "x", "failed_if": lambda answer: 1 / 0}, ("failed_if", "ZeroDivisionError")),
    "covariate": ({"unit": "x", "covariate": lambda x: "much"}, ("covariate", "TypeError")),
    "observer": ({"unit": "x", "plugins": [Failing(KeyError())]}, ("failing.rollout_routed", "KeyError")),
}


@pytest.mark.parametrize("name", FAULTY)
def test_faults_of_one_rollout_stay_in_its_status(name):
    options, fault = FAULTY[name]
    runtime = Runtime()
    bad, good = two(runtime, **options)
    for number in range(3):
        bad(f"u-{number}"), good(f"u-{number}")
    assert runtime.flush(10.0)
    assert ({fault: 3}, {}) == (bad.rollout.status().faults, good.rollout.status().faults)
    assert {fault: 3} == runtime.faults
    assert f"fault {fault[0]} {fault[1]}: 3" in str(bad.rollout.status())
    runtime.close(5.0)


def test_faults_of_what_rollouts_share_are_in_the_status_of_each(runtime):
    bad, good = two(runtime)
    runtime.failed("journal", OSError())
    assert {("journal", "OSError"): 1} == bad.rollout.status().faults == good.rollout.status().faults == runtime.faults


def test_a_wish_of_the_control_file_that_one_rollout_cannot_follow_is_its_fault(tmp_path):
    file = tmp_path / "control.toml"
    file.write_text('version = 1\n[rollouts.bad]\nshare = { nobody = "5%" }\n')
    file.chmod(0o600)
    runtime = Runtime(control=file)
    bad, good = two(runtime)
    assert ({("control file", "StateError"): 1}, {}) == (bad.rollout.status().faults, good.rollout.status().faults)
    runtime.close(5.0)


def test_the_same_fault_of_two_rollouts_is_told_of_both(monkeypatch):
    runtime, told = Runtime(), []
    monkeypatch.setattr(runtime._faults, "_tell", told.append)
    bad, good = two(runtime, unit=lambda x: 1 / 0)
    bad("u"), bad("u"), good("u")
    other = rollout(candidate=lambda x: 1, strategy=ABTest(0.5), unit=lambda x: 1 / 0, key="other", runtime=runtime)(
        lambda x: 0
    )
    other("u")
    assert ["bad", "other"] == [fault.rollout for fault in told]
    runtime.close(5.0)
