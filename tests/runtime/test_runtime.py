"""The runtime: nothing starts before it must, nothing blocks, and what goes in comes out."""

import asyncio
import inspect
import logging
import re
import threading
import time

import pytest
import structlog
from structlog.testing import capture_logs

from rollout_sdk import ABTest, Canary, ConfigurationError, Runtime, Shadow, disable, enable, is_disabled, rollout
from rollout_sdk.extending import controllers_of, state_of
from rollout_sdk.journal import read_journal
from rollout_sdk.recording.delivery import Delivery


def test_importing_and_decorating_start_nothing_and_import_nothing_heavy(run_python):
    result = run_python("""
        import sys, threading
        from rollout_sdk import ABTest, rollout
        model = rollout(candidate=lambda x: x, strategy=ABTest(0.5), key="m")(lambda x: x)
        heavy = {"numpy", "scipy", "duckdb", "click", "opentelemetry.sdk", "sklearn", "pandas"} & set(sys.modules)
        print(threading.active_count(), heavy)
    """)
    assert ("1 set()\n", "") == (result.stdout, result.stderr)


def kinds():
    def function(x):
        return x

    async def coroutine(x):
        return x

    def generator(x):
        yield x

    async def async_generator(x):
        yield x

    return [function, coroutine, generator, async_generator]


async def value(called):
    if hasattr(called, "__await__"):
        return await called
    if hasattr(called, "__aiter__"):
        (item,) = [item async for item in called]
        return item
    return next(iter(called)) if hasattr(called, "__iter__") else called


@pytest.mark.parametrize("number", range(4))
def test_with_the_kill_switch_there_is_only_the_control(number, runtime):
    control = kinds()[number]
    candidate = kinds()[number]
    candidate.__defaults__ = None
    model = rollout(candidate=candidate, strategy=ABTest(1.0), key="m", runtime=runtime)(control)
    disable()
    try:
        assert is_disabled()
        assert 7 == asyncio.run(value(model(7)))
        assert [] == runtime.routed()
    finally:
        enable()
    assert 7 == asyncio.run(value(model(7)))
    assert ["candidate"] == [event.decision.variant for event in runtime.routed()]


def test_the_environment_can_pull_the_kill_switch(run_python):
    result = run_python(
        """
        from rollout_sdk import ABTest, rollout
        model = rollout(candidate=lambda x: "new", strategy=ABTest(1.0), key="m")(lambda x: "old")
        print(model(1), model.rollout.route(1).decision.reason)
    """,
        ROLLOUT_DISABLED="1",
    )
    assert ("old disabled\n", "") == (result.stdout, result.stderr)


def test_the_environment_names_journal_and_key(tmp_path):
    runtime = Runtime.from_environment({"ROLLOUT_JOURNAL": str(tmp_path), "ROLLOUT_KEY": "secret"})
    assert (str(tmp_path), b"secret") == (runtime.journal, runtime.key)
    assert "secret" not in repr(runtime)
    assert (None, None) == (Runtime.from_environment({}).journal, Runtime.from_environment({}).key)


def test_a_rollout_is_found_only_once_its_state_is_known(monkeypatch):
    """Observers in threads of other runtimes ask every rollout with a key for its state."""
    runtime, found = Runtime(), []
    register = Delivery.register
    monkeypatch.setattr(Delivery, "register", lambda *args: (found.append(controllers_of("found")), register(*args)))
    model = rollout(candidate=lambda x: x, strategy=ABTest(0.5), key="found", runtime=runtime)(lambda x: x)
    assert ([], [model.rollout]) == (found[0], controllers_of("found"))
    assert state_of(model.rollout).status == "running"


def test_a_runtime_is_shown_by_its_settings_alone_and_without_its_key():
    shown = repr(Runtime(journal="calls", key=b"secret", exit_deadline_s=0.5))
    for _ in range(2):
        # What is in parentheses belongs to a setting.
        shown = re.sub(r"(?<!Runtime)\([^()]*\)", "", shown)
    assert ["journal='calls'", "exit_deadline_s=0.5"] == re.findall(r"(?:journal|exit_deadline_s)=[^,]*", shown)
    assert set(inspect.signature(Runtime).parameters) - {"key"} == set(re.findall(r"(\w+)=", shown))


@pytest.mark.parametrize("key", ["", "x" * 65])
def test_a_key_of_a_wrong_length_is_refused(key):
    with pytest.raises(ConfigurationError, match="1 to 64"):
        Runtime(key=key)


def test_after_closing_the_control_path_goes_on(runtime):
    model = rollout(candidate=lambda x: x, strategy=Shadow(1.0), effects="read", key="m", runtime=runtime)(lambda x: x)
    runtime.close()
    runtime.close()
    assert [1, 2] == [model(1), model(2)]
    assert runtime.recorder.dropped > 0


def test_a_sink_that_blocks_for_ever_holds_neither_callers_nor_the_exit(run_python):
    began = time.monotonic()
    result = run_python("""
        import time
        from rollout_sdk import ABTest, Runtime, rollout

        class Stuck:
            def rollout_routed(self, event):
                time.sleep(60)

        runtime = Runtime(plugins=[Stuck()])
        model = rollout(candidate=lambda x: x, strategy=ABTest(0.5), key="m", runtime=runtime)(lambda x: x)
        for number in range(20_000):
            model(number)
        runtime.flush()
        print(("Stuck.rollout_routed", "DroppedError") in runtime.faults)
    """)
    assert ("True\n", "", 0) == (result.stdout, result.stderr, result.returncode)
    assert time.monotonic() - began < 10


