"""Events through the Logs API: of decisions, transitions and all else that spans would have, and results of evaluations."""

import pytest
from opentelemetry import _logs
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import rollout_sdk
from rollout_sdk import ABTest, Canary, Comparison, Decision, Judge, Runtime, Shadow, Telemetry, rollout
from rollout_sdk.telemetry.event_records import Events


def fail(x):
    raise ValueError("a secret payload")


class Logged:
    """An application that takes log records."""

    def __init__(self):
        self.exporter = InMemoryLogRecordExporter()
        self.provider = LoggerProvider(shutdown_on_exit=False)
        self.provider.add_log_record_processor(SimpleLogRecordProcessor(self.exporter))

    def named(self, name):
        return [each.log_record for each in self.exporter.get_finished_logs() if each.log_record.event_name == name]

    def names(self):
        return [each.log_record.event_name for each in self.exporter.get_finished_logs()]


@pytest.fixture
def logged():
    return Logged()


@pytest.fixture
def trace_logged(trace_with, logged):
    """Makes applications that want events as log records."""
    return lambda sampler=None, **telemetry: trace_with(
        sampler, flag_events="log", logger_provider=logged.provider, **telemetry
    )


def ids(span):
    return span.context.trace_id, span.context.span_id


def test_a_decision_is_a_record_with_the_trace_of_its_call_and_its_span_has_no_event(trace_logged, logged):
    traced = trace_logged()
    decision = traced.model(lambda x: x, lambda x: x).rollout.route("u").decision
    (record,) = logged.named("feature_flag.evaluation")
    route = traced.spans()["route model"]
    assert (*ids(route), ()) == (record.trace_id, record.span_id, route.events)
    assert ("model", "candidate", "static", decision.id) == tuple(
        record.attributes[name]
        for name in ("feature_flag.key", "feature_flag.result.variant", "feature_flag.result.reason", "rollout.decision.id")
    )
    assert (SeverityNumber.INFO, "INFO") == (record.severity_number, record.severity_text)
    assert decision.time_s == pytest.approx(record.timestamp / 1e9)
    (scope,) = {each.instrumentation_scope for each in logged.exporter.get_finished_logs()}
    assert ("rollout_sdk", rollout_sdk.__version__, "https://opentelemetry.io/schemas/1.44.0") == (
        scope.name,
        scope.version,
        scope.schema_url,
    )


def test_without_spans_a_decision_is_a_record_in_its_callers_trace(trace_logged, logged):
    traced = trace_logged(spans="off")
    with traced.tracer.start_as_current_span("request") as request:
        traced.model(lambda x: x, fail)("u")
    assert {"request"} == traced.spans().keys()
    (record,) = logged.named("feature_flag.evaluation")
    context = request.get_span_context()
    assert (context.trace_id, context.span_id) == (record.trace_id, record.span_id)


def test_there_is_a_record_for_each_decision_whatever_the_sampler_says(trace_logged, logged):
    model = trace_logged(ALWAYS_OFF).model(lambda x: x, lambda x: x)
    for number in range(5):
        model(number)
    assert 5 == len(logged.named("feature_flag.evaluation"))


def test_a_record_names_the_unit_only_where_spans_do(trace_logged, logged):
    trace_logged(spans="off").model(lambda x: x, lambda x: x, key="omit")("ann")
    trace_logged(spans="off", unit_id="raw").model(lambda x: x, lambda x: x, key="raw")("ann")
    assert [None, "ann"] == [each.attributes.get("feature_flag.context.id") for each in logged.named("feature_flag.evaluation")]


def test_each_row_of_a_batch_is_a_record(trace_logged, logged):
    traced = trace_logged()
    batch = rollout(
        candidate=lambda rows: list(rows), strategy=ABTest(0.5), batch="rows", unit="rows", key="b", runtime=traced.runtime
    )(lambda rows: list(rows))
    routed = batch.rollout.route([f"u{number}" for number in range(20)])
    told = [
        (each.attributes["rollout.decision.id"], each.attributes["feature_flag.result.variant"])
        for each in logged.named("feature_flag.evaluation")
    ]
    assert [(decision.id, decision.variant) for decision in routed.decisions] == told


