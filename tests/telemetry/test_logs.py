"""Log events go through the application's own structlog, or else the standard library's logger, and nowhere by themselves."""

import asyncio
import copy
import logging
import pickle
import threading

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from rollout_sdk import ABTest, Decision, Runtime, Shadow, Telemetry, rollout
from rollout_sdk.telemetry import RolloutFilter, add_trace_context, log_events
from rollout_sdk.telemetry.logs import get_logger


def test_an_application_that_uses_the_standard_library_gets_fields(traced, caplog):
    caplog.set_level("INFO", "rollout_sdk")
    traced.model(lambda x: x, lambda x: 1 / 0)("u")
    assert traced.runtime.flush(10.0)
    (record,) = [record for record in caplog.records if getattr(record, "event", None) == "rollout.fallback"]
    assert ("WARNING", "rollout_sdk", "model", "candidate", "control", "ZeroDivisionError") == (
        record.levelname, record.name, record.rollout, record.from_variant, record.to_variant, record.error_type,
    )  # fmt: skip


def test_a_message_of_the_standard_library_says_what_happened_and_groups_by_event(traced, caplog):
    caplog.set_level("INFO", "rollout_sdk")
    for model in (traced.model(lambda x: x, lambda x: 1 / 0), traced.model(lambda x: x, lambda x: {}["no"], key="other one")):
        model("u")
    assert traced.runtime.flush(10.0)
    records = [record for record in caplog.records if getattr(record, "event", None) == "rollout.fallback"]
    assert [
        "rollout.fallback rollout=model from=candidate error=ZeroDivisionError to=control",
        'rollout.fallback rollout="other one" from=candidate error=KeyError to=control',
    ] == [record.getMessage() for record in records]
    assert 1 == len({record.msg for record in records})
    assert 2 == len({record.decision_id for record in records})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("v2", "v2"),
        ("1:50%", "1:50%"),
        ("", '""'),
        ("a b", '"a b"'),
        ("100 % sure\n\x1b[31m", '"100 % sure\\n\\u001b[31m"'),
        ('say "no"', '"say \\"no\\""'),
        (0.25, "0.25"),
        (3, "3"),
        (["control", "v2"], "control,v2"),
        ({"control": 0.9, "v2": 0.1}, "control:0.9,v2:0.1"),
    ],
)
def test_a_value_of_a_message_is_one_word_or_quoted(caplog, value, said):
    caplog.set_level("INFO", "rollout_sdk")
    get_logger().info("rollout.tried", rollout="m", what=value, nothing=None, decision_id="secret")
    [record] = caplog.records
    assert (f"rollout.tried rollout=m what={said}", value, "secret") == (record.getMessage(), record.what, record.decision_id)


def test_an_exception_keeps_its_traceback_beside_the_message(caplog):
    get_logger().warning("rollout.tried", rollout="m", exc_info=ValueError("no"))
    [record] = caplog.records
    assert ("rollout.tried rollout=m", ValueError) == (record.getMessage(), record.exc_info[0])


