"""Flags in traces: the event of the convention on the current span, beside the rollout's decision, and nothing else."""

import pytest
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.provider.in_memory_provider import InMemoryFlag
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from rollout_sdk import ABTest, Runtime, Shadow, Telemetry, current_decision, rollout
from rollout_sdk_openfeature import RolloutHook, RolloutProvider

EVENT = "feature_flag.evaluation"
# docs/feature-flags/feature-flags-events.md of the semantic conventions 1.44.0, and what joins the event with a decision.
CONVENTION = {
    "feature_flag.key": str,
    "feature_flag.result.variant": str,
    "feature_flag.result.value": bool | int | float | str,
    "feature_flag.result.reason": str,
    "feature_flag.provider.name": str,
    "feature_flag.context.id": str,
    "feature_flag.set.id": str,
    "feature_flag.version": str,
    "feature_flag.error.message": str,
    "error.type": str,
    "rollout.decision.id": str,
}
REASONS = {"static", "default", "targeting_match", "split", "cached", "disabled", "unknown", "stale", "error"}
ERRORS = {
    "flag_not_found",
    "invalid_context",
    "parse_error",
    "provider_fatal",
    "provider_not_ready",
    "targeting_key_missing",
    "type_mismatch",
    "general",
}


@pytest.fixture
def exported():
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exported):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    yield provider
    provider.shutdown()


@pytest.fixture
def tracer(tracing):
    return tracing.get_tracer("application")


@pytest.fixture
def traced(tracing):
    """Makes a rollout whose model is this one, traced."""
    made = []

    def make(model, *, key="shop.rank", **telemetry):
        runtime = Runtime(telemetry=Telemetry(tracer_provider=tracing, **telemetry))
        made.append(runtime)
        return rollout(candidate=model, strategy=ABTest(0.5), unit="user", key=key, runtime=runtime)(model)

    yield make
    for runtime in made:
        runtime.close()


@pytest.fixture
def hooked(flags, client_of):
    client = client_of(flags)
    client.add_hooks([RolloutHook()])
    return client


def told(exported):
    """The evaluation events of every span, by span's name."""
    return {
        span.name: [dict(event.attributes) for event in span.events if event.name == EVENT]
        for span in exported.get_finished_spans()
        if any(event.name == EVENT for event in span.events)
    }


def test_a_flag_that_a_model_evaluates_stands_in_its_span_with_the_decision(hooked, flags, traced, exported):
    flags(layout="wide")
    inside = []

    def model(user):
        hooked.get_string_value("layout", "narrow", EvaluationContext("marker-ann"))
        inside.append(current_decision())
        return user

    rank = traced(model)
    rank("u-1")
    (decision,) = inside
    assert told(exported)[f"invoke shop.rank/{decision.variant}"] == [
        {
            "feature_flag.key": "layout",
            "feature_flag.result.variant": "a",
            "feature_flag.result.reason": "static",
            "feature_flag.provider.name": "In-Memory Provider",
            "rollout.decision.id": decision.id,
        }
    ]


def test_an_evaluation_before_or_after_a_call_has_no_decision(hooked, flags, traced, tracer, exported):
    flags(layout="wide")
    rank = traced(lambda user: user)
    with tracer.start_as_current_span("request"):
        hooked.get_string_value("layout", "narrow")
        rank("u-1")
        hooked.get_string_value("layout", "narrow")
    assert ["rollout.decision.id" in event for event in told(exported)["request"]] == [False, False]


def test_an_evaluation_in_a_shadow_has_the_decision_of_the_shadowed_call(hooked, flags, tracing, exported):
    flags(layout="wide")
    runtime = Runtime(telemetry=Telemetry(tracer_provider=tracing))

    def shadow(user):
        hooked.get_string_value("layout", "narrow")

    def control(user):
        return user

    rank = rollout(candidate=shadow, strategy=Shadow(1.0), unit="user", key="s", effects="read", runtime=runtime)(control)
    decision = rank.rollout.route("u-1").decision
    assert runtime.flush(10.0)
    runtime.close()
    ((event,),) = (events for name, events in told(exported).items() if name.startswith("shadow"))
    assert event["rollout.decision.id"] == decision.id


