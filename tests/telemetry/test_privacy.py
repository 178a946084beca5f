"""What comes in is in no signal, unless the application asks for it; and what cannot be made safe is left out."""

import logging
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from rollout_sdk import ABTest, ConfigurationError, Interleave, Runtime, Shadow, Telemetry
from rollout_sdk.testing import RecordingPlugin

from .conftest import Traced

MARK = "zQ7marker"
KEY = "0123456789abcdef"

words = st.text(max_size=20).map(lambda text: f"{MARK}{text}{MARK}")
payloads = st.recursive(
    words | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


class Lines(logging.Handler):
    """Keeps all that is logged, with all its fields."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.said = []

    def emit(self, record):
        self.said.append(repr(vars(record)))


@contextmanager
def logged():
    """All log lines of ours meanwhile."""
    logger, handler = logging.getLogger("rollout_sdk"), Lines()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield handler.said
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


def said_by(traced, lines):
    """Every signal as text."""
    spans = [span.to_json() for span in traced.finished()]
    return "\n".join([*spans, repr(traced.metrics()), *lines])


def fail(unit, payload):
    raise ValueError(MARK)


STRATEGIES = {
    "ab": (ABTest(1.0), lambda unit, payload: payload),
    "fallback": (ABTest(1.0), fail),
    "shadow": (Shadow(1.0), lambda unit, payload: [payload]),
    "failed shadow": (Shadow(1.0), fail),
    "interleave": (Interleave(), lambda unit, payload: [MARK, payload]),
}


@pytest.mark.parametrize("unit_id", ["omit", "hash"])
@settings(deadline=None, max_examples=15)
@given(calls=st.lists(st.tuples(words, payloads), min_size=len(STRATEGIES), max_size=len(STRATEGIES)))
def test_no_unit_no_payload_and_no_message_is_in_any_signal(calls, unit_id):
    runtimes = []

    def watch(**options):
        # Outcomes have to go somewhere.
        runtimes.append(Runtime(key=KEY, plugins=[RecordingPlugin()], **options))
        return runtimes[-1]

    with logged() as lines:
        traced = Traced(watch, unit_id=unit_id, bind_logs=True, propagate=True)
        for (key, (strategy, candidate)), (unit, payload) in zip(STRATEGIES.items(), calls, strict=True):
            model = traced.model(lambda unit, payload: [payload], candidate, strategy, unit="unit", key=key.replace(" ", "-"))
            routed = model.rollout.route(unit, payload)
            model.rollout.record("click", 1.0, decision_id=routed.decision.id)
        assert MARK not in said_by(traced, lines)
        assert len(lines) > len(STRATEGIES)
        runtimes[0].close(0.5)


def test_a_hashed_unit_is_the_pseudonym_of_the_journal_on_the_call_and_on_its_evaluation(trace_with):
    traced = trace_with(unit_id="hash", runtime={"key": KEY})
    traced.model(lambda x: x, lambda x: x)("ann")
    (event,) = traced.runtime.routed()
    route = traced.spans()["route model"]
    assert event.unit == route.attributes["feature_flag.context.id"] == route.events[0].attributes["feature_flag.context.id"]
    assert "ann" not in event.unit


def test_a_hash_without_a_key_is_refused():
    with pytest.raises(ConfigurationError, match="needs a key"):
        Runtime(telemetry=Telemetry(unit_id="hash"))


def test_a_raw_unit_is_told_where_it_is_asked_for_and_on_the_call_alone(trace_with):
    traced = trace_with(unit_id="raw")
    traced.model(lambda x: x, lambda x: x, Shadow(1.0))("ann")
    named = {span.name for span in traced.finished() if "ann" in span.to_json()}
    assert {"route model"} == named
    assert "ann" not in repr(traced.metrics())


def test_a_call_without_a_unit_names_none(trace_with):
    traced = trace_with(unit_id="raw")
    traced.model(lambda x: x, lambda x: x, unit=None)("ann")
    assert "feature_flag.context.id" not in traced.spans()["route model"].attributes


def test_what_is_captured_is_redacted_and_cut_to_2_kib(trace_with):
    traced = trace_with(
        capture=lambda request: {"query": request.arguments["x"], "length": 5, "share": 0.5, "known": True},
        redact=lambda name, value: "***" if name == "query" else value,
    )
    traced.model(lambda x: x, lambda x: x)("secret")
    said = traced.spans()["route model"].attributes
    assert {"query": "***", "length": 5, "share": 0.5, "known": True} == {
        name.removeprefix("rollout.captured."): value for name, value in said.items() if name.startswith("rollout.captured.")
    }
    long = trace_with(capture=lambda request: {"text": "x" * 10_000, "wide": "ß" * 10_000})
    long.model(lambda x: x, lambda x: x)("u")
    captured = long.spans()["route model"].attributes
    assert [2048, 2048] == [len(captured[f"rollout.captured.{name}"].encode()) for name in ("text", "wide")]


@pytest.mark.parametrize("broken", ["capture", "redact"])
def test_what_fails_to_be_captured_or_redacted_is_left_out_and_counted(broken, trace_with):
    def fails(*_):
        raise RuntimeError(MARK)

    options = {"capture": lambda request: {"query": MARK}, "redact": lambda name, value: value, broken: fails}
    traced = trace_with(**options)
    assert "u" == traced.model(lambda x: x, lambda x: x)("u")
    assert MARK not in traced.spans()["route model"].to_json()
    traced.faults = {(f"telemetry.{broken}", "RuntimeError")}


@pytest.mark.parametrize("value", [None, object(), [MARK], {"a": MARK}, b"zQ7marker", type("Text", (str,), {})(MARK)])
def test_what_is_no_plain_value_is_left_out(value, trace_with):
    traced = trace_with(capture=lambda request: {"thing": value})
    traced.model(lambda x: x, lambda x: x)("u")
    assert not [name for name in traced.spans()["route model"].attributes if name.startswith("rollout.captured.")]


@pytest.mark.parametrize("settings", [{}, {"flag_events": "log", "logger_provider": LoggerProvider(shutdown_on_exit=False)}])
def test_nothing_is_captured_for_a_span_that_is_not_recorded(settings, trace_with):
    seen = []
    traced = trace_with(ALWAYS_OFF, capture=lambda request: seen.append(request) or {}, **settings)
    traced.model(lambda x: x, lambda x: x)("u")
    assert ([], ()) == (seen, traced.finished())


def test_messages_of_exceptions_are_told_where_they_are_asked_for(trace_with):
    traced = trace_with(exception_messages=True)

    def candidate(x):
        raise ValueError(MARK)

    traced.model(lambda x: x, candidate)("u")
    (event,) = traced.spans()["invoke model/candidate"].events
    assert ("exception", MARK) == (event.name, event.attributes["exception.message"])


def test_excluded_attributes_are_on_no_span_and_no_event(trace_with):
    excluded = ["feature_flag.result.variant", "rollout.decision.id", "error.type", "rollout.variant.weight"]
    traced = trace_with(exclude_attributes=excluded)
    traced.model(lambda x: x, fail_alone, ABTest(1.0))("u")
    traced.model(lambda x: x, lambda x: x, Shadow(1.0), key="shadow")("u")
    told = {
        name
        for span in traced.finished()
        for holder in (span, *span.events)
        for name in holder.attributes
    }  # fmt: skip
    assert set() == told & set(excluded)
    assert {"feature_flag.key", "rollout.fallback.variant", "feature_flag.result.reason"} <= told


def fail_alone(x):
    raise ValueError


def test_attributes_to_exclude_are_a_list():
    with pytest.raises(ConfigurationError, match="lists names"):
        Telemetry(exclude_attributes="error.type")