def test_a_strategy_that_failed_is_an_error_of_the_record(trace_logged, logged):
    class Bad:
        def rollout_route(self, request):
            return Decision("nobody")

    traced = trace_logged()
    traced.faults = {("strategy", "TypeError")}
    traced.model(lambda x: x, lambda x: x, Bad())("u")
    (record,) = logged.named("feature_flag.evaluation")
    assert ("general", "error") == (record.attributes["error.type"], record.attributes["feature_flag.result.reason"])


def test_a_transition_is_a_record_with_the_weights_and_its_span_has_no_event(trace_logged, logged):
    traced = trace_logged()
    canary = traced.model(lambda x: x, lambda x: x, Canary(["10%", "50%"]))
    canary.rollout.promote(actor="ann")
    (span,) = [each for each in traced.finished() if each.attributes.get("rollout.transition.action") == "promote"]
    (record,) = [
        each for each in logged.named("rollout.transition") if each.attributes["rollout.transition.action"] == "promote"
    ]
    assert (*ids(span), ()) == (record.trace_id, record.span_id, span.events)
    lists = ("variants", "weights", "weights.previous")
    assert [("control", "candidate"), (0.5, 0.5), (0.9, 0.1)] == [
        tuple(record.attributes[f"rollout.transition.{name}"]) for name in lists
    ]
    said = {name: value for name, value in record.attributes.items() if name.rpartition(".")[2] not in ("variants", "weights")}
    del said["rollout.transition.weights.previous"]
    assert dict(span.attributes) == said


def test_without_spans_a_transition_is_a_record_in_the_trace_of_whoever_made_it(trace_logged, logged):
    traced = trace_logged(spans="off")
    canary = traced.model(lambda x: x, lambda x: x, Canary(["10%", "50%"]))
    with traced.tracer.start_as_current_span("operator") as operator:
        canary.rollout.promote(actor="ann")
    assert traced.runtime.flush(10.0)
    (record,) = [
        each for each in logged.named("rollout.transition") if each.attributes["rollout.transition.action"] == "promote"
    ]
    assert operator.get_span_context().trace_id == record.trace_id
    assert "0:10%" == record.attributes["rollout.phase.previous"]


def test_what_else_spans_have_events_for_are_records_too(trace_logged, logged):
    traced = trace_logged()
    traced.model(lambda x: x, fail)("u")
    traced.model(lambda x: 0, lambda x: 0, Shadow(1.0), key="dropped", unit=None, isolate=lambda value: 1 / 0)([1])
    spans = traced.spans()
    assert {()} == {span.events for span in spans.values()}
    found = {name: logged.named(name)[0] for name in ("exception", "rollout.fallback", "rollout.shadow.dropped")}
    assert {
        "exception": ids(spans["invoke model/candidate"]),
        "rollout.fallback": ids(spans["route model"]),
        "rollout.shadow.dropped": ids(spans["route dropped"]),
    } == {name: (record.trace_id, record.span_id) for name, record in found.items()}
    assert (SeverityNumber.ERROR, {"exception.type": "ValueError"}) == (
        found["exception"].severity_number,
        dict(found["exception"].attributes),
    )


def test_as_long_as_the_application_takes_no_records_events_stay_on_spans(trace_with, logged, monkeypatch):
    # Another test may have set a provider for the whole process.
    monkeypatch.setattr(_logs, "get_logger_provider", _logs.NoOpLoggerProvider)
    traced = trace_with(flag_events="log")
    model = traced.model(lambda x: x, lambda x: x)
    model("u")
    assert ["feature_flag.evaluation"] == [event.name for event in traced.spans()["route model"].events]
    monkeypatch.setattr(_logs, "get_logger_provider", lambda: logged.provider)
    traced.exporter.clear()
    traced.runtime.audience.look()
    model("u")
    assert ((), 1) == (traced.spans()["route model"].events, len(logged.named("feature_flag.evaluation")))


def test_off_is_no_event_of_a_decision_or_transition_and_all_others(trace_with, logged):
    traced = trace_with(flag_events="off", logger_provider=logged.provider)
    canary = traced.model(lambda x: x, fail, Canary(["100%"]))
    canary("u")
    canary.rollout.abort()
    assert {"exception", "rollout.fallback"} == {event.name for span in traced.finished() for event in span.events}
    assert [] == logged.names()