def test_an_evaluation_has_the_decision_of_a_stream_until_its_end(hooked, flags, tracing, tracer, exported):
    flags(layout="wide")
    runtime = Runtime(telemetry=Telemetry(tracer_provider=tracing))

    def stream(user):
        for item in range(2):
            hooked.get_string_value("layout", "narrow")
            yield item

    rank = rollout(candidate=stream, strategy=ABTest(0.5), unit="user", key="s", runtime=runtime)(stream)
    with tracer.start_as_current_span("request"):
        for _ in rank("u-1"):
            hooked.get_string_value("layout", "narrow")
        hooked.get_string_value("layout", "narrow")
    runtime.close()
    inside = next(events for name, events in told(exported).items() if name.startswith("invoke"))
    assert ["rollout.decision.id" in event for event in inside] == [True, True]
    assert ["rollout.decision.id" in event for event in told(exported)["request"]] == [True, True, False]


def test_only_an_event_is_added_to_a_span_that_is_not_ours(hooked, flags, tracer, exported):
    flags(layout="wide")
    with tracer.start_as_current_span("request", attributes={"mine": 1}):
        hooked.get_string_value("layout", "narrow")
    (span,) = exported.get_finished_spans()
    assert (dict(span.attributes), span.status.is_unset, [event.name for event in span.events]) == ({"mine": 1}, True, [EVENT])


def test_every_evaluation_is_told_also_the_same_again(hooked, flags, tracer, exported):
    flags(layout="wide")
    with tracer.start_as_current_span("request"):
        for _ in range(3):
            hooked.get_string_value("layout", "narrow")
    assert len(told(exported)["request"]) == 3


def test_without_a_span_that_is_recorded_nothing_is_told_or_even_looked_at(flags, client_of):
    flags(layout="wide")
    client, looked = client_of(flags), []
    client.add_hooks([RolloutHook(context_id=looked.append)])
    unsampled = TracerProvider(sampler=ALWAYS_OFF)
    with unsampled.get_tracer("application").start_as_current_span("request"):
        value = client.get_string_value("layout", "narrow", EvaluationContext("ann"))
    assert (value, client.get_string_value("layout", "narrow", EvaluationContext("ann")), looked) == ("wide", "wide", [])


# Errors, values and names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", list(ErrorCode))
def test_a_failed_evaluation_says_which_error_in_the_words_of_the_convention(code, flags, hooked, tracer, exported):
    def fails(flag, context):
        raise ErrorCode.to_exception(code, "marker-message")

    flags(layout=InMemoryFlag("a", {"a": "wide"}, context_evaluator=fails))
    with tracer.start_as_current_span("request"):
        hooked.get_string_value("layout", "narrow")
    ((event,),) = told(exported).values()
    assert (event["feature_flag.result.reason"], event["error.type"]) == ("error", code.lower())
    assert code.lower() in ERRORS


def test_a_provider_that_breaks_is_a_general_error(flags, hooked, tracer, exported, caplog):
    def breaks(flag, context):
        raise OSError("marker-message")

    flags(layout=InMemoryFlag("a", {"a": "wide"}, context_evaluator=breaks))
    with tracer.start_as_current_span("request"):
        value = hooked.get_string_value("layout", "narrow")
    ((event,),) = told(exported).values()
    assert (value, event["error.type"]) == ("narrow", "general")
    assert "marker" not in str(event)


@pytest.mark.parametrize(
    ("kind", "default", "expected"),
    [("boolean", True, True), ("integer", 3, 3), ("float", 0.5, 0.5), ("string", "marker", None), ("object", {"a": 1}, None)],
)
def test_without_a_variant_a_value_is_told_only_where_it_can_hold_nobodys_data(
    kind, default, expected, hooked, tracer, exported
):
    with tracer.start_as_current_span("request"):
        getattr(hooked, f"get_{kind}_value")("missing", default)
    ((event,),) = told(exported).values()
    assert event.get("feature_flag.result.value") == expected


def test_the_version_and_the_set_of_a_flag_are_told(hooked, flags, tracer, exported):
    flags(layout=InMemoryFlag("a", {"a": "wide"}, flag_metadata={"version": 7, "flagSetId": "shop/prod"}))
    with tracer.start_as_current_span("request"):
        hooked.get_string_value("layout", "narrow")
    ((event,),) = told(exported).values()
    assert (event["feature_flag.version"], event["feature_flag.set.id"]) == ("7", "shop/prod")


@pytest.mark.parametrize(("shown", "expected"), [(None, None), (lambda key: key, "ann"), (lambda key: None, None)])
def test_who_a_flag_was_evaluated_for_is_told_only_on_request(shown, expected, flags, client_of, tracer, exported):
    flags(layout="wide")
    client = client_of(flags)
    client.add_hooks([RolloutHook(context_id=shown)])
    with tracer.start_as_current_span("request"):
        client.get_string_value("layout", "narrow", EvaluationContext("ann"))
    ((event,),) = told(exported).values()
    assert event.get("feature_flag.context.id") == expected


