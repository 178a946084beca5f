"""The table of the contract, held against what a real run exports to a real receiver, in both directions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import rollout_sdk
from rollout_sdk import Telemetry
from tools.telemetry_contract import EVENTS, LOGS, METRICS, SPANS, as_markdown

from .receiver import Receiver, plain
from .scenario import MESSAGE, PAYLOAD, SHOWN, UNIT, everything

ROOT = Path(__file__).parents[2]
TYPES = {"str": str, "bool": bool, "int": int, "float": float}
INSTRUMENTS = {
    "histogram": ("histogram", None),
    "observable counter": ("sum", True),
    "observable up-down counter": ("sum", False),
    "observable gauge": ("gauge", None),
}
OLDEST = "1.30.0"


def exported(*, logs=False, **settings):
    """What a receiver gets of a run of everything, with these settings; with `logs`, of its log records, too."""
    receiver = Receiver()
    loggers = LoggerProvider(shutdown_on_exit=False)
    if logs:
        loggers.add_log_record_processor(
            BatchLogRecordProcessor(OTLPLogExporter(f"{receiver.endpoint}/v1/logs"), max_queue_size=10_000)
        )
        settings["logger_provider"] = loggers
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{receiver.endpoint}/v1/traces"), max_queue_size=10_000))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{receiver.endpoint}/v1/metrics"), export_interval_millis=1e9)
    meters = MeterProvider([reader])
    receiver.faults = everything(Telemetry(tracer_provider=tracers, meter_provider=meters, **settings))
    tracers.shutdown()
    meters.shutdown()
    loggers.shutdown()
    receiver.close()
    return receiver


@pytest.fixture(scope="module")
def shown():
    """A run with all that is asked for and identifies nobody; and its log events."""
    with structlog.testing.capture_logs() as lines:
        receiver = exported(**SHOWN)
    structlog.reset_defaults()
    return receiver, lines


@pytest.fixture(scope="module")
def talkative():
    """A run with messages of exceptions."""
    with structlog.testing.capture_logs() as lines:
        receiver = exported(exception_messages=True, namespace="prod")
    structlog.reset_defaults()
    return receiver, lines


@pytest.fixture(scope="module")
def recorded():
    """A run whose events are log records, with all that there may be in them."""
    with structlog.testing.capture_logs():
        receiver = exported(logs=True, flag_events="log", evaluation_results=True, exception_messages=True, **SHOWN)
    structlog.reset_defaults()
    return receiver


@pytest.fixture(scope="module")
def spanless():
    """The log events of a run with messages of exceptions, and without spans that could have them."""
    with structlog.testing.capture_logs() as lines:
        everything(Telemetry(spans="off", metrics=False, exception_messages=True))
    structlog.reset_defaults()
    return lines


def faults_of(attributes, rows):
    """What is wrong with the attributes of something, by the rows of its table."""
    known = {row.name: row for row in rows}
    prefixes = tuple(name for name in known if name.endswith("."))
    for name, value in attributes.items():
        row = known.get(name) or next((known[prefix] for prefix in prefixes if name.startswith(prefix)), None)
        if row is None:
            yield f"{name} is not in the table"
        elif not is_of(value, row.type):
            yield f"{name}={value!r} is no {row.type}"
    yield from (f"{row.name} is missing" for row in rows if not row.when and row.name not in attributes)


def is_of(value, kinds):
    if kinds.endswith("[]"):
        return isinstance(value, list | tuple) and all(type(each) is TYPES[kinds[:-2]] for each in value)
    return type(value) in {TYPES[kind] for kind in kinds.replace(" or ", ", ").split(", ")}


def row_of(name, rows):
    """The row of a span, by the first word of its name."""
    return next((row for row in rows if row.name.split()[0] == name.split()[0]), None)


def table_faults(spans):
    """What is wrong with (name, attributes, events) of every span, and what of the table none of them has."""
    events = {row.name: row for row in EVENTS if row.on}
    unseen = {(row.name, each.name) for row in (*SPANS, *events.values()) for each in row.attributes}
    for name, attributes, span_events in spans:
        row = row_of(name, SPANS)
        if row is None:
            yield f"{name} is not in the table"
            continue
        yield from (f"{name}: {fault}" for fault in faults_of(attributes, row.attributes))
        unseen -= {(row.name, each) for each in attributes}
        unseen -= {(row.name, "rollout.captured.") for each in attributes if each.startswith("rollout.captured.")}
        for event, said in span_events:
            if event not in events or row.name.split()[0] not in events[event].on.split():
                yield f"{name} has an event {event!r}"
                continue
            yield from (f"{name}, {event}: {fault}" for fault in faults_of(said, events[event].attributes))
            unseen -= {(event, each) for each in said}
    yield from (f"{owner}: nothing has {name}" for owner, name in sorted(unseen))


PROVOKED = {
    ("strategy", "TypeError"),
    ("deaf.rollout_routed", "RuntimeError"),
    ("engine.batch", "BatchError"),
    ("merge", "TypeError"),
    ("override", "ZeroDivisionError"),
    ("control file", "ConfigurationError"),
    ("journal", "JournalError"),
    ("outcome", "OutcomeError"),
    ("store", "StoreError"),
    ("threads", "ConfigurationError"),
}


def test_nothing_fails_but_what_the_run_makes_fail(shown, talkative):
    assert [PROVOKED | {("telemetry.redact", "RuntimeError")}, PROVOKED] == [
        receiver.faults for receiver, _ in (shown, talkative)
    ]


def of_messages(receiver):
    return [(s.name, plain(s.attributes), [(e.name, plain(e.attributes)) for e in s.events]) for s in receiver.spans]


def test_every_span_attribute_and_event_is_in_the_table_and_all_of_the_table_is_emitted(shown, talkative):
    assert [] == list(table_faults(of_messages(shown[0]) + of_messages(talkative[0])))


def test_every_log_record_is_in_the_table_and_all_of_the_table_is_emitted_and_no_span_has_an_event(recorded):
    table = {row.name: row for row in EVENTS if row.setting}
    unseen = {(row.name, each.name) for row in table.values() for each in row.attributes}
    for record in recorded.logs:
        row, said = table[record.event_name], plain(record.attributes)
        assert [] == list(faults_of(said, row.attributes))
        unseen -= {(row.name, each) for each in said}
    assert set() == unseen
    assert [] == [event.name for span in recorded.spans for event in span.events]


def test_the_records_of_spans_have_their_traces(recorded):
    spans = {span.span_id: span.name.split()[0] for span in recorded.spans}
    found = {(record.event_name, spans.get(record.span_id)) for record in recorded.logs}
    expected = {(row.name, span) for row in EVENTS if row.setting for span in row.on.split()}
    # A transition's is that of its span; an outcome's trace is not known.
    assert expected | {("rollout.transition", "transition"), (RESULT, "shadow"), (RESULT, None)} == found


RESULT = "gen_ai.evaluation.result"


def test_the_scope_has_our_name_our_version_and_the_schema(shown):
    found = {(each.scope.name, each.scope.version, each.schema_url) for each in shown[0].scopes()}
    assert {("rollout_sdk", rollout_sdk.__version__, "https://opentelemetry.io/schemas/1.44.0")} == found


def test_every_span_is_internal_and_only_what_raised_is_an_error(shown):
    spans = shown[0].spans
    assert {SpanMessage.SPAN_KIND_INTERNAL} == {span.kind for span in spans}
    for span in spans:
        assert ("error.type" in plain(span.attributes)) == (span.status.code == Status.STATUS_CODE_ERROR)
        assert span.status.code in (Status.STATUS_CODE_UNSET, Status.STATUS_CODE_ERROR)
        assert not span.status.message
    assert ["route both-fail"] == [
        span.name for span in spans if span.name.startswith("route") and span.status.code == Status.STATUS_CODE_ERROR
    ]


def test_spans_are_trees_and_shadows_and_transitions_roots_that_link(shown):
    spans = {span.span_id: span for span in shown[0].spans}
    for span in spans.values():
        kind = span.name.split()[0]
        if kind == "invoke":
            assert spans[span.parent_span_id].name == f"route {plain(span.attributes)['feature_flag.key']}"
        else:
            assert span.parent_span_id == b""
        if kind == "shadow":
            (link,) = span.links
            route = spans[link.span_id]
            assert ({"rollout.link.type": "shadow_of"}, route.trace_id) == (plain(link.attributes), link.trace_id)
            assert (route.trace_id.hex(), route.span_id.hex()) == tuple(
                plain(span.attributes)[f"rollout.shadow.origin.{name}"] for name in ("trace_id", "span_id")
            )
            assert plain(route.attributes)["rollout.decision.id"] == plain(span.attributes)["rollout.decision.id"]
            assert span.trace_id != route.trace_id
    assert {"thread", "task"} == {
        plain(span.attributes)["rollout.shadow.mode"] for span in spans.values() if span.name.startswith("shadow")
    }


def test_each_exception_is_recorded_once(shown):
    failed = [span for span in shown[0].spans if any(event.name == "exception" for event in span.events)]
    assert {"invoke", "shadow"} == {span.name.split()[0] for span in failed}
    assert [1] * len(failed) == [sum(event.name == "exception" for event in span.events) for span in failed]


def test_every_metric_is_as_in_the_table_and_all_of_the_table_is_emitted(shown):
    table = {row.name: row for row in METRICS}
    found = {metric.name: metric for metric in shown[0].metrics}
    assert table.keys() == found.keys()
    for name, metric in found.items():
        row, (kind, monotonic) = table[name], INSTRUMENTS[table[name].instrument]
        data = getattr(metric, kind)
        assert (row.unit, kind) == (metric.unit, metric.WhichOneof("data"))
        if monotonic is not None:
            assert monotonic == data.is_monotonic
        keys = {key for point in data.data_points for key in plain(point.attributes)}
        assert {each.removesuffix("?") for each in row.attributes} == keys
        for point in data.data_points:
            assert {each for each in row.attributes if not each.endswith("?")} <= set(plain(point.attributes))


def test_every_log_event_is_as_in_the_table_and_all_of_the_table_is_emitted(shown, spanless):
    table = {row.name: row for row in LOGS}
    lines = shown[1] + spanless
    assert table.keys() == {line["event"] for line in lines}
    for line in lines:
        row = table[line["event"]]
        fields = set(line) - {"event", "log_level"}
        assert {each for each in row.fields if not each.endswith("?")} <= fields <= {e.removesuffix("?") for e in row.fields}
        assert line["log_level"] in row.level
    optional = {(row.name, each[:-1]) for row in LOGS for each in row.fields if each.endswith("?")}
    assert optional <= {(line["event"], field) for line in lines for field in line}


def test_no_unit_payload_or_message_is_in_what_is_exported_or_logged(shown):
    receiver, lines = shown
    everything_said = b"".join(receiver.raw) + repr(lines).encode()
    assert [] == [marker for marker in (UNIT, PAYLOAD, MESSAGE) if marker.encode() in everything_said]


def test_a_failed_shadow_is_logged_with_its_traceback_only_where_no_span_has_it(talkative, spanless):
    errors = [line.get("exc_info") for lines in (talkative[1], spanless) for line in lines if "shadow.failed" in line["event"]]
    assert [None, ValueError] == [error if error is None else type(error) for error in errors]


def test_messages_are_told_only_when_asked_for(talkative):
    raw = b"".join(talkative[0].raw)
    assert (True, False) == (MESSAGE.encode() in raw, UNIT.encode() in raw)


def test_the_documentation_is_made_of_the_table():
    path = ROOT / "docs" / "telemetry.md"
    assert as_markdown() == path.read_text(encoding="utf-8"), "run python -m tools.telemetry_contract > docs/telemetry.md"


@pytest.mark.parametrize("version", [OLDEST, "newest"])
def test_a_run_keeps_the_contract_on_the_oldest_and_the_newest_opentelemetry(version):
    folder = ROOT / ".venv" / "opentelemetry-oldest"
    path = [str(Path(__file__).parent)]
    if version == OLDEST:
        if not folder.is_dir():
            pytest.skip("OpenTelemetry 1.30 is not there: `make test` puts it beside the virtual environment")
        path.insert(0, str(folder))
    program = Path(__file__).parent / "scenario.py"
    finished = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert 0 == finished.returncode, finished.stderr[-2000:]
    told = json.loads(finished.stdout)
    assert (told["version"] == OLDEST) == (version == OLDEST)
    spans = [(s["name"], s["attributes"], [(e["name"], e["attributes"]) for e in s["events"]]) for s in told["spans"]]
    faults = [fault for fault in table_faults(spans) if "nothing has exception." not in fault]
    assert [] == faults
    assert {row.name for row in METRICS} == told["metrics"].keys()
