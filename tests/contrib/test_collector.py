"""The Collector's configuration: it holds together, names what the SDK emits, and a Collector accepts it where there is one."""

import hashlib
import re
import subprocess

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rollout_sdk import Shadow, Telemetry, rollout
from rollout_sdk.telemetry import names
from tests.contrib.conftest import CONTRIB, tool

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

FILE = CONTRIB / "collector" / "config.yaml"
CONFIG = yaml.safe_load(FILE.read_text())
PIPELINES = CONFIG["service"]["pipelines"]
POLICIES = {policy["name"]: policy for policy in CONFIG["processors"]["tail_sampling"]["policies"]}
STATEMENTS = CONFIG["processors"]["transform/third_party"]


def test_a_collector_accepts_the_configuration():
    path = tool("ROLLOUT_OTELCOL", "otelcol-contrib")
    validated = subprocess.run(
        [path, "validate", "--config", FILE], capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip
    assert (validated.returncode, validated.stderr) == (0, "")


@pytest.mark.parametrize(
    ("kind", "roles"),
    [
        ("receivers", {"receivers"}),
        ("processors", {"processors"}),
        ("exporters", {"exporters"}),
        ("connectors", {"receivers", "exporters"}),
    ],
)
def test_everything_that_is_configured_is_used(kind, roles):
    for role in roles:
        used = {name for pipeline in PIPELINES.values() for name in pipeline.get(role, ())}
        assert CONFIG[kind].keys() - used == set()


def test_everything_that_is_used_is_configured():
    for pipeline in PIPELINES.values():
        for role, names_of in pipeline.items():
            configured = CONFIG[role].keys() | (CONFIG["connectors"].keys() if role != "processors" else set())
            assert set(names_of) - configured == set()


def test_what_comes_from_outside_is_limited_first():
    limited = {name: pipeline["processors"][0] for name, pipeline in PIPELINES.items() if "otlp" in pipeline["receivers"]}
    assert limited == dict.fromkeys(limited, "memory_limiter")


def test_only_this_machine_can_send_and_scrape():
    protocols = CONFIG["receivers"]["otlp"]["protocols"].values()
    endpoints = [*(protocol["endpoint"] for protocol in protocols), CONFIG["exporters"]["prometheus"]["endpoint"]]
    assert [endpoint.rsplit(":")[0] for endpoint in endpoints] == ["127.0.0.1"] * 3


def test_a_third_party_gets_nothing_around_the_guard():
    exporting = [pipeline for pipeline in PIPELINES.values() if "otlphttp/third_party" in pipeline["exporters"]]
    assert [(len(each["exporters"]), "transform/third_party" in each["processors"]) for each in exporting] == [(1, True)] * 2


@pytest.mark.parametrize(
    ("signal", "context"), [("trace_statements", "span"), ("trace_statements", "spanevent"), ("log_statements", "log")]
)
def test_the_guard_deletes_the_unit_wherever_it_can_be(signal, context):
    (statements,) = (each["statements"] for each in STATEMENTS[signal] if each["context"] == context)
    assert f'delete_key(attributes, "{names.CONTEXT_ID}")' in statements


def test_the_guard_deletes_what_was_captured_and_nothing_else_of_a_span():
    (statements,) = (each["statements"] for each in STATEMENTS["trace_statements"] if each["context"] == "span")
    (pattern,) = re.findall(r'delete_matching_keys\(attributes, "(.*)"\)', "\n".join(statements))
    known = {name for name in vars(names).values() if isinstance(name, str)}
    pattern = re.compile(pattern.replace("\\\\", "\\"))
    assert pattern.search(names.CAPTURED + "query")
    assert {name for name in known if pattern.search(name)} == {names.CAPTURED}


def test_transitions_and_failed_spans_are_always_kept():
    assert POLICIES["transitions"]["string_attribute"]["key"] == names.TRANSITION_ACTION
    assert re.fullmatch(*POLICIES["transitions"]["string_attribute"]["values"], "rollback")
    assert POLICIES["errors"]["status_code"] == {"status_codes": ["ERROR"]}


def test_a_call_and_its_shadow_are_kept_or_left_together(watch):
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    runtime = watch(telemetry=Telemetry(tracer_provider=provider))

    @rollout(candidate=lambda user: user, unit="user", strategy=Shadow(1.0), effects="read", runtime=runtime)
    def model(user):
        return user

    for number in range(400):
        model(f"user {number}")
    runtime.events()
    kept = {"route": set(), "shadow": set()}
    decisions = set()
    for span in exporter.get_finished_spans():
        kind, decision = span.name.split()[0], span.attributes.get(names.DECISION_ID)
        decisions.add(decision)
        if kind in kept and _is_kept(decision):
            kept[kind].add(decision)
    assert kept["route"] == kept["shadow"]
    # The exact binomial bounds of a sixteenth of 400, missed once in a million runs.
    assert 5 <= len(kept["route"]) <= 52
    assert len(decisions - {None}) == 400


def _is_kept(decision):
    """What the policy's condition says of a decision."""
    (condition,) = POLICIES["decisions"]["ottl_condition"]["span"]
    form = r'attributes\["(.*)"\] != nil and IsMatch\(SHA256\(attributes\["(.*)"\]\), "(.*)"\)'
    attribute, hashed, pattern = re.fullmatch(form, condition).groups()
    assert attribute == hashed == names.DECISION_ID
    return re.search(pattern, hashlib.sha256(decision.encode()).hexdigest()) is not None