class Keep(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []
        self.addFilter(RolloutFilter())
        self.setFormatter(logging.Formatter("%(rollout_key)s/%(rollout_variant)s %(message)s %(rollout_decision_id)s"))

    def emit(self, record):
        self.lines.append(self.format(record))


@pytest.mark.parametrize("is_async", [False, True])
def test_the_models_own_lines_have_rollout_variant_and_decision(is_async):
    runtime, handler = Runtime(telemetry=Telemetry(bind_logs=True)), Keep()
    log = logging.getLogger("app.models")
    log.addHandler(handler)

    def control(user):
        log.warning("old")
        return user

    def candidate(user):
        log.warning("new")
        raise ValueError

    async def control_async(user):
        return control(user)

    async def candidate_async(user):
        return candidate(user)

    pair = (control_async, candidate_async) if is_async else (control, candidate)
    model = rollout(candidate=pair[1], strategy=ABTest(1.0), unit="user", key="shop", runtime=runtime)(pair[0])
    try:
        log.warning("before")
        routed = asyncio.run(model.rollout.route("u")) if is_async else model.rollout.route("u")
        log.warning("after")
    finally:
        log.removeHandler(handler)
        runtime.close(5.0)
    name = routed.decision.id
    assert ["/ before ", f"shop/candidate new {name}", f"shop/control old {name}", "/ after "] == handler.lines


def test_what_the_application_has_said_itself_stays():
    record = logging.makeLogRecord({"rollout_key": "mine"})
    assert RolloutFilter().filter(record)
    assert ("mine", "", "") == (record.rollout_key, record.rollout_variant, record.rollout_decision_id)


def test_an_application_that_configures_structlog_gets_events_in_its_own_pipeline_from_then_on(traced):
    model = traced.model(lambda x: x, lambda x: 1 / 0)
    model("u")
    assert traced.runtime.flush(10.0)
    lines = []

    def keep(logger, method, event):
        lines.append({**event, "level": method})
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    model("v")
    assert traced.runtime.flush(10.0)
    assert [("rollout.fallback", "warning")] == [
        (line["event"], line["level"]) for line in lines if "fallback" in line["event"]
    ]


def test_a_line_about_a_call_has_the_trace_of_its_route_span_by_our_processor(traced):
    lines = []

    def keep(logger, method, event):
        lines.append(event)
        raise structlog.DropEvent

    structlog.configure(processors=[add_trace_context, keep])
    with traced.tracer.start_as_current_span("request"):
        traced.model(lambda x: x, lambda x: x)("u")
    route = traced.spans()["route model"]
    (line,) = [line for line in lines if line["event"] == "rollout.decision"]
    assert (f"{route.context.trace_id:032x}", f"{route.context.span_id:016x}", f"{route.context.trace_flags:02x}") == (
        line["trace_id"], line["span_id"], line["trace_flags"],
    )  # fmt: skip


def test_a_fallback_has_the_trace_of_its_call_where_single_calls_are_not_logged(traced, caplog):
    seen = []

    class Traces(logging.Handler):
        def emit(self, record):
            if getattr(record, "event", None) == "rollout.fallback":
                seen.append(trace.get_current_span().get_span_context().trace_id)

    caplog.set_level("INFO", "rollout_sdk")
    logger, handler = logging.getLogger("rollout_sdk"), Traces()
    logger.addHandler(handler)
    try:
        traced.model(lambda x: x, lambda x: 1 / 0)("u")
        assert [traced.spans()["route model"].context.trace_id] == seen
    finally:
        logger.removeHandler(handler)


def test_an_unsampled_request_is_correlated_too(trace_with):
    provider = trace_with(ALWAYS_OFF).provider
    with provider.get_tracer("app").start_as_current_span("request") as span:
        event = add_trace_context(None, "info", {"event": "x"})
    context = span.get_span_context()
    expected = {
        "event": "x",
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "trace_flags": f"{context.trace_flags:02x}",
    }
    assert (False, expected) == (context.trace_flags.sampled, event)


def test_outside_of_any_span_nothing_is_added():
    assert {"event": "x"} == add_trace_context(None, "info", {"event": "x"})


def test_a_rollback_and_an_abort_warn_and_other_changes_inform(traced, caplog):
    from rollout_sdk import Canary

    caplog.set_level("INFO", "rollout_sdk")
    canary = traced.model(lambda x: x, lambda x: x, Canary(["10%", "50%"]))
    canary("u")
    canary.rollout.promote(actor="ann", reason="a quiet day")
    canary.rollout.abort(actor="ann", reason="a bad feeling")
    assert traced.runtime.flush(10.0)
    told = [
        (record.levelname, record.action, record.reason, record.actor, record.from_phase, record.to_phase)
        for record in caplog.records
        if getattr(record, "event", None) == "rollout.transition"
    ]
    assert [
        ("INFO", "promote", "a quiet day", "ann", "0:10%", "1:50%"),
        ("WARNING", "abort", "a bad feeling", "ann", "1:50%", "2:aborted"),
    ] == told


def test_what_repeats_is_told_once_a_minute_with_how_often_it_was_not(traced, caplog, monkeypatch):
    caplog.set_level("INFO", "rollout_sdk")
    shadowed = traced.model(lambda x: x, lambda x: 1 / 0, Shadow(1.0), breaker=None)
    for now, calls, told in (
        (1000.0, 20, [0]),
        (1059.9, 1, [0]),
        (1060.0, 1, [0, 20]),
        (1119.9, 2, [0, 20]),
        (1120.0, 1, [0, 20, 2]),
    ):
        monkeypatch.setattr(log_events, "monotonic", lambda now=now: now)
        for number in range(calls):
            shadowed(f"u-{number}")
        assert traced.runtime.flush(10.0)
        assert told == [each.suppressed for each in caplog.records if getattr(each, "event", None) == "rollout.shadow.failed"]


def test_beyond_a_number_of_kinds_further_ones_are_told_together(traced, caplog, monkeypatch):
    """Classes of exceptions can be made at run time: what remembers them must not grow."""
    monkeypatch.setattr(log_events, "_MOST_KINDS", 2)
    caplog.set_level("INFO", "rollout_sdk")

    def fails(x):
        raise type(f"Error{x}", (Exception,), {})

    for key in ("one", "two"):
        shadowed = traced.model(lambda x: x, fails, Shadow(1.0), breaker=None, key=key)
        for number in range(4):
            shadowed(number)
            assert traced.runtime.flush(10.0)
    told = [
        (record.rollout, record.error_type)
        for record in caplog.records
        if getattr(record, "event", None) == "rollout.shadow.failed"
    ]
    assert [("one", "Error0"), ("one", "Error1"), ("one", "Error2")] == told


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_events_about_single_calls_are_made_only_where_somebody_could_see_them(level, traced, caplog):
    caplog.set_level(level, "rollout_sdk")
    traced.model(lambda x: x, lambda x: x, ABTest(1.0))("u")
    assert traced.runtime.flush(10.0)
    assert (level == logging.DEBUG) == any(getattr(record, "event", None) == "rollout.decision" for record in caplog.records)


def test_logs_can_be_off(trace_with, caplog):
    caplog.set_level("DEBUG", "rollout_sdk")
    traced = trace_with(logs=False)
    traced.model(lambda x: x, lambda x: 1 / 0)("u")
    assert traced.runtime.flush(10.0)
    assert [] == caplog.records


def test_an_observer_may_copy_and_pickle_an_event_that_is_logged_in_its_callers_context(traced, caplog):
    caplog.set_level("DEBUG", "rollout_sdk")
    traced.model(lambda x: x, lambda x: 1 / 0)("u")
    (event,) = traced.runtime.routed()
    copied, pickled = copy.deepcopy(event), pickle.loads(pickle.dumps(event))
    assert (event, event) == (copied, pickled)
    assert (event.context, None) == (copied.context, pickled.context)
    assert event.context is not None


# What a line of a fault names


class Wrong:
    name = "wrong"

    def __init__(self, **fields):
        self.fields = fields

    def rollout_route(self, request):
        return Decision(**{"variant": "control", "reason": "static", **self.fields})


def broken_unit(user):
    raise KeyError("a secret that a user typed")


def by_key(user):
    return "v3"


@pytest.mark.parametrize(
    ("options", "event", "named"),
    [
        ({"unit": broken_unit}, "rollout.option.failed", ["option=unit", "unit=broken_unit of 'shop'", "KeyError"]),
        ({"override": by_key}, "rollout.option.failed", ["override=by_key of 'shop'", "It gave a str that is not one of"]),
        ({"failed_if": broken_unit}, "rollout.option.failed", ["failed_if=broken_unit", "does not count as a failure"]),
        ({"covariate": by_key}, "rollout.option.failed", ["covariate=by_key", "TypeError"]),
        ({"strategy": Wrong(variant="v2")}, "rollout.strategy.failed", ["variant 'v2'", "are control, candidate"]),
        ({"strategy": Wrong(shadows=("v9",))}, "rollout.strategy.failed", ["variant 'v9'", "candidates are candidate."]),
        ({"strategy": Wrong(blend=("control", "v8"))}, "rollout.strategy.failed", ["variant 'v8'"]),
        ({"strategy": Wrong(variant="mix", blend=("candidate",))}, "rollout.strategy.failed", ["blends without the control"]),
        ({"strategy": Wrong(propensity=0.0)}, "rollout.strategy.failed", ["the propensity 0.0", "above 0"]),
    ],
)  # fmt: skip
def test_a_message_about_a_fault_names_the_rollout_and_what_was_wrong(caplog, options, event, named):
    caplog.set_level("INFO", "rollout_sdk")
    runtime = Runtime()
    options = {"unit": "user", "strategy": ABTest(0.5), **options}
    model = rollout(candidate=lambda user: 1, key="shop", effects="read", runtime=runtime, **options)(lambda user: 0)
    model("u-17")
    assert runtime.flush(10.0)
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert lines
    for line in lines:
        assert line.startswith(f"{event} rollout=shop ")
        assert [] == [each for each in named if each not in line], line
        assert not [each for each in ("secret", "u-17") if each in line]
    runtime.close(5.0)


@pytest.mark.parametrize(
    ("isolate", "why"),
    [("auto", "unknown type lock (argument 'tool')"), ("deepcopy", "TypeError (argument 'tool')")],
)
@pytest.mark.parametrize("by_name", [False, True])
def test_a_message_about_a_shadow_names_the_argument_and_the_type_that_could_not_be_copied(caplog, isolate, why, by_name):
    caplog.set_level("INFO", "rollout_sdk")
    runtime = Runtime()
    model = rollout(
        candidate=lambda user, tool, **more: 1, strategy=Shadow(1.0), unit="user", key="shop", effects="read",
        isolate=isolate, runtime=runtime,
    )(lambda user, tool, **more: 0)  # fmt: skip
    model("u", tool=threading.Lock()) if by_name else model("u", threading.Lock())
    # A name that is not the function's own may be anything.
    other = rollout(
        candidate=lambda user, **more: 1, strategy=Shadow(1.0), unit="user", key="other", effects="read", runtime=runtime,
        isolate=isolate,
    )(lambda user, **more: 0)  # fmt: skip
    other("u", a_secret=threading.Lock())
    assert runtime.flush(10.0)
    lines = [record.getMessage() for record in caplog.records if record.event == "rollout.shadow.dropped"]
    assert [f'rollout=shop variant=candidate reason=snapshot why="{why}"' in lines[0], "a_secret" in lines[1]] == [True, False]
    runtime.close(5.0)


class Dead:
    """A store whose server does not answer."""

    def __getattr__(self, name):
        def ask(*arguments):
            raise ConnectionRefusedError("redis://ann:password@cache:6379/0")

        return ask


def test_a_message_about_a_store_names_it_without_its_login(caplog, monkeypatch):
    caplog.set_level("INFO", "rollout_sdk")
    monkeypatch.setattr("rollout_sdk.runtime.runtime.store_at", lambda address: Dead())
    for store in ("redis://ann:password@cache:6379/0?ssl=no", Dead()):
        runtime = Runtime(store=store)
        rollout(candidate=lambda user: 1, strategy=ABTest(0.5), unit="user", key="shop", runtime=runtime)(lambda user: 0)("u")
        assert runtime.flush(10.0)
        runtime.close(5.0)
    told = [record.getMessage() for record in caplog.records if record.event == "rollout.store.failed"]
    assert "The store 'redis://cache:6379/0' failed in" in told[0]
    assert any("The store (Dead) failed in" in line for line in told)
    assert "password" not in "".join(told)


def test_a_store_that_cannot_be_opened_is_named(caplog, tmp_path):
    caplog.set_level("INFO", "rollout_sdk")
    runtime = Runtime(store=f"sqlite:///{tmp_path}/nowhere/rollouts.db")
    rollout(candidate=lambda user: 1, strategy=ABTest(0.5), unit="user", key="shop", runtime=runtime)(lambda user: 0)("u")
    assert runtime.flush(10.0)
    told = [record.getMessage() for record in caplog.records if record.event == "rollout.store.failed"]
    assert f"{tmp_path}/nowhere/rollouts.db" in told[0]
    runtime.close(5.0)