def test_one_observer_that_fails_does_not_silence_the_next(watch):
    class Broken:
        def rollout_routed(self, event):
            raise SystemExit

    runtime = watch()
    model = rollout(candidate=lambda x: x, strategy=ABTest(0.5), key="m", plugins=[Broken()], runtime=runtime)(lambda x: x)
    model(1)
    assert 1 == len(runtime.routed())
    assert {("Broken.rollout_routed", "SystemExit"): 1} == runtime.faults


def test_facts_of_a_function_that_is_gone_are_still_told(runtime):
    rollout(candidate=lambda x: x, strategy=ABTest(0.5), key="m", runtime=runtime)(lambda x: x)(1)
    assert 1 == len(runtime.routed())


def test_what_threads_put_in_comes_out_or_is_counted_as_lost(runtime):
    models = [rollout(candidate=lambda x: x, strategy=ABTest(0.5), key=f"m{n}", runtime=runtime)(lambda x: x) for n in range(4)]
    threads = [
        threading.Thread(target=lambda model=model: [model(n) for n in range(2000)]) for model in models for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 16_000 == len(runtime.routed()) + runtime.recorder.dropped


@pytest.fixture
def app_logs():
    """An application that configured structlog."""
    structlog.configure(processors=[structlog.contextvars.merge_contextvars])
    yield
    structlog.reset_defaults()


def test_an_application_with_structlog_gets_the_events_in_its_own_pipeline(app_logs, runtime):
    def fail(x):
        raise ValueError

    model = rollout(candidate=fail, strategy=Canary(["100%"]), key="m", runtime=runtime)(lambda x: x)
    with (
        capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs,
        structlog.contextvars.bound_contextvars(request="r-1"),
    ):
        model(1)
        model.rollout.abort(actor="ann", reason="it hurts")
        runtime.flush()
    events = {log["event"]: log for log in logs}
    assert ("debug", "candidate", "r-1") == tuple(
        events["rollout.decision"][name] for name in ("log_level", "variant", "request")
    )
    assert ("warning", "ValueError", "control") == tuple(
        events["rollout.fallback"][name] for name in ("log_level", "error_type", "to_variant")
    )
    assert ("warning", "abort", "ann") == tuple(events["rollout.transition"][name] for name in ("log_level", "action", "actor"))


def test_without_structlog_the_standard_logger_gets_the_fields(caplog, runtime):
    caplog.set_level(logging.DEBUG, "rollout_sdk")
    model = rollout(candidate=lambda x: x, strategy=ABTest(1.0), key="m", runtime=runtime)(lambda x: x)
    model(1)
    runtime.flush()
    (record,) = [record for record in caplog.records if getattr(record, "event", None) == "rollout.decision"]
    assert ("DEBUG", "m", "candidate") == (record.levelname, record.rollout, record.variant)


def test_dropped_shadows_are_logged_once_a_minute(app_logs, runtime):
    model = rollout(candidate=lambda x: x, strategy=Shadow(1.0), effects="read", key="m", runtime=runtime)(lambda x: x)
    with capture_logs() as logs:
        for _ in range(5):
            model(iter(()))
        runtime.flush()
    assert 1 == sum(log["event"] == "rollout.shadow.dropped" for log in logs)


def test_a_logger_that_always_raises_reaches_nobody_and_does_not_loop(runtime):
    def broken(*_):
        raise RuntimeError

    structlog.configure(processors=[broken])
    try:
        model = rollout(candidate=lambda x: x, strategy=ABTest(1.0), key="m", runtime=runtime)(lambda x: x)
        assert 1 == model(1)
        runtime.flush()
        time.sleep(0.2)
        runtime.flush()
        assert 1 <= runtime.faults["telemetry.logs", "RuntimeError"] <= 5
    finally:
        structlog.reset_defaults()


def test_mocks_of_an_applications_tests_count_its_own_calls_alone(tmp_path, monkeypatch):
    runtime = Runtime(journal=tmp_path)
    model = rollout(candidate=lambda _: None, strategy=ABTest(1.0), key="m", runtime=runtime)(lambda _: None)
    slept, asked = [], iter([0.0])
    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", slept.append)
        patch.setattr(time, "time", lambda: next(asked))
        for _ in range(20):
            model(0)
        assert runtime.flush()
    runtime.close()
    assert (slept, list(asked), runtime.faults) == ([], [0.0], {})
    assert 20 == sum(record["event"] == "decision" for record in read_journal(tmp_path))


def test_the_start_of_a_rollout_is_logged_once_however_many_facts_follow():
    with capture_logs() as logs:
        runtime = Runtime()
        model = rollout(candidate=lambda user: "new", strategy=ABTest(0.5), unit="user", key="started", runtime=runtime)(
            lambda user: "old"
        )
        for user in ("u-1", "u-2", "u-3"):
            model(user)
            runtime.flush()
        runtime.close()
    assert [line["rollout"] for line in logs if line["event"] == "rollout.configured"] == ["started"]