def test_every_name_and_type_is_the_conventions(flags, client_of, traced, exported):
    client = client_of(flags)
    client.add_hooks([RolloutHook(context_id=lambda key: key)])
    flags(
        layout=InMemoryFlag("a", {"a": "wide"}, flag_metadata={"version": 7, "flagSetId": "shop"}),
        off=InMemoryFlag("a", {"a": True}, state=InMemoryFlag.State.DISABLED),
    )

    def model(user):
        client.get_string_value("layout", "narrow", EvaluationContext("ann"))
        client.get_boolean_value("layout", False)
        client.get_boolean_value("off", False)
        client.get_float_value("missing", 0.5)

    traced(model)("u")
    events = [event for events in told(exported).values() for event in events]
    found = {name for event in events for name in event}
    assert found == set(CONVENTION) - {"feature_flag.error.message"}
    assert [(name, value) for event in events for name, value in event.items() if not isinstance(value, CONVENTION[name])] == []
    assert {event["feature_flag.result.reason"] for event in events} <= REASONS


# With our provider -------------------------------------------------------------------------------------------------------


def test_a_rollout_that_is_read_in_its_own_call_is_told_once(traced, client_of, exported):
    provider = RolloutProvider()
    client = client_of(provider)
    client.add_hooks([RolloutHook()])

    def model(user):
        return client.get_string_value("shop.rank", "?", EvaluationContext(user))

    rank = traced(model)
    provider.add(rank)
    variant = rank("u-1")
    assert {name: [event["feature_flag.result.variant"] for event in events] for name, events in told(exported).items()} == {
        "route shop.rank": [variant]
    }


def test_a_rollout_that_is_read_elsewhere_is_told_as_any_flag(traced, client_of, tracer, exported):
    provider = RolloutProvider(traced(lambda user: user))
    client = client_of(provider)
    client.add_hooks([RolloutHook()])
    with tracer.start_as_current_span("request"):
        details = client.get_string_details("shop.rank", "?", EvaluationContext("u-1"))
    ((event,),) = told(exported).values()
    assert event == {
        "feature_flag.key": "shop.rank",
        "feature_flag.result.variant": details.variant,
        "feature_flag.result.reason": "split",
        "feature_flag.provider.name": "rollout_sdk",
        "feature_flag.version": details.flag_metadata["version"],
    }


def test_our_events_and_the_hooks_have_the_same_names(traced, client_of, tracer, exported):
    rank = traced(lambda user: user)
    client = client_of(RolloutProvider(rank))
    client.add_hooks([RolloutHook()])
    with tracer.start_as_current_span("request"):
        client.get_string_value("shop.rank", "?", EvaluationContext("u-1"))
    rank("u-1")
    events = told(exported)
    (decided,) = events["route shop.rank"]
    # Outside of a call there is no decision that could be meant.
    del decided["rollout.decision.id"]
    assert events["request"] == [decided]


# It never raises ---------------------------------------------------------------------------------------------------------


class _Hostile(trace.NonRecordingSpan):
    def is_recording(self):
        return True

    def add_event(self, name, attributes=None, timestamp=None):
        raise SystemExit("full")


@pytest.mark.parametrize("kind", ["span", "context_id"])
def test_what_breaks_in_the_hook_is_counted_and_reaches_no_evaluation(kind, flags, client_of, tracer):
    def breaks(key):
        raise OSError(key)

    flags(layout="wide")
    client, hook = client_of(flags), RolloutHook(context_id=breaks if kind == "context_id" else None)
    api.add_hooks([hook])
    span = _Hostile(trace.INVALID_SPAN_CONTEXT) if kind == "span" else tracer.start_span("request")
    with trace.use_span(span, end_on_exit=True):
        value = client.get_string_value("layout", "narrow", EvaluationContext("ann"))
    assert (value, hook.faults) == ("wide", 1)


def test_an_unknown_reason_is_told_as_unknown_and_a_strange_one_as_it_is(flags, hooked, tracer, exported):
    from openfeature.flag_evaluation import FlagResolutionDetails

    def reasoned(reason):
        return InMemoryFlag("a", {"a": 1}, context_evaluator=lambda flag, context: FlagResolutionDetails(1, reason=reason))

    flags(none=reasoned(None), odd=reasoned("Our_Own"))
    with tracer.start_as_current_span("request"):
        for name in ("none", "odd"):
            hooked.get_integer_value(name, 0)
    assert [event["feature_flag.result.reason"] for event in told(exported)["request"]] == ["unknown", "our_own"]
