"""Log events go through the application's own structlog, or else the standard library's logger, and nowhere by themselves."""

import copy
import logging
import pickle

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from rollout_sdk import ABTest, Shadow
from rollout_sdk.telemetry import add_trace_context, events


def test_an_application_that_uses_the_standard_library_gets_fields(traced, caplog):
    caplog.set_level("INFO", "rollout_sdk")
    traced.model(lambda x: x, lambda x: 1 / 0)("u")
    assert traced.runtime.flush(10.0)
    (record,) = [record for record in caplog.records if record.msg == "rollout.fallback"]
    assert ("WARNING", "rollout_sdk", "model", "candidate", "control", "ZeroDivisionError") == (
        record.levelname, record.name, record.rollout, record.from_variant, record.to_variant, record.error_type,
    )  # fmt: skip


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
            if record.msg == "rollout.fallback":
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
        if record.msg == "rollout.transition"
    ]
    assert [
        ("INFO", "promote", "a quiet day", "ann", "0:10%", "1:50%"),
        ("WARNING", "abort", "a bad feeling", "ann", "1:50%", "2:aborted"),
    ] == told


def test_what_repeats_is_told_once_a_minute_with_how_often_it_was_not(traced, caplog, monkeypatch):
    caplog.set_level("INFO", "rollout_sdk")
    shadowed = traced.model(lambda x: x, lambda x: 1 / 0, Shadow(1.0), breaker=None)
    for number in range(20):
        shadowed(f"u-{number}")
    assert traced.runtime.flush(10.0)
    assert 1 == sum(record.msg == "rollout.shadow.failed" for record in caplog.records)
    # A minute later.
    monkeypatch.setattr(events, "_ONCE_A_MINUTE_S", 0.0)
    shadowed("u")
    assert traced.runtime.flush(10.0)
    assert [0, 19] == [record.suppressed for record in caplog.records if record.msg == "rollout.shadow.failed"]


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_events_about_single_calls_are_made_only_where_somebody_could_see_them(level, traced, caplog):
    caplog.set_level(level, "rollout_sdk")
    traced.model(lambda x: x, lambda x: x, ABTest(1.0))("u")
    assert traced.runtime.flush(10.0)
    assert (level == logging.DEBUG) == any(record.msg == "rollout.decision" for record in caplog.records)


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
