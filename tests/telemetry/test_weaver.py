"""The registry for OpenTelemetry Weaver: what the table makes, and what its format asks for."""

import re
from pathlib import Path

import pytest
import yaml

from tools.telemetry_contract import EVENTS, METRICS, SPANS, as_registry

FOLDER = Path(__file__).parents[2] / "contrib" / "weaver"
REGISTRY = {name: yaml.safe_load(text) for name, text in as_registry().items()}
GROUPS = [group for name, content in REGISTRY.items() if name != "manifest.yaml" for group in content["groups"]]
DEFINED = {each["id"]: each for group in GROUPS for each in group["attributes"] if "id" in each}
TYPES = {"string": str, "int": int, "double": float, "boolean": bool}


def test_the_folder_is_made_of_the_table():
    made = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert as_registry() == made, "run python -m tools.telemetry_contract --weaver contrib/weaver"


def test_it_names_itself_and_the_conventions_that_it_rests_on():
    manifest = REGISTRY["manifest.yaml"]
    (conventions,) = manifest["dependencies"]
    assert ("rollout_sdk", "https://opentelemetry.io/schemas/1.44.0") == (manifest["name"], conventions["schema_url"])
    assert conventions["registry_path"].endswith("/semantic-conventions@v1.44.0[model]")


@pytest.mark.parametrize(
    ("kind", "rows"), [("span", SPANS), ("event", EVENTS), ("metric", METRICS)], ids=["spans", "events", "metrics"]
)
def test_there_is_a_group_for_each_row_with_its_attributes(kind, rows):
    groups = [group for group in GROUPS if group["type"] == kind]
    assert [[each["ref"] for each in group["attributes"]] for group in groups] == [
        [(each if isinstance(each, str) else each.name).rstrip(".?") for each in row.attributes] for row in rows
    ]
    assert len({group["id"] for group in GROUPS}) == len(GROUPS)
    for group in groups:
        assert group["stability"] == "development"
        assert re.fullmatch(r"[A-Z`].*[.]", group["brief"])


def test_every_attribute_of_ours_is_defined_once_and_all_others_are_conventions():
    definitions = [each["id"] for group in GROUPS for each in group["attributes"] if "id" in each]
    references = {each["ref"] for group in GROUPS for each in group["attributes"] if "ref" in each}
    assert sorted(set(definitions)) == definitions
    assert {name for name in references if name.startswith("rollout.")} == set(definitions)
    namespaces = {name.split(".")[0] for name in references - set(definitions)}
    assert {"feature_flag", "error", "exception", "code", "gen_ai"} == namespaces


def test_definitions_have_the_types_of_the_table_and_texts_have_examples_of_them():
    for row in (*SPANS, *EVENTS):
        for attribute in row.attributes:
            if attribute.name.startswith("rollout.") and not attribute.name.endswith("."):
                kind = attribute.type.replace("str", "string").replace("float", "double").replace("bool", "boolean")
                assert DEFINED[attribute.name]["type"] == kind
    assert "template[any]" == DEFINED["rollout.captured"]["type"]
    for each in DEFINED.values():
        if each["type"].startswith("string"):
            examples = each["examples"] if isinstance(each["examples"], list) else [each["examples"]]
            assert examples
            of = list if each["type"].endswith("[]") else str
            assert {of} == {type(example) for example in examples}


def test_what_is_always_there_is_required_and_what_a_setting_asks_for_is_opted_into():
    (route,) = [group for group in GROUPS if group["id"] == "span.rollout.route"]
    levels = {each["ref"]: each["requirement_level"] for each in route["attributes"]}
    assert ("required", "opt_in", {"conditionally_required": "If the caller saw it."}) == (
        levels["feature_flag.key"],
        levels["feature_flag.context.id"],
        levels["error.type"],
    )


def test_spans_name_their_events():
    known = {group["id"]: group["name"] for group in GROUPS if group["type"] == "event"}
    found = {group["id"]: [known[each] for each in group["events"]] for group in GROUPS if group["type"] == "span"}
    assert {
        "span.rollout.route": ["feature_flag.evaluation", "rollout.fallback", "rollout.shadow.dropped"],
        "span.rollout.invoke": ["exception"],
        "span.rollout.shadow": ["exception"],
        "span.rollout.transition": ["rollout.weight"],
    } == found


def test_instruments_are_those_of_the_conventions():
    instruments = {group["metric_name"]: group["instrument"] for group in GROUPS if group["type"] == "metric"}
    assert ("histogram", "counter", "updowncounter", "gauge") == tuple(
        instruments[f"rollout.{name}"] for name in ("call.duration", "decisions", "shadow.active", "variant.weight")
    )