def test_excluded_attributes_are_in_no_record(trace_logged, logged):
    traced = trace_logged(exclude_attributes=["rollout.decision.id", "rollout.transition.weights"])
    traced.model(lambda x: x, lambda x: x)("u")
    assert traced.runtime.flush(10.0)
    assert {"feature_flag.evaluation", "rollout.transition"} == set(logged.names())
    said = {name for each in logged.exporter.get_finished_logs() for name in each.log_record.attributes}
    assert not said & {"rollout.decision.id", "rollout.transition.weights"}
    assert "rollout.transition.variants" in said


def test_a_broken_processor_never_reaches_the_caller(trace_with):
    class Broken(LoggerProvider):
        def get_logger(self, *_, **__):
            class Logger:
                def emit(self, record):
                    raise RuntimeError

            return Logger()

    traced = trace_with(flag_events="log", evaluation_results=True, logger_provider=Broken(shutdown_on_exit=False))
    traced.faults = {("telemetry.spans", "RuntimeError")}
    model = traced.model(lambda x: 1, lambda x: 2, Shadow(1.0))
    assert [1, 1] == [model("u"), model("u")]
    assert 2 == len(traced.runtime.routed())


def test_before_api_1_35_a_record_has_its_name_and_its_trace_among_its_fields_and_knows_its_resource(monkeypatch):
    """Without its resource, the exporters of that time refuse it; tried with 1.30 to 1.39."""

    class Record:
        def __init__(
            self, timestamp=None, trace_id=None, span_id=None, trace_flags=None, severity_number=None, severity_text=None,
            attributes=None,
        ):  # fmt: skip
            self.given = timestamp, trace_id, severity_text, attributes

    emitted, logged = [], Logged()
    events = Events(Telemetry(flag_events="log", logger_provider=logged.provider))
    events.look()
    monkeypatch.setattr(_logs, "LogRecord", Record)
    logger = {"emit": lambda self, record: emitted.append(record), "resource": "this service"}
    events._logger = type("Logger", (), logger)()
    events.record("rollout.transition", {"a": 1}, time_ns=7)
    (record,) = emitted
    assert (7, 0, "INFO", {"a": 1, "event.name": "rollout.transition"}) == record.given
    assert ("this service", 0) == (record.resource, record.dropped_attributes)


# Results of evaluations -----------------------------------------------------------------------------------------------------


def results(logged):
    return [(dict(each.attributes), each) for each in logged.named("gen_ai.evaluation.result")]


def test_an_outcome_is_the_result_of_an_evaluation_of_its_decision(trace_with, logged, tmp_path):
    traced = trace_with(evaluation_results=True, logger_provider=logged.provider, runtime={"journal": tmp_path})
    model = traced.model(lambda x: x, lambda x: x)
    decision = model.rollout.route("u").decision
    model.rollout.record("rating", 4, decision_id=decision.id, time_s=decision.time_s + 60)
    model.rollout.record("purchase", 2.5, unit="ann")
    assert traced.runtime.flush(10.0)
    (of_decision, record), (of_unit, _) = results(logged)
    assert {
        "gen_ai.evaluation.name": "rating",
        "gen_ai.evaluation.score.value": 4.0,
        "feature_flag.key": "model",
        "feature_flag.result.variant": "candidate",
        "rollout.decision.id": decision.id,
    } == of_decision
    assert float is type(of_decision["gen_ai.evaluation.score.value"])
    assert decision.time_s + 60 == pytest.approx(record.timestamp / 1e9)
    assert {"gen_ai.evaluation.name": "purchase", "gen_ai.evaluation.score.value": 2.5, "feature_flag.key": "model"} == of_unit


def test_a_judgement_of_a_shadow_is_the_result_of_an_evaluation(trace_with, logged):
    traced = trace_with(evaluation_results=True, logger_provider=logged.provider)
    said = {
        "better": lambda request, a, b: "a" if a == "new" else "b",
        "worse": lambda request, a, b: "a" if a == "old" else "b",
    }
    traced.faults = {("shadow.judge", "ZeroDivisionError")}
    for label, judge in {**said, "error": lambda *_: 1 / 0}.items():
        model = rollout(
            candidate=lambda x: "new", strategy=Shadow(1.0), effects="read", key=label, runtime=traced.runtime,
            judge=Judge(judge, sample=1.0, retries=0), unit="x",
        )(lambda x: "old")  # fmt: skip
        model("u")
        assert traced.runtime.flush(10.0)
    found = [about for about, _ in results(logged) if about["gen_ai.evaluation.name"].startswith("judge.")]
    assert [("judge.preference", "better", 1.0), ("judge.preference", "worse", -1.0), ("judge.failed", "error", 1.0)] == [
        tuple(about[f"gen_ai.evaluation.{name}"] for name in ("name", "score.label", "score.value")) for about in found
    ]
    assert {"candidate"} == {about["feature_flag.result.variant"] for about in found}


def test_a_process_that_only_records_outcomes_emits_them_too_and_needs_no_journal_for_it(logged):
    runtime = Runtime(telemetry=Telemetry(evaluation_results=True, logger_provider=logged.provider, metrics=False))
    model = rollout(candidate=lambda x: x, strategy=ABTest(1.0), unit="x", key="model", runtime=runtime)(lambda x: x)
    model.rollout.record("click", 1, unit="ann")
    runtime.close(10.0)
    assert {} == runtime.faults
    ((result, _),) = results(logged)
    assert ("click", "model") == (result["gen_ai.evaluation.name"], result["feature_flag.key"])


class Numbers:
    name = "numbers"

    def rollout_compare(self, control, candidate):
        return Comparison(match=abs(control - candidate) < 1, difference=abs(control - candidate), reason="far", name="numbers")


@pytest.mark.parametrize("spans", ["all", "off"])
def test_a_comparison_is_the_result_of_an_evaluation_in_its_shadows_trace(spans, trace_with, logged):
    traced = trace_with(evaluation_results=True, logger_provider=logged.provider, spans=spans)
    model = traced.model(lambda x: 1, lambda x: 4, Shadow(1.0), plugins=[Numbers()])
    decision = model.rollout.route("u").decision
    assert traced.runtime.flush(10.0)
    ((result, record),) = results(logged)
    assert {
        "gen_ai.evaluation.name": "numbers",
        "gen_ai.evaluation.score.value": 3.0,
        "gen_ai.evaluation.score.label": "mismatch",
        "gen_ai.evaluation.explanation": "far",
        "feature_flag.key": "model",
        "feature_flag.result.variant": "candidate",
        "rollout.decision.id": decision.id,
    } == result
    if spans == "all":
        assert ids(traced.spans()["shadow model/candidate"]) == (record.trace_id, record.span_id)


def test_a_match_without_a_measure_has_a_label_and_no_score(trace_with, logged):
    traced = trace_with(evaluation_results=True, logger_provider=logged.provider)
    traced.model(lambda x: "a", lambda x: "a", Shadow(1.0))("u")
    assert traced.runtime.flush(10.0)
    ((result, _),) = results(logged)
    assert "match" == result["gen_ai.evaluation.score.label"]
    assert "gen_ai.evaluation.explanation" not in result


def test_each_row_of_a_shadowed_batch_has_its_result(trace_with, logged):
    traced = trace_with(evaluation_results=True, logger_provider=logged.provider)
    batch = rollout(
        candidate=lambda rows: [row[:1] for row in rows], strategy=Shadow(1.0), effects="read", batch="rows", unit="rows",
        key="b", runtime=traced.runtime,
    )(lambda rows: list(rows))  # fmt: skip
    routed = batch.rollout.route(["a", "bb", "c"])
    assert traced.runtime.flush(10.0)
    assert [(each.id, label) for each, label in zip(routed.decisions, ["match", "mismatch", "match"], strict=True)] == [
        (result["rollout.decision.id"], result["gen_ai.evaluation.score.label"]) for result, _ in results(logged)
    ]


def test_there_are_no_results_unless_they_are_asked_for(trace_logged, logged, tmp_path):
    traced = trace_logged()
    traced.model(lambda x: 1, lambda x: 1, Shadow(1.0))("u")
    assert traced.runtime.flush(10.0)
    assert [] == results(logged)
